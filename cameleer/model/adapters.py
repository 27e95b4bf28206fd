"""LoRA: low-rank adapters on a frozen model, by peft; QLoRA: on one in 4 bits, by bitsandbytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_json
from cameleer.model.bnb import bitsandbytes
from cameleer.model.load import load_model, quiet

if TYPE_CHECKING:
    import torch

ADAPTER, ADAPTER_CONFIG = "adapter", "adapter_config.json"
"""The folder of a run's adapters, beside the model they are folded into, and peft's file in it."""


class LoraSpec(Config):
    """LoRA as peft names it; defaults: the paper's later script (arXiv 2306.04751 code, 2023-11).

    target_modules: names of the layers to adapt, or `all-linear`. use_rslora: adapters weigh
    alpha / sqrt(r) instead of alpha / r (arXiv 2312.03732).
    """

    r: int = Field(default=64, gt=0)
    lora_alpha: int = Field(default=16, gt=0)
    lora_dropout: float = Field(default=0.1, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"
    use_rslora: bool = False


def add_lora(model: Any, spec: LoraSpec) -> Any:
    """The model with adapters, which alone can be trained; they compute in the model's own dtype.

    peft would make them float32, and with them a third of the time of a step in bf16. Small updates
    are not lost: the optimizer keeps float32 masters of adapters as of other weights.
    """
    bitsandbytes()  # before peft imports it
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    dtype = model.get_input_embeddings().weight.dtype
    config = LoraConfig(task_type="CAUSAL_LM", bias="none", **spec.model_dump())
    try:
        with quiet():
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(str(error).splitlines()[0], field="lora.target_modules") from None
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if model.config.tie_word_embeddings and any(isinstance(end, LoraLayer) for end in ends):
        raise UserError(
            "the model's head is its embeddings: an adapter on one would part them",
            field="lora.target_modules",
        )
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # on a base of 4 bits peft leaves them float32
            parameter.data = parameter.data.to(dtype)
    return adapted


def dropped(model: Any) -> int:
    """Numbers of a token that a model's adapters drop at random on their way forward."""
    from peft.tuners.lora import LoraLayer

    return sum(
        module.in_features
        for module in model.modules()
        if isinstance(module, LoraLayer)
        for dropout in module.lora_dropout.values()
        if getattr(dropout, "p", 0)
    )


def make_portable(folder: Path, base: str) -> None:
    """Have the files of saved adapters call their base as others can, and be the same each time.

    peft writes where the base lay on this machine, which says nothing to others and too much of
    us; its README.md is a blank form but for that. It names the adapted layers in chance order.
    """
    file = folder / ADAPTER_CONFIG
    said = read_json(file)
    layers = said["target_modules"]
    said["target_modules"] = sorted(layers) if isinstance(layers, list) else layers
    write_json(file, said | {"base_model_name_or_path": base})
    (folder / "README.md").unlink(missing_ok=True)


def load_nf4(
    folder: Path,
    dtype: torch.dtype,
    attention: str | None,
    device: torch.device,
    *,
    to_be_cut: bool = False,
) -> Any:
    """`load_model` with the matrices of its layers in 4-bit NormalFloat, scales in 8 bits (QLoRA).

    They are quantised one by one while they are read, so that the model never lies there whole. The
    head, embeddings and norms stay in `dtype`, in which products are computed too; that norms and
    head should be float32, as peft's own preparation has it, is not seen in the loss (dev/LOG.md).
    to_be_cut: packed numbers call themselves `dtype`, as only floats can be cut over ranks.
    Raises UserError without bitsandbytes.
    """
    library = bitsandbytes()
    if library is None:
        raise UserError(
            "4-bit weights need bitsandbytes, which is not installed",
            field="quantization",
            hint="pip install 'cameleer[qlora]'",
        )
    from transformers import BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if to_be_cut else None,
    )
    model = load_model(folder, dtype, attention, quantization=nf4, device=device)
    for module in model.modules():
        if isinstance(module, library.nn.Linear4bit):
            # A pass without gradients would repack weights for inference, for which there is no
            # backward pass: no gradient would flow any more, without a word.
            module.support_avx512bf16_for_cpu = False
    return model
