"""Where data comes from: what its licences ask, and which sources are made of others.

About licences this is a reminder, no legal advice: it sorts what the releases themselves state.
What the terms of a model that wrote the data ask comes on top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from cameleer.data.source import all_sources

NONE_STATED = "none stated"
CREDIT, ALIKE, RESEARCH = "attribution", "share-alike", "non-commercial use"

# Most binding first: the order decides which licence of a mixture is called the strictest.
ASKS: dict[str, tuple[str, ...]] = {
    "CC BY-NC-ND": (RESEARCH, "no derivatives", CREDIT),
    "CC BY-NC-SA": (RESEARCH, ALIKE, CREDIT),
    "CC BY-NC": (RESEARCH, CREDIT),
    "AGPL": (ALIKE, CREDIT),
    "GPL": (ALIKE, CREDIT),
    "CC BY-SA": (ALIKE, CREDIT),
    "CC BY": (CREDIT,),
    "ODC-BY": (CREDIT,),
    "Apache": (CREDIT,),
    "BSD": (CREDIT,),
    "MIT": (CREDIT,),
    "CC0": (),
    "public domain": (),
}


def asks(licence: str) -> str:
    """What a licence asks, in words. One that is not in the table is said to be unknown."""
    if _unstated(licence):
        return "no permission is stated: ask, or leave the data out"
    known = _known(licence)
    if known is None:
        return "not known here: read it"
    return ", ".join(ASKS[known]) or "nothing"


def strictest(licences: Iterable[str]) -> str:
    """The licence most in doubt (none stated, then unknown ones), else the one that binds most."""
    return min(licences, key=lambda licence: (_place(licence), licence))


def _place(licence: str) -> int:
    if _unstated(licence):
        return -2
    known = _known(licence)
    return -1 if known is None else list(ASKS).index(known)


def _unstated(licence: str) -> bool:
    return _plain(licence) in ("", NONE_STATED)


def _known(licence: str) -> str | None:
    """The table's name of a licence, whatever its version and spelling: `CC-BY-NC-4.0`."""
    for name in ASKS:
        if re.fullmatch(rf"{_plain(name)}( v?[0-9.]+)?", _plain(licence)):
            return name
    return None


def _plain(licence: str) -> str:
    words = re.sub(r"[-_]|\b(licen[cs]e|international)\b", " ", licence.lower())
    return " ".join(words.split())


def licence_of(source: str) -> str:
    """The licence that a source's card states; of a name that is no source's, none is known."""
    module = all_sources().get(source)
    return (module.CARD.licence if module else "") or NONE_STATED


def edges(names: Iterable[str]) -> list[tuple[str, str]]:
    """(source, one that it is derived from) for all pairs among `names`, over others in between."""
    there = sorted(set(names))
    return [(name, above) for name in there for above in sorted(_ancestry(name)) if above in there]


def _ancestry(name: str) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        for parent in _parents(todo.pop()):
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return found - {name}


def _parents(name: str) -> Iterator[str]:
    module = all_sources().get(name)
    yield from module.CARD.derived_from if module else ()
