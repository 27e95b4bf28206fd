"""The card of a bundle: its README.md, all of it derived from what is in the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST
from cameleer.core.files import read_json
from cameleer.release import markdown as md
from cameleer.release.card import licence_front, licence_section
from cameleer.release.licences import Part, check, parts_of_mixture
from cameleer.results.store import STUDY, read_study

UNSTATED = ""  # what a licence asks stands in the mixtures' manifests


def bundle_card(root: Path) -> str:
    """The text of README.md for the bundle in a folder."""
    kinds = {file.parent: read_json(file) for file in sorted(root.rglob(MANIFEST))}
    study = read_study(root) if (root / STUDY).is_file() else None
    about = study.about if study and study.about else "Results of evaluations"
    found = check(_parts(kinds), None, lambda _: UNSTATED)
    head = {**licence_front(found), "tags": ["cameleer", "evaluation-results"]}
    parts = [
        md.front_matter(head),
        f"# {md.plain(study.name if study else 'Evaluations')}",
        f"{md.plain(about).rstrip('.')}. Manifests, per-item outputs, judgements and tables, with "
        "their hashes; `cameleer release verify` with this bundle derives every number anew, "
        "offline.",
        "## Scores",
        "In points, with 95 % intervals.",
        md.table(["evaluation", "benchmark", "score", "items"], _scores(root, kinds)),
        *_judged(root, kinds),
        "## Licences",
        "Of the data sets that models were trained on. Questions and reference answers are "
        "under the licences of their benchmarks.",
        licence_section(found),
    ]
    return "\n\n".join(parts) + "\n"


def _parts(stages: dict[Path, Any]) -> list[Part]:
    """The licensed parts of all mixtures, each once."""
    mixtures = [facts["outcome"] for facts in stages.values() if facts["kind"] == "mix"]
    return list(dict.fromkeys(part for one in mixtures for part in parts_of_mixture(one)))


def _scores(root: Path, stages: dict[Path, Any]) -> list[list[str]]:
    rows = []
    for folder, facts in stages.items():
        if facts["kind"] != "eval":
            continue
        scores = read_json(folder / "scores.json")
        label = f"{scores['benchmark']}:{scores['setting']}"
        written = "answers only" if "value" not in scores else _points(scores)
        rows.append([folder.relative_to(root).as_posix(), label, written, f"{scores['n']:,}"])
    return rows


def _judged(root: Path, stages: dict[Path, Any]) -> list[str]:
    """The section on judges, if there are any."""
    rows = []
    for folder, facts in stages.items():
        if facts["kind"] == "judge":
            rate = facts["outcome"].get("win_rate")
            shown = _points(rate) if isinstance(rate, dict) else "–"
            rows.append([folder.relative_to(root).as_posix(), shown])
    return ["## Judged", md.table(["judging", "win rate"], rows)] if rows else []


def _points(estimate: dict[str, Any]) -> str:
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f} to {high:.1f}]"
