"""Licences sorted by how much they bind, and edges between sources."""

from types import SimpleNamespace
from typing import Any

import pytest

from cameleer.data.mix import provenance
from cameleer.data.mix.provenance import NONE_STATED, asks, edges, licence_of, strictest
from cameleer.data.source import all_sources

MOST_BINDING_FIRST = [
    "none stated",
    "Terms of the Moon",
    "CC BY-NC-SA 4.0",
    "CC BY-NC 4.0",
    "GPL-3.0",
    "CC BY-SA 3.0",
    "CC BY 4.0",
    "Apache-2.0",
    "MIT",
    "CC0 1.0",
]


def test_the_order() -> None:
    for index in range(len(MOST_BINDING_FIRST)):
        assert strictest(reversed(MOST_BINDING_FIRST[index:])) == MOST_BINDING_FIRST[index]


@pytest.mark.parametrize(
    ("licence", "says"),
    [
        ("CC BY-NC 4.0", "non-commercial use, attribution"),
        ("cc-by-nc-4.0", "non-commercial use, attribution"),
        ("CC-BY-SA-3.0", "share-alike, attribution"),
        ("Apache License 2.0", "attribution"),
        ("Apache-2.0", "attribution"),
        ("CC0-1.0", "nothing"),
        ("CC BY-NX", "not known here: read it"),
        ("MIT or so", "not known here: read it"),
        ("Apache-2.0, and more", "not known here: read it"),
        ("", "no permission is stated: ask, or leave the data out"),
        ("None stated", "no permission is stated: ask, or leave the data out"),
    ],
)
def test_what_is_asked(licence: str, says: str) -> None:
    assert asks(licence) == says


def test_every_source_with_an_origin_has_a_licence_that_is_known_or_said_to_be_unknown() -> None:
    for name, module in all_sources().items():
        assert asks(licence_of(name))
        assert bool(module.CARD.licence) or licence_of(name) == NONE_STATED
    assert licence_of("nobody's") == NONE_STATED


def test_edges_lead_over_sources_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = {"a": ("b",), "b": ("c", "b"), "c": (), "d": ("nobody's",)}
    made: dict[str, Any] = {
        name: SimpleNamespace(CARD=SimpleNamespace(derived_from=above))
        for name, above in parents.items()
    }
    monkeypatch.setattr(provenance, "all_sources", lambda: made)
    assert edges(["c", "a", "d", "own"]) == [("a", "c")]
    assert edges(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert edges(["d"]) == []


def test_edges_name_sources_that_are_there() -> None:
    known = all_sources()
    for name, module in known.items():
        assert name not in module.CARD.derived_from, name
