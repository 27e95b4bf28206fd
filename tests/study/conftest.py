"""A study small enough to run in seconds: a random model, four models to judge, two benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Declare = Callable[..., Path]


@pytest.fixture(scope="session")
def random_model(tiny_model: Declare) -> Path:
    """The Hugging Face folder of a random model with room for few-shot prompts, byte by byte."""
    return tiny_model("llama", hidden_size=32, num_attention_heads=2, max_position_embeddings=4096)


@pytest.fixture
def declare(random_model: Path, tmp_path: Path) -> Declare:
    """Writes study.yaml: the small study, with some of its fields changed."""

    def write(**changes: Any) -> Path:
        study = {
            "name": "small",
            "miniature": {
                "cot": 60,
                "code_alpaca": 40,
                "stanford_alpaca": 8,
                "sharegpt": 4,
                "gsm": 10,
                "codex_humaneval": 4,
                "mmlu_per_subject": 4,
            },
            "bases": [{"name": "random", "model": str(random_model)}],
            "mixtures": [
                {"name": "cot", "parts": [{"source": "cot"}]},
                {"name": "code", "parts": [{"source": "code_alpaca"}]},
            ],
            "train": {
                "max_seq_length": 256,
                "num_train_epochs": 1,
                "learning_rate": 1e-3,
                "precision": "fp32",
                "save_steps": 5,
            },
            "engine": {"precision": "fp32", "batch_size": 1},
            "benchmarks": ["mmlu:0-shot", {"benchmark": "gsm:cot", "max_new_tokens": 24}],
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**study, **changes}, sort_keys=False))
        return path

    return write
