"""Plans: their arithmetic beside sums of our own, what they advise, what the command prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main
from cameleer.core.errors import UserError
from cameleer.model.adapters import LoraSpec
from cameleer.model.load import load_tokenizer
from cameleer.train.config import TrainConfig
from cameleer.train.hardware import GIB, HARDWARE, hardware_named, here, memory_of_this_machine
from cameleer.train.loop import train
from cameleer.train.plan import Planner, model_config, planner
from cameleer.train.plan_memory import Way
from cameleer.train.workload import workload, workload_of

WEIGHTS = 6_738_415_616  # of LLaMA 7B
H100 = HARDWARE["h100-80g"]


@pytest.fixture(scope="module")
def llama() -> Planner:
    """LLaMA 7B on an H100, as the paper trains it."""
    config = TrainConfig(model="huggyllama/llama-7b", data=Path("not/here"), train_batch_rows=128)
    return planner(config, H100, 1e6)


def other(plan: Planner, hardware: str = "h100-80g", **changes: Any) -> Planner:
    """The same model with other settings; what was found out about it is kept."""
    made = copy(plan)
    made.config = plan.config.model_copy(update=changes)
    made.hardware = HARDWARE[hardware]
    return made


def test_sixteen_bytes_a_weight(llama: Planner) -> None:
    memory = llama.as_configured().memory
    assert memory.weights == memory.gradients == 2 * WEIGHTS
    assert memory.masters == 4 * WEIGHTS
    assert memory.moments == 8 * WEIGHTS
    assert not llama.as_configured().fits


def test_ranks_share_all_but_activations(llama: Planner) -> None:
    one, eight = (llama.option(Way(), ranks, 1, 0).memory for ranks in (1, 8))
    for part in ("weights", "masters", "moments", "gradients"):
        assert getattr(eight, part) == pytest.approx(getattr(one, part) / 8)
    assert eight.activations == pytest.approx(one.activations)
    assert eight.workspace > one.workspace  # layers that are brought together


def test_nf4_keeps_layers_in_half_a_byte(llama: Planner) -> None:
    outside = 2 * 32000 * 4096 + (2 * 32 + 1) * 4096  # embeddings, head, norms: bf16
    adapters = 32 * 64 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    scales = (1 + 4 / 256) / 64
    wanted = (WEIGHTS - outside) * (0.5 + scales) + 2 * outside + 2 * adapters
    assert llama.option(Way("qlora"), 1, 1, 0).memory.weights == pytest.approx(wanted)


def test_speed_is_arithmetic_by_the_reached_peak(llama: Planner) -> None:
    layers = WEIGHTS - 2 * 32000 * 4096 - (2 * 32 + 1) * 4096
    found = llama.option(Way(), 1, 1, 0)
    attended = 6 * 2 * 4096 * 32 * llama.work.pairs
    token = 6 * layers + 0.6 * 6 * 32000 * 4096 + attended
    update = 28 * WEIGHTS / H100.bandwidth / (128 * 2048)
    wanted = 1 / (token / (H100.flops * H100.efficiency) + update)
    assert found.tokens_per_second == pytest.approx(wanted, rel=1e-3)
    assert found.hours == pytest.approx(2e6 / wanted / 3600, rel=1e-3)
    assert found.cost == pytest.approx(2e6 / wanted / 3600 * 2.5, rel=1e-3)


def test_the_best_is_the_largest_that_fits_with_the_fewest_layers(llama: Planner) -> None:
    free = llama.best(Way("lora"), 1)
    assert free.fits
    assert free.checkpointed == 0
    assert not llama.option(Way("lora"), 1, 2 * free.rows, 0).fits
    tight = other(llama, "rtx4090").best(Way("lora"), 1)
    assert (tight.fits, tight.rows) == (True, 1)
    assert 0 < tight.checkpointed < 32


def test_more_layers_checkpointed_hold_less_and_take_longer(llama: Planner) -> None:
    some = [llama.option(Way("lora"), 1, 1, layers) for layers in (0, 8, 16, 31)]
    memory = [option.memory.total for option in some]
    speeds = [option.tokens_per_second for option in some]
    assert memory == sorted(memory, reverse=True)
    assert speeds == sorted(speeds, reverse=True)


def test_the_cheapest_change_is_advised_first(llama: Planner) -> None:
    adapters: dict[str, Any] = {"lora": LoraSpec(), "gradient_checkpointing": False}
    wide = other(llama, **adapters, per_device_train_batch_size=8)
    assert wide.advice()[0] == "checkpoint all 32 layers"
    wider = other(llama, **adapters, per_device_train_batch_size=128)
    assert wider.advice()[0].startswith("micro-batches of ")
    assert llama.advice()[0] == "optim=adamw_bnb_8bit"
    assert other(llama, "rtx4090").advice()[0] == "LoRA"
    assert other(llama, lora=LoraSpec()).advice()[0] == "it fits as it is"


def test_left_to_the_planner_layers_are_checkpointed_where_needed(llama: Planner) -> None:
    auto = other(llama, "rtx4090", lora=LoraSpec()).as_configured()
    assert auto.fits
    assert auto.checkpointed > 0
    never = other(llama, "rtx4090", lora=LoraSpec(), gradient_checkpointing=False)
    assert not never.as_configured().fits


def test_paged_moments_may_leave_the_gpu(llama: Planner) -> None:
    tight = copy(llama)
    way, paged = Way(), Way(optim="paged_adamw_32bit")
    tight.hardware = replace(H100, memory=llama.option(way, 2, 1, 32).memory.total - 1)
    assert not tight.option(way, 2, 1, 32).fits
    assert tight.option(paged, 2, 1, 32).fits


def test_work_is_counted(config: Callable[..., TrainConfig]) -> None:
    given = config()
    tokenizer = load_tokenizer(given.model)
    counted = workload(given, tokenizer)
    assert counted.how == "counted"
    assert 0 < counted.supervised < 1
    assert sum(counted.row) <= given.max_seq_length
    whole = workload(given, None)
    assert whole.how.startswith("estimated")
    assert whole.tokens == given.data.stat().st_size / 4
    assert workload(given, tokenizer, 5e6).tokens == 5e6


def test_a_large_file_is_sampled(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config()
    tokenizer = load_tokenizer(given.model)
    counted = workload(given, tokenizer)
    size = given.data.stat().st_size
    monkeypatch.setattr("cameleer.train.workload.COUNTED", size - 1)
    monkeypatch.setattr("cameleer.train.workload.SAMPLED", size // 2)
    sampled = workload(given, tokenizer)
    assert sampled.how.startswith("estimated from ")
    assert sampled.tokens == pytest.approx(counted.tokens, rel=0.2)


def test_hardware() -> None:
    assert hardware_named("a100-40g").memory < hardware_named("a100-80g").memory
    assert hardware_named("h100-80g").facts()["priced"]
    with pytest.raises(UserError, match="did you mean 'h100-80g'"):
        hardware_named("h100-80gb")
    assert here().memory == memory_of_this_machine() > GIB
    assert here().flops > 1e9


def test_a_model_that_is_not_here_needs_its_configuration_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its config\.json in a folder is enough"):
        model_config("nobody/nothing")
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    found, folder = model_config(str(tmp_path))
    assert (found.hidden_size, folder) == (64, tmp_path)


def test_a_run_that_cannot_be_planned_says_so_and_goes_on(
    config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no shapes for this one")

    monkeypatch.setattr("cameleer.train.plan_memory.trace", fails)
    folder = train(config(max_steps=1), tmp_path / "run")
    assert "this run is not planned: no shapes for this one" in capsys.readouterr().err
    assert json.loads((folder / "manifest.json").read_text())["outcome"]["planned"] == {}


def test_a_run_says_what_was_planned(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    folder = train(config(max_steps=2), tmp_path / "run")
    planned = json.loads((folder / "manifest.json").read_text())["outcome"]["planned"]
    assert planned["memory_gib"] > 0
    assert planned["tokens_per_second"] > 0
    assert abs(planned["errors"]["memory"]) < 0.5  # the test's own process holds most of it


def command(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["train", "plan", *more])
    said = capsys.readouterr()
    return int(str(ended.value.code)), said.out, said.err


def test_the_command(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text(f"model: {tiny_model('llama')}\ndata: not/here\n")
    asked = (str(file), "--hardware", "rtx4090", "--gpus", "1", "--tokens", "1e6")
    code, out, err = command(capsys, *asked, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert out.count("\n") == 1
    assert [option["method"] for option in facts["options"]] == ["full", "lora", "qlora"]
    own = facts["as_configured"]
    assert own["fits"]
    assert own["memory_gib"] == pytest.approx(sum(own["memory_parts_gib"].values()), abs=0.01)
    for wrong in (("--gpus", "0"), ("--hardware", "abacus")):
        code, out, err = command(capsys, str(file), *wrong)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")


def test_the_command_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text("model: huggyllama/llama-7b\ndata: not/here\ntrain_batch_rows: 128\n")
    code, out, _ = command(capsys, str(file), "--hardware", "rtx4090", "--gpus", "1")
    assert code == 0
    assert "It will not fit; do this: LoRA" in out
    assert "give --tokens" in out


def test_a_sample_stands_for_the_whole(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    from cameleer.chat.template import template_named
    from cameleer.data.loader import tokenise

    given = config()
    tokens = tokenise(
        given.data,
        load_tokenizer(given.model),
        template_named("tulu"),
        max_tokens=256,
        on_long="cut",
        rule="fixed",
        folder=tmp_path / "tokens",
    )
    whole, tenth = workload_of(tokens, given), workload_of(tokens, given, 0.1)
    assert tenth.tokens == pytest.approx(10 * whole.tokens)
    assert tenth.rows == pytest.approx(10 * whole.rows, abs=10)
    pairs = sum(n * (n + 1) / 2 for n in tokens.lengths.tolist()) / tokens.lengths.sum()
    assert whole.pairs == pytest.approx(pairs)
