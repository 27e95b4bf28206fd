"""What answers in a study: any engine with its own options, and models that are asked beside."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cameleer.core.errors import UserError
from cameleer.engines.registry import choose
from cameleer.study.grid import Grid
from cameleer.study.run import run_study
from cameleer.study.status import status
from cameleer.study.study import Study, load_study

pytestmark = pytest.mark.xdist_group("study")

Declare = Callable[..., Path]
PARROT = '''"""A parrot, which says one thing to everything."""

from pathlib import Path

from pydantic import Field, PositiveInt

from cameleer.core.config import Config
from cameleer.results.records import Answer


class Options(Config):
    word: str = "hello"
    times: PositiveInt = 1
    diary: Path | None = Field(default=None, exclude=True)


def fingerprint(model):
    return f"parrot of {model}"


def version():
    return "parrot 3"


def make(model, options, identity):
    return Parrot(model, options, identity)


class Parrot:
    def __init__(self, model, options, identity):
        self.model, self.options, self.identity = model, options, identity

    def count_tokens(self, text):
        return 0

    def cut(self, text, tokens, rule):
        return text

    def batches(self, requests):
        return [list(requests)]

    def answer(self, batch):
        said = " ".join([self.options.word] * self.options.times)
        return [Answer(one.key, [said], [], ["stop"], 0, 1, 0.0) for one in batch]

    def close(self):
        with self.options.diary.open("a") as diary:
            diary.write(f"{self.model}\\n")
'''
ONE = [{"name": "cot", "parts": [{"source": "cot", "count": 8}]}]


@pytest.fixture
def parrot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of another package, as pip would have installed it."""
    site = tmp_path / "site"
    (site / "parrot-1.dist-info").mkdir(parents=True)
    (site / "a_parrot.py").write_text(PARROT)
    facts = {
        "METADATA": "Metadata-Version: 2.1\nName: parrot\nVersion: 1\n",
        "entry_points.txt": "[cameleer.engines]\nparrot = a_parrot\n",
    }
    for name, text in facts.items():
        (site / "parrot-1.dist-info" / name).write_text(text)
    monkeypatch.syspath_prepend(str(site))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("parrot")
def test_an_engine_of_another_package_answers_and_others_stand_beside(
    declare: Declare, tmp_path: Path
) -> None:
    recorded = tmp_path / "recorded.jsonl"
    lines = [{"item": f"gsm/{n}", "output": "So the answer is 1."} for n in range(10)]
    recorded.write_text("".join(json.dumps(line) + "\n" for line in lines))
    diary = tmp_path / "diary"
    changes = {
        "mixtures": ONE,
        "engine": {"engine": "parrot", "word": "five", "times": 2, "diary": str(diary)},
        "references": [
            {"name": "old-words", "model": f"replay:{recorded}", "about": "Recorded in May."},
            {"name": "polly", "model": "parrot:polly", "engine": {"diary": str(diary)}},
        ],
        "benchmarks": ["gsm:cot"],
    }
    study = load_study(declare(**changes))
    folder = tmp_path / "out"
    page = run_study(study, folder)
    cells = json.loads((folder / "study.json").read_text())["cells"]
    assert [cell["base"] for cell in cells] == ["random", "random", "old-words", "polly"]
    assert [cell["reference"] for cell in cells] == [False, False, True, True]
    said, identities = [], []
    for cell in cells:
        there = folder / cell["evals"]["gsm:cot"]
        said.append({row["outputs"][0] for row in rows(there / "samples.jsonl")})
        identities.append(json.loads((there / "manifest.json").read_text())["config"]["engine"])
    assert said == [{"five five"}, {"five five"}, {"So the answer is 1."}, {"hello"}]
    own = {"engine": "parrot", "word": "five", "times": 2, "version": "parrot 3"}
    assert [{**one, "model": ""} for one in identities[:2]] == [own | {"model": ""}] * 2
    assert identities[0]["model"] != identities[1]["model"]
    assert identities[3] == own | {"word": "hello", "times": 1, "model": "parrot of polly"}
    # Each model's engine is closed, the tuned one's, too, which is answered for from its folder.
    base, tuned, reference = diary.read_text().splitlines()
    assert (base, reference) == (study.bases[0].model, "polly")
    assert Path(tuned).parent == folder / "train"
    forms = [row["format"] for row in map(scores_of(folder), cells)]
    assert forms == ["plain", "chat", "chat", "chat"]
    # In the report the references have rows, without a difference to the base.
    with (folder / "report/tables/scores.csv").open(newline="") as handle:
        table = {row["mixture"]: row["gsm:cot n"] for row in csv.DictReader(handle)}
    assert table == {"": "10", "cot": "10", "old-words": "10", "polly": "10"}
    with (folder / "report/tables/differences.csv").open(newline="") as handle:
        assert [row["mixture"] for row in csv.DictReader(handle)] == ["cot"]
    assert "old-words (Recorded in May), polly" in page.read_text()
    assert [row["model"] for row in status(study, folder)["models"]][2:] == ["old-words", "polly"]
    # What decides no answer changes no fingerprint; what does gives another folder.
    del changes["engine"]["diary"]  # type: ignore[attr-defined]
    assert all(work.done() for work in Grid(load_study(declare(**changes)), folder).works)
    changes["engine"]["times"] = 3  # type: ignore[index]
    done = [work.done() for work in Grid(load_study(declare(**changes)), folder).works]
    assert done == [False, False, True, True]


