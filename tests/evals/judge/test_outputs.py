"""Reading files of answers and of verdicts, pairing them, and what is wrong with others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.judge.outputs import pair_outputs, read_annotations, read_outputs


def answers(path: Path, said: list[tuple[str, str]], generator: str = "ours") -> Path:
    rows = [
        {"dataset": "koala", "instruction": asked, "output": output, "generator": generator}
        for asked, output in said
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def annotation(**changes: Any) -> dict[str, Any]:
    row = {
        "instruction": "Hi", "output_1": "a", "generator_1": "ref", "output_2": "b",
        "generator_2": "ours", "annotator": "gpt", "preference": 2,
    }  # fmt: skip
    return row | changes


def test_answers_are_read_with_their_rows(tmp_path: Path) -> None:
    found = read_outputs(answers(tmp_path / "x.json", [("Hi", "Hello"), ("Bye", "")]))
    assert found.generator == "ours"
    assert [(row.item, row.output) for row in found.rows] == [
        ("alpaca_eval/0", "Hello"),
        ("alpaca_eval/1", ""),
    ]


def test_a_folder_of_results_and_one_of_ours(tmp_path: Path) -> None:
    answers(tmp_path / "gpt" / "model_outputs.json", [("Hi", "Hello")], "gpt")
    assert read_outputs(tmp_path / "gpt").generator == "gpt"
    answers(tmp_path / "run" / "outputs.json", [("Hi", "Hello"), ("Bye", "So long")])
    rows = [{"item": "alpaca_eval/17"}, {"item": "alpaca_eval/20"}]
    (tmp_path / "run" / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = read_outputs(tmp_path / "run")
    assert [row.item for row in found.rows] == ["alpaca_eval/17", "alpaca_eval/20"]
    with pytest.raises(UserError, match=r"holds neither outputs.json nor model_outputs"):
        read_outputs(tmp_path)


def test_a_file_without_names_is_called_as_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "dolly" / "model_outputs.json"
    path.parent.mkdir()
    path.write_text(json.dumps([{"instruction": "Hi", "output": "Hello"}]))
    assert read_outputs(path).generator == "dolly"


def test_pairs_are_by_instruction_and_repeats_in_order(tmp_path: Path) -> None:
    a = read_outputs(answers(tmp_path / "a.json", [("x", "1"), ("y", "2"), ("x", "3"), ("z", "4")]))
    b = read_outputs(answers(tmp_path / "b.json", [("x", "5"), ("x", "6"), ("w", "7"), ("y", "8")]))
    found = pair_outputs(a, b)
    assert [(pair.item, pair.a, pair.b) for pair in found.pairs] == [
        ("alpaca_eval/0", "1", "5"),
        ("alpaca_eval/1", "2", "8"),
        ("alpaca_eval/2", "3", "6"),
    ]
    assert (found.only_a, found.only_b) == (1, 1)
    assert found.alone("A", "B") == (
        "1 instructions are answered by A only and 1 instructions are answered by B only:"
        " 3 pairs are left"
    )
    other = read_outputs(answers(tmp_path / "c.json", [("q", "1")]))
    with pytest.raises(UserError, match="another test set"):
        pair_outputs(a, other)


def test_verdicts_become_judgements(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    rows = [annotation(preference=value, price_per_example=0.1) for value in (1, 0, 1.5, None, 1.7)]
    path.write_text(json.dumps(rows))
    found = read_annotations(path)
    assert (found.a, found.b, found.judge) == ("ref", "ours", "gpt")
    judged = found.judgements()
    assert [one.preference for one in judged] == [1.0, 1.5, 1.5, None, 1.7]
    assert [one.note for one in judged] == ["", "", "", "not annotated", ""]
    assert {(one.a, one.b, one.who, one.kind, one.price) for one in judged} == {
        ("ref", "ours", "gpt", "judge", 0.1)
    }
    assert judged[4].item == "alpaca_eval/4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"instruction": "Hi",\n "output_1": "a', "x.json:2: broken JSON: Unterminated string"),
        ("{}", "x.json: is not a list of records"),
        ("[]", "x.json: holds no records"),
        ("[1, 2]", "x.json: record 0 is not an object"),
        ('["a verdict"]', "x.json: record 0 is not an object"),
        (json.dumps([annotation(preference=3)]), "field 'preference': is 3 in record 0"),
        (json.dumps([annotation(preference=-1)]), "field 'preference': is -1 in record 0"),
        (json.dumps([annotation(preference=True)]), "'preference': is not a number in record 0"),
        (json.dumps([annotation(preference="2")]), "'preference': is not a number in record 0"),
        (json.dumps([annotation(instruction=3)]), "'instruction': is missing or not text"),
        (json.dumps([annotation(output_2=[])]), "'output_2': is missing or not text in record 0"),
        (json.dumps([{"instruction": "Hi", "output": "a"}]), "these are a model's outputs"),
        (
            json.dumps([annotation(), annotation(generator_2="other")]),
            "field 'generator_2': names 2 (other, ours)",
        ),
    ],
)
def test_what_is_no_file_of_verdicts(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        read_annotations(path)


def test_what_is_no_file_of_answers(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"instruction": "Hi"}]))
    with pytest.raises(UserError, match=r"x.json: field 'output': is missing or not text"):
        read_outputs(path)
    with pytest.raises(UserError, match="no such file"):
        read_outputs(tmp_path / "absent.json")


@pytest.mark.real_data
def test_released_answers_pair_with_the_reference(real_data: Path) -> None:
    folder = real_data / "eval" / "alpaca_eval" / "results"
    reference = read_outputs(folder / "text_davinci_003")
    assert len(reference.rows) == 805
    old = pair_outputs(reference, read_outputs(folder / "text_davinci_001"))
    assert (len(old.pairs), old.only_a, old.only_b) == (803, 2, 0)
    new = pair_outputs(reference, read_outputs(folder / "gpt4"))
    assert (len(new.pairs), new.only_a, new.only_b) == (805, 0, 0)
