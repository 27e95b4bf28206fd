"""The model of a run as its first step meets it: loaded or sharded, adapted, checked, set up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cameleer.core.errors import UserError
from cameleer.data.loader import Tokens
from cameleer.model.adapters import add_lora, load_nf4
from cameleer.model.attention import NAME as ATTENTION
from cameleer.model.dropout import quick_dropout
from cameleer.model.load import load_model
from cameleer.model.memory import (
    allow_tf32,
    checkpoint_layers,
    compile_layers,
    use_liger_kernel,
)
from cameleer.model.norm import lean_norms
from cameleer.model.packing import require_packing, require_vocabulary, room
from cameleer.model.sharded import adapters_kept, empty_model, read_weights
from cameleer.train.config import TrainConfig
from cameleer.train.gather import require_foldable
from cameleer.train.loss import head_in_chunks
from cameleer.train.parallel import Ranks


def model_to_train(
    config: TrainConfig,
    base: Path,
    device: torch.device,
    dtype: torch.dtype,
    ranks: Ranks,
    checkpointed: int,
) -> Any:
    """The model, with its adapters if any; on many ranks each reads its own part.

    checkpointed: layers that the plan works out twice to save memory.
    """
    alone = ranks.world == 1
    torch.manual_seed(config.seed)  # adapters start from random numbers
    allow_tf32(config.tf32)
    if config.quantization:
        model = load_nf4(base, dtype, ATTENTION, device, to_be_cut=not alone)
    elif alone:
        model = load_model(base, dtype, ATTENTION).to(device)
    else:
        model = empty_model(base, dtype, ATTENTION)
    if config.use_liger_kernel:
        use_liger_kernel(model)
    else:
        lean_norms(model)
    if alone:
        require_packing(model)
    if config.lora:
        with adapters_kept():
            model = add_lora(model, config.lora)
    if device.type == "cpu":
        quick_dropout(model)
    if not alone:
        require_foldable(model, config.lora is not None)
        ranks.shard(model)
        read_weights(model, base, device)
        require_packing(model)
    head_in_chunks(model)
    ranks.let_go(model)
    checkpoint_layers(model, config.gradient_checkpointing, checkpointed)
    if config.torch_compile:
        compile_layers(model)
    return model.train()


def end_as_learned(model: Any, tokenizer: Any) -> None:
    """Have whoever generates with the checkpoint stop at the end token that is trained on.

    A base's own generation settings may name others only, and generation would never end.
    """
    settings, learned = model.generation_config, tokenizer.eos_token_id
    known = settings.eos_token_id
    known = known if isinstance(known, list) else [known] if known is not None else []
    if learned not in known:
        settings.eos_token_id = [learned, *known] if known else learned


def require_room(model: Any, tokenizer: Any, all_tokens: Sequence[Tokens]) -> None:
    """UserError if a conversation is longer than the model can be, or has a token it lacks."""
    most = room(model)
    longest = max(int(tokens.lengths.max()) for tokens in all_tokens)
    if most is not None and longest > most:
        raise UserError(
            f"a conversation has {longest} tokens, the model has room for {most}",
            field="max_seq_length",
            hint=f"set it to {most} at most",
        )
    require_vocabulary(model, tokenizer, max(int(tokens.ids.max()) for tokens in all_tokens))
