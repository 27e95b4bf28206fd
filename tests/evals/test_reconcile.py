"""Our samples beside lm-eval's: matching, causes of flips, counts, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main
from cameleer.core.errors import UserError
from cameleer.evals.reconcile import reconcile

QUESTIONS = (
    "A camel walks nine miles a day through the desert. How far does it walk in four days?",
    "A caravan of twelve camels carries three bags of salt each. How many bags are there?",
    "A well gives forty litres an hour. How many litres does it give in half a day?",
    "A nomad sells five of his thirty goats. How many goats has he left in the evening?",
)
WORKED = "First one reads the question twice, then one counts slowly, and so it is. #### 36"
SHOTS = "Question: How many humps do two camels of the northern kind have?\nAnswer: 4\n\n"


def ours(
    number: int, output: str, extracted: str, score: float, prompt: str = ""
) -> dict[str, Any]:
    """A line of our samples.jsonl."""
    asked = prompt or f"{SHOTS}Question: {QUESTIONS[number]}\nAnswer:"
    return {"item": f"gsm/{number}", "group": "", "score": score, "extracted": [extracted]} | {
        "target": "36", "outputs": [output], "logprobs": [], "prompt": asked
    }  # fmt: skip


def theirs(
    number: int, output: str, filtered: str, score: float, prompt: str = ""
) -> dict[str, Any]:
    """A line as lm-eval 0.4.13 writes it with --log_samples, for a task that generates."""
    asked = prompt or f"{SHOTS}Question: {QUESTIONS[number]}\nAnswer:"
    return {
        "doc_id": number + 100,
        "doc": {"question": QUESTIONS[number], "answer": WORKED},
        "target": "36",
        "arguments": {"gen_args_0": {"arg_0": asked, "arg_1": {"until": ["Question:"]}}},
        "resps": [[output]],
        "filtered_resps": [filtered],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "exact_match": score,
    }


def written(tmp_path: Path, mine: list[Any], other: list[Any]) -> tuple[Path, Path]:
    for path, rows in ((tmp_path / "samples.jsonl", mine), (tmp_path / "theirs.jsonl", other)):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path, tmp_path / "theirs.jsonl"


def test_each_flip_has_its_first_cause(tmp_path: Path) -> None:
    other = f"Q: {QUESTIONS[0]}\nA:"
    files = written(
        tmp_path,
        [
            ours(0, "36", "36", 1.0),
            ours(1, "36", "36", 1.0),
            ours(2, "The answer is 36 litres", "36", 1.0),
            ours(3, "36.", "36.", 0.0),
        ],
        [
            theirs(0, "35", "35", 0.0, other),
            theirs(1, "12", "12", 0.0),
            theirs(2, "The answer is 36 litres", "[invalid]", 0.0),
            theirs(3, "36.", "36.", 1.0),
        ],
    )
    found = reconcile(*files)
    assert {pair.item: pair.cause for pair in found.pairs} == {
        "gsm/0": "prompt", "gsm/1": "output", "gsm/2": "extraction", "gsm/3": "grading"
    }  # fmt: skip
    assert found.counts() == {
        "metric": "exact_match", "matched": 4, "only_ours": 0, "only_theirs": 0, "same_prompt": 3,
        "ours": 0.75, "theirs": 0.25, "same_score": 0,
        "flips": {"prompt": 1, "output": 1, "extraction": 1, "grading": 1},
    }  # fmt: skip


def test_documents_are_found_by_their_words_in_other_prompts_of_other_order(tmp_path: Path) -> None:
    mine = [
        ours(n, "36", "36", 1.0, f"<|user|>\n{SHOTS}{QUESTIONS[n]}\n<|assistant|>\n")
        for n in range(4)
    ]
    other = [theirs(n, "36", "36", 1.0) for n in (3, 1, 0)]
    other.append({**theirs(2, "36", "36", 1.0), "doc_id": 7, "doc": {"question": "Who knows?"}})
    found = reconcile(*written(tmp_path, mine, other))
    assert {(pair.item, pair.document) for pair in found.pairs} == {
        ("gsm/0", 100), ("gsm/1", 101), ("gsm/3", 103)
    }  # fmt: skip
    assert (found.only_ours, found.only_theirs) == (["gsm/2"], [7])
    assert found.counts()["same_score"] == 3


def choice(scores: list[float], score: float) -> dict[str, Any]:
    """A line of lm-eval's for a task of choices: pairs of texts, one request for each choice."""
    prompt = f"{QUESTIONS[0]}\nAnswer:"
    arguments = {f"gen_args_{n}": {"arg_0": prompt, "arg_1": f" {c}"} for n, c in enumerate("AB")}
    return {
        "doc_id": 0, "doc": {"question": QUESTIONS[0]}, "target": "0", "arguments": arguments,
        "resps": [[[str(one), "False"]] for one in scores],
        "filtered_resps": [[str(one), "False"] for one in scores],
        "filter": "none", "metrics": ["acc", "acc_norm"], "acc": score, "acc_norm": 1.0,
    }  # fmt: skip


def test_choices_are_compared_by_the_likeliest(tmp_path: Path) -> None:
    row = ours(0, " A", " A", 1.0, f"{QUESTIONS[0]}\nAnswer:") | {"logprobs": [-1.0, -2.0]}
    (pair,) = reconcile(*written(tmp_path, [row], [choice([-3.0, -2.0], 0.0)])).pairs
    assert (pair.cause, pair.texts["output"]) == ("output", (" A", " B"))
    (pair,) = reconcile(*written(tmp_path, [row], [choice([-1.1, -2.0], 0.0)])).pairs
    assert pair.cause == "grading"
    (pair,) = reconcile(*written(tmp_path, [row], [choice([-1.1, -2.0], 0.0)]), "acc_norm").pairs
    assert pair.cause == ""


def test_the_verb_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, other = written(tmp_path, [ours(0, "36", "36", 1.0)], [theirs(0, "12", "12", 0.0)])
    with pytest.raises(SystemExit) as left:
        main(["eval", "reconcile", str(mine), str(other), "--json"])
    assert left.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["flips"] == {"output": 1}
    assert said["items"][0]["texts"]["output"] == ["36", "12"]
    with pytest.raises(SystemExit):
        main(["eval", "reconcile", str(mine), str(other)])
    assert "gsm/0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resps": None}, "resps"),
        ({"exact_match": "yes"}, "metric with a number"),
        ({"doc": {}, "arguments": {}}, "no item in common"),
    ],
)
def test_other_files_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    row = {**theirs(0, "36", "36", 1.0), **change}
    row = {key: value for key, value in row.items() if value is not None}
    files = written(tmp_path, [ours(1, "36", "36", 1.0)], [row])
    with pytest.raises(UserError, match=said):
        reconcile(*files)
