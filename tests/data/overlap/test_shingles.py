"""Words, their places, and runs of them as numbers."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.cores import over_cores
from cameleer.data.overlap import shingles
from cameleer.data.overlap.shingles import (
    in_batches,
    numbers,
    runs,
    spans,
    word_numbers,
    words,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Don't STOP -- now!", "don t stop now"),
        ("Don’t…stop\n\nnow", "don't stop now"),
        ("ＡＢＣ ﬁne", "abc fine"),
        ("cafe\u0301", "café"),
        ("co\u00adoperate zero\u200bwidth", "cooperate zerowidth"),
        ("snake_case", "snake case"),
    ],
)
def test_what_does_not_count(one: str, other: str) -> None:
    assert words(one) == words(other)


def test_scripts_without_spaces_have_a_word_for_each_letter() -> None:
    assert words("東京 です") == ["東", "京", "で", "す"]
    assert words("กี่") == ["กี่"]  # a letter and its marks
    assert words("কি আমি") == ["কি", "আমি"]
    assert words("x² ≤ 3.5") == ["x2", "3", "5"]


@given(st.text())
def test_a_word_for_each_place_and_case_never_counts(text: str) -> None:
    found = words(text)
    assert len(spans(text)) == len(found)
    for (begin, end), word in zip(spans(text), found, strict=True):
        assert words(text[begin:end]) == [word]
    assert words(f" .,;\n{text}!") == found


@given(st.text(st.characters(codec="ascii")))
def test_ascii_is_read_as_any_other_text(text: str) -> None:
    assert words(f"{text} é")[:-1] == words(text)
    assert unicodedata.normalize("NFKC", "é") == words("é")[0]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 6))
def test_runs_are_equal_where_their_words_are(listed: list[str], n: int) -> None:
    found = runs(numbers(listed), n)
    shown = [tuple(listed[i : i + n]) for i in range(len(listed) - n + 1)]
    assert len(found) == len(shown)
    assert len(set(found.tolist())) == len(set(shown))
    assert len(set(zip(found.tolist(), shown, strict=True))) == len(set(shown))


def test_numbers_are_the_same_on_every_day() -> None:
    assert numbers(["camel"]).tolist() == [15369393295119462046]  # BLAKE2b, 8 bytes


def test_a_huge_text_has_the_words_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Eleven camels,\u00a0é and\none a-very-long-word-without-any-space at all " * 9
    whole = word_numbers(text).tolist()
    monkeypatch.setattr(shingles, "PIECE", 20)
    assert word_numbers(text).tolist() == whole == numbers(words(text)).tolist()


def test_batches_and_cores_keep_the_order() -> None:
    assert list(in_batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(over_cores(sum, in_batches(range(100), 9), 2)) == [
        sum(range(begin, min(100, begin + 9))) for begin in range(0, 100, 9)
    ]
