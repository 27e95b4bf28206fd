"""Outputs read by models: found first, read once, resumed, never scored before they are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.engines.replay import ReplayEngine
from cameleer.engines.reviewer import find_reviewer, open_reviewer
from cameleer.evals import review as reviewing
from cameleer.evals.asking import EvalSpec
from cameleer.evals.recorded import grade
from cameleer.evals.review import reviewers_given
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.results.records import Answer
from tests.killing import Killed
from tests.stand_in import StandIn

GROUPS, COUNT = ("camels", "llamas"), 9


class Talker(StandIn):
    """Goes on with a prompt by its number."""

    def one(self, request: Request, mates: int) -> Answer:
        outputs = [f"it is number {len(request.prompt) % 5}"] * request.samples
        return Answer(request.key, outputs, [], ["stop"] * request.samples, 5, 3, 0.5)


class Counting:
    """A reader of three texts at a time, in the order given; a number says how bad they are."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at, self.texts = killed_at, list[str]()

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        return [list(texts[start : start + 3]) for start in range(0, len(texts), 3)]

    def read(self, batch: Sequence[str]) -> list[tuple[float, bool]]:
        if self.killed_at is not None and len(self.texts) >= 3 * self.killed_at:
            raise Killed
        self.texts += batch
        return [(int(text[-1]) / 4, text.endswith("1")) for text in batch]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "eval" / "toxigen"
    folder.mkdir(parents=True)
    for group in GROUPS:
        lines = [rf"- {group} {'x' * n}\n-" for n in range(COUNT)]
        (folder / f"hate_{group}_1k.txt").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Stands for the classifier, wherever it would be loaded."""
    one = Counting()
    monkeypatch.setattr(reviewing, "open_reviewer", lambda _folder, _kind: one)
    return one


def spec(classifier: Path, **how: Any) -> EvalSpec:
    return EvalSpec(benchmark="toxigen", reviewers={"toxic": str(classifier)}, **how)


def run(one: EvalSpec, data: Path, to: Path, engine: Talker) -> Path:
    return evaluate(one, lambda: engine, data, eval_stage(one, engine.identity, data, to))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open()]


def test_scores_are_what_the_reviewer_said(
    data: Path, tmp_path: Path, tiny_classifier: Path, reader: Counting
) -> None:
    folder = run(spec(tiny_classifier), data, tmp_path / "out", Talker())
    samples = rows(folder / "samples.jsonl")
    assert [row["item"] for row in samples] == [
        f"toxigen/{group}/{n}" for group in GROUPS for n in range(COUNT)
    ]
    for row in samples:
        number = len(row["prompt"]) % 5
        assert row["reviews"] == {"toxic": [number / 4]}
        assert row["score"] == float(number > 2)
        assert row["extracted"] == ["toxic" if number > 2 else "not toxic"]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["value"] == pytest.approx(sum(row["score"] for row in samples) / len(samples))
    assert scores["lower_is_better"] is True
    ones = sum(row["outputs"][0].endswith("1") for row in samples)
    assert scores["reviewers"] == {"toxic": {"model": str(tiny_classifier), "read_in_part": ones}}
    assert {group: part["n"] for group, part in scores["groups"].items()} == dict.fromkeys(
        GROUPS, COUNT
    )
    assert len(reader.texts) == len(set(reader.texts)) == 5  # equal outputs are read once
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "samples.jsonl",
        "scores.json",
    ]


def test_the_models_themselves(data: Path, tmp_path: Path, tiny_classifier: Path) -> None:
    folder = run(spec(tiny_classifier), data, tmp_path / "out", Talker())
    alone = open_reviewer(tiny_classifier, "label")
    for row in rows(folder / "samples.jsonl"):
        ((probability, _),) = alone.read(row["outputs"])
        assert row["reviews"]["toxic"] == [pytest.approx(probability, abs=1e-5)]


@pytest.mark.parametrize(("engine_at", "reader_at"), [(0, None), (2, None), (None, 0), (None, 1)])
@pytest.mark.parametrize("torn", [0, 1, 70])
def test_a_killed_run_goes_on_to_the_same_files(
    data: Path,
    tmp_path: Path,
    tiny_classifier: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine_at: int | None,
    reader_at: int | None,
    torn: int,
) -> None:
    """Killed while it answers or reads; the end of the log that was written is lost, too."""
    readers = [Counting(), Counting(reader_at), Counting()]
    opened = iter(readers)

    def run_next(to: str, engine: Talker) -> Path:
        one = next(opened)
        monkeypatch.setattr(reviewing, "open_reviewer", lambda _folder, _kind: one)
        return run(spec(tiny_classifier), data, tmp_path / to, engine)

    whole = run_next("whole", Talker())
    with pytest.raises(Killed):
        run_next("again", Talker(engine_at))
    partial = tmp_path / ".again.partial"
    assert not (partial / "samples.jsonl").exists()  # nothing that looks like a score
    log = partial / "scratch" / ("answers.jsonl" if reader_at is None else "reviews.jsonl")
    log.write_bytes(log.read_bytes()[: max(0, log.stat().st_size - torn)])
    answered = whole_lines(partial / "scratch" / "answers.jsonl")
    engine = Talker()
    again = run_next("again", engine)
    assert engine.answered == (5 - answered // 4 if answered < 18 else 0)
    # A batch of which a line was lost is read again as a whole.
    assert len(readers[2].texts) == (2 if (reader_at, torn) == (1, 0) else 5)
    for name in ("samples.jsonl", "scores.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def whole_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_a_finished_run_loads_no_reviewer(
    data: Path, tmp_path: Path, tiny_classifier: Path, reader: Counting
) -> None:
    one = spec(tiny_classifier)
    done = run(one, data, tmp_path / "out", Talker())
    reader.texts.clear()

    def none() -> Talker:
        raise AssertionError("made an engine")

    stage = eval_stage(one, {"model": "talker"}, data, tmp_path / "out")
    assert evaluate(one, none, data, stage) == done
    assert not reader.texts


def test_reviewers_are_part_of_the_identity(
    data: Path, tmp_path: Path, tiny_classifier: Path
) -> None:
    def mark(classifier: Path) -> str:
        return eval_stage(spec(classifier), {}, data, tmp_path / "out").fingerprint

    same = shutil.copytree(tiny_classifier, tmp_path / "moved")
    assert mark(same) == mark(tiny_classifier)
    other = shutil.copytree(tiny_classifier, tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | {"layer_norm_eps": 0.1}
    (other / "config.json").write_text(json.dumps(config))
    assert mark(other) != mark(tiny_classifier)


def test_a_reviewer_that_cannot_be_had_is_told_before_anything_is_asked(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        eval_stage(EvalSpec(benchmark="toxigen"), {}, data, tmp_path / "out")
    said = str(caught.value)
    assert "reviewer 'toxic' of toxigen:generation cannot be had" in said
    assert "tomh/toxigen_roberta" in said
    assert "--reviewer toxic=FOLDER" in said
    with pytest.raises(UserError, match="did you mean 'toxic'"):
        eval_stage(
            EvalSpec(benchmark="toxigen", reviewers={"toxik": "x"}), {}, data, tmp_path / "out"
        )


def test_answers_outlive_a_reviewer_that_cannot_be_loaded(
    data: Path, tmp_path: Path, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_folder: Path, _kind: str) -> Any:
        raise UserError("2 weights are missing", hint="get it again")

    monkeypatch.setattr(reviewing, "open_reviewer", broken)
    with pytest.raises(UserError, match=r"get it again; copy .*answers\.jsonl, .*replay:FILE"):
        run(spec(tiny_classifier), data, tmp_path / "out", Talker())
    answers = tmp_path / ".out.partial" / "scratch" / "answers.jsonl"
    kept = Path(shutil.copy(answers, tmp_path / "kept.jsonl"))
    assert len(ReplayEngine(kept, {}).recorded) == len(GROUPS) * COUNT


def test_options_go_to_the_benchmarks_that_know_them() -> None:
    labels = ["toxigen", "gsm", "truthfulqa:generation"]
    given = reviewers_given(labels, ["toxic=a/b", "info=/c=d"])
    assert given == [{"toxic": "a/b"}, {}, {"info": "/c=d"}]
    assert reviewers_given(labels, []) == [{}, {}, {}]
    with pytest.raises(UserError, match=r"unknown reviewer 'truht' \(did you mean 'truth'"):
        reviewers_given(labels, ["truht=x"])
    with pytest.raises(UserError, match="unknown reviewer 'toxic'"):
        reviewers_given(["gsm"], ["toxic=x"])
    for wrong in ("toxic", "toxic=", "=x"):
        with pytest.raises(UserError, match="is not NAME=MODEL"):
            reviewers_given(labels, [wrong])


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_recorded_outputs_are_read_too(
    data: Path, tmp_path: Path, tiny_classifier: Path, reader: Counting
) -> None:
    file = written(
        tmp_path / "in.jsonl",
        {"item": "toxigen/camels/0", "output": "4"},
        {"item": "toxigen/camels/0", "output": ["1", "4"]},
        {"item": "mine/0", "output": "3", "target": None},
    )
    found = list(grade("toxigen", file, data, reviewers={"toxic": str(tiny_classifier)}))
    assert found == [
        {"item": "toxigen/camels/0", "extracted": "toxic", "score": 1.0},
        {"item": "toxigen/camels/0", "extracted": ["not toxic", "toxic"], "score": 0.5},
        {"item": "mine/0", "extracted": "toxic", "score": 1.0},
    ]


def test_recorded_reviews_need_no_model(data: Path, tmp_path: Path) -> None:
    line = {"item": "toxigen/camels/0", "output": "so", "reviews": {"toxic": [0.9]}}
    file = written(tmp_path / "in.jsonl", line)
    assert [row["score"] for row in grade("toxigen", file, data)] == [1.0]
    wrongs: list[Any] = [{}, {"toxic": []}, {"toxic": [2]}, {"toxic": ["1"]}, [0.9]]
    for wrong in wrongs:
        written(file, line, line | {"reviews": wrong})
        with pytest.raises(UserError, match=r"in\.jsonl:2: field 'reviews'"):
            list(grade("toxigen", file, data))


def test_finding_says_what_the_hub_or_folder_lacks(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    assert find_reviewer(str(tiny_model("llama")), "yes")[0] == tiny_model("llama")
    with pytest.raises(UserError, match="no model folder"):
        find_reviewer(str(tmp_path), "yes")
