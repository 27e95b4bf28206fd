"""Agreement by the paper's rule and by ours: the paper's numbers from a table of its counts, its
script's steps written out again, and what each rule does with odd rows."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main
from cameleer.core.errors import UserError
from cameleer.human.agreement import MEASURES, Report, report
from cameleer.human.released import Rated, read_ratings
from cameleer.results.records import Judgement

START = datetime(2023, 5, 18, 9)
FIVE = ["a-is-better", "a-is-slightly-better", "tie", "b-is-slightly-better", "b-is-better"]
BIG, CHAT, SMALL, HUMAN = "tulu_65B", "chatgpt", "tulu_7B", "tulu_human_only_65B"

# Of each pair of the released table: how often each of five verdicts came first (for the 65B model
# clearly, slightly, a tie, for the other slightly, clearly), how many answers of the 65B model and
# of the other were accepted, how many of the doubly rated agreed (strict, and with a tie against a
# win), and on how many of their answers' acceptability. From its percentages in paper.md 6 and R8.
RELEASED = {
    CHAT: ([24, 68, 110, 64, 66], 263, 299, 63, 35, 16, 114),
    SMALL: ([80, 70, 106, 39, 37], 262, 228, 56, 34, 16, 88),
    HUMAN: ([89, 77, 99, 41, 26], 270, 240, 2, 1, 1, 4),
}


class Sheet:
    """A table as the paper's app would have written it; the sides are thrown for each row."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.random = random.Random(7)

    def add(
        self, index: int, item: str, models: tuple[str, str], step: int | None,
        accepted: tuple[bool | None, bool | None], who: str, minute: float, **told: str,
    ) -> None:  # fmt: skip
        """step: 0 (the first of `models` is clearly better) to 4."""
        sides = [(models[at], accepted[at]) for at in (0, 1)]
        if self.random.random() < 0.5:
            sides.reverse()
            step = None if step is None else 4 - step
        words = {True: "yes", False: "no", None: ""}
        self.rows.append({
            "id": len(self.rows) + 1,
            "instance_index": index,
            "instance_id": item,
            "prompt": "a\nprompt, \"quoted\"",
            **{f"model_{side}": sides[at][0] for at, side in enumerate("ab")},
            **{f"completion_{side}": "text" for side in "ab"},
            "completion_a_is_acceptable": words[sides[0][1]],
            "completion_b_is_acceptable": words[sides[1][1]],
            "preference": "" if step is None else FIVE[step],
            "instance_quality": "", "comment": "",
            "evaluator": who,
            "timestamp": str(START + timedelta(minutes=minute)),
            **told,
        })  # fmt: skip

    def write(self, path: Path) -> Path:
        with path.open("w", newline="", encoding="utf-8-sig") as handle:
            writer = csv.DictWriter(handle, list(self.rows[0]), lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return path


def as_released() -> Sheet:
    """1,150 rows of 16 people with the counts of the released table."""
    sheet, index = Sheet(), 0
    for other, (steps, ours, theirs, several, strict, half, same_answers) in RELEASED.items():
        verdicts = [step for step, count in enumerate(steps) for _ in range(count)]
        sheet.random.shuffle(verdicts)
        wins = [at for at, step in enumerate(verdicts) if step != 2][:several]
        for at, step in enumerate(verdicts):
            told = (at % 332 < ours, (at * 7) % 332 < theirs)
            item, models = f"task_{at}", (BIG, other)
            minute = index * 3.0
            sheet.add(index, item, models, step, told, f"annotator_{index % 16}", minute)
            if at in wins:
                rank = wins.index(at)
                second = step if rank < strict else 2 if rank < strict + half else 4 - step
                # The last so many pairs of raters differ on the first model's answer, or on both.
                differ = max(0, min(2, 2 * several - same_answers - rank * 2))
                again = (told[0] ^ (differ > 0), told[1] ^ (differ > 1))
                sheet.add(
                    index,
                    item,
                    models,
                    second,
                    again,
                    f"annotator_{(index + 1) % 16}",
                    4000 + minute,
                )
                if other != HUMAN and rank < 12:
                    sheet.add(
                        index,
                        item,
                        models,
                        0,
                        (False, False),
                        f"annotator_{(index + 2) % 16}",
                        9000 + minute,
                    )
            if other == CHAT and at % 40 == 5:
                # Sent before, and taken back by the row above.
                opposite = (not told[0], not told[1])
                sheet.add(
                    index, item, models, 4 - step, opposite, f"annotator_{index % 16}", minute - 1
                )
            index += 1
    sheet.random.shuffle(sheet.rows)
    return sheet


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_released().write(tmp_path_factory.mktemp("released") / "eval_annotations.csv")


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in ("annotate", "agreement", *words)])
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def test_a_table_of_the_released_counts_has_the_papers_numbers(released: Path, call: Call) -> None:
    code, out, _ = call(released, "--format", "tulu1", "--rule", "paper", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["rule"], found["format"]) == ("paper", "tulu1")
    assert {name: found["counts"][name] for name in ("rows", "superseded", "kept", "raters")} == {
        "rows": 1150, "superseded": 9, "kept": 1141, "raters": 16,
    }  # fmt: skip
    by_other = {({one["a"], one["b"]} - {BIG}).pop(): one for one in found["pairs"]}

    def four(part: dict[str, Any]) -> list[Any]:
        names = ("acceptance", "strict", "tie_discounted")
        return [part["multiple"], *(round(part["agreement"][name]["value"], 4) for name in names)]

    assert four(by_other[CHAT]) == [63, 0.9048, 0.5556, 0.6825]
    assert four(by_other[SMALL]) == [56, 0.7857, 0.6071, 0.75]
    assert four(by_other[HUMAN]) == [2, 1.0, 0.5, 0.75]
    assert four(found["pooled"]) == [121, 0.8512, 0.5785, 0.7149]
    assert {one["items"] for one in found["pairs"]} == {332}
    shown = {
        model: round(100 * one["value"], 1) for model, one in found["pooled"]["acceptance"].items()
    }
    assert shown == {CHAT: 90.1, BIG: 79.8, HUMAN: 72.3, SMALL: 68.7}
    assert shares_of(by_other[CHAT]) == [7.2, 20.5, 33.1, 19.3, 19.9, 27.7, 33.1, 39.2]
    assert shares_of(by_other[SMALL]) == [24.1, 21.1, 31.9, 11.7, 11.1, 45.2, 31.9, 22.9]
    assert shares_of(by_other[HUMAN]) == [26.8, 23.2, 29.8, 12.3, 7.8, 50.0, 29.8, 20.2]


