"""Audits of judges: published annotations, our own folders, own models, people, and each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.judge.audit import Report, audit, hear
from cameleer.evals.judge.audit_page import tables, write_page
from cameleer.evals.judge.leaderboard import LONGER, UNIQUE
from cameleer.evals.judge.outputs import read_outputs
from cameleer.results.judgements import write_judgements
from cameleer.results.records import Judgement

MODELS = ("alpaca-7b", "gpt4", "phi-2-sft", "text_davinci_001", "tulu-2-dpo-7b", "vicuna-13b")


def said(item: str, preference: float | None, who: str = "judge/gpt4", b: str = "b") -> Judgement:
    return Judgement(item, "a", b, preference, who, "human" if who == "ann" else "judge")


@pytest.fixture(scope="module")
def released(real_data: Path) -> list[Path]:
    results = real_data / "eval" / "alpaca_eval" / "results"
    return [results / model / "alpaca_eval_gpt4" / "annotations.json" for model in MODELS]


@pytest.mark.real_data
def test_gpt4s_published_annotations(released: list[Path]) -> None:
    """4,830 verdicts of six files; counts are by AlpacaEval's own definitions, taken from the JSON
    directly."""
    heard = hear(released)
    (found,) = audit(heard.judgements, heard.texts).judges
    rows = [row for path in released for row in json.loads(path.read_text())]
    decided = [
        (len(row["output_2"]) - len(row["output_1"]), row["preference"])
        for row in rows
        if row["preference"] in (1, 2)
    ]
    far = [(apart > 0) == (preference == 2) for apart, preference in decided if abs(apart) > 30]
    assert found.judgements == 4830 == len(rows)
    assert found.silent == 2
    assert found.ties == 50
    assert (found.items, found.pairs) == (805, 6)
    assert found.longer is not None
    assert found.longer.share.value == pytest.approx(sum(far) / len(far))
    assert found.longer.share.n == len(far) == 4290
    assert found.doubling is not None
    assert 1.3 < found.doubling.odds < 1.8
    assert found.first is None
    assert found.orders is None
    assert found.repeats is None
    assert found.win_rates["text_davinci_003 / alpaca-7b"].value == pytest.approx(0.2646, abs=5e-5)


@pytest.mark.real_data
def test_a_judge_on_its_own_model_beside_another(released: list[Path]) -> None:
    """GPT-4's verdicts on gpt4, beside a made-up judge that is for the reference on every item."""
    heard = hear([released[1]])
    other = [replace(one, who="sceptic", preference=1.0) for one in heard.judgements]
    report = audit([*heard.judgements, *other], heard.texts, own={"alpaca_eval_gpt4": "gpt4"})
    own = report.judges[0].own
    assert own is not None
    assert (own.model, own.by) == ("gpt4", "other judges")
    assert own.share.value == pytest.approx(0.9528, abs=5e-5)
    assert own.others.value == 0.0
    assert own.found.difference == pytest.approx(own.share.value)
    assert report.judges[1].own is None
    assert report.spread is not None
    assert report.spread.win_rates == {"gpt4 / text_davinci_003": (1 - own.share.value, 1.0)}


def folder_of(path: Path, judgements: list[Judgement]) -> Path:
    """What `judge run` leaves: judgements, and annotations with the texts."""
    write_judgements(path / "judgements.jsonl", judgements)
    items = list(dict.fromkeys(one.item for one in judgements))
    rows = [
        {
            "instruction": item,
            "output_1": "short",
            "generator_1": "a",
            "output_2": "long " * 20,
            "generator_2": "b",
            "annotator": judgements[0].who,
            "preference": 1.5,
        }
        for item in items
    ]
    (path / "annotations.json").write_text(json.dumps(rows))
    return path


def test_a_folder_of_ours_brings_its_texts_by_item(tmp_path: Path) -> None:
    """Both orders make two judgements of an item, and one annotation."""
    given = [said("x/7", 2.0), said("x/7", 1.0), said("x/3", 2.0)]
    heard = hear([folder_of(tmp_path, given)])
    assert heard.judgements == given
    assert heard.texts == {
        ("x/7", "a", "b"): ("short", "long " * 20),
        ("x/3", "a", "b"): ("short", "long " * 20),
    }


def test_a_folder_of_alpaca_eval_is_its_annotations(tmp_path: Path) -> None:
    folder_of(tmp_path, [said("x/7", 2.0)])
    (tmp_path / "judgements.jsonl").unlink()
    heard = hear([tmp_path])
    assert heard == hear([tmp_path / "annotations.json"])
    assert [one.item for one in heard.judgements] == ["alpaca_eval/0"]


def test_a_folder_whose_files_are_of_two_runs_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, [said("x/7", 2.0)])
    write_judgements(tmp_path / "judgements.jsonl", [said("x/7", 2.0), said("x/8", 2.0)])
    with pytest.raises(UserError, match="not of one run"):
        hear([tmp_path])


def test_outputs_give_texts_to_judgements_without(tmp_path: Path) -> None:
    """Items have the keys of A's file, whichever way the models' names sort."""
    files = {"z": ["one", "two"], "b": ["second", "first"]}
    for model, answers in files.items():
        asked = ["p", "q"] if model == "z" else ["q", "p"]
        rows = [
            {"instruction": one, "output": answer, "generator": model}
            for one, answer in zip(asked, answers, strict=True)
        ]
        (tmp_path / f"{model}.json").write_text(json.dumps(rows))
    given = Judgement("alpaca_eval/0", "z", "b", 2.0, "j", "judge")
    path = tmp_path / "j.jsonl"
    write_judgements(path, [given])
    heard = hear([path], [read_outputs(tmp_path / f"{model}.json") for model in files])
    assert heard.texts["alpaca_eval/0", "b", "z"] == ("first", "one")


