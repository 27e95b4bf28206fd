"""How to do a study again: its file, the commands, the versions, and hashes of all that went in."""

from __future__ import annotations

import shlex
from typing import Any

from cameleer.core.artifact import MANIFEST
from cameleer.core.files import read_json
from cameleer.report.facts import Table
from cameleer.results.store import Study

FILE = "study.yaml"
KINDS = {"train": "base", "mix": "data", "eval": "benchmark"}  # of what a stage reads


def study_yaml(study: Study) -> str:
    """The study's declaration, as `cameleer study run` takes it."""
    import yaml

    return str(yaml.safe_dump(study.declared, sort_keys=False, allow_unicode=True, width=96))


def commands(study: Study) -> list[str]:
    """What to type: the version that ran most of it, then the study, then a look at its folder."""
    version = _version(study)
    exact = f"=={version}" if version else ""
    return [
        f"pip install cameleer{exact}",
        f"cameleer study plan {FILE}",
        f"cameleer study run {FILE} -o {shlex.quote(f'runs/{study.name}')}",
    ]


def _version(study: Study) -> str:
    versions = [_environment(manifest).get("cameleer") for _, manifest in _manifests(study)]
    known = [str(version) for version in versions if version]
    return max(known, key=known.count) if known else ""


def _environment(manifest: dict[str, Any]) -> dict[str, Any]:
    environment: dict[str, Any] = manifest.get("environment") or {}
    return environment


def _manifests(study: Study) -> list[tuple[str, dict[str, Any]]]:
    """Each finished stage of the study by its folder."""
    folders = []
    for cell in study.cells:
        folders += [cell.mix] if cell.mix else []
        folders += [cell.train.folder] if cell.train else []
        folders += [run.folder for run in cell.evals.values()]
    folders += study.judgings
    unique = list(dict.fromkeys(folders))
    return [
        (folder.relative_to(study.folder).as_posix(), read_json(folder / MANIFEST))
        for folder in unique
    ]


def input_table(study: Study) -> Table:
    """Hashes of what was read: bases, files of data, files of benchmarks; each once."""
    bases = {cell.train.folder: cell.base for cell in study.cells if cell.train}
    found: dict[str, set[tuple[str, str]]] = {kind: set() for kind in KINDS.values()}
    for place, manifest in _manifests(study):
        stage = str(manifest.get("kind"))
        for name, mark in (manifest.get("inputs") or {}).items():
            if (stage == "train" and name != "model") or stage not in KINDS:
                continue  # a mixture's own fingerprint stands below
            called = bases[study.folder / place] if stage == "train" else name
            found[KINDS[stage]].add((called, str(mark)))
    rows = [[name, kind, mark] for kind, of in found.items() for name, mark in sorted(of)]
    head = ["what", "kind", "SHA-256, fingerprint, or the hub's commit"]
    return Table("What was read", head, rows, tuple(head[1:]))


def stage_table(study: Study) -> Table:
    """The fingerprint of each stage: of its configuration, inputs and version."""
    rows = [
        [place, str(manifest.get("kind")), str(manifest.get("fingerprint", ""))]
        for place, manifest in _manifests(study)
    ]
    return Table("Stages", ["folder", "kind", "fingerprint"], rows, ("kind", "fingerprint"))