def shares_of(pair: dict[str, Any]) -> list[float]:
    """% of verdicts from "65B is clearly better" on; then 65B wins, ties, loses."""
    shown = {name: round(100 * one["value"], 1) for name, one in pair["verdicts"].items()}
    five = [shown[name] for name in ("a_clearly", "a_slightly", "tie", "b_slightly", "b_clearly")]
    three = [shown[name] for name in ("a_wins", "ties", "b_wins")]
    return five + three if pair["a"] == BIG else five[::-1] + three[::-1]


def test_the_fixed_rule_uses_every_rating(released: Path) -> None:
    _, rows = read_ratings(released)
    paper, fixed = report(rows, "paper"), report(rows)
    assert fixed.counts["kept"] == 1141
    assert fixed.counts["superseded"] == 9
    assert (fixed.pooled.items, fixed.pooled.multiple) == (996, 121)
    assert fixed.pooled.judgements == 1141 > paper.pooled.judgements == 996 + 121
    assert set(fixed.pooled.agreement) == set(paper.pooled.agreement) == set(MEASURES)
    kept = newest_by_rater(rows)
    chat = fixed.pairs[[one.a for one in fixed.pairs].index(CHAT)]
    by_item: dict[str, list[float]] = {}
    for one in kept:
        if one.a == CHAT:
            by_item.setdefault(one.item, []).append(float((one.preference or 0) > 1.5))
    share = sum(sum(told) / len(told) for told in by_item.values()) / len(by_item)
    assert chat.verdicts["b_wins"].value == pytest.approx(share)
    assert len(fixed.raters) == 16
    assert sum(one.judgements for one in fixed.raters) == 1141
    assert fixed.strengths is not None
    assert list(fixed.strengths.models)[-1] in (HUMAN, SMALL)
    assert fixed.strengths.notes == []
    for measure in [*fixed.pooled.agreement.values(), *paper.pooled.agreement.values()]:
        assert measure.value is not None
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low < measure.value < measure.high
        assert measure.high - measure.low < 0.6


def newest_by_rater(rows: list[Rated]) -> list[Judgement]:
    last: dict[tuple[str, str], Rated] = {}
    for row in sorted(rows, key=lambda row: row.moment or START):
        last[row.index, row.judgement.who] = row
    return [row.judgement for row in last.values()]


