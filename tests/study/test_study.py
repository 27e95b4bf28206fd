"""Whole studies: run, run again, killed and taken up, with a model that fails, planned, told."""

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.results.same import compare
from cameleer.study.execute.board import board_now
from cameleer.study.plan.planned import StudyPlan
from cameleer.study.run import run_study
from cameleer.study.status import grid_of, status
from cameleer.study.study import load_study
from tests.ray_cluster import cut_power, ray_cluster, ray_node

pytestmark = pytest.mark.xdist_group("study")  # one worker: its tests share an unbroken run

Declare = Callable[..., Path]
MODELS = ["random", "random--cot--s42", "random--code--s42"]
BENCHMARKS = ["mmlu:0-shot", "gsm:cot"]


def run(file: Path, folder: Path) -> Path:
    return run_study(load_study(file), folder)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def untimed(value: Any) -> Any:
    """A record without what another run may take longer for."""
    if isinstance(value, dict):
        times = {"seconds", "tokens_per_second", "finished", "peak_memory_gib"}
        times |= {"mfu", "memory_gib", "seconds_left", "planned"}
        times |= {"files", "seal"}  # hashes of files that hold times
        return {k: untimed(v) for k, v in value.items() if k not in times}
    return value


def results(folder: Path) -> dict[str, Any]:
    """All that a study found, by the files' names: weights as bytes, records without times."""
    found: dict[str, Any] = {}
    for path in sorted([*folder.glob("eval/*/*"), *folder.glob("train/*/*")]):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.suffix == ".jsonl":
            found[name] = [untimed(row) for row in records(path)]
        elif path.name in ("scores.json", "manifest.json"):
            found[name] = untimed(json.loads(path.read_text()))
    return found


