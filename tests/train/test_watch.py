"""Losses by source; spikes; runs that stop before a bad step, keep it, and can go on."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import read_conversations
from cameleer.core.errors import UserError
from cameleer.core.jsonl import read_jsonl
from cameleer.data.loader import Tokens
from cameleer.train import loop
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train
from cameleer.train.loss import supervised_loss
from cameleer.train.watch import ENOUGH, NOTED, DocumentLosses, Spikes

Make = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, Any]]]


def tokens(sources: list[int], names: list[str]) -> Tokens:
    nothing = np.zeros(0)
    return Tokens(
        nothing.astype(np.uint32),
        nothing.astype(np.bool_),
        nothing.astype(np.int64),
        np.array(sources, np.uint32),
        np.arange(len(sources)),
        names,
        Counter(),
    )


def test_losses_of_documents_and_sources() -> None:
    nll = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    losses = DocumentLosses.of([3, 0, 2, 1], [2, 0, 1, 2], nll)
    assert losses.sums.tolist() == [3, 0, 4, 24]
    said = losses.by_source(tokens([0, 2, 0, 2], ["a", "none", "b"]))
    assert said == {
        "loss/a": 4.0,  # document 2, and document 0 of which nothing is learned
        "supervised_tokens/a": 1,
        "loss/b": 27 / 4,
        "supervised_tokens/b": 4,
    }


def test_sources_add_up_to_the_steps_loss(
    config: Make, metrics: Metrics, tmp_path: Path, data: Path
) -> None:
    rows = metrics(train(config(), tmp_path / "run"))
    known = {one.source for one in read_conversations(data)}
    for row in rows:
        own = [name for name in known if f"loss/{name}" in row]
        counts = [row[f"supervised_tokens/{name}"] for name in own]
        total = sum(row[f"loss/{name}"] * n for name, n in zip(own, counts, strict=True))
        assert sum(counts) == row["supervised_tokens"]
        assert total / sum(counts) == pytest.approx(row["loss"], rel=1e-5)
    assert any(row.keys() >= {f"loss/{name}" for name in known} for row in rows)


def test_what_else_each_step_says(config: Make, tmp_path: Path) -> None:
    folder = train(config(), tmp_path / "run")
    rows = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
    for row in rows:
        assert 0 <= row["mfu"] < 1
        assert row["flops"] > 6 * row["tokens"]  # of each weight, at least
        assert 0 < row["memory_gib"] <= row["peak_memory_gib"] + 0.001
    left = [row["seconds_left"] for row in rows]
    assert left[-1] == 0 < left[0]
    facts = json.loads((folder / "manifest.json").read_text())["outcome"]
    assert facts["spikes"] == 0


# ---- spikes


def spikes_after(rows: list[tuple[float, float, int]]) -> Spikes:
    spikes = Spikes()
    for row in rows:
        spikes.add(*row)
    return spikes


def usual(count: int) -> list[tuple[float, float, int]]:
    return [(2 + 0.2 * (-1) ** n, 1 + 0.1 * (-1) ** n, 1000) for n in range(count)]


def test_a_spike_is_told_in_standard_deviations_of_the_lesser() -> None:
    spikes = spikes_after(usual(40))
    assert spikes.height(2 + 0.2 * 7, 1 + 0.1 * 9, 1000) == pytest.approx(7)
    assert spikes.height(2 + 0.2 * 9, 1 + 0.1 * 6, 1000) == pytest.approx(6)
    assert spikes.height(9.0, 1.0, 1000) == pytest.approx(0)  # hard conversations, no more
    assert spikes.height(2.0, 9.0, 1000) == pytest.approx(0)


def test_few_tokens_vary_more() -> None:
    spikes = spikes_after(usual(40))
    assert spikes.height(4.0, 2.0, 250) == pytest.approx(spikes.height(4.0, 2.0, 1000) / 2)
    assert spikes.height(4.0, 2.0, 9000) == spikes.height(4.0, 2.0, 1000)


def test_few_steps_tell_nothing() -> None:
    assert spikes_after(usual(ENOUGH - 1)).height(99.0, 99.0, 1000) == 0
    assert spikes_after(usual(ENOUGH)).height(99.0, 99.0, 1000) > NOTED


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.02))
def test_noise_that_falls_is_no_spike(seed: int, slope: float) -> None:
    """Losses as training has them: normal, falling or level, norms log-normal, apart."""
    draw, spikes = np.random.default_rng(seed), Spikes()
    for step in range(120):
        row = (
            3 * math.exp(-slope * step) + draw.normal(0, 0.2),
            float(draw.lognormal(0, 0.3)),
            int(draw.integers(200, 2000)),
        )
        assert spikes.height(*row) < NOTED
        spikes.add(*row)


# ---- runs that stop


def spoilt(
    monkeypatch: pytest.MonkeyPatch, step: int, spoil: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Spoil the loss and what it is made of at a step, counted from 1."""
    real_step, real_loss, now = loop.Run.one_step, supervised_loss, [0]

    def one_step(run: Any, number: int, *given: Any, **more: Any) -> Any:
        now[0] = number + 1
        return real_step(run, number, *given, **more)

    def loss(*given: Any, **more: Any) -> Any:
        total, nll = real_loss(*given, **more)
        return (spoil(total), spoil(nll)) if now[0] == step else (total, nll)

    monkeypatch.setattr(loop.Run, "one_step", one_step)
    monkeypatch.setattr(loop, "supervised_loss", loss)


