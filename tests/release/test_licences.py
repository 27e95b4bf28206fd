"""Licences of base and data: what they ask together, and what cannot go together."""

from __future__ import annotations

import pytest

from cameleer.data.mix.provenance import asks
from cameleer.release.card import licence_front
from cameleer.release.licences import Check, check, part, parts_of_mixture


def checked(own: str | None, **licences: str) -> Check:
    return check([part(name, "data", one, asks) for name, one in licences.items()], own, asks)


def test_the_strictest_wins_where_nothing_contradicts() -> None:
    found = checked(None, cot="Apache-2.0", alpaca="CC BY-NC 4.0", uni="MIT")
    assert found.asked == ["non-commercial use", "attribution"]
    assert (found.licence, found.problems) == ("CC BY-NC 4.0", [])
    assert checked(None, uni="MIT").licence == "MIT"


@pytest.mark.parametrize("doubtful", ["none stated", "", "Tulu agreement"])
def test_a_licence_in_doubt_is_named_and_decides_nothing(doubtful: str) -> None:
    found = checked(None, cot="Apache-2.0", strange=doubtful)
    assert found.licence == "other"
    (told,) = found.problems
    assert told.startswith("strange (data): licence ")


def test_non_commercial_data_under_apache_is_named() -> None:
    found = checked("Apache-2.0", cot="Apache-2.0", alpaca="CC BY-NC 4.0", code="CC BY-NC 4.0")
    told = "Apache-2.0 allows commercial use, CC BY-NC 4.0 of alpaca, code does not."
    assert found.problems == [told]
    assert checked("CC BY-NC 4.0", alpaca="CC BY-NC 4.0").problems == []


def test_share_alike_goes_with_itself_alone() -> None:
    assert checked("CC BY-SA 3.0", dolly="CC BY-SA 3.0", cot="Apache-2.0").problems == []
    told = checked("MIT", dolly="CC BY-SA 3.0").problems
    assert told == ["CC BY-SA 3.0 of dolly is share-alike, and MIT is another."]
    two = checked(None, dolly="CC BY-SA 3.0", baize="GPL-3.0")
    assert "CC BY-SA 3.0 of dolly; GPL-3.0 of baize" in two.problems[0]
    mixed = checked(None, dolly="CC BY-SA 3.0", alpaca="CC BY-NC 4.0")
    assert "lets nobody add a restriction" in mixed.problems[0]
    assert mixed.licence == "other"


def test_no_derivatives_and_no_attribution_are_named() -> None:
    assert "no derivatives" in checked(None, x="CC BY-NC-ND 4.0").problems[0]
    told = checked("CC0", x="CC BY 4.0").problems
    assert told == ["CC0 asks no attribution, CC BY 4.0 of x does."]
    own = checked("My own", x="MIT").problems
    assert "not known here" in own[0]


def test_parts_come_from_the_mixture_with_each_of_several_licences() -> None:
    outcome = {
        "sources": {"own": {"licence": "MIT; CC BY-NC 4.0"}, "bare": {}},
        "licences": {"MIT": "attribution", "CC BY-NC 4.0": "non-commercial use, attribution"},
    }
    found = parts_of_mixture(outcome)
    assert [(one.name, one.licence, one.known) for one in found] == [
        ("own", "MIT", True),
        ("own", "CC BY-NC 4.0", True),
        ("bare", "none stated", False),
    ]


@pytest.mark.parametrize(
    ("licence", "name"),
    [("CC BY-NC 4.0", "cc-by-nc-4.0"), ("Apache-2.0", "apache-2.0"), ("MIT", "mit")],
)
def test_licences_have_the_hubs_names(licence: str, name: str) -> None:
    assert licence_front(Check([], [], [], licence)) == {"license": name}
    own = licence_front(Check([], [], [], "My Own"))
    assert own == {"license": "other", "license_name": "my-own"}