def steps_of_the_paper(sheet: Sheet) -> dict[tuple[str, str], dict[str, float]]:
    """What the paper's script finds, restated on the file's own cells."""
    kept: list[dict[str, Any]] = []
    for index in dict.fromkeys(row["instance_index"] for row in sheet.rows):
        own = [row for row in sheet.rows if row["instance_index"] == index]
        own.sort(key=lambda row: row["timestamp"], reverse=True)
        people = [row["evaluator"] for row in own]
        kept += [row for at, row in enumerate(own) if row["evaluator"] not in people[:at]]
    kept.sort(key=lambda row: row["timestamp"])
    found = {}
    for pair in {tuple(sorted((row["model_a"], row["model_b"]))) for row in kept}:
        rows = [row for row in kept if {row["model_a"], row["model_b"]} == set(pair)]
        items: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            items.setdefault(row["instance_id"], []).append(row)
        numbers: dict[str, float] = {"acceptance": 0.0}
        several = [own for own in items.values() if len(own) > 1]
        for model in pair:
            first = [cell(own[0], model) for own in items.values()]
            numbers[model] = first.count("yes") / len(first)
            same = sum(cell(own[0], model) == cell(own[1], model) for own in several)
            numbers["acceptance"] += same / len(several) / 2
        told = [[word for row in own if (word := winner(row))] for own in items.values()]
        told = [words for words in told if words]
        for model in pair:
            numbers[f"{model} wins"] = sum(model in words[0] for words in told) / len(told)
        twice = [[side(word, pair) for word in words[:2]] for words in told if len(words) > 1]
        numbers["strict"] = sum(a == b for a, b in twice) / len(twice)
        halves = sum(a == b or 0.5 * ("tie" in (a, b)) for a, b in twice)
        numbers["tie_discounted"] = halves / len(twice)
        found[pair[0], pair[1]] = numbers
    return found


def cell(row: dict[str, Any], model: str) -> str:
    return str(row[f"completion_{'a' if row['model_a'] == model else 'b'}_is_acceptable"])


def winner(row: dict[str, Any]) -> str:
    word = row["preference"]
    return word if word in ("", "tie") else f"{row['model_' + word[0]]} is better"


def side(word: str, pair: tuple[str, ...]) -> str:
    return word if word == "tie" else next(model for model in pair if model in word)


def odd_sheet(seed: int, names: tuple[str, ...]) -> Sheet:
    """Many small faults at once: rows sent again, at one second, without answers, with some."""
    sheet, throw = Sheet(), random.Random(seed)
    pairs = [(names[0], name) for name in names[1:]]
    for index in range(60):
        for who in throw.sample("abcde", throw.choice([1, 1, 2, 3])):
            for _ in range(throw.choice([1, 1, 1, 2])):
                minute = throw.randrange(40) / 2
                quiet = throw.random() < 0.12
                step = None if quiet else throw.randrange(5)
                told = (throw.random() < 0.7, throw.random() < 0.7)
                sheet.add(
                    index,
                    f"task_{index // len(pairs)}",
                    pairs[index % len(pairs)],
                    step,
                    (None, None) if quiet else told,
                    who,
                    minute,
                )
    throw.shuffle(sheet.rows)
    return sheet


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("names", [("m", "n", "o"), ("tulu", "tulu_65B", "chatgpt")])
def test_the_papers_rule_is_its_script_step_by_step(
    tmp_path: Path, seed: int, names: tuple[str, ...]
) -> None:
    sheet = odd_sheet(seed, names)
    _, rows = read_ratings(sheet.write(tmp_path / "odd.csv"))
    found = report(rows, "paper")
    wanted = steps_of_the_paper(sheet)
    assert len(found.pairs) == len(wanted)
    for one in found.pairs:
        numbers = wanted[one.a, one.b]
        assert {
            name: one.agreement[name].value for name in ("acceptance", "strict", "tie_discounted")
        } == {
            name: pytest.approx(numbers[name])
            for name in ("acceptance", "strict", "tie_discounted")
        }
        for model, share in (("a", one.a), ("b", one.b)):
            assert one.acceptance[share].value == pytest.approx(numbers[share])
            assert one.verdicts[f"{model}_wins"].value == pytest.approx(numbers[f"{share} wins"])


def test_a_name_within_a_name_is_told_apart_by_the_fixed_rule(tmp_path: Path) -> None:
    sheet = Sheet()
    for index in range(20):
        sheet.add(index, f"t{index}", ("tulu", "tulu_65B"), 4, (True, True), "ann", index)
        sheet.add(index, f"t{index}", ("tulu", "tulu_65B"), 0, (True, True), "bob", 90 + index)
    _, rows = read_ratings(sheet.write(tmp_path / "names.csv"))
    (paper,), (fixed,) = report(rows, "paper").pairs, report(rows).pairs
    assert report(rows, "paper").notes == [
        "'tulu' is part of the name 'tulu_65B', so that it also wins what that one wins"
    ]
    assert report(rows).notes == []
    assert paper.verdicts["a_wins"].value == paper.verdicts["b_wins"].value == 1
    assert paper.agreement["strict"].value == 1
    assert fixed.verdicts["a_wins"].value == fixed.verdicts["b_wins"].value == 0.5
    assert fixed.agreement["strict"].value == 0


