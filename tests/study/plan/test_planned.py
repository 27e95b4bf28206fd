"""Plans of studies: tokens before mixtures are built, what is done, rates, what will not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import read_conversations
from cameleer.chat.render import Renderer
from cameleer.chat.template import template_named
from cameleer.core.artifact import Stage
from cameleer.core.files import write_jsonl
from cameleer.data.mix.build import build
from cameleer.engines.engine import Request
from cameleer.model.load import load_tokenizer
from cameleer.study.plan import material
from cameleer.study.plan.asked import LIKELY, seconds, tokens_of
from cameleer.study.plan.material import materials
from cameleer.study.plan.page import show_plan
from cameleer.study.plan.planned import StudyPlan
from cameleer.study.plan.trainings import found_model
from cameleer.study.status import grid_of
from cameleer.study.study import load_study
from cameleer.train.hardware import GIB, HARDWARE
from cameleer.train.plan import Planner

Declare = Callable[..., Path]


@pytest.fixture(autouse=True)
def known_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is taken to be one whose speed is written down, and not measured."""
    monkeypatch.setattr(
        "cameleer.study.plan.planned.hardware_named", lambda name: HARDWARE[name or "cpu"]
    )


def facts_of(file: Path, folder: Path, **given: Any) -> dict[str, Any]:
    facts = StudyPlan(grid_of(load_study(file), folder, found_model), **given).facts()
    told: dict[str, Any] = json.loads(json.dumps(facts))
    return told


def test_tokens_are_those_of_the_mixture_before_and_after_it_is_built(
    declare: Declare, random_model: Path, tmp_path: Path
) -> None:
    file, folder = declare(), tmp_path / "out"
    before = facts_of(file, folder)["trainings"]
    assert not (folder / "mix").exists()
    grid = grid_of(load_study(file), folder)
    renderer = Renderer(load_tokenizer(str(random_model)), template_named("tulu"))
    for mixture, told in zip(grid.study.mixtures, before, strict=True):
        home = build(mixture, grid.data, grid.mixes[mixture.name], load_tokenizer)
        conversations = list(read_conversations(home / "conversations.jsonl"))
        masks = [one.mask[:256] for one in renderer.masked(conversations)]
        texts = sum(len(mask) for mask in masks if any(mask))
        assert told["tokens"] == texts
        assert told["tokens_by"] == "counted"
    assert [one["tokens"] for one in facts_of(file, folder)["trainings"]] == [
        one["tokens"] for one in before
    ]


def test_memory_is_planned_once_for_each_way(
    declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Planner] = []
    whole = Planner.__init__

    def counted(self: Planner, *given: Any) -> None:
        made.append(self)
        whole(self, *given)

    monkeypatch.setattr(Planner, "__init__", counted)
    ways = [{"name": "full"}, {"name": "lora", "train": {"lora": {"r": 2}}}]
    rows = facts_of(declare(seeds=[1, 2], methods=ways), tmp_path / "out")["trainings"]
    assert len(rows) == 8
    assert len(made) == 2
    memory = {
        name: {r["memory_gib"] for r in rows if name in r["model"]} for name in ("full", "lora")
    }
    assert all(len(sizes) == 1 for sizes in memory.values())
    assert all(row["fits"] and row["advice"] is None for row in rows)


MIXTURES = {
    "some": [{"source": "cot", "fraction": 0.5}, {"source": "code_alpaca", "count": 10}],
    "weighted": [{"source": "cot", "weight": 1}, {"source": "code_alpaca", "weight": 3}],
    "twice": [{"source": "cot", "count": 20, "repeat": 2}, {"source": "sharegpt"}],
    "capped": [{"source": "cot", "max_count": 7}, {"source": "code_alpaca", "repeat": 3}],
    "nested": [
        {"mix": {"name": "in", "parts": [{"source": "cot"}, {"source": "sharegpt"}]}, "count": 32},
        {"source": "code_alpaca"},
    ],
}