@pytest.mark.parametrize("step", [1, 6])
def test_no_number_stops_before_the_weights_take_it_up(
    step: int, config: Make, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    unbroken = train(config(), tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        spoilt(patch, step, lambda loss: loss * float("nan"))
        with pytest.raises(UserError, match=f"not a number at step {step}, which was") as caught:
            train(config(), tmp_path / "run")
    kept = tmp_path / "run.stopped" / f"step-{step}"
    assert str(kept) in str(caught.value)
    before = [row for _, row in read_jsonl(kept / "metrics.jsonl")]
    assert [row["step"] for row in before] == list(range(1, step))
    assert json.loads((kept / "step.json").read_text())["step"] == step
    capsys.readouterr()
    train(config(), tmp_path / "run")  # once the cause is gone
    said = f"resuming after step {step - 1} of 12" in capsys.readouterr().err
    assert said == (step > 1)
    weights = [tmp_path / run / "model.safetensors" for run in ("run", "unbroken")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert unbroken.exists()


def test_what_is_kept_is_what_the_step_learned_from(
    config: Make, tmp_path: Path, data: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cameleer.chat.render import render
    from cameleer.chat.template import template_named

    with monkeypatch.context() as patch:
        spoilt(patch, 2, lambda loss: loss * float("inf"))
        with pytest.raises(UserError):
            train(config(), tmp_path / "run")
    file = tmp_path / "run.stopped" / "step-2" / "conversations.jsonl"
    from typer.testing import CliRunner

    from cameleer.cli.data import app

    shown = CliRunner().invoke(app, ["show", str(file), "--tokenizer", config().model])
    assert shown.exit_code == 0
    assert "camel" in shown.output
    known = {one.id: one for one in read_conversations(data)}
    rows = [row for _, row in read_jsonl(file)]
    assert {row["id"] for row in rows} < known.keys()
    rendered = render(read_conversations(file), tiny_tokenizer, template_named("tulu"))
    for row, one, made in zip(rows, read_conversations(file), rendered, strict=True):
        assert one == known[row["id"]]
        assert (row["input_ids"], row["supervised"]) == (made.ids, made.supervised)
        assert row["supervised_tokens"] == sum(made.supervised)
        assert row["loss"] is None


def test_a_spike_is_noted_or_stops_the_run(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spoilt(monkeypatch, 12, lambda loss: loss * 99)
    with pytest.raises(UserError, match="spike at step 12, which was not taken") as caught:
        train(config(stop_on_spike=6), tmp_path / "run")
    assert "stop_on_spike to null" in str(caught.value)
    kept = tmp_path / "run.stopped" / "step-12" / "conversations.jsonl"
    losses = [row["loss"] for _, row in read_jsonl(kept)]
    assert losses == sorted(losses, reverse=True)
    capsys.readouterr()
    for name in ("run", "other"):
        train(config(), tmp_path / name)  # the first goes on from there
        assert "spike at step 12" in capsys.readouterr().err
        facts = json.loads((tmp_path / name / "manifest.json").read_text())["outcome"]
        assert facts["spikes"] == 1
        last = [row for _, row in read_jsonl(tmp_path / name / "metrics.jsonl")][-1]
        assert last["spike"] > NOTED
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "other")]
    assert weights[0] == weights[1]
