"""Under which licences a study's bases and benchmarks stand, as their own files and cards say.

Those of the data stand in the manifests of the mixtures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from cameleer.core.artifact import MANIFEST
from cameleer.core.files import read_json, read_text
from cameleer.data.mix.provenance import NONE_STATED, asks
from cameleer.evals.benchmark import benchmark_named
from cameleer.study.study import Study, label_of


def licences(study: Study, bases: Mapping[str, Path]) -> list[dict[str, str]]:
    """`name`, `kind`, `licence` and what that `asks`, of each base and benchmark.

    bases: their folders by name.
    """
    stated = [(name, "base", of_model(folder)) for name, folder in bases.items()]
    labels = map(label_of, study.benchmarks)
    stated += [(label, "benchmark", of_benchmark(label)) for label in labels]
    return [
        {"name": name, "kind": kind, "licence": licence, "asks": asks(licence)}
        for name, kind, licence in stated
    ]


def of_model(folder: Path) -> str:
    """The licence in the manifest of a model that we fetched, or in its README's front matter."""
    manifest, readme = folder / MANIFEST, folder / "README.md"
    if manifest.is_file():
        facts = read_json(manifest)
        stated = (facts.get("outcome") or {}).get("licence") if isinstance(facts, dict) else None
        if stated:
            return str(stated)
    front = re.match(r"---\n(.*?)\n---", read_text(readme), re.DOTALL) if readme.is_file() else None
    try:
        facts = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        facts = None
    if not isinstance(facts, dict):
        return NONE_STATED
    return str(facts.get("license_name") or facts.get("license") or NONE_STATED)


def of_benchmark(label: str) -> str:
    """The licence that a benchmark's card, its docstring, states."""
    card = benchmark_named(label).module.__doc__ or ""
    stated = re.search(r"^licence +(\S.*)$", card, re.MULTILINE)
    return stated[1] if stated else NONE_STATED