@pytest.mark.parametrize("name", MIXTURES)
def test_estimated_mixtures_are_like_built_ones(
    name: str, declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = [{"name": name, "parts": MIXTURES[name]}]
    grid = grid_of(load_study(declare(mixtures=declared)), tmp_path / "out")
    built = materials(grid, tmp_path / "aside")[name]
    monkeypatch.setattr(material, "SMALL", 0)
    (tmp_path / "sampled").mkdir()
    told = materials(grid, tmp_path / "sampled")[name]
    assert (built.how, built.share) == ("", 1.0)
    assert "estimated" in told.how
    assert sum(told.sources.values()) == pytest.approx(sum(built.sources.values()), abs=1)
    config = grid.works[1].config
    assert config is not None
    tokenizer = load_tokenizer(str(grid.bases["random"]))
    tokens = [one.work(config, tokenizer).tokens for one in (told, built)]
    assert tokens[0] == pytest.approx(tokens[1], rel=0.1)


def test_a_mixture_that_is_not_all_here_is_estimated_and_said_to_be(
    declare: Declare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixtures = [
        {"name": "cot", "parts": [{"source": "cot"}]},
        {"name": "more", "parts": [{"source": "cot", "count": 60_000}]},
    ]
    facts = facts_of(declare(mixtures=mixtures), tmp_path / "out")
    few, many = (one["tokens"] for one in facts["trainings"])
    assert many == pytest.approx(1000 * few, rel=0.05)  # of the 60 that are here
    show_plan(facts)
    said = capsys.readouterr()
    assert "1 mixtures cannot be built from what is here, first more" in said.err
    assert "tokens of more are estimated from the first" in said.err


def leave(stage: Stage, name: str, rows: list[dict[str, Any]], done: bool) -> None:
    """Leave what a finished stage leaves, or one that was killed."""

    def work(folder: Path) -> dict[str, Any]:
        write_jsonl(folder / name, rows)
        if not done:
            raise KeyboardInterrupt
        return {}

    try:
        stage.run(work)
    except KeyboardInterrupt:
        assert stage.partial.is_dir()


def test_what_is_done_counts_as_done_and_tells_the_rate(declare: Declare, tmp_path: Path) -> None:
    file, folder = declare(), tmp_path / "out"
    before = facts_of(file, folder)
    cot, code = grid_of(load_study(file), folder).works[1:]
    assert cot.train is not None
    assert code.train is not None
    steps = [one["steps"] for one in before["trainings"]]
    first = {"step": 0, "seconds": 9.0}  # a loss before training is no step
    rows = [first, *({"step": n, "seconds": 2.0} for n in range(1, steps[0] + 1))]
    leave(cot.train, "metrics.jsonl", rows, done=True)
    leave(code.train, "metrics.jsonl", rows[: 1 + steps[1] // 2], done=False)
    answer = {"seconds": 36.0, "prompt_tokens": 5, "new_tokens": 2}
    answers = [{"item": f"gsm/{n}", **answer} for n in range(10)]
    leave(cot.evals["gsm:cot"][1], "samples.jsonl", answers, done=True)
    leave(code.evals["gsm:cot"][1], "samples.jsonl", answers[:5], done=False)
    facts = facts_of(file, folder)
    done, half = facts["trainings"]
    assert (done["state"], done["left"]["hours"]) == ("done", 0)
    assert done["spent"]["hours"] == pytest.approx(2 * steps[0] / 3600, rel=0.01)
    assert half["rate_by"] == "measured in 1 trainings"
    assert half["tokens_per_second"] == pytest.approx(done["tokens"] / steps[0] / 2, rel=0.01)
    left = half["hours"] * (1 - (steps[1] // 2) / steps[1])
    assert half["left"]["hours"] == pytest.approx(left, abs=1e-3)
    gsm = {one["model"]: one for one in facts["answers"] if one["benchmark"] == "gsm:cot"}
    assert gsm["random"]["rate_by"] == "measured on 15 answers"
    hours = [gsm[work.cell.name]["left"]["hours"] for work in (cot, code)]
    assert hours == [0, pytest.approx(5 * 36 / 3600, abs=1e-4)]
    assert facts["spent"]["hours"] > 15 * 36 / 3600
    assert facts["total"]["hours"] == pytest.approx(
        facts["spent"]["hours"] + facts["left"]["hours"], abs=1e-3
    )
    other = facts_of(file, folder, hardware="h100-80g")  # what was measured here is not its rate
    assert other["trainings"][1]["rate_by"] == "planned"


def test_a_large_model_without_weights_will_not_fit(
    declare: Declare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bases = [{"name": "llama", "model": "huggyllama/llama-7b"}]
    budget = {"dollars": 0.01, "gpu_hours": 9999, "price_per_gpu_hour": 3}
    file = declare(bases=bases, train={"max_seq_length": 512}, budget=budget)
    facts = facts_of(file, tmp_path / "out", hardware="rtx4090")
    row = facts["trainings"][0]
    assert not row["fits"]
    assert row["memory_gib"] > HARDWARE["rtx4090"].memory / GIB
    assert facts["total"]["dollars"] == pytest.approx(3 * facts["total"]["gpu_hours"], rel=0.01)
    show_plan(facts)
    said = capsys.readouterr()
    assert "will not fit; do this: LoRA" in said.err
    assert "llama--cot--s42 and 1 others" in said.err
    assert "budget.dollars is exceeded by $" in said.out
    assert "gpu_hours is exceeded" not in said.out
    fits = facts_of(file, tmp_path / "out", hardware="h100-80g", ranks=8, price=1.0)
    assert fits["trainings"][0]["fits"]
    assert fits["trainings"][0]["gpu_hours"] == pytest.approx(
        8 * fits["trainings"][0]["hours"], rel=0.05
    )
    assert fits["machine"]["price_per_gpu_hour"] == 1.0


def test_comparisons_are_told_with_what_halves_them(declare: Declare, tmp_path: Path) -> None:
    facts = facts_of(declare(), tmp_path / "out")
    found = {(one["comparison"], one["benchmark"]): one for one in facts["comparisons"]}
    kinds = ["a tuned model against its base", "two tuned models"]
    kinds += ["the effect of cot", "the effect of code_alpaca"]
    assert [name for name, label in found if label == "gsm:cot"] == kinds
    base = found[kinds[0], "gsm:cot"]
    assert (base["of"], base["family"], base["items"], base["seeds"]) == (2, 4, 10, 1)
    assert base["corrected"] > base["smallest"] == facts["benchmarks"][1]["smallest_difference"]
    assert "the benchmark has only 10 items" in base["halve"]
    same = [{"name": n, "parts": [{"source": "cot"}]} for n in ("one", "two")]
    lone = facts_of(declare(mixtures=same[:1], design=None), tmp_path / "lone")
    assert {one["comparison"] for one in lone["comparisons"]} == {kinds[0], kinds[2]}


def test_prompts_that_begin_alike_are_computed_once() -> None:
    prompts = ["same beginning, " * 20 + end for end in ("a", "b", "c", "d")]
    asked = [Request(key=p, prompt=p, max_new_tokens=1000, samples=2) for p in prompts]
    tokens = tokens_of(asked, None)
    assert tokens.prompt == 4 * (len(prompts[0]) // 4)
    assert tokens.own == pytest.approx(tokens.prompt / 4, rel=0.02)
    assert (tokens.outputs, tokens.new, tokens.most) == (8, 8 * LIKELY, 8000)
    cpu = HARDWARE["cpu"]
    whole = seconds(tokens, 10**9, True, 64, cpu)
    rate = cpu.flops * cpu.efficiency
    reading = 2 * 10**9 / cpu.bandwidth / 8  # eight texts are written while the weights pass once
    assert whole == pytest.approx(2e9 * tokens.own / rate + tokens.new * reading, rel=1e-6)
    letters = [Request(key=p, prompt=p, choices=("A", "B")) for p in prompts]
    assert tokens_of(letters, None).new == 0
