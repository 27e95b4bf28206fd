"""Whether a model can take rows of several documents, told by trying it once after loading."""

from __future__ import annotations

from math import isnan
from typing import Any

import torch
from torch import Tensor

from cameleer.core.errors import UserError
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.scoring import Scoring

KNOWN = "Llama, Mistral, Qwen, Gemma, OLMo, GPT-NeoX (Pythia), OPT, GPT-2 and Phi-3"
LENGTHS = [5, 11]  # tokens of the two documents that are tried
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # of the logits' spread


def room(model: Any) -> int | None:
    """Most tokens that one document may have: the model's places for positions."""
    most: int | None = getattr(model.config, "max_position_embeddings", None)
    return most


def require_vocabulary(model: Any, tokenizer: Any, highest: int) -> None:
    """Check that the model has an embedding for the `highest` token id that it will be given.

    A tokenizer may know more tokens than the model, such as LLaMA's with a padding token added to
    it, as long as no text holds them; and a model may have more embeddings than there are tokens.
    """
    known = model.get_input_embeddings().num_embeddings
    if highest >= known:
        name = tokenizer.convert_ids_to_tokens(highest)
        raise UserError(
            f"the tokenizer gives token {highest}, {name!r}, the model knows {known} tokens",
            field="model",
            hint="take the model's own tokenizer, or resize the model's embeddings to "
            f"{len(tokenizer)} with transformers' `resize_token_embeddings` and save it",
        )


def require_packing(model: Any) -> None:
    """Check that two documents in one row give the logits that each gives alone.

    Alone they go through the model's own attention (`eager`). A model that does not hand positions
    or the layout on, that mixes tokens otherwise than by attention, or whose attention has
    something that ours lacks, would be wrong without a word; here it raises UserError.
    """
    draw = torch.Generator().manual_seed(0)
    known = model.get_input_embeddings().num_embeddings
    ids = torch.randint(known, (1, sum(LENGTHS)), generator=draw)
    ids = ids.to(model.device)
    layout = _Trial(LENGTHS)
    try:
        difference = _difference(model, ids, layout)
    except Exception as error:  # whatever a model's code says to arguments that it does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _unsupported(model, reason) from None
    if isnan(difference):
        raise _not_numbers(model)
    if not difference < TOLERANCE.get(model.dtype, 0.1):
        raise _unsupported(model, f"two documents in a row are off by {difference:.2g}")
    # The trial is too short for a window to matter, so what layers asked for must tell.
    window = _window(model.config)
    if window is not None and not layout.windows:
        raise _unsupported(model, f"no layer asks for the window of {window} that it has")


class _Trial(Documents):
    """Documents that note the windows which layers ask for."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__(lengths)
        self.longest = 1 << 62  # no window is too long to be asked for
        self.windows: set[int] = set()

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        if how.window is not None:
            self.windows.add(how.window)
        return super().attend(layer, q, k, v, how)


def _window(config: Any) -> int | None:
    """How far back some layers see, where that is less than the model has positions."""
    known = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    window = min((size for size in known if size is not None), default=None)
    most = getattr(config, "max_position_embeddings", None)
    return None if window is None or (most is not None and window >= most) else window


@torch.no_grad()
def _difference(model: Any, ids: Tensor, layout: Documents) -> float:
    """Root mean square of the logits' difference, as a share of their standard deviation."""
    at = positions(LENGTHS).to(ids.device)
    packed = model(input_ids=ids, position_ids=at, use_cache=False, layout=layout).logits[0]
    model.set_attn_implementation("eager")
    try:
        parts = torch.split(ids, LENGTHS, dim=1)
        alone = [model(input_ids=part, use_cache=False).logits[0] for part in parts]
    finally:
        model.set_attn_implementation(NAME)
    wanted = torch.cat(alone).float()
    return float((packed.float() - wanted).square().mean().sqrt() / wanted.std())


@torch.no_grad()
def _not_numbers(model: Any) -> UserError:
    """The error for logits that are not numbers; looks for the weight that they come from.

    Looking at every weight of every model would cost more than loading it does (dev/LOG.md).
    """
    folder = model.config.name_or_path or None
    for name, weight in model.named_parameters():
        own = weight.to_local() if hasattr(weight, "to_local") else weight
        if own.is_floating_point() and not own.isfinite().all():
            wrong = int((~own.isfinite()).sum())
            text = f"{wrong} of {own.numel()} numbers in the weight '{name}' are infinite or none"
            return UserError(text, file=folder, hint="the model is damaged: fetch it again")
    text = f"the model's logits are not numbers in {model.dtype}"
    return UserError(text, file=folder, hint="try another precision")


def _unsupported(model: Any, reason: str) -> UserError:
    return UserError(
        f"packing is not supported for models of type '{model.config.model_type}': {reason}",
        hint=f"known to work: {KNOWN}",
    )
