"""What crosses between program and tests: plain values whole, all else not at all."""

from __future__ import annotations

import enum
import json
import math
from collections import Counter, OrderedDict, namedtuple
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.evals.cage.exchange import Uncarried, described, pack, rebuilt, unpack

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False) | st.fractions()
    | st.decimals(allow_nan=False)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(SCALARS, inner)
        | st.sets(SCALARS)
        | st.frozensets(SCALARS)
    ),
    max_leaves=12,
)


def crossed(value: Any) -> Any:
    return unpack(json.loads(json.dumps(pack(value))))


def alike(one: Any, other: Any) -> bool:
    """Equal and of the same types, also within."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return all(map(alike, one, other)) and all(map(alike, one.values(), other.values()))
    return not isinstance(one, list | tuple) or all(map(alike, one, other))


@given(VALUES)
def test_plain_values_come_out_as_they_went_in(value: Any) -> None:
    assert alike(crossed(value), value)


def test_numbers_keep_every_bit() -> None:
    assert math.copysign(1, crossed(-0.0)) == -1
    assert math.isnan(crossed(math.nan))
    assert crossed(7**9999) == 7**9999
    assert crossed(range(2, 9, 3)) == range(2, 9, 3)


def test_of_subclasses_the_plain_value_crosses() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    Point = namedtuple("Point", "x y")
    colour = enum.IntEnum("colour", "RED")
    for value, plain in (
        (Liar(3), 3),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(b=1), {"b": 1}),
        (Point(1, 2), (1, 2)),
        (colour["RED"], 1),
    ):
        assert alike(crossed(value), plain)
    assert list(crossed(number * 2 for number in range(3))) == [0, 2, 4]


def test_other_values_do_not_cross() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    for value in (Equal(), print, int, object()):
        (came,) = crossed([value])
        assert isinstance(came, Uncarried)
        assert not any(came == other for other in (1, 0, None, [], object()))


@pytest.mark.parametrize(
    "nonsense",
    [["eval", "1"], ["list", 3], ["dict", [[1]]], [1, 2, 3], 5, {"a": 1}, ["int", "x"],
     ["range", []], ["set", [["list", []]]], ["Decimal", "x"]],
)  # fmt: skip
def test_nonsense_is_refused(nonsense: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, ArithmeticError)):
        unpack(nonsense)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("k"), SystemExit(3), KeyboardInterrupt(), OSError("no")],
)
def test_exceptions_are_rebuilt(error: BaseException) -> None:
    again = rebuilt(*described(error))
    assert type(again) is type(error)
    assert str(error) in str(again)


def test_exceptions_of_its_own_are_their_builtin_kind() -> None:
    class OddError(ValueError):
        pass

    again = rebuilt(*described(OddError("so")))
    assert isinstance(again, ValueError)
    assert type(again).__name__ == "OddError"
    unicode = UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")
    assert isinstance(rebuilt(*described(unicode)), RuntimeError)
    assert isinstance(rebuilt("print", "print", "x"), RuntimeError)
    assert Fraction(1, 3) == crossed(Fraction(1, 3))
