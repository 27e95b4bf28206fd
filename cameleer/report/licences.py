"""Under which licences base models, data and benchmarks stand, in plain words, and what follows.

It sorts what the releases themselves state, and is no legal advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cameleer.core.artifact import MANIFEST
from cameleer.core.files import read_json
from cameleer.report.facts import Table
from cameleer.report.tables import Sheet
from cameleer.report.words import listed
from cameleer.results.store import Study

PLAIN = {
    "non-commercial use": "not for commercial use",
    "share-alike": "pass it on under the same licence",
    "no derivatives": "pass nothing on that is made from it",
    "attribution": "name the authors",
    "nothing": "no conditions",
}
"""What a licence asks (as mixtures' manifests have it) in words that need no lawyer."""
RESEARCH = "not for commercial use"


@dataclass
class Part:
    """Something that was used. asks: its terms in plain words, or why none are known; mixtures:
    those that hold it."""

    name: str
    kind: str
    licence: str
    asks: str
    mixtures: list[str] = field(default_factory=list)

    @property
    def known(self) -> bool:
        return all(one in PLAIN.values() for one in self.asks.split(", "))


def parts(study: Study) -> list[Part]:
    """Bases, then data by source and licence, then benchmarks, as study.json and manifests say."""
    stated = [
        Part(one["name"], one["kind"], one["licence"], plain(one["asks"])) for one in study.licences
    ]
    return [
        *(one for one in stated if one.kind == "base"),
        *_data(study),
        *(one for one in stated if one.kind != "base"),
    ]


def plain(asks: str) -> str:
    """What a licence asks, in plain words."""
    return ", ".join(PLAIN.get(one, one) for one in asks.split(", "))


def _data(study: Study) -> list[Part]:
    found: dict[tuple[str, str], Part] = {}
    for mixture in study.mixtures:
        for source, licence, asks in _sources(study, mixture):
            part = Part(source, "data", licence, plain(asks))
            found.setdefault((source, licence), part).mixtures.append(mixture)
    return list(found.values())


def _sources(study: Study, mixture: str) -> list[tuple[str, str, str]]:
    """(source, licence, what it asks) of a mixture that has been built."""
    built = next((cell.mix for cell in study.cells if cell.mixture == mixture and cell.mix), None)
    outcome: Mapping[str, Any] = read_json(built / MANIFEST)["outcome"] if built else {}
    asks: Mapping[str, str] = outcome.get("licences") or {}
    return [
        (source, licence, asks.get(licence, "not known here: read it"))
        for source, facts in (outcome.get("sources") or {}).items()
        if facts.get("licence")
        for licence in str(facts["licence"]).split("; ")
    ]


def licence_table(study: Study) -> Table:
    """Every part with its licence and what that asks."""
    rows = [[one.name, one.kind, one.licence, one.asks, _in(one, study)] for one in parts(study)]
    head = ["what was used", "kind", "licence", "that is", "in"]
    caption = "Licences, as the releases themselves state them"
    return Table(caption, head, rows, ("kind", "licence", "that is", "in"))


def licence_sheet(study: Study) -> Sheet:
    """The same as files."""
    table = licence_table(study)
    return Sheet("licences", [table], table.head, list(table.rows))


def _in(part: Part, study: Study) -> str:
    if part.kind != "data":
        return ""
    everywhere = len(part.mixtures) == len(study.mixtures) > 1
    return "all mixtures" if everywhere else ", ".join(part.mixtures)


def licence_words(study: Study) -> list[str]:
    """What may not be done with the models that were trained here, in sentences."""
    used = [one for one in parts(study) if one.kind != "benchmark"]
    told = []
    if not any(one.kind == "base" for one in used):
        told.append("Of the base no licence is recorded; the study's next run does that, and "
                    "does nothing again that is done.")  # fmt: skip
    if not any(one.kind == "data" for one in used):
        told.append("Of the data none is recorded yet.")
    bound = [one for one in used if RESEARCH in one.asks]
    doubtful = [one for one in used if not one.known]
    if bound:
        told.append(f"Not for commercial use: {_models(bound, study)}, by the licence of "
                    f"{listed([one.name for one in bound])}.")  # fmt: skip
    if doubtful:
        told.append(f"In doubt: {_models(doubtful, study)}, as of "
                    f"{listed([one.name for one in doubtful])} no licence is stated or known "
                    "here.")  # fmt: skip
    if not told:
        told.append("No licence of base or data forbids commercial use; see what each asks.")
    if study.generated:
        told.append("The data is generated in the layout of these sources: their licences bind "
                    "nobody here.")  # fmt: skip
    return told


def _models(used: list[Part], study: Study) -> str:
    """The models that are made of any of some parts."""
    if any(one.kind == "base" for one in used):
        return "all models on that base" if len(study.bases) > 1 else "all models"
    held = {mixture for one in used for mixture in one.mixtures}
    names = [mixture for mixture in study.mixtures if mixture in held]
    which = "any mixture" if len(held) == len(study.mixtures) else listed(names)
    return f"what was trained on {which}"