def silent_sheet() -> Sheet:
    """One rater's row for the instance comes after their rating and holds no answers."""
    sheet = Sheet()
    for index in range(10):
        sheet.add(index, f"t{index}", ("x", "y"), 0, (True, True), "ann", index)
        sheet.add(index, f"t{index}", ("x", "y"), 0, (True, True), "bob", 50 + index)
    sheet.add(3, "t3", ("x", "y"), None, (None, None), "ann", 20, instance_quality="hard")
    return sheet


def test_rows_without_answers_replace_none_by_the_fixed_rule(tmp_path: Path) -> None:
    _, rows = read_ratings(silent_sheet().write(tmp_path / "silent.csv"))
    fixed, paper = report(rows), report(rows, "paper")
    assert fixed.counts == {
        "rows": 21, "without_answers": 1, "superseded": 0, "kept": 20, "raters": 2,
        "called_invalid": 0, "called_too_hard": 1, "repeats": 0,
    }  # fmt: skip
    assert fixed.pairs[0].agreement["acceptance"].value == 1
    assert not any(note.startswith("1 rows") for note in fixed.notes)
    assert paper.counts["superseded"] == 1
    assert paper.counts["kept"] == 20
    assert paper.pairs[0].agreement["acceptance"].value == 0.9
    assert paper.pairs[0].acceptance["x"].value == 0.9
    assert paper.pairs[0].agreement["strict"].n == 9
    assert paper.notes[-1].startswith("1 rows that hold no answer")


def test_the_newest_of_one_second_is_the_last(tmp_path: Path) -> None:
    """A spreadsheet that shows minutes: two rows of one rater at the same one."""
    sheet = Sheet()
    for index in range(4):
        sheet.add(index, f"t{index}", ("x", "y"), 0, (True, True), "ann", index)
        sheet.add(index, f"t{index}", ("x", "y"), 4, (False, True), "ann", index)
    _, rows = read_ratings(sheet.write(tmp_path / "second.csv"))
    assert report(rows).pairs[0].verdicts["b_wins"].value == 1
    assert report(rows, "paper").pairs[0].verdicts["a_wins"].value == 1  # as sorting does there


def test_nobody_answered() -> None:
    row = Rated(2, "1", START, Judgement("human/1", "x", "y", None, "ann", "human"))
    with pytest.raises(UserError, match="no answer in 1 rows"):
        report([row])


def test_raters_differ_and_are_told(tmp_path: Path) -> None:
    sheet, throw = Sheet(), random.Random(1)
    for index in range(150):
        for who, chance in (("mild", 0.95), ("fair", 0.7), ("strict", 0.3)):
            told = (throw.random() < chance, throw.random() < chance)
            step = 2 if who == "mild" and throw.random() < 0.7 else throw.choice([0, 2, 4])
            sheet.add(index, f"t{index}", ("x", "y"), step, told, who, index)
    _, rows = read_ratings(sheet.write(tmp_path / "raters.csv"))
    found: Report = report(rows)
    assert [one.name for one in found.raters] == ["strict", "fair", "mild"]
    strict, _, mild = found.raters
    assert strict.strictness is not None
    assert mild.strictness is not None
    assert strict.strictness.low > 0 > mild.strictness.high
    assert strict.acceptance is not None
    assert strict.acceptance.value < 0.4
    assert mild.tie_tendency is not None
    assert mild.tie_tendency.low > 0
    assert mild.acceptance_with_others is not None
    for one in found.raters:
        assert one.first is not None
        assert one.first.low < 0.5 < one.first.high


def test_hidden_repeats_tell_of_their_rater_only() -> None:
    rows = []
    for index in range(20):
        key = f"human/{index}"
        one = Judgement(key, "x", "y", 1.0, "ann", "human", acceptable=(True, False))
        told = replace(one, preference=1.25 if index < 15 else 2.0, note="repeat")
        rows += [Rated(None, key, None, one), Rated(None, key, None, told)]
    found = report(rows)
    assert (found.counts["rows"], found.counts["repeats"]) == (20, 20)
    assert found.pairs[0].verdicts["a_clearly"].value == 1
    assert found.pairs[0].multiple == 0
    (ann,) = found.raters
    assert ann.judgements == 20
    assert ann.verdict_with_self is not None
    assert ann.verdict_with_self.value == 0.75


def test_tables_for_people_and_one_line_for_mistakes(released: Path, call: Call) -> None:
    code, out, err = call(released)
    assert code == 0
    assert "rows 1150" in err
    assert "rule fixed" in err
    for words in ("Agreement", "tie_discounted", "Verdicts", "Acceptance", "Raters, the strictest"):
        assert words in out
    code, out, err = call(released, "--format", "own")
    assert (code, out) == (2, "")
    assert "has no column 'item'" in err
    assert err.count("\n") == 1
    code, _, err = call(released.parent / "no.csv", "--json")
    assert code == 2
    assert "no such file" in err
