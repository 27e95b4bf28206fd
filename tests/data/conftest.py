"""The embedded model's tokenizer, for tests of data."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest


@cache
def _load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def tokenizer(embedded_model: Path) -> Any:
    return _load(embedded_model)
