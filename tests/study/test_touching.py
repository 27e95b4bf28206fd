"""Test items in a study's mixtures: planted ones are found, once, and again after a kill."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.artifact import Stage
from cameleer.core.files import write_jsonl
from cameleer.data.miniature import make
from cameleer.data.mix.build import build
from cameleer.data.overlap import search
from cameleer.evals.benchmark import Ask, benchmark_named
from cameleer.evals.corpus import READERS, texts
from cameleer.evals.runner import evaluate
from cameleer.report.analysis import BETTER, NO_DIFFERENCE, analyse
from cameleer.report.touched import touching as touching_of
from cameleer.results.store import read_study
from cameleer.study import touching
from cameleer.study.grid import Grid, data_stage
from cameleer.study.study import Study, load_study
from cameleer.study.touching import touch
from cameleer.train.loop import train
from tests.killing import killed_at

Declare = Callable[..., Path]
PLANTED = {"gsm/1": "exact", "gsm/4": "exact", "gsm/7": "exact"}


@pytest.fixture
def study(declare: Declare, tmp_path: Path) -> Study:
    """A study of which two mixtures hold three test items, and one holds none."""
    leak = tmp_path / "leak.jsonl"
    leaked = [{"source": "code_alpaca", "count": 20}, {"file": str(leak)}]
    mixtures = [
        {"name": "clean", "parts": [{"source": "code_alpaca"}]},
        {"name": "leaked", "parts": leaked},
        {"name": "again", "parts": [*leaked, {"source": "stanford_alpaca"}]},
    ]
    read = load_study(declare(mixtures=mixtures))
    assert read.miniature is not None
    data = make(read.miniature, data_stage(read, tmp_path / "study"))
    asked = {one.item: one for one in texts("gsm", data)}
    rows = [planted(number, asked[item]) for number, item in enumerate(PLANTED)]
    write_jsonl(leak, rows)
    return read


def planted(number: int, item: Any) -> dict[str, Any]:
    said = f"Please answer, and say how.\n{item.question}", f"It is {item.answers[0]}."
    messages = [{"role": r, "content": t} for r, t in zip(("user", "assistant"), said, strict=True)]
    return {"id": f"leak_{number}", "source": "forum", "messages": messages}


def built(study: Study, folder: Path) -> Grid:
    grid = Grid(study, folder)
    for mixture in study.mixtures:
        build(mixture, grid.data, grid.mixes[mixture.name])
    return grid


def rows(stage: Stage, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stage.folder / name).read_text().splitlines()]


def labels(grid: Grid, mixture: str) -> dict[str, str]:
    """The kind of every touched item of a mixture."""
    found = rows(grid.touched[mixture], "labels.jsonl")
    assert len(found) == 12 + 10  # all items of both benchmarks
    return {row["item"]: row["kind"] for row in found if row["touched"]}


def test_planted_items_are_found_and_a_conversation_is_searched_once(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    searched: list[str] = []
    real = search.Searcher.__call__

    def counting(self: search.Searcher, tasks: list[search.Task]) -> list[search.Match]:
        searched.extend(task.conversation.id for task in tasks)
        return real(self, tasks)

    monkeypatch.setattr(search.Searcher, "__call__", counting)
    grid = built(study, tmp_path / "study")
    touch(grid)
    assert [labels(grid, name) for name in ("clean", "leaked", "again")] == [{}, PLANTED, PLANTED]
    assert len(searched) == len(set(searched)) == 40 + 3 + 8
    said = " ".join(capsys.readouterr().err.split())
    assert "leaked touches test items: 3 of gsm (3 exact); read them" in said
    assert "clean touches" not in said
    for name in ("leaked", "again"):
        mix = grid.mixes[name].folder / "conversations.jsonl"
        ids = [json.loads(line)["id"] for line in mix.read_text().splitlines()]
        for match in rows(grid.touched[name], "matches.jsonl"):
            at = ids.index(match["conversation"])
            assert match["source"] == "forum"
            assert match["file"] == f"{grid.mixes[name].folder.name}/conversations.jsonl"
            message = json.loads(mix.read_text().splitlines()[at])["messages"][0]["content"]
            assert message[match["start"] : match["end"]] in match["text"]
        assert "forum" in (grid.touched[name].folder / "matches.html").read_text()


def test_killed_and_taken_up(study: Study, tmp_path: Path) -> None:
    grid = built(study, tmp_path / "study")
    with killed_at(touching, "write_json", lambda path, value: "leaked" in value["mixture"]):
        touch(grid)
    assert list(grid.touched) == ["clean"]
    clean = grid.touched["clean"].folder / "labels.jsonl"
    before = clean.stat().st_mtime_ns
    again = Grid(study, tmp_path / "study")
    touch(again)
    assert clean.stat().st_mtime_ns == before
    assert labels(again, "again") == labels(again, "leaked") == PLANTED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(touching, "build_index", None)  # all is done: nothing is read
        touch(Grid(study, tmp_path / "study"))


def test_the_index_of_the_study_names_the_folders(study: Study, tmp_path: Path) -> None:
    grid = built(study, tmp_path / "study")
    touch(grid)
    grid.write_index({})
    index = json.loads((tmp_path / "study/study.json").read_text())
    for mixture in index["mixtures"]:
        folder = tmp_path / "study" / mixture["touched"]
        assert folder == grid.touched[mixture["name"]].folder
        assert (folder / "manifest.json").is_file()


def test_what_a_model_learned_of_leaked_items_is_no_skill(
    tiny_model: Declare, declare: Declare, tmp_path: Path
) -> None:
    """A model is trained on every other item that it is asked: the report tells where its gain is.

    Its tokenizer knows bytes alone, so that answers are read right behind the cue.
    """
    model, leak = tiny_model("llama", num_attention_heads=2, max_position_embeddings=4096), {}
    sizes = {"mmlu_per_subject": 8, "cot": 4, "code_alpaca": 4, "stanford_alpaca": 4, "gsm": 4}
    changes = {
        "bases": [{"name": "random", "model": str(model)}],
        "miniature": {**sizes, "sharegpt": 4, "codex_humaneval": 4},
        "mixtures": [{"name": "leaked", "parts": [{"file": str(tmp_path / "leak.jsonl")}]}],
        "benchmarks": ["mmlu:0-shot"],
        "train": {"max_seq_length": 512, "num_train_epochs": 60, "learning_rate": 5e-3}
        | {"precision": "fp32"},
    }
    read = load_study(declare(**changes))
    assert read.miniature is not None
    data = make(read.miniature, data_stage(read, tmp_path / "study"))
    benchmark = benchmark_named("mmlu:0-shot")
    for item in benchmark.module.items(Ask(benchmark.folder(data), "0-shot"))[::2]:
        said = ("user", item.text), ("assistant", item.cue + item.target)
        leak[item.key] = [{"role": role, "content": text} for role, text in said]
    rows = ({"id": key, "source": "leak", "messages": said} for key, said in leak.items())
    write_jsonl(tmp_path / "leak.jsonl", rows)
    grid = built(read, tmp_path / "study")
    touch(grid)
    for work in grid.works:
        if work.config and work.train:
            train(work.config, work.train.folder)
        for spec, stage in work.evals.values():
            evaluate(spec, work.engine, grid.data, stage)
    grid.write_index({})
    (one,) = touching_of(analyse(read_study(tmp_path / "study"))).found
    assert one.touched >= len(leak) == 12
    assert one.split.touched
    assert one.split.touched.tuned.value > 0.9 > 0.6 > one.split.touched.base.value
    assert (one.whole.verdict, one.verdict) == (BETTER, NO_DIFFERENCE)
    assert one.p_holm is not None
    assert one.p_holm < 0.05


def test_it_can_be_left_out_and_unreadable_items_are_told(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    grid = built(study.model_copy(update={"overlap": False}), tmp_path / "study")
    touch(grid)
    assert grid.touched == {}
    grid = built(study, tmp_path / "study")
    monkeypatch.delitem(READERS, "mmlu")
    (next((grid.data or tmp_path).glob("eval/gsm/test.jsonl"))).write_text("no question\n")
    touch(grid)
    said = " ".join(capsys.readouterr().err.split())
    assert "mmlu: test items are not looked for" in said
    assert "gsm: test items cannot be looked for" in said
    facts = json.loads((grid.touched["leaked"].folder / "summary.json").read_text())
    assert facts["benchmarks"] == {}
    assert list(facts["unread"]) == ["gsm"]
