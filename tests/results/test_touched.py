"""Gains on touched and on clean items against sums by hand, and how often intervals hold."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.results.stats import Items, Paired, paired, tango
from cameleer.results.touched import FEW, Touch, excess, read_labels, split

Scores = dict[str, float]


def label(item: str, kind: str | None = None, answer: bool | None = None) -> dict[str, Any]:
    return {"item": item, "touched": kind is not None, "kind": kind, "answer_seen": answer}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_labels(tmp_path: Path) -> None:
    rows = label("gsm/0"), label("gsm/1", "exact", True), label("gsm/2", "near", False)
    labels = read_labels(write(tmp_path, *rows))
    assert labels.items == {"gsm/0", "gsm/1", "gsm/2"}
    assert labels.touched == {"gsm/1": Touch("exact", True), "gsm/2": Touch("near", False)}
    assert labels.kinds(["gsm/0", "gsm/2"]) == {"near": 1}
    assert list(labels.kinds({"gsm/2", "gsm/1"})) == ["exact", "near"]  # whatever a set's order
    assert labels.answered(["gsm/1", "gsm/2"]) == 1
    write(tmp_path, rows[0], {"item": "gsm/1"})
    with pytest.raises(UserError, match=r"labels\.jsonl:2: field 'touched': is missing"):
        read_labels(tmp_path)


def made(rng: random.Random, n: int, better: set[str]) -> tuple[Scores, Scores]:
    """Scores before and after: items of `better` are all solved after, others mostly stay."""
    keys = [f"gsm/{number}" for number in range(n)]
    before = {key: float(rng.random() < 0.4) for key in keys}
    after = {key: 1.0 if key in better or rng.random() < 0.4 else 0.0 for key in keys}
    return before, after


def mean(scores: Scores, keys: set[str]) -> float:
    return sum(scores[key] for key in keys) / len(keys)


def test_the_two_sides_and_their_difference_are_those_of_the_items() -> None:
    touched = {f"gsm/{number}" for number in range(0, 60, 3)}
    before, after = made(random.Random(7), 60, touched)
    clean = before.keys() - touched
    found = split([{"gsm": Items(before)}], [{"gsm": Items(after)}], touched | {"gsm/999"})
    assert found.touched
    assert found.clean
    assert found.excess
    for side, keys in ((found.touched, touched), (found.clean, clean)):
        assert side.moved.n == len(keys)
        assert side.base.value == pytest.approx(mean(before, keys))
        assert side.tuned.value == pytest.approx(mean(after, keys))
        assert side.moved.difference == pytest.approx(mean(after, keys) - mean(before, keys))
        a, b = (Items({key: scores[key] for key in keys}) for scores in (before, after))
        assert side.moved == paired(a, b)
    inside, outside = found.touched.moved, found.clean.moved
    value = inside.difference - outside.difference
    assert found.excess.value == pytest.approx(value)
    below = (inside.difference - inside.low) ** 2 + (outside.high - outside.difference) ** 2
    above = (inside.high - inside.difference) ** 2 + (outside.difference - outside.low) ** 2
    assert found.excess.low == pytest.approx(value - below**0.5)
    assert found.excess.high == pytest.approx(value + above**0.5)
    assert found.excess.p < 0.001


def test_weights_seeds_and_benchmarks_stay_what_they_are() -> None:
    touched = {f"gsm/{number}" for number in range(10)}
    before, first = made(random.Random(1), 40, touched)
    _, second = made(random.Random(2), 40, touched)
    weights = {key: 0.5 + (number % 3) / 2 for number, key in enumerate(before)}
    other = {f"mmlu/{number}": number % 2 / 1 for number in range(8)}
    base, tuned = (
        [{"gsm": Items(scores, weights), "mmlu": Items(other)} for scores in seeds]
        for seeds in ([before], [first, second])
    )
    found = split(base, tuned, touched)
    assert found.touched is None  # nothing of mmlu is touched: there is no average of both
    assert found.clean
    total = sum(weights[key] for key in before.keys() - touched)
    clean = sum(
        weights[key] * ((first[key] + second[key]) / 2 - before[key]) / total
        for key in before.keys() - touched
    )
    assert found.clean.moved.difference == pytest.approx(clean / 2)
    alone = split([{"gsm": base[0]["gsm"]}], [{"gsm": run["gsm"]} for run in tuned], touched)
    assert alone.touched
    assert alone.touched.tuned.value == pytest.approx(1)
    assert alone.excess


@pytest.mark.parametrize("few", [0, 1, FEW - 1, FEW])
def test_of_too_few_items_nothing_is_told(few: int) -> None:
    touched = {f"gsm/{number}" for number in range(few)}
    before, after = made(random.Random(3), 30, touched)
    found = split([{"gsm": Items(before)}], [{"gsm": Items(after)}], touched)
    assert (found.touched is None) == (few == 0)
    assert (found.excess is None) == (few < FEW)
    whole = split([{"gsm": Items(before)}], [{"gsm": Items(after)}], before)
    assert whole.clean is None
    assert whole.excess is None


def test_fewer_than_those_could_not_be_detected() -> None:
    """All of FEW - 1 items changing to one side: no exact test is below 5 %."""
    assert 2 * 0.5 ** (FEW - 1) > 0.05 > 2 * 0.5**FEW


def drawn(rng: random.Random, n: int, rise: float, fall: float) -> Paired:
    luck = [rng.random() for _ in range(n)]
    up = sum(one < rise for one in luck)
    down = sum(rise <= one < rise + fall for one in luck)
    limits = tango(up / n, down / n, n)
    return Paired(n, *limits, up, down, n - up - down, (up + down) / n, n)


@pytest.mark.parametrize(
    ("touched", "clean"),
    [((6, 0.3, 0.3), (60, 0.1, 0.1)), ((12, 0.5, 0.1), (80, 0.1, 0.1)),
     ((40, 0.1, 0.1), (40, 0.2, 0.1))],
)  # fmt: skip
def test_intervals_hold_the_truth_and_agree_with_p(
    touched: tuple[int, float, float], clean: tuple[int, float, float]
) -> None:
    truth = touched[1] - touched[2] - (clean[1] - clean[2])
    rng, held, times = random.Random(11), 0, 300
    for _ in range(times):
        found = excess(drawn(rng, *touched), drawn(rng, *clean))
        held += found.low <= truth <= found.high
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert held / times > 0.95 - 3 * math.sqrt(0.95 * 0.05 / times)
