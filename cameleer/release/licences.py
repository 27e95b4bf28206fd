"""Whether a licence goes with those of base and data: what each asks, and what contradicts.

The strictest wins: what one part asks is asked of the whole. It sorts what the releases themselves
state, and is no legal advice; whether a model is a work derived from its data is disputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RESEARCH, ALIKE, FIXED = "non-commercial use", "share-alike", "no derivatives"
ORDER = (RESEARCH, FIXED, ALIKE, "attribution")
NONE_STATED = "none stated"
Asks = Callable[[str], str]
"""What a licence asks, in words with commas between (see `cameleer.data.mix.provenance.asks`)."""


@dataclass(frozen=True)
class Part:
    """A base model or data set under a licence. asks: its terms, in words; where none is known
    (`known` false) these say why."""

    name: str
    kind: str
    licence: str
    asks: tuple[str, ...]

    @property
    def known(self) -> bool:
        return all(one in ORDER or one == "nothing" for one in self.asks)


@dataclass(frozen=True)
class Check:
    """parts: base and data; asked: what they ask together, the most binding first; problems: what
    is in doubt or contradicts, in sentences; licence: the one to be released under; forbidden:
    those of the problems by which it may not be released so."""

    parts: list[Part]
    asked: list[str]
    problems: list[str]
    licence: str
    forbidden: list[str] = field(default_factory=list)


def parts_of_mixture(outcome: Mapping[str, Any]) -> list[Part]:
    """The licensed parts of a mixture, from its manifest's outcome."""
    stated: Mapping[str, str] = outcome.get("licences") or {}
    found = []
    for name, facts in (outcome.get("sources") or {}).items():
        for licence in str(facts.get("licence") or NONE_STATED).split("; "):
            found.append(part(name, "data", licence, stated.get))
    return found


def part(name: str, kind: str, licence: str, asks: Callable[[str], str | None]) -> Part:
    """The part of that name, with what its licence asks."""
    said = asks(licence) or "not known here: read it"
    terms = tuple(said.split(", "))
    known = all(one in ORDER or one == "nothing" for one in terms)
    return Part(name, kind, licence, terms if known else (said,))


def check(parts: Sequence[Part], own: str | None, asks: Asks) -> Check:
    """Whether all parts go together, and into a release under the licence `own`.

    own: None takes the strictest that all parts leave open, or "other" where that is in doubt.
    """
    known = [one for one in parts if one.known]
    asked = [term for term in ORDER if any(term in one.asks for one in known)]
    forbidden = _fixed(known)
    problems = [*_doubts(parts), *forbidden, *_among(known)]
    if own is None:
        binding = [one for one in known if set(one.asks) >= set(asked)]
        licence = binding[0].licence if binding and not problems else "other"
        return Check(list(parts), asked, problems, licence, forbidden)
    release = part("the release", "release", own, asks)
    if not release.known:
        problems.append(f"The release's own licence {own} is not known here: compare it.")
        return Check(list(parts), asked, problems, own, forbidden)
    against = _against(known, release)
    return Check(list(parts), asked, [*problems, *against], own, [*forbidden, *against])


def _doubts(parts: Iterable[Part]) -> list[str]:
    return [
        f"{one.name} ({one.kind}): licence {one.licence}: {', '.join(one.asks)}."
        for one in parts
        if not one.known
    ]


def _fixed(parts: Iterable[Part]) -> list[str]:
    return [
        f"{one.name} is under {one.licence}: no derivatives may be passed on."
        for one in parts
        if FIXED in one.asks
    ]


def _among(parts: Sequence[Part]) -> list[str]:
    """Parts that cannot be under one licence with each other."""
    found: list[str] = []
    alike = _by_licence(one for one in parts if ALIKE in one.asks)
    if len(alike) > 1:
        told = "; ".join(f"{licence} of {names}" for licence, names in alike.items())
        found.append(f"Each of these wants the whole under itself: {told}.")
    bound = _by_licence(one for one in parts if RESEARCH in one.asks and ALIKE not in one.asks)
    free = {
        licence: names
        for licence, names in alike.items()
        if not any(RESEARCH in one.asks for one in parts if one.licence == licence)
    }
    for licence, names in free.items():
        for strict, strict_names in bound.items():
            found.append(
                f"{licence} of {names} lets nobody add a restriction such as the non-commercial "
                f"use that {strict} of {strict_names} asks."
            )
    return found


def _against(parts: Sequence[Part], release: Part) -> list[str]:
    """Terms of the parts that the release's licence drops."""
    found = []
    for licence, names in _by_licence(parts).items():
        asks = next(one.asks for one in parts if one.licence == licence)
        if RESEARCH in asks and RESEARCH not in release.asks:
            found.append(f"{release.licence} allows commercial use, {licence} of {names} does not.")
        if ALIKE in asks and licence != release.licence:
            found.append(f"{licence} of {names} is share-alike, and {release.licence} is another.")
        if "attribution" in asks and "attribution" not in release.asks:
            found.append(f"{release.licence} asks no attribution, {licence} of {names} does.")
    return found


def _by_licence(parts: Iterable[Part]) -> dict[str, str]:
    """Names of the parts under each licence."""
    found: dict[str, list[str]] = {}
    for one in parts:
        found.setdefault(one.licence, []).append(one.name)
    return {licence: ", ".join(dict.fromkeys(names)) for licence, names in sorted(found.items())}