def scores_of(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def scores(cell: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (folder / cell["evals"]["gsm:cot"] / "scores.json").read_text()
        )
        return found

    return scores


# ---- what a study's file may say


def read(declare: Declare, *overrides: str, **changes: Any) -> Study:
    return load_study(declare(**changes), overrides)


def test_engines_are_set_as_on_the_command_line(declare: Declare) -> None:
    old = read(declare, engine={"precision": "fp32", "batch_size": 1}).engine
    assert (old.engine, old.options) == ("transformers", {"precision": "fp32", "batch_size": 1})
    named = read(declare, engine={"engine": "transformers", "precision": "bf16"}).engine
    given = choose("m", "transformers", {"precision": "bf16"})
    assert named.chosen("m").options == given.options
    assert read(declare, engine={}).engine.chosen("m").options == choose("m").options
    assert read(declare, engine="vllm").engine.chosen("m").name == "vllm"
    lab = read(declare, "engine={engine: vllm, tensor_parallel: 2}", "engine.context=4096").engine
    assert lab.chosen("m").options == choose("m", "vllm", None, lab_options()).options


def lab_options() -> list[str]:
    return ["tensor_parallel=2", "context=4096"]


def test_the_papers_rule_for_all_sets_engines_by_it(declare: Declare) -> None:
    models = [{"name": "api", "model": "openai:gpt-4@http://127.0.0.1:9/v1"}]
    paper = {"benchmark": "mmlu:0-shot", "rule": "paper"}
    for benchmarks, choices in (([paper], "logit_bias"), ([paper, "gsm:cot"], "logprobs")):
        study = read(declare, references=models, benchmarks=benchmarks)
        identity = study.references[0].chosen(study).identity()
        assert (identity["engine"], identity["model"]) == ("openai", "gpt-4")
        assert identity["choices"] == choices


API = {"name": "a", "model": "openai:x"}


@pytest.mark.parametrize(
    ("changes", "line", "said"),
    [
        ({"engine": {"engine": "vlm"}}, "engine: vlm", "unknown engine 'vlm'.*'vllm'"),
        ({"engine": "vlm"}, "engine: vlm", "unknown engine 'vlm'.*'vllm'"),
        (
            {"engine": {"engine": "vllm", "tensor_paralel": 2}},
            "tensor_paralel: 2",
            "'engine.tensor_paralel'.* 'tensor_paralel'.*'tensor_parallel'.*cameleer eval engines",
        ),
        (
            {"engine": {"precision": "fp32", "batch_size": 0}},
            "batch_size: 0",
            "'engine.batch_size': input should be greater than 0",
        ),
        ({"engine": {"precision": "fp8"}}, "precision: fp8", "'auto', 'bf16' or 'fp32'"),
        ({"engine": "openai"}, "engine: openai", "openai answers for models by name"),
        (
            {"references": [{"name": "a", "model": "opena:x"}]},
            "- name: a",
            "'references.0.engine.engine': unknown engine 'opena'.*'openai'",
        ),
        (
            {"references": [{**API, "engine": {"max_dolars": 2}}]},
            "max_dolars: 2",
            "'references.0.engine.max_dolars'.*did you mean 'max_dollars'",
        ),
        (
            {"references": [{**API, "engine": {"max_dollars": 2}}]},
            "engine:",
            "'references.0.engine': max_dollars needs price_in",
        ),
    ],
)
def test_mistakes_are_told_at_their_line(
    declare: Declare, changes: dict[str, Any], line: str, said: str
) -> None:
    file = declare(**changes)
    with pytest.raises(UserError, match=said) as caught:
        load_study(file)
    assert caught.value.file == file
    assert caught.value.line
    assert file.read_text().splitlines()[caught.value.line - 1].strip() == line


def test_rows_of_a_report_have_names_of_their_own(declare: Declare) -> None:
    for name in ("cot", "random"):
        with pytest.raises(UserError, match=f"'{name}' stands twice in 'references'"):
            read(declare, references=[{"name": name, "model": "org/name"}])


def test_a_study_for_vllm_is_refused_where_vllm_is_not(
    declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cameleer.engines import vllm

    monkeypatch.setattr(vllm, "BUILDS", ("no-such-vllm",))
    with pytest.raises(UserError, match=r"vLLM is not installed here.*cameleer\[vllm\]"):
        run_study(read(declare, engine="vllm"), tmp_path / "out")
    assert not (tmp_path / "out/train").exists()  # told before anything is trained


def test_the_declaration_in_study_json_can_be_run_again(declare: Declare, tmp_path: Path) -> None:
    study = read(declare, engine={"engine": "vllm", "eager": True})
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    assert load_study(again) == study
