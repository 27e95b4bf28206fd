"""How scores grow, as the page shows it: by data, by supervised tokens, by parameters, or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cameleer.report.analysis import analyse
from cameleer.report.scale import shown
from cameleer.results.store import read_study
from tests.results.on_disk import study

SIZES = {"x1": {"x": 100}, "x2": {"x": 200}, "x4": {"x": 400}}


def grown(folder: Path, **scores: int) -> Path:
    """A study of three sizes of which so many of 60 items are right."""
    table: dict[str | None, list[list[float]]] = {None: [[0.0] * 60]}
    table |= {name: [[1.0] * right + [0.0] * (60 - right)] for name, right in scores.items()}
    return study(folder, table, lower=False, sources=SIZES)


def test_a_doubling_is_told_drawn_and_written(tmp_path: Path) -> None:
    part = shown(analyse(read_study(grown(tmp_path / "s", x1=20, x2=30, x4=40))))
    (said,) = part.words
    assert said.startswith(
        "On b, each doubling of x4 from 100 to 400 conversations adds +16.7 points to t ("
    )
    assert "not clear" not in said
    assert list(part.figures) == ["growth-conversations"]
    assert "x4 on t at 200 50.0" in part.figures["growth-conversations"].alternative
    assert part.table.rows[0][:4] == ["x4", "100 to 400", "t", "+16.7"]
    assert part.sheet.rows[0][:5] == ["b", "x4", 100, 400, "t"]
    assert part.sheet.rows[0][5] == pytest.approx(1 / 6)


def test_a_doubling_that_may_be_chance_is_said_to_be(tmp_path: Path) -> None:
    part = shown(analyse(read_study(grown(tmp_path / "s", x1=29, x2=30, x4=30))))
    assert "which is not clear of chance." in part.words[0]


def test_tokens_are_drawn_where_trainings_tell_them(tmp_path: Path) -> None:
    folder = grown(tmp_path / "s", x1=20, x2=30, x4=40)
    record = json.loads((folder / "study.json").read_text())
    for cell in record["cells"][1:]:
        place = folder / f"train-{cell['mixture']}"
        place.mkdir()
        tokens = 7 * SIZES[cell["mixture"]]["x"]
        outcome = {"outcome": {"supervised_tokens": tokens}}
        (place / "manifest.json").write_text(json.dumps(outcome))
        cell["train"] = place.name
    (folder / "study.json").write_text(json.dumps(record))
    part = shown(analyse(read_study(folder)))
    assert list(part.figures) == ["growth-conversations", "growth-supervised-tokens"]
    assert "x4 on t at 1,400 50.0" in part.figures["growth-supervised-tokens"].alternative


def test_bases_of_known_sizes_are_a_line(make_study: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_study(tmp_path, mixtures=("flan",), bases=("a", "b"), n=30)
    assert shown(analyse(read_study(folder))).figures == {}
    record = json.loads((folder / "study.json").read_text())
    for base, count in zip(record["bases"], (135_000_000, 360_000_000), strict=True):
        base["parameters"] = count
    (folder / "study.json").write_text(json.dumps(record))
    part = shown(analyse(read_study(folder)))
    assert (part.words, part.table.rows) == ([], [])
    assert list(part.figures) == ["growth-parameters"]
    assert "flan on mmlu:0-shot at 360,000,000" in part.figures["growth-parameters"].alternative
