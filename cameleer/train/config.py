"""What can be set about a fine-tuning run; names are transformers' and TRL's where they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from cameleer.chat.render import Rule
from cameleer.core.config import Config, Seed
from cameleer.model.adapters import LoraSpec
from cameleer.model.load import Precision

Reduction = Literal["token", "conversation", "paper"]
OptimName = Literal["adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit"]
MasterWeights = Literal["fp32", "none"]
Checkpointing = Literal["auto"] | bool | PositiveInt
TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]


def _as_list(names: object) -> object:
    """transformers' way to name trackers: one name is a list of it, `none` is none."""
    return [] if names in (None, "none", ["none"]) else [names] if isinstance(names, str) else names


def _norm(most: float | None) -> float | None:
    """Elsewhere 0 or -1 (the paper's code) means that nothing is clipped; here they would turn
    gradients round."""
    if most is not None and most <= 0:
        raise ValueError("should be greater than 0; null leaves gradients as they are")
    return most


class TrainSettings(Config):
    """How to fine-tune. Defaults: the paper's for 7B and 13B (arXiv 2306.04751, Appendix D).

    max_seq_length: tokens of a packed row, and most that a conversation may have.
    on_long: what to do with a longer one: `cut` it there as the paper does, `drop` it, or `error`.
    per_device_train_batch_size: rows in a micro-batch; an optimizer step takes
    gradient_accumulation_steps micro-batches on each rank.
    train_batch_rows: rows of an optimizer step over all ranks, instead of that product; give it to
    go on with another number of ranks.
    rule: how the loss mask is made (see cameleer.chat.render).
    loss_reduction: what weighs the same in a step: every supervised `token`, every `conversation`,
    or, as in the `paper`'s code, every micro-batch (see cameleer.train.reduction).
    max_grad_norm: gradients are scaled down to this norm; null leaves them.
    optim: AdamW as transformers names its kinds: moments in float32, or `8bit`; `paged` moves them
    to the host's memory when a GPU's is full. weight_decay is that of matrices: biases and norms
    have none.
    master_weights: `fp32` beside bf16 ones; `none` rounds updated weights back to bf16 by chance.
    offload_optimizer: masters and moments in the host's memory, updated by its processor.
    quantization: keep the frozen weights under adapters in 4 bits (QLoRA); needs lora.
    gradient_checkpointing: layers that keep their input alone and are computed a second time: all
    (true), none (false), or so many of the first; `auto` leaves it to the planner. Gives the same
    bits, so that a run that had too little memory can go on with it.
    torch_compile: compile the layers; use_liger_kernel: Liger's kernels for norms, rotary
    positions and gated MLPs; tf32: float32 products in TF32. The last two need a GPU.
    save_precision: of the checkpoint's weights. `fp32` keeps the master weights whole; `bf16`
    halves the folder, and rounds away much of what a short run with a small rate has learned.
    validation_fraction, validation_conversations: how much of each source is held out of training
    and validated on, what opens alike being kept apart (see cameleer.data.heldout);
    validation_data: a file to validate on instead. The losses are taken before training, every
    eval_steps optimizer steps, and at the end.
    stop_on_spike: stop, with the step's conversations kept, at a loss and gradient norm so many
    standard deviations above those of the 50 steps before; null only notes those above 5.
    report_to: trackers that get the numbers of metrics.jsonl too: tensorboard, wandb, mlflow,
    trackio (see cameleer.train.trackers); one name or a list of them.
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
    train_batch_rows: PositiveInt | None = None
    loss_reduction: Reduction = "token"
    learning_rate: float = Field(default=2e-5, gt=0)
    lr_scheduler_type: Literal["linear", "constant"] = "linear"
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    adam_epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: Annotated[float | None, AfterValidator(_norm)] = 1.0
    optim: OptimName = "adamw_torch_fused"
    master_weights: MasterWeights = "fp32"
    offload_optimizer: bool = False
    precision: Precision = "auto"
    lora: LoraSpec | None = None
    quantization: Literal["nf4"] | None = None
    gradient_checkpointing: Checkpointing = "auto"
    torch_compile: bool = False
    use_liger_kernel: bool = False
    tf32: bool = False
    save_precision: Literal["fp32", "bf16"] = "fp32"
    seed: Seed = 42
    validation_fraction: float = Field(default=0.0, ge=0, le=0.5)
    validation_conversations: PositiveInt | None = None
    validation_data: Path | None = None
    eval_steps: PositiveInt | None = None
    stop_on_spike: float | None = Field(default=None, gt=0)
    report_to: Annotated[list[TrackerName], BeforeValidator(_as_list)] = Field(default_factory=list)
    save_minutes: float = Field(default=10.0, gt=0)
    save_steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_way_to_validate(self) -> TrainSettings:
        ways = (self.validation_fraction, self.validation_conversations, self.validation_data)
        if sum(map(bool, ways)) > 1:
            raise ValueError(
                "give one of validation_fraction, validation_conversations and validation_data"
            )
        if self.eval_steps and not any(ways):
            raise ValueError("eval_steps needs something to validate on: set validation_fraction")
        return self

    @model_validator(mode="after")
    def _adapters_on_4_bits(self) -> TrainSettings:
        if self.quantization and not self.lora:
            raise ValueError("weights in 4 bits cannot be trained: give lora too, or `lora: {}`")
        return self

    @property
    def validates(self) -> bool:
        """Whether losses are taken on conversations that are not trained on."""
        return bool(
            self.validation_fraction or self.validation_conversations or self.validation_data
        )

    def rows_of_a_step(self, ranks: int = 1) -> int:
        """Rows of an optimizer step over all ranks: they alone decide what the step learns from."""
        each = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return self.train_batch_rows or each * ranks

    def deciding(self, ranks: int = 1) -> dict[str, object]:
        """The settings that decide the result, as JSON values; inputs are told by fingerprint.

        ranks: how many train; what they are given is told by the rows of a step.
        """
        beside = {"model", "data", "save_minutes", "save_steps", "stop_on_spike", "validation_data"}
        beside |= {"report_to"}
        beside |= {"gradient_accumulation_steps", "gradient_checkpointing"}
        if self.loss_reduction != "paper":  # the others' loss is the same however rows are batched
            beside |= {"per_device_train_batch_size"}
        facts = self.model_dump(mode="json", exclude=beside)
        return facts | {"train_batch_rows": self.rows_of_a_step(ranks)}


class TrainConfig(TrainSettings):
    """A fine-tuning run: what, on what, and how.

    model: folder, hub id or `embedded:NAME`; data: conversations (JSONL), or a mixture's folder.
    """

    model: str
    data: Path
