"""What a model gives for memory or time: layers computed twice, compiled code, Liger's kernels."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cameleer.core.errors import UserError

Checkpointing = Literal["auto"] | bool | int


def layers_to_checkpoint(wanted: Checkpointing, layers: int, planned: int = 0) -> int:
    """How many of `layers` are checkpointed: what is `wanted`, or, if that is `auto`, `planned`."""
    if wanted == "auto":
        return planned
    if wanted is True or wanted is False:
        return layers if wanted else 0
    if wanted > layers:
        raise UserError(
            f"the model has {layers} layers, not {wanted}", field="gradient_checkpointing"
        )
    return wanted


def decoder_layers(model: Any) -> list[nn.Module]:
    """The layers of which transformers can checkpoint each, from the embeddings to the head."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


def checkpoint_layers(model: Any, wanted: Checkpointing, planned: int = 0) -> int:
    """Have the first layers keep their input alone and be computed again on the way back.

    Gives the same bits: dropout draws the same numbers the second time. Returns how many layers.
    """
    layers = decoder_layers(model)
    count = layers_to_checkpoint(wanted, len(layers), planned)
    if wanted is True and not layers:
        raise UserError(
            f"models of type '{model.config.model_type}' have no layers that can be checkpointed",
            field="gradient_checkpointing",
        )
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=True)
    for number, layer in enumerate(layers):
        layer._gradient_checkpointing_func = again  # type: ignore[assignment]
        layer.gradient_checkpointing = number < count  # type: ignore[assignment]
    return count


def compile_layers(model: Any) -> None:
    """Have torch compile the layers, all but the attention, whose documents differ in every row.

    The layers are alike, so the code of one serves all. Raises UserError without a C++ compiler.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise UserError("torch.compile needs a C++ compiler; there is none", field="torch_compile")
    name = model.config._attn_implementation
    whole: Any = torch.compiler
    ALL_ATTENTION_FUNCTIONS.register(name, whole.disable(ALL_ATTENTION_FUNCTIONS[name]))
    for layer in decoder_layers(model):
        layer.compile(dynamic=True)


def use_liger_kernel(model: Any) -> None:
    """Put Liger's kernels for norms, rotary positions and gated MLPs into the model; no other loss.

    They need a GPU, and are there for some families only: else UserError. All models of the family
    that this process makes later have them too.
    """
    field = "use_liger_kernel"
    if not torch.cuda.is_available():
        raise UserError("Liger's kernels need a GPU; there is none", field=field)
    if not importlib.util.find_spec("liger_kernel"):
        raise UserError(
            "liger-kernel is not installed", field=field, hint="pip install 'cameleer[cuda]'"
        )
    monkey_patch: Any = importlib.import_module("liger_kernel.transformers.monkey_patch")
    if model.config.model_type not in monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise UserError(
            f"Liger has no kernels for models of type '{model.config.model_type}'", field=field
        )
    monkey_patch._apply_liger_kernel_to_instance(
        model=model, cross_entropy=False, fused_linear_cross_entropy=False
    )


def allow_tf32(allow: bool) -> None:
    """Whether a GPU's float32 products may have TF32's 10 bits of fraction; `True` needs one."""
    if allow and not torch.cuda.is_available():
        raise UserError("TF32 is a GPU's; there is none", field="tf32")
    torch.backends.cuda.matmul.fp32_precision = "tf32" if allow else "ieee"
