"""Local models, on one GPU or the CPU: what prompts begin with alike is computed once.

MODEL is a folder, a hub id, or `embedded:NAME`. In float32 greedy answers do not depend on what
else is asked; in bf16 they may, by rounding, so `batch_size` is a part of their identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from cameleer.core.config import Config
from cameleer.model.load import Precision, model_fingerprint, model_folder

if TYPE_CHECKING:
    from cameleer.engines.transformers import TransformersEngine

BATCH = 64  # sequences side by side: more gain little on a CPU (dev/LOG.md)


class Options(Config):
    """precision: what is computed in, auto takes the fastest; batch_size: most sequences that are
    generated at a time."""

    precision: Precision = "auto"
    batch_size: PositiveInt = BATCH


def fingerprint(model: str) -> str:
    """What tells the model from every other, see `model_fingerprint`."""
    return model_fingerprint(model_folder(model))


def make(model: str, options: Options, identity: dict[str, Any]) -> TransformersEngine:
    """The engine for MODEL, loaded."""
    from cameleer.engines.transformers import TransformersEngine

    return TransformersEngine(model_folder(model), identity, **options.model_dump())