Texts = dict[tuple[str, str, str], tuple[str, str]]


def held(n: int = 40) -> tuple[list[Judgement], list[Judgement], Texts]:
    """A judge that is always for the longer answer, people who are so three times of four, texts
    whose lengths take turns."""
    near, far = "x" * 10, "x" * 99
    texts = {(str(item), "a", "b"): (far, near) if item % 2 else (near, far) for item in range(n)}
    judge = [said(str(item), 2.0 - item % 2) for item in range(n)]
    people = [said(str(item), 2.0 - (item % 2) if item % 4 else 1.0, "ann") for item in range(n)]
    return judge, people, texts


def test_taste_is_held_against_that_of_people() -> None:
    judge, people, texts = held()
    report = audit(judge, texts, people)
    trait = report.judges[0].longer
    assert trait is not None
    assert trait.against_people is not None
    assert trait.share.value == 1.0
    assert trait.against_people.difference == pytest.approx(0.25)
    assert trait.against_people.n == 40
    assert report.people is not None
    assert report.people.audit.longer is not None
    assert report.people.audit.longer.share.value == pytest.approx(0.75)
    board = {row.judge: row for row in report.leaderboard}
    assert board.keys() == {"judge/gpt4", LONGER, UNIQUE}
    # It is one of the dummies itself, which it cannot beat.
    assert not board["judge/gpt4"].beats
    assert board["judge/gpt4"].p == 1.0


def test_the_own_model_is_found_by_the_judges_name_and_held_against_people() -> None:
    judge = [said(str(item), 2.0, b="gpt4") for item in range(30)]
    people = [said(str(item), 1.0 + item % 2, "ann", b="gpt4") for item in range(30)]
    own = audit(judge, {}, people).judges[0].own
    assert own is not None
    assert (own.model, own.by) == ("gpt4", "people")
    assert own.found.difference == pytest.approx(0.5)
    alone = audit(judge, {})
    assert alone.judges[0].own is None
    assert "judge/gpt4 judged its own model gpt4, but nobody else did" in alone.notes
    with pytest.raises(UserError, match="judged no model 'llama'"):
        audit(judge, {}, people, own={"judge/gpt4": "llama"})


def test_spread_between_judges() -> None:
    """One is for b on all ten items, the other on six; they agree on those six."""
    one = [said(str(item), 2.0, "one") for item in range(10)]
    two = [said(str(item), 2.0 if item < 6 else 1.0, "two") for item in range(10)]
    spread = audit([*one, *two], {}).spread
    assert spread is not None
    assert spread.exact.value == pytest.approx(0.6)
    assert spread.win_rates["a / b"] == pytest.approx((0.6, 1.0))
    assert audit(one, {}).spread is None
    elsewhere = [replace(verdict, item="x" + verdict.item) for verdict in two]
    assert audit([*one, *elsewhere], {}).spread is None


def test_what_cannot_be_told_is_said() -> None:
    judge, people, texts = held()
    judge[0] = replace(judge[0], preference=None)
    del texts["1", "a", "b"]
    other = [said("elsewhere", 2.0, "stranger")]
    notes = audit([*judge, *other], texts, people).notes
    assert notes == [
        "1 of 41 judgements have no verdict",
        "the order shown is not known of 40 of 40 verdicts",
        "the texts are not known of 2 of 41 pairs of answers, so that they do not count for length "
        "and lists (give them by --outputs)",
        "no labelled item was judged by stranger",
    ]


def test_nothing_to_audit_is_the_users_mistake() -> None:
    judge, people, _ = held()
    with pytest.raises(UserError, match="no judgements"):
        audit([], {})
    with pytest.raises(UserError, match="nothing that was judged"):
        audit(judge, {}, [replace(one, item="x" + one.item) for one in people])


@pytest.fixture
def whole() -> Report:
    judge, people, texts = held()
    shown = [replace(one, b_first=item % 3 == 0) for item, one in enumerate(judge)]
    turned = [replace(one, b_first=item % 3 != 0) for item, one in enumerate(judge)]
    other = [replace(one, who="<b>other</b>") for one in judge[:30]]
    return audit([*shown, *turned, *other], texts, people)


def test_tables_leave_out_what_nobody_has(whole: Report) -> None:
    found = {table.title: table for table in tables(whole)}
    assert list(found) == [
        "Agreement with the labels",
        "Order and consistency",
        "Length and lists",
        "Between judges",
    ]
    order = found["Order and consistency"]
    assert "says the same twice, %" not in order.columns  # nobody was asked twice
    assert order.rows[0][:4] == ["judge/gpt4", "80", "0", "0"]
    assert order.rows[0][order.columns.index("first shown wins, %")].startswith("50.0")
    assert all(len(row) == len(table.columns) for table in found.values() for row in table.rows)


def test_the_page_is_whole_and_escaped(whole: Report, tmp_path: Path) -> None:
    write_page(whole, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text()
    assert "<b>other</b>" not in page
    assert "&lt;b&gt;other&lt;/b&gt;" in page
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org/", "").replace("http-equiv", "")
    assert page.count("<h2>") == 5
