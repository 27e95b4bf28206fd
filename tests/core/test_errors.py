"""The user's error: one line that says where, what and what to do."""

from pathlib import Path

import pytest

from cameleer.core.errors import UserError, unknown


def test_one_line_with_all_that_is_known() -> None:
    error = UserError("is\nwrong", file=Path("a.yaml"), line=3, field="x.y", hint="make it right")
    assert str(error) == "a.yaml:3: field 'x.y': is wrong (make it right)"
    assert str(UserError("is wrong")) == "is wrong"
    assert str(UserError("is wrong", field="x")) == "field 'x': is wrong"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dolli", "unknown source 'dolli' (did you mean 'dolly'? `cameleer data ls` lists them)"),
        ("zebra", "unknown source 'zebra' (`cameleer data ls` lists them)"),
    ],
)
def test_an_unknown_name(name: str, says: str) -> None:
    assert str(unknown("source", name, ["sharegpt", "dolly"], "cameleer data ls")) == says
