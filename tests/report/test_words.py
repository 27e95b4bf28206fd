"""The answer in words: who is best is only said where somebody is."""

from __future__ import annotations

import pytest

from cameleer.report import words
from cameleer.report.analysis import AVERAGE, Matrix, Row, Score
from cameleer.results.stats import Estimate


def matrix(**scores: list[float]) -> Matrix:
    """Two mixtures, `one` and `two`, and their scores on each benchmark."""
    rows = [
        Row(name, {column: _score(own[place]) for column, own in scores.items()})
        for place, name in enumerate(["one", "two"])
    ]
    return Matrix("base", [*scores, AVERAGE], rows, {})


def _score(value: float) -> Score:
    return Score(Estimate(value, value - 0.1, value + 0.1, 50), [])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            matrix(gsm=[0.2, 0.1], mmlu=[0.4, 0.3]),
            ["one has the best score of the mixtures on every benchmark."],
        ),
        (
            matrix(gsm=[0.2, 0.1], mmlu=[0.4, 0.3], codex=[0.0, 0.0]),
            [
                "one has the best score of the mixtures on gsm and mmlu.",
                "On codex all score alike.",
            ],
        ),
        (matrix(gsm=[0.2, 0.1], codex=[0.0, 0.0]), []),
    ],
)
def test_where_all_are_alike_nobody_is_best(found: Matrix, said: list[str]) -> None:
    assert words._everywhere(found) == said
