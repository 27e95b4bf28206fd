"""Answers that are written here and judged elsewhere: their lengths, and AlpacaEval's form of them.

A judge, or people, decide which of two answers is better, so there is no score. What is known at
once is how long the answers are, which such verdicts go with (arXiv 2306.04751, figure 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from cameleer.results.records import Item
from cameleer.results.unique_tokens import words


def lengths(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over outputs: characters, words, different words and tokens; and how many are empty.

    Words are runs of letters and digits, and single marks: the same for every model, which its own
    tokens are not.
    """
    outputs = [output for row in rows for output in row["outputs"]]
    told = [words(output) for output in outputs]
    return {
        "characters": fmean(map(len, outputs)),
        "words": fmean(map(len, told)),
        "unique_words": fmean(len(set(own)) for own in told),
        "tokens": sum(row["new_tokens"] for row in rows) / len(outputs),
        "empty": sum(not output.strip() for output in outputs),
    }


def alpaca_eval_rows(
    items: Sequence[Item], rows: Sequence[Mapping[str, Any]], generator: str
) -> list[dict[str, str]]:
    """Every item's (first) output as a record of AlpacaEval's model_outputs.json."""
    return [
        {
            "dataset": item.group,
            "instruction": item.meta["instruction"],
            "output": row["outputs"][0],
            "generator": generator,
        }
        for item, row in zip(items, rows, strict=True)
    ]
