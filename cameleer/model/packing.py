"""Whether a model can take rows of several documents, told by trying it once after loading."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cameleer.core.errors import UserError
from cameleer.model.attention import NAME, Documents, positions

LENGTHS = [5, 11]  # tokens of the two documents that are tried
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # of the logits' spread


def room(model: Any) -> int | None:
    """Most tokens that one document may have: places for positions, and the attention's window.

    A window that is longer than every document changes nothing; a shorter one we do not have.
    """
    names = ("max_position_embeddings", "sliding_window")
    known = [getattr(model.config, name, None) for name in names]
    return min((most for most in known if most is not None), default=None)


def require_packing(model: Any) -> None:
    """Check that two documents in one row give the logits that each gives alone.

    Alone they go through the model's own attention (`eager`). A model that does not hand positions
    or the layout on, that mixes tokens otherwise than by attention, or whose attention has
    something that ours lacks, would be wrong without a word; here it raises UserError.
    """
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (1, sum(LENGTHS)), generator=draw)
    ids = ids.to(model.device)
    try:
        difference = _difference(model, ids)
    except Exception as error:  # whatever a model's code says to arguments that it does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _unsupported(model, reason) from None
    if not difference < TOLERANCE.get(model.dtype, 0.1):
        raise _unsupported(model, f"two documents in a row are off by {difference:.2g}")


@torch.no_grad()
def _difference(model: Any, ids: Tensor) -> float:
    """Root mean square of the logits' difference, as a share of their standard deviation."""
    at = positions(LENGTHS).to(ids.device)
    layout = Documents(LENGTHS)
    packed = model(input_ids=ids, position_ids=at, use_cache=False, layout=layout).logits[0]
    model.set_attn_implementation("eager")
    try:
        parts = torch.split(ids, LENGTHS, dim=1)
        alone = [model(input_ids=part, use_cache=False).logits[0] for part in parts]
    finally:
        model.set_attn_implementation(NAME)
    wanted = torch.cat(alone).float()
    return float((packed.float() - wanted).square().mean().sqrt() / wanted.std())


def _unsupported(model: Any, reason: str) -> UserError:
    return UserError(
        f"packing is not supported for models of type '{model.config.model_type}': {reason}",
        hint="Llama, Mistral, Qwen2, GPT-NeoX (Pythia), OPT and GPT-2 are known to work",
    )
