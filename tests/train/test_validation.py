"""Validation: the right losses of the right conversations, none of which is trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from cameleer.chat.conversation import read_conversations
from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.data.loader import Tokens
from cameleer.model.adapters import LoraSpec
from cameleer.model.load import load_model
from cameleer.train import loop
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train
from cameleer.train.trackers import MetricsLog
from cameleer.train.validation import by_source, token_mean
from cameleer.train.watch import Watch
from tests.killing import killed_at

Make = Callable[..., TrainConfig]
HELD = {"validation_conversations": 5, "eval_steps": 5}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Sixty conversations of two sources, no two of which open alike."""
    path = tmp_path / "many.jsonl"
    rows = [
        {
            "id": f"c{n}",
            "source": "ab"[n % 3 == 0],
            "messages": [
                {"role": "user", "content": f"Where is camel {n}?"},
                {"role": "assistant", "content": "In the desert, of course. " * (1 + n % 4)},
            ],
        }
        for n in range(60)
    ]
    write_jsonl(path, rows)
    return path


def lines(folder: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(folder / "metrics.jsonl")]


def tried(folder: Path) -> dict[int, dict[str, Any]]:
    return {row["step"]: row["validation"] for row in lines(folder) if "validation" in row}


def outcome(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["outcome"]
    return facts


def alone(model: Path, data: Path, ids: set[str], tokenizer: Any) -> dict[str, tuple[float, int]]:
    """Sum of -log p of each conversation on its own, by transformers' attention; and its tokens."""
    lm = load_model(model, torch.float32, "eager")
    found = {}
    chosen = [one for one in read_conversations(data) if one.id in ids]
    for item in render(chosen, tokenizer, template_named("tulu")):
        mask = torch.tensor(item.supervised[1:], dtype=torch.bool)
        with torch.no_grad():
            logits = lm(input_ids=torch.tensor([item.ids])).logits[0, :-1]
        wanted = torch.tensor(item.ids[1:])[mask]
        total = F.cross_entropy(logits[mask], wanted, reduction="sum").item()
        found[item.id] = (total, int(mask.sum()))
    return found


def test_before_and_after_are_the_losses_of_the_base_and_of_the_checkpoint(
    config: Make, many: Path, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    made = config(data=many, **HELD)
    folder = train(made, tmp_path / "run")
    assert list(tried(folder)) == [0, 5, 10, 12]
    rows = [row for _, row in read_jsonl(folder / "validation.jsonl")]
    ids = {row["id"] for row in rows}
    assert len(ids) == 10
    for step, model in ((0, Path(made.model)), (12, folder)):
        wanted = alone(model, many, ids, tiny_tokenizer)
        own = {row["id"]: row for row in rows if row["step"] == step}
        assert own.keys() == wanted.keys()
        for identity, (total, count) in wanted.items():
            assert own[identity]["supervised_tokens"] == count
            assert own[identity]["loss"] == pytest.approx(total / count, rel=1e-4)
        said = tried(folder)[step]
        all_tokens = sum(count for _, count in wanted.values())
        mean = sum(total for total, _ in wanted.values()) / all_tokens
        assert said["loss"] == pytest.approx(mean, rel=1e-4)
        assert said["perplexity"] == pytest.approx(math.exp(mean), rel=1e-3)
        assert said["sources"].keys() == {"a", "b"}
        for source, facts in said["sources"].items():
            part = [wanted[one] for one in wanted if own[one]["source"] == source]
            total, count = map(sum, zip(*part, strict=True))
            assert facts["loss"] == pytest.approx(total / count, rel=1e-4)
            assert facts["low"] < facts["loss"] < facts["high"]
    facts = outcome(folder)["validation"]
    assert facts["before"]["loss"] == pytest.approx(tried(folder)[0]["loss"])
    assert facts["after"]["loss"] == pytest.approx(tried(folder)[12]["loss"])
    assert facts["change"]["loss"] == pytest.approx(
        tried(folder)[12]["loss"] - tried(folder)[0]["loss"]
    )
    assert facts["change"]["high"] < 0  # it has learned something


def test_what_is_held_out_is_not_trained_on(
    config: Make, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    seen: list[Tokens] = []
    real = Watch

    def watch(tokens: Tokens, *given: Any) -> Any:
        seen.append(tokens)
        return real(tokens, *given)

    monkeypatch.setattr(loop, "Watch", watch)
    folder = train(config(data=many, validation_fraction=0.1), tmp_path / "run")
    assert "of 60 conversations 6 held out for validation" in capsys.readouterr().err
    assert len(seen[0].lengths) == outcome(folder)["conversations"] == 54


def test_without_validation_nothing_changes(config: Make, many: Path, tmp_path: Path) -> None:
    """A file of one's own that shares nothing with the data leaves the training as it was."""
    own = tmp_path / "own.jsonl"
    turns = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Yes."}]
    write_jsonl(own, [{"id": str(n), "source": "own", "messages": turns} for n in range(2)])
    made = config(data=many, lora=LoraSpec(r=4, lora_dropout=0.1), max_steps=4)
    plain = train(made, tmp_path / "plain")
    other = train(
        made.model_copy(update={"validation_data": own, "eval_steps": 1}), tmp_path / "other"
    )
    weights = [(run / "model.safetensors").read_bytes() for run in (plain, other)]
    assert weights[0] == weights[1]  # neither dropout's numbers nor a gradient have changed
    assert list(tried(other)) == list(range(5))
    assert tried(plain) == {}
    assert "validation" not in outcome(plain)


@pytest.mark.parametrize("moment", [0, 7, 12])
def test_killed_and_gone_on(moment: int, config: Make, many: Path, tmp_path: Path) -> None:
    """After the losses of a step are written down, and before the step's own row is."""
    made = config(data=many, **HELD, save_steps=4)
    unbroken = train(made, tmp_path / "unbroken")
    with killed_at(MetricsLog, "append", lambda _, row: row["step"] == moment):
        train(made, tmp_path / "run")
    train(made, tmp_path / "run")
    for name in ("validation.jsonl", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (unbroken / name).read_bytes()
    assert tried(tmp_path / "run") == tried(unbroken)
    assert [row["step"] for row in lines(unbroken)] == list(range(13))
    assert [row["step"] for row in lines(tmp_path / "run")] == list(range(13))
    assert outcome(tmp_path / "run")["validation"] == outcome(unbroken)["validation"]


def test_another_split_is_another_run(config: Make, many: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(many.read_text().splitlines()[0] + "\n")
    made = config(data=many, max_steps=1, validation_data=own)
    train(made, tmp_path / "run")
    train(made, tmp_path / "run")  # is skipped
    own.write_text(many.read_text().splitlines()[1] + "\n")
    with pytest.raises(UserError, match="holds another run"):
        train(made, tmp_path / "run")
    with pytest.raises(UserError, match="holds another run"):
        train(config(data=many, max_steps=1, validation_fraction=0.1), tmp_path / "run")


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": 0.1, "validation_conversations": 3},
        {"eval_steps": 3},
        {"validation_fraction": 0.6},
    ],
)
def test_settings_that_contradict_each_other(config: Make, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**settings)


def test_the_interval_is_that_of_a_ratio_over_conversations() -> None:
    """Beside the bootstrap over conversations, which knows nothing of linearisation."""
    draw = np.random.default_rng(7)
    counts = draw.integers(5, 200, 400)
    sums = counts * draw.normal(2, 0.5, 400) + draw.normal(0, 5, 400)
    found = token_mean(sums, counts)
    again = draw.integers(0, 400, (4000, 400))
    means = sums[again].sum(1) / counts[again].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert found["loss"] == pytest.approx(sums.sum() / counts.sum())
    width = high - low
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.1 * width)
    assert token_mean(sums[:4], counts[:4])["low"] is None  # too few to tell
    assert token_mean(sums[:5], counts[:5])["low"] is not None


def test_sources_are_parted() -> None:
    found = by_source(["b", "a", "b"], np.array([2.0, 9.0, 4.0]), np.array([1, 3, 2]))
    assert found["loss"] == pytest.approx(15 / 6)
    assert {name: facts["loss"] for name, facts in found["sources"].items()} == {"a": 3, "b": 2}
    assert found["sources"]["b"]["conversations"] == 2
