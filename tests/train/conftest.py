"""A small fine-tuning run: a tiny model, conversations of a few tokens, a dozen steps."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.files import write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.train.config import TrainConfig

WORDS = ["where", "does", "the", "camel", "live", "in", "desert", "is", "little", "water", "and"]


def conversation(number: int) -> dict[str, Any]:
    """Two or four turns whose lengths differ from one to the next."""
    turns = []
    for turn in range(2 * (1 + number % 2)):
        said = [WORDS[(number * 5 + turn * 3 + n) % len(WORDS)] for n in range(1 + number % 7)]
        turns.append({"role": ("user", "assistant")[turn % 2], "content": " ".join(said)})
    return {"id": f"c{number}", "source": ("a", "b")[number % 3 == 0], "messages": turns}


@pytest.fixture(scope="module")
def workers() -> Any:
    """Starts processes that have everything imported, so that each takes a moment only."""
    context = multiprocessing.get_context("forkserver")
    slow = ["transformers.models.llama.modeling_llama", "torch._inductor.compile_fx"]
    context.set_forkserver_preload(["cameleer.train.loop", *slow])  # bitsandbytes wants the last
    return context


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty conversations."""
    path = tmp_path_factory.mktemp("data") / "conversations.jsonl"
    write_jsonl(path, (conversation(number) for number in range(40)))
    return path


@pytest.fixture
def config(tiny_model: Callable[[str], Path], data: Path) -> Callable[..., TrainConfig]:
    """Makes the configuration of a run of twelve steps, with changes."""

    def make(model: str = "llama", **changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "model": str(tiny_model(model)),
            "data": data,
            "max_seq_length": 256,
            "num_train_epochs": 3,
            "max_steps": 12,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3,
            "warmup_ratio": 0.25,
            "precision": "fp32",
        }
        return TrainConfig(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def metrics() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads metrics.jsonl of a folder, less what the clock decides."""
    clock = {"seconds", "tokens_per_second", "memory_gib", "peak_memory_gib"}
    ignored = clock | {"mfu", "seconds_left"}  # which may be 0

    def read(folder: Path) -> list[dict[str, Any]]:
        rows = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
        assert all(row[key] > 0 for row in rows for key in clock)
        return [{key: row[key] for key in row if key not in ignored} for row in rows]

    return read
