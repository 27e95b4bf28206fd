"""Making a campaign: which answers meet, what is counted, and folders that hold something."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.human import campaign as module
from cameleer.human.answers import Matched
from cameleer.human.campaign import Campaign, Instance, new_campaign
from tests.killing import killed_at


def alpaca(path: Path, outputs: dict[str, str], generator: str = "m") -> Path:
    """A file of AlpacaEval's form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"dataset": "d", "instruction": prompt, "output": output, "generator": generator}
        for prompt, output in outputs.items()
    ]
    path.write_text(json.dumps(rows, indent=1))
    return path


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Answers of three models; `c` has not answered the last prompt, and has one of its own."""
    a = {f"Say {n}.": f"{n} by a" for n in range(5)}
    b = {f"Say {n}.": f"{n} by b" for n in (3, 1, 0, 2, 4)}
    c = {f"Say {n}.": f"{n} by c" for n in (0, 1, 2, 3, 9)}
    return {
        name: alpaca(tmp_path / f"{name}.json", own)
        for name, own in {"a": a, "b": b, "c": c}.items()
    }


def test_answers_to_the_same_prompt_meet(tmp_path: Path, files: dict[str, Path]) -> None:
    made = new_campaign(tmp_path / "out", {"a": files["a"], "b": files["b"]})
    assert made.rated == [
        Instance(n, f"alpaca_eval/{n}", f"Say {n}.", "a", "b", f"{n} by a", f"{n} by b")
        for n in range(5)
    ]
    assert made.counts == {}
    assert made.pairs == [("a", "b")]
    assert made.expected_ratings == 6  # 5, and a fifth of them again
    assert made.settings.name == "out"


def test_what_does_not_match_is_counted(tmp_path: Path, files: dict[str, Path]) -> None:
    made = new_campaign(tmp_path / "out", files, [("a", "b"), ("a", "c")])
    assert Counter((one.a, one.b) for one in made.rated) == {("a", "b"): 5, ("a", "c"): 4}
    # prompt 4 has no answer by c, prompt 9 none by a
    assert made.counts == {
        "answers left out: the other model of a pair has none to the same prompt": 2
    }
    assert [one.key for one in made.rated[:4]] == ["alpaca_eval/0"] * 2 + ["alpaca_eval/1"] * 2


def test_json_lines_match_by_id_and_by_prompt(tmp_path: Path) -> None:
    rows = [
        {"id": "q1", "prompt": "One?", "completion": "a1"},
        {"id": "q2", "prompt": "Two?\n", "completion": "a2"},
        {"prompt": "Three?", "completion": "a3"},
        {"id": "q5", "prompt": "Five?", "completion": "a5"},
    ]
    other = [
        {"id": "q2", "prompt": " Two?", "completion": "b2"},
        {"prompt": "One?", "completion": "b1"},
        {"id": "q3", "prompt": "Three?", "completion": "b3"},
        {"id": "q5", "prompt": "Quite another?", "completion": "b5"},
        {"id": "q1", "prompt": "One?", "completion": "once more"},
    ]
    given = {"a": lines(tmp_path / "a.jsonl", rows), "b": lines(tmp_path / "b.jsonl", other)}
    made = new_campaign(tmp_path / "out", given)
    told = [(one.key, one.prompt, one.completion_a, one.completion_b) for one in made.rated]
    assert told == [
        ("q1", "One?", "a1", "b1"),
        ("q2", "Two?\n", "a2", "b2"),
        ("q3", "Three?", "a3", "b3"),
    ]
    assert made.counts == {
        "keys that name another prompt elsewhere": 1,
        "second answers of a model to a prompt": 1,
        "answers left out: the other model of a pair has none to the same prompt": 1,
    }


def test_an_evaluations_folder_names_its_items(tmp_path: Path, files: dict[str, Path]) -> None:
    folder = tmp_path / "evals/human"
    alpaca(folder / "outputs.json", {"Say 1.": "mine", "Say 0.": "mine too"})
    items = [{"item": "human/vicuna_1"}, {"item": "human/vicuna_0"}]
    lines(folder / "samples.jsonl", items)
    made = new_campaign(tmp_path / "out", {"a": files["a"], "mine": folder})
    assert [one.key for one in made.rated] == ["human/vicuna_0", "human/vicuna_1"]
    assert [one.completion_b for one in made.rated] == ["mine too", "mine"]


def test_rows_of_two_files_are_not_one_item_by_their_number(tmp_path: Path) -> None:
    """Row 0 of either file is another prompt: they get keys of their own."""
    one = alpaca(tmp_path / "a.json", {"P": "1", "Q": "2"})
    other = alpaca(tmp_path / "b.json", {"R": "3", "Q": "4"})
    third = alpaca(tmp_path / "c.json", {"P": "5", "Q": "6", "R": "7"})
    given = {"a": one, "b": other, "c": third}
    made = new_campaign(tmp_path / "out", given, [("a", "c"), ("b", "c")])
    keys = {one.key: one.prompt for one in made.rated}
    assert sorted(keys.values()) == ["P", "Q", "R"]
    assert len({(one.key, one.prompt) for one in made.rated}) == 3


def test_answers_that_stand_out_are_counted(tmp_path: Path) -> None:
    one = alpaca(tmp_path / "a.json", {"P": "same", "Q": "", "R": "broken \ud83d"})
    other = alpaca(tmp_path / "b.json", {"P": "same", "Q": "  \n", "R": "whole"})
    made = new_campaign(tmp_path / "out", {"a": one, "b": other})
    assert len(made.rated) == 3
    assert made.counts == {
        "texts with a broken character": 1,
        "empty answers in a comparison": 2,
        "comparisons of two answers that are the same": 1,
    }
    assert made.rated[2].completion_a == "broken \ufffd"


def test_a_sample_is_the_same_prompts_for_all_pairs(tmp_path: Path, files: dict[str, Path]) -> None:
    pairs = [("a", "b"), ("a", "c")]
    made = new_campaign(tmp_path / "one", files, pairs, items=3, seed=1)
    again = new_campaign(tmp_path / "two", files, pairs, items=3, seed=1)
    other = new_campaign(tmp_path / "three", files, pairs, items=3, seed=5)
    assert len({one.key for one in made.rated}) == 3
    assert made.fingerprint == again.fingerprint != other.fingerprint
    for key in {one.key for one in made.rated} - {"alpaca_eval/4"}:
        assert sum(one.key == key for one in made.rated) == 2
    more = new_campaign(tmp_path / "four", files, pairs, items=9)
    assert more.counts["items fewer than were asked for"] == 4


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "it is not said which models to compare.*give --pairs A,B of a, b, c"),
        ([("a", "d")], "unknown model 'd'.*there are a, b, c"),
        ([("a", "a")], "a,a compares a model with itself"),
        ([("a", "b"), ("b", "a")], "b,a is given twice"),
    ],
)
def test_pairs_are_of_models_that_are_there(
    tmp_path: Path, files: dict[str, Path], pairs: list[tuple[str, str]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        new_campaign(tmp_path / "out", files, pairs)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "holds no answers"),
        ("", "holds no answers"),
        ("[1]", "is not an object"),
        ('[{"instruction": "P"}]', "field 'output'.*is missing or not text"),
        ('{"prompt": "P", "completion": null}', "x.json:1: field 'completion'"),
        ('{"prompt": "P", "completion": "c"}\n{"completion": "c"}', "x.json:2: field 'prompt'"),
        ('{"id": [1], "prompt": "P", "completion": "c"}', "field 'id'.*is no name"),
        ('[{"instruction": "P", "output": "c"}', "broken JSON"),
        ("nonsense", "broken JSON"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, files: dict[str, Path], text: str, said: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=said):
        new_campaign(tmp_path / "out", {"a": files["a"], "x": tmp_path / "x.json"})
    assert not (tmp_path / "out").exists()


def test_two_test_sets_that_share_nothing(tmp_path: Path, files: dict[str, Path]) -> None:
    other = alpaca(tmp_path / "x.json", {"Else?": "yes"})
    with pytest.raises(UserError, match="no prompt is answered by both models of a pair"):
        new_campaign(tmp_path / "out", {"a": files["a"], "x": other})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"overlap": 1.2}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"overlap": float("nan")}, "overlap"),
        ({"target": 0.0}, "target"),
        ({"target": 0.5}, "target"),
        ({"repeats": -1}, "repeats"),
    ],
)
def test_settings_have_bounds(
    tmp_path: Path, files: dict[str, Path], changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(UserError) as error:
        new_campaign(tmp_path / "out", {"a": files["a"], "b": files["b"]}, **changes)
    assert error.value.field == field


@pytest.mark.parametrize(("overlap", "wanted"), [(0.0, 5), (0.2, 6), (0.3, 7), (0.5, 8), (1.0, 10)])
def test_expected_ratings(
    tmp_path: Path, files: dict[str, Path], overlap: float, wanted: int
) -> None:
    given = {"a": files["a"], "b": files["b"]}
    assert new_campaign(tmp_path / "out", given, overlap=overlap).expected_ratings == wanted


# Instances, practice, guidelines


def test_a_file_of_instances(tmp_path: Path, files: dict[str, Path]) -> None:
    def one(name: str, *said: tuple[str, str]) -> dict[str, Any]:
        completions = [{"model": model, "completion": text} for model, text in said]
        return {"id": name, "prompt": f"{name}?\n", "completions": completions}

    rows = [
        one("v1", ("big", "1"), ("small", "2")),
        one("v1", ("chat", "3"), ("big", "1")),
        one("v2", ("big", "4"), ("small", "5")),
        one("v2", ("chat", "6"), ("big", "4")),
    ]
    file = lines(tmp_path / "pairs.jsonl", rows)
    made = new_campaign(tmp_path / "out", {}, instances=file)
    told = [(one.key, one.a, one.b, one.completion_a + one.completion_b) for one in made.rated]
    assert told == [
        ("human/v1", "big", "small", "12"),
        ("human/v1", "chat", "big", "31"),
        ("human/v2", "big", "small", "45"),
        ("human/v2", "chat", "big", "64"),
    ]
    turned = new_campaign(tmp_path / "two", {}, [("small", "chat")], instances=file)
    assert [one.completion_a + one.completion_b for one in turned.rated] == ["23", "56"]
    more = lines(tmp_path / "new.jsonl", [{"prompt": "v2?", "completion": "7"}])
    joined = new_campaign(tmp_path / "three", {"new": more}, [("big", "new")], instances=file)
    assert [(one.key, one.completion_b) for one in joined.rated] == [("human/v2", "7")]


def test_practice_stands_behind_what_counts(tmp_path: Path, files: dict[str, Path]) -> None:
    made = new_campaign(tmp_path / "out", {"a": files["a"], "b": files["b"]})
    assert [one.index for one in made.instances] == list(range(8))
    assert [one.index for one in made.practice] == [5, 6, 7]
    for one in made.practice:
        assert one.practice is not None
        assert one.practice.told
        assert (one.a, one.b) == ("", "")
    assert made.pairs == [("a", "b")]


GOOD = {
    "prompt": "1 + 1?",
    "completion_a": "2",
    "completion_b": "3",
    "a_acceptable": True,
    "b_acceptable": False,
    "preferences": [-2, -1],
    "told": "It is 2.",
}


def test_practice_of_ones_own_and_none(tmp_path: Path, files: dict[str, Path]) -> None:
    given = {"a": files["a"], "b": files["b"]}
    own = lines(tmp_path / "practice.jsonl", [GOOD])
    (one,) = new_campaign(tmp_path / "out", given, practice=own).practice
    assert one.practice is not None
    assert one.practice.preferences == (-2, -1)
    none = lines(tmp_path / "none.jsonl", [])
    assert new_campaign(tmp_path / "two", given, practice=none).practice == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"told": None}, "told"),
        ({"a_acceptable": "yes"}, "a_acceptable"),
        ({"preferences": []}, "preferences"),
        ({"preferences": [3]}, "preferences"),
        ({"preferences": [True]}, "preferences"),
        ({"preferences": 1}, "preferences"),
        ({"completion_a": 2}, "completion_a"),
        ({"tolt": "typo"}, "tolt"),
    ],
)
def test_practice_that_is_wrong_is_named(
    tmp_path: Path, files: dict[str, Path], changes: dict[str, Any], field: str
) -> None:
    own = lines(tmp_path / "practice.jsonl", [GOOD, GOOD | changes])
    with pytest.raises(UserError, match=r"practice.jsonl:2") as error:
        new_campaign(tmp_path / "out", {"a": files["a"], "b": files["b"]}, practice=own)
    assert error.value.field == field


def test_guidelines_of_ones_own(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "own.md").write_text("# Seid gerecht\n")
    given = {"a": files["a"], "b": files["b"]}
    made = new_campaign(tmp_path / "out", given, guidelines=tmp_path / "own.md")
    assert made.settings.guidelines == "# Seid gerecht\n"
    default = new_campaign(tmp_path / "two", given).settings.guidelines
    assert "acceptable" in default
    assert "helpful" in default


# The folder


def test_a_campaign_is_read_as_it_was_made(tmp_path: Path, files: dict[str, Path]) -> None:
    made = new_campaign(tmp_path / "out", files, [("a", "b")], target=0.05, repeats=2)
    assert Campaign.open(tmp_path / "out") == made
    about = json.loads((tmp_path / "out/campaign.json").read_text())
    assert set(about["inputs"]) == {"a", "b", "c"}
    assert not list((tmp_path / "out").glob(".*"))


def test_the_same_again_changes_nothing(tmp_path: Path, files: dict[str, Path]) -> None:
    new_campaign(tmp_path / "out", files, [("a", "b")])
    before = (tmp_path / "out/campaign.json").stat().st_mtime_ns
    (tmp_path / "out/annotations.sqlite").write_text("ratings")
    new_campaign(tmp_path / "out", files, [("a", "b")])
    assert (tmp_path / "out/campaign.json").stat().st_mtime_ns == before
    for changes in ({"seed": 7}, {"overlap": 0.5}, {"items": 2}):
        with pytest.raises(UserError, match="holds another campaign"):
            new_campaign(tmp_path / "out", files, [("a", "b")], **changes)
    assert (tmp_path / "out/annotations.sqlite").read_text() == "ratings"


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("!")
    with pytest.raises(UserError, match="holds other files"):
        new_campaign(tmp_path / "out", files, [("a", "b")])
    with pytest.raises(UserError, match="is a file"):
        new_campaign(files["a"], files, [("a", "b")])
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("what", ["replacing", "write_json"])
def test_a_call_that_was_killed_is_gone_on_with(
    tmp_path: Path, files: dict[str, Path], what: str
) -> None:
    with killed_at(module, what, lambda *_: True):
        new_campaign(tmp_path / "out", files, [("a", "b")])
    with pytest.raises(UserError, match="holds no campaign"):
        Campaign.open(tmp_path / "out")
    assert len(new_campaign(tmp_path / "out", files, [("a", "b")]).rated) == 5


def test_items_that_were_edited_are_refused(tmp_path: Path, files: dict[str, Path]) -> None:
    made = new_campaign(tmp_path / "out", files, [("a", "b")])
    items = made.folder / "items.jsonl"
    items.write_text(items.read_text().replace("0 by a", "0 by A"))
    with pytest.raises(UserError, match=r"items.jsonl: was changed since the campaign was made"):
        Campaign.open(made.folder)


def test_settings_that_were_edited_are_taken_and_told(
    tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    made = new_campaign(tmp_path / "out", files, [("a", "b")])
    file = made.folder / "campaign.json"
    Campaign.open(made.folder)
    assert capsys.readouterr().err == ""
    file.write_text(file.read_text().replace('"overlap": 0.2', '"overlap": 0.6'))
    assert Campaign.open(made.folder).settings.overlap == 0.6
    assert "settings were changed since the campaign was made" in capsys.readouterr().err
    file.write_text(file.read_text().replace('"overlap": 0.6', '"overlap": 6'))
    with pytest.raises(UserError, match=r"campaign.json: field 'overlap'"):
        Campaign.open(made.folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2}', '{"version": 1}'])
def test_a_broken_campaign_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "campaign.json").write_text(text)
    (tmp_path / "items.jsonl").write_text("")
    with pytest.raises(UserError, match=r"campaign.json"):
        Campaign.open(tmp_path)


texts = st.text("ab \n", max_size=3)
answers = st.lists(
    st.tuples(st.sampled_from("xyz"), st.none() | st.sampled_from("kl"), texts, texts), max_size=12
)


@settings(max_examples=150)
@given(answers=answers)
def test_matching_loses_no_answer_uncounted(
    answers: list[tuple[str, str | None, str, str]],
) -> None:
    matched = Matched()
    for number, (model, key, prompt, completion) in enumerate(answers):
        matched.add(model, key or f"items/{number}", key is not None, prompt, completion)
    kept = sum(len(one.completions) for one in matched.asked)
    same = len(answers) - kept - sum(matched.counts.values())
    # what is neither kept nor counted said again what the same model had said to that prompt
    said = Counter((model, completion) for model, _, _, completion in answers)
    assert 0 <= same <= sum(count - 1 for count in said.values())
    keys = [one.key for one in matched.asked]
    assert len(set(keys)) == len(keys)
    prompts = [one.prompt.strip() for one in matched.asked]
    assert len(set(prompts)) == len(prompts)


# Real records


@pytest.mark.real_data
def test_the_papers_instances(tmp_path: Path, real_data: Path) -> None:
    file = real_data / "eval/human_eval/eval_instances_tulu_1.jsonl"
    made = new_campaign(tmp_path / "out", {}, instances=file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    wanted = {
        (f"human/{row['id']}", *(one[part] for one in row["completions"] for part in one))
        for row in rows
    }
    assert {(o.key, o.a, o.completion_a, o.b, o.completion_b) for o in made.rated} == wanted
    assert len(made.rated) == 996
    assert made.expected_ratings == 996 + 200  # a fifth of 996, rounded up
    assert len(made.pairs) == 3
    assert made.counts == {"comparisons of two answers that are the same": 35}


@pytest.mark.real_data
def test_alpaca_evals_outputs(tmp_path: Path, real_data: Path) -> None:
    results = real_data / "eval/alpaca_eval/results"
    given = {
        name: results / name / "model_outputs.json"
        for name in ("text_davinci_003", "vicuna-7b", "text_davinci_001")
    }
    pairs = [("text_davinci_003", "vicuna-7b"), ("text_davinci_003", "text_davinci_001")]
    made = new_campaign(tmp_path / "out", given, pairs)
    counts = Counter((one.a, one.b) for one in made.rated)
    assert (counts[pairs[0]], counts[pairs[1]]) == (805, 803)
    rows = json.loads(given["vicuna-7b"].read_text())
    by_prompt = {row["instruction"]: row["output"] for row in rows}
    draw = random.Random(0).sample([one for one in made.rated if one.b == "vicuna-7b"], 50)
    assert all(one.completion_b == by_prompt[one.prompt] for one in draw)
    assert (
        made.counts["answers left out: the other model of a pair has none to the same prompt"] == 2
    )
