"""LoRA: low-rank adapters on a frozen model, by peft, and folding them into the weights again."""

from __future__ import annotations

from typing import Any

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.model.load import quiet


class LoraSpec(Config):
    """LoRA as peft names it; defaults: the paper's later script (arXiv 2306.04751 code, 2023-11).

    target_modules: names of the layers to adapt, or `all-linear`.
    """

    r: int = 64
    lora_alpha: int = 16
    lora_dropout: float = 0.1
    target_modules: str | list[str] = "all-linear"


def add_lora(model: Any, spec: LoraSpec) -> Any:
    """The model with adapters, which alone can be trained; adapters are float32."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", bias="none", **spec.model_dump())
    try:
        with quiet():
            return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(str(error).splitlines()[0], field="lora.target_modules") from None


def merged(model: Any) -> Any:
    """The plain model with the adapters folded into its weights."""
    return model.merge_and_unload()
