"""What was forgotten: items counted by hand, over seeds, clusters and where lower is better."""

from __future__ import annotations

from pathlib import Path

import pytest

from cameleer.report.analysis import analyse
from cameleer.report.forgotten import Flips, flips, in_words, shown
from cameleer.results.store import read_study
from tests.results.on_disk import study

BASE = [1.0] * 20 + [0.0] * 20


def found(folder: Path) -> list[Flips]:
    return flips(analyse(read_study(folder)))


def test_items_that_changed_sides_are_counted_both_ways(tmp_path: Path) -> None:
    """x: 5 of 20 forgotten, 2 of 20 learned; half a score is right, less is wrong."""
    x = [0.0] * 4 + [0.4] + [0.5] * 15 + [1.0] * 2 + [0.2] * 18
    (one,) = found(study(tmp_path / "s", {None: [BASE], "x": [x]}, lower=False))
    assert (one.right, one.forgotten, one.learned, one.items) == (20, 5, 2, 40)
    assert one.lost is not None
    assert one.lost.value == pytest.approx(0.25)
    # Wilson's interval of 5 of 20 at 95 %, worked out beside.
    assert (one.lost.low, one.lost.high) == pytest.approx((0.1119, 0.4687), abs=1e-4)


def test_of_several_seeds_the_mean_counts(tmp_path: Path) -> None:
    """One seed forgets 10, the other 5: 7.5, and the net is the difference of scores."""
    seeds = [[0.0] * 10 + BASE[10:], [0.0] * 5 + BASE[5:]]
    (one,) = found(study(tmp_path / "s", {None: [BASE], "x": seeds}, lower=False))
    assert (one.forgotten, one.learned) == (7.5, 0)
    assert one.difference.paired.difference == pytest.approx(-7.5 / 40)


def test_where_lower_is_better_a_low_score_is_right(tmp_path: Path) -> None:
    (one,) = found(study(tmp_path / "s", {None: [BASE], "x": [[1.0] * 40]}))
    assert (one.right, one.forgotten, one.learned) == (20, 20, 0)
    assert one.difference.verdict == "worse"


def test_only_what_is_detectable_is_called_forgotten(tmp_path: Path) -> None:
    scores = {None: [BASE], "x": [[0.0] * 15 + BASE[15:]], "y": [[0.0] * 2 + BASE[2:]]}
    several = found(study(tmp_path / "s", scores, lower=False))
    (said,) = in_words(several)
    assert said.startswith(
        "x on b forgot t: of 20 items that the base had right 15 are wrong now, of the 20 others 0 "
        "right (−37.5 points"
    )
    (none,) = in_words(several[1:])
    assert "On 1 of 1 comparison more items were forgotten than learned" in none


def test_the_commands_lead_from_the_page_to_the_items(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", {None: [BASE], "x": [[0.0] * 40], "y": [BASE]}, lower=False)
    part = shown(analyse(read_study(folder)), folder / "report")
    (one,) = part.changed
    assert one.command == "cameleer eval diff ../None-0 ../x-0"
    assert (one.page, one.sides) == (("b", "t"), ("base, untuned", "x"))
    spaced = study(tmp_path / "t", {None: [BASE], "x y": [[0.0] * 40]}, lower=False)
    part = shown(analyse(read_study(spaced)), spaced / "report")
    assert part.changed[0].command == "cameleer eval diff ../None-0 '../x y-0'"
    part = shown(analyse(read_study(folder)), folder / "report")
    assert [row[:4] for row in part.table.rows] == [["x", "t", "20", "20"]]
    first, second = part.sheet.rows
    assert first[:7] == ["b", "x", "t", 40, 20, 20.0, 1.0]
    assert second[-2:] == [0.0, "no detectable difference"]


def test_nothing_to_compare_is_no_part(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", {None: [BASE], "x": [[]]}, lower=False)
    part = shown(analyse(read_study(folder)), folder / "report")
    assert (part.words, part.table.rows, part.sheet.rows, part.changed) == ([], [], [], [])