def stamps(folder: Path) -> dict[str, int]:
    """When each finished file below was written."""
    places = ("data", "mix", "train", "eval")
    files = (path for place in places for path in (folder / place).rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one unbroken run is kept for all tests of this file."""
    return tmp_path_factory.mktemp("unbroken")


@pytest.fixture
def unbroken(declare: Declare, kept: Path) -> Path:
    """The folder of a study that ran in one go."""
    folder = kept / "small"
    if not (folder / "report").exists():
        run(declare(), folder)
    return folder


def test_a_study_from_nothing(unbroken: Path) -> None:
    page = (unbroken / "report/report.html").read_text()
    assert "small" in page
    study = json.loads((unbroken / "study.json").read_text())
    assert [base["parameters"] > 1000 for base in study["bases"]] == [True]
    assert [cell["failed"] for cell in study["cells"]] == [None] * 3
    assert {m["name"]: m["sources"] for m in study["mixtures"]} == {
        "cot": {"cot": 60},
        "code": {"code_alpaca": 40},
    }
    for mixture in study["mixtures"]:
        assert (unbroken / mixture["touched"] / "labels.jsonl").is_file()
    for cell in study["cells"]:
        for label in BENCHMARKS:
            folder = unbroken / cell["evals"][label]
            scores = json.loads((folder / "scores.json").read_text())
            rows = records(folder / "samples.jsonl")
            assert scores["n"] == len(rows) == {"mmlu:0-shot": 12, "gsm:cot": 10}[label]
            assert scores["value"] == pytest.approx(sum(r["score"] for r in rows) / len(rows))
    with (unbroken / "report/tables/scores.csv").open(newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [(row["base"], row["mixture"]) for row in table] == [
        ("random", ""),
        ("random", "cot"),
        ("random", "code"),
    ]
    for row, cell in zip(table, study["cells"], strict=True):
        scores = json.loads((unbroken / cell["evals"]["gsm:cot"] / "scores.json").read_text())
        assert float(row["gsm:cot"]) == pytest.approx(scores["value"])


def test_bases_are_asked_plainly_and_tuned_models_in_the_chat_format(unbroken: Path) -> None:
    forms = {
        cell["mixture"]: json.loads(
            (unbroken / cell["evals"]["gsm:cot"] / "scores.json").read_text()
        )["format"]
        for cell in json.loads((unbroken / "study.json").read_text())["cells"]
    }
    assert forms == {None: "plain", "cot": "chat", "code": "chat"}


def test_run_again_does_nothing_again(declare: Declare, unbroken: Path) -> None:
    before, began = stamps(unbroken), time.monotonic()
    run(declare(), unbroken)
    assert time.monotonic() - began < 20  # on a busy machine
    assert stamps(unbroken) == before


@pytest.mark.parametrize(
    "name", ["mix/cot*/conversations.jsonl", "train/*cot*/config.json", "eval/*gsm*/samples.jsonl"]
)
def test_what_was_edited_since_is_told_before_anything_is_done(
    declare: Declare, unbroken: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(unbroken, folder)
    file = next(folder.glob(name))
    file.write_bytes(file.read_bytes() + b"\n")
    gone = next(folder.glob("eval/*code*mmlu*"))
    shutil.rmtree(gone)
    before = stamps(folder)
    with pytest.raises(UserError, match=rf"{file}: was changed after the work was finished"):
        run(declare(), folder)
    assert stamps(folder) == before
    file.write_bytes(file.read_bytes()[:-1])
    run(declare(), folder)
    assert (gone / "scores.json").is_file()


def test_another_setting_does_only_what_it_changes(
    declare: Declare, unbroken: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(unbroken, folder)
    before = stamps(folder)
    run(declare(benchmarks=["mmlu:0-shot"]), folder)
    assert stamps(folder) == before  # less is asked for: all of it is there
    mixtures = [{"name": "cot", "parts": [{"source": "cot", "count": 10}]}]
    run(declare(benchmarks=["mmlu:0-shot"], mixtures=mixtures), folder)
    after = stamps(folder)
    assert {path: after[path] for path in before} == before
    new = {Path(path).relative_to(folder).parts[:2] for path in after.keys() - before.keys()}
    assert sorted(kind for kind, _ in new) == ["eval", "mix", "train"]


def test_full_and_lora_side_by_side(declare: Declare, tmp_path: Path) -> None:
    ways = [
        {"name": "full"},
        {"name": "lora", "train": {"lora": {"r": 2, "lora_dropout": 0.0}, "num_train_epochs": 2}},
    ]
    code = [{"name": "code", "parts": [{"source": "code_alpaca", "count": 8}]}]
    folder = tmp_path / "ways"
    page = run(declare(methods=ways, mixtures=code, benchmarks=["gsm:cot"]), folder).read_text()
    with (folder / "report/tables/scores.csv").open(newline="") as handle:
        rows = [row["mixture"] for row in csv.DictReader(handle)]
    assert rows == ["", "code (full)", "code (lora)"]
    assert "code (lora)" in page
    trained = sorted(path.name.rsplit("-", 1)[0] for path in (folder / "train").iterdir())
    assert trained == ["random--code--full--s42", "random--code--lora--s42"]
    full, lora = sorted((folder / "train").iterdir())
    assert not (full / "adapter").exists()
    assert (lora / "adapter/adapter_config.json").is_file()
    steps = [
        json.loads((x / "manifest.json").read_text())["outcome"]["steps"] for x in (full, lora)
    ]
    assert steps[1] == 2 * steps[0]


def test_plan_and_status_before_and_after(declare: Declare, unbroken: Path, tmp_path: Path) -> None:
    study = load_study(declare())
    before = StudyPlan(grid_of(study, tmp_path / "new")).facts()
    assert [row["model"] for row in before["models"]] == MODELS
    assert [row["train"] for row in before["models"]] == ["–", "to do", "to do"]
    assert all(set(row["evals"].values()) == {"to do"} for row in before["models"])
    items = {row["benchmark"]: row["items"] for row in before["benchmarks"]}
    assert items == {"mmlu:0-shot": 12, "gsm:cot": 10}
    assert all(0 < row["smallest_difference"] <= 1 for row in before["benchmarks"])
    assert not (tmp_path / "new/train").exists()
    after = status(study, unbroken)
    assert [row["train"] for row in after["models"]] == ["–", "done", "done"]
    for row, cell in zip(
        after["models"], json.loads((unbroken / "study.json").read_text())["cells"], strict=True
    ):
        for label, shown in row["evals"].items():
            scores = json.loads((unbroken / cell["evals"][label] / "scores.json").read_text())
            assert shown == f"{scores['value']:.3f}"


# ---- models that fail


def test_a_base_with_broken_weights_fails_alone(
    declare: Declare, random_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(random_model, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    bases = [
        {"name": "broken", "model": str(broken)},
        {"name": "random", "model": str(random_model)},
    ]
    file = declare(bases=bases, benchmarks=["mmlu:0-shot"])
    folder = tmp_path / "out"
    with pytest.raises(UserError, match="3 of 6 models failed") as caught:
        run(file, folder)
    assert "broken" in str(caught.value)
    cells = json.loads((folder / "study.json").read_text())["cells"]
    failed = {cell["base"]: cell["failed"] for cell in cells if cell["mixture"] is None}
    assert failed["random"] is None
    assert "no model can be read" in failed["broken"]
    for cell in cells:
        done = (folder / cell["evals"]["mmlu:0-shot"] / "scores.json").exists()
        assert done == (cell["base"] == "random") == (cell["failed"] is None)
    assert "no model can be read" in (folder / "report/report.html").read_text()
    # Mended, the same command does what is missing, and nothing else.
    before = stamps(folder)
    (broken / "model.safetensors").write_bytes(weights)
    run(file, folder)
    after = stamps(folder)
    assert {path: after[path] for path in before} == before
    cells = json.loads((folder / "study.json").read_text())["cells"]
    assert [cell["failed"] for cell in cells] == [None] * 6


def test_a_mixture_that_asks_for_more_than_there_is(declare: Declare, tmp_path: Path) -> None:
    mixtures = [{"name": "cot", "parts": [{"source": "cot", "count": 61}]}]
    with pytest.raises(UserError, match="61 of 'cot' are asked for, it gives 60"):
        run(declare(mixtures=mixtures), tmp_path / "out")
    assert not (tmp_path / "out/train").exists()  # told before anything is trained


# ---- kill -9


def study_run(file: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cameleer.cli", "study", "run", str(file), "-o", str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=file.parent
    )


def log_of(folder: Path, kind: str) -> Path | None:
    """The log of models' work at `kind` that is under way, if it holds a line.

    Of evaluations that of GSM: it writes its answers in several batches, and a kill finds it at it.
    """
    name, log = {"train": ("*", "metrics.jsonl"), "eval": ("*gsm*", "samples.jsonl")}[kind]
    logs = folder.glob(f"{kind}/.random--{name}.partial/{log}")
    return next((log for log in logs if b"\n" in log.read_bytes()), None)


def wait_until_free(lock: Path) -> None:
    """Until no process holds the lock: a study that is killed leaves nothing running."""
    with lock.open("r+") as handle:
        for _ in range(500):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            else:
                return
    pytest.fail("the killed study's worker lives on")


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_killed_and_taken_up(kind: str, declare: Declare, unbroken: Path, tmp_path: Path) -> None:
    file, folder = declare(), tmp_path / "out"
    process = study_run(file, folder)
    deadline = time.monotonic() + 100
    while (log := log_of(folder, kind)) is None:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until_free(log.parent / ".lock")
    assert not (log.parent / "manifest.json").exists()  # it was killed before its end
    lines = len(log.read_bytes().splitlines())
    shown = status(load_study(file), folder)["models"]
    states = [row["train"] for row in shown] + [s for row in shown for s in row["evals"].values()]
    assert any(state.endswith("so far") for state in states), (states, lines)
    again = study_run(file, folder)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert "random" in out
    assert results(folder) == results(unbroken)


# ---- a cluster


@pytest.mark.slow
def test_on_a_cluster_that_loses_a_node(declare: Declare, unbroken: Path, tmp_path: Path) -> None:
    every = os.cpu_count() or 1  # a node has room for one task
    with ray_cluster(every) as address, ray_node(address, every) as second:
        file = declare(executor={"kind": "ray", "address": address, "retries": 3})
        folder = tmp_path / "out"
        process = study_run(file, folder)
        deadline = time.monotonic() + 400
        while sum(bool(row.get("pid")) for row in board_now(folder) or ()) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cut_power(second)
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert "is lost" in err
    assert compare(folder, unbroken).differences == []


def test_a_cluster_that_is_not_there(declare: Declare, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (pip install 'cameleer[ray]')")
    file = declare(executor={"kind": "ray", "address": "127.0.0.1:1"})
    with pytest.raises(UserError, match=r"executor.address.*no Ray cluster at '127.0.0.1:1'"):
        run(file, tmp_path / "out")


# ---- real records


@pytest.mark.real_data
@pytest.mark.embedded
@pytest.mark.slow
def test_camels_mini_cut_short(real_data: Path, embedded_model: Path, tmp_path: Path) -> None:
    """studies/camels-mini.yaml over real records with a real model, cut to a minute."""
    assert embedded_model.is_dir()
    parts = [{"source": source, "count": 12} for source in ("dolly", "gpt4_alpaca")]
    changes = {
        "data": str(real_data),
        "mixtures": [{"name": part["source"], "parts": [part]} for part in parts],
        "train.max_steps": 2,
        "train.max_seq_length": 256,
        "benchmarks": [
            {"benchmark": "mmlu:0-shot", "limit": 8},
            {"benchmark": "codex_humaneval:pass@1", "limit": 2, "samples": 1, "temperature": 0,
             "max_new_tokens": 16},
        ],
    }  # fmt: skip
    file = Path(__file__).parents[2] / "studies/camels-mini.yaml"
    study = load_study(file, [f"{name}={json.dumps(value)}" for name, value in changes.items()])
    page = run_study(study, tmp_path / "out")
    cells = json.loads((tmp_path / "out/study.json").read_text())["cells"]
    assert [cell["mixture"] for cell in cells] == [None, "dolly", "gpt4_alpaca"]
    subjects = set()
    for cell in cells:
        rows = records(tmp_path / "out" / cell["evals"]["mmlu:0-shot"] / "samples.jsonl")
        assert len(rows) == 8
        subjects |= {row["group"] for row in rows}
        for row in records(
            tmp_path / "out" / cell["evals"]["codex_humaneval:pass@1"] / "samples.jsonl"
        ):
            assert "sandbox process" in row["note"]
    assert len(subjects) == 8  # of eight items each is of another subject
    assert "gpt4_alpaca" in page.read_text()


def test_a_design_is_planned_beside_mixtures(declare: Declare, tmp_path: Path) -> None:
    sources = [{"source": "cot", "count": 30}, {"source": "code_alpaca", "count": 20}]
    design = {"mixtures": ["single", "leave-one-out", "random"], "sources": sources}
    mixtures = [{"name": "own", "parts": [{"source": "cot", "count": 5}]}]
    study = load_study(declare(design=design, mixtures=mixtures))
    models = [row["model"] for row in StudyPlan(grid_of(study, tmp_path / "s")).facts()["models"]]
    names = ["own", "cot", "code_alpaca", "all", "random-20", "random-30"]
    assert models == ["random", *(f"random--{name}--s42" for name in names)]
    told = study.model_dump(exclude_defaults=True, by_alias=True)
    assert type(study).model_validate(told) == study  # nothing is there twice
    with pytest.raises(UserError, match=r"'cot' stands twice in 'mixtures'"):
        load_study(declare(design=design, mixtures=[{**mixtures[0], "name": "cot"}]))
    with pytest.raises(UserError, match=r"yaml:\d+: field 'design.mixtures.0': input should be"):
        load_study(declare(design={**design, "mixtures": "singel"}))
    with pytest.raises(UserError, match=r"field 'mixtures': is empty, and there is no 'design'"):
        load_study(declare(mixtures=[]))


def mix(name: str) -> dict[str, Any]:
    return {"name": name, "parts": [{"source": "cot"}]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bases": ["a", "a--b"], "mixtures": ["b--c", "c"]}, "2 of its models .* 'a--b--c--s42'"),
        ({"references": ["random--cot--s42"]}, "2 of its models .* 'random--cot--s42'"),
        ({"mixtures": ["base, untuned"]}, "may not be named 'base, untuned'"),
        ({"mixtures": ["m" * 200]}, "is too long for a folder"),
        ({"mixtures": ["../../elsewhere/x"]}, r"yaml:\d+: field 'mixtures.0.name': names a folder"),
        ({"bases": [".."]}, r"yaml:\d+: field 'bases.0.name': names a folder"),
        ({"name": ".."}, r"yaml:\d+: field 'name': string should match"),
        ({"seeds": [-1]}, r"yaml:\d+: field 'seeds.0': input should be greater"),
        ({"seeds": [2**40]}, r"yaml:\d+: field 'seeds.0': input should be less than 4294967296"),
    ],
)
def test_models_have_names_and_folders_of_their_own(
    changes: dict[str, Any], says: str, declare: Declare, random_model: Path
) -> None:
    """Two of one name would be one, and the other would never be trained."""
    makes: dict[str, Callable[[str], Any]] = {
        "bases": lambda name: {"name": name, "model": str(random_model)},
        "references": lambda name: {"name": name, "model": str(random_model)},
        "mixtures": mix,
    }
    given = {
        field: [makes[field](name) for name in value] if field in makes else value
        for field, value in changes.items()
    }
    with pytest.raises(UserError, match=says):
        load_study(declare(**given))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ratios": [{}]}, r"yaml:\d+: field 'design.ratios.0': dictionary should have"),
        ({"ratios": [{"cot": float("inf")}]}, r"yaml:\d+: field 'design.ratios.0.cot': .* finite"),
        (
            {"sources": [{"source": "cott", "count": 3}]},
            r"yaml:\d+: field 'design.sources.0.source'",
        ),
    ],
)
def test_a_designs_mistakes_are_told_where_they_stand(
    change: dict[str, Any], says: str, declare: Declare
) -> None:
    sources = [{"source": "cot", "count": 30}, {"source": "code_alpaca", "count": 20}]
    design = {"mixtures": ["ratios" if "ratios" in change else "single"], "sources": sources}
    with pytest.raises(UserError, match=says):
        load_study(declare(design={**design, **change}))
