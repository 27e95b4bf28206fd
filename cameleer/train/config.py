"""What can be set about a fine-tuning run; names are transformers' and TRL's where they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from cameleer.chat.render import Rule
from cameleer.core.config import Config
from cameleer.model.adapters import LoraSpec
from cameleer.model.load import Precision

Reduction = Literal["token", "conversation", "paper"]
OptimName = Literal["adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit"]
MasterWeights = Literal["fp32", "none"]


class TrainSettings(Config):
    """How to fine-tune. Defaults: the paper's for 7B and 13B (arXiv 2306.04751, Appendix D).

    max_seq_length: tokens of a packed row, and most that a conversation may have.
    on_long: what to do with a longer one: `cut` it there as the paper does, `drop` it, or `error`.
    per_device_train_batch_size: rows in a micro-batch; an optimizer step takes
    gradient_accumulation_steps micro-batches.
    rule: how the loss mask is made (see cameleer.chat.render).
    loss_reduction: what weighs the same in a step: every supervised `token`, every `conversation`,
    or, as in the `paper`'s code, every micro-batch (see cameleer.train.reduction).
    max_grad_norm: gradients are scaled down to this norm; null leaves them.
    optim: AdamW as transformers names its kinds: moments in float32, or `8bit`; `paged` moves them
    to the host's memory when a GPU's is full. weight_decay is that of matrices: biases and norms
    have none.
    master_weights: `fp32` beside bf16 ones; `none` rounds updated weights back to bf16 by chance.
    offload_optimizer: masters and moments in the host's memory, updated by its processor.
    save_precision: of the checkpoint's weights. `fp32` keeps the master weights whole; `bf16`
    halves the folder, and rounds away much of what a short run with a small rate has learned.
    stop_on_spike: stop, with the step's conversations kept, at a loss and gradient norm so many
    standard deviations above those of the 50 steps before; null only notes those above 5.
    save_minutes, save_steps: how often the state to resume from is written; resuming is exact, so
    neither changes the result.
    """

    template: str = "tulu"
    rule: Rule = "fixed"
    max_seq_length: PositiveInt = 2048
    on_long: Literal["cut", "drop", "error"] = "cut"
    num_train_epochs: PositiveInt = 2
    max_steps: PositiveInt | None = None
    per_device_train_batch_size: PositiveInt = 1
    gradient_accumulation_steps: PositiveInt = 1
    loss_reduction: Reduction = "token"
    learning_rate: float = Field(default=2e-5, gt=0)
    lr_scheduler_type: Literal["linear", "constant"] = "linear"
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float | None = 1.0
    optim: OptimName = "adamw_torch_fused"
    master_weights: MasterWeights = "fp32"
    offload_optimizer: bool = False
    precision: Precision = "auto"
    lora: LoraSpec | None = None
    save_precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 42
    stop_on_spike: float | None = Field(default=None, gt=0)
    save_minutes: float = Field(default=10.0, gt=0)
    save_steps: PositiveInt | None = None

    def deciding(self) -> dict[str, object]:
        """The settings that decide the result, as JSON values; inputs are told by fingerprint."""
        beside = {"model", "data", "save_minutes", "save_steps", "stop_on_spike"}
        return self.model_dump(mode="json", exclude=beside)


class TrainConfig(TrainSettings):
    """A fine-tuning run: what, on what, and how.

    model: folder, hub id or `embedded:NAME`; data: conversations (JSONL), or a mixture's folder.
    """

    model: str
    data: Path
