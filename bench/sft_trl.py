"""TRL's side of `bench.sft`: trains on given tokens and labels; runs in TRL's own environment.

    python -P bench/sft_trl.py JOB.json     prints one JSON object

Imports nothing of Cameleer. Optimizer, clipping and schedule are as Cameleer's; what else is set is
set in TRL's favour: no activation checkpointing (its default costs it a fifth of its speed), data
already tokenised, no checkpoints or reports on the way, and only the time between its callbacks
`on_step_begin` and `on_step_end` is counted.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset  # type: ignore[import-not-found,unused-ignore]
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found,unused-ignore]

VARIANTS: dict[str, dict[str, Any]] = {
    "packed-autocast": {"packing": True, "model_init_kwargs": {"dtype": "float32"}},
    "packed-bf16": {"packing": True, "model_init_kwargs": {"dtype": "bfloat16"}},
    "padded-autocast": {"model_init_kwargs": {"dtype": "float32"}},
    "padded-bf16": {"model_init_kwargs": {"dtype": "bfloat16"}},
}


class Watch(TrainerCallback):  # type: ignore[misc]
    """Notes of every optimizer step what it took and gave."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.steps.append({"tokens": 0, "supervised": 0})
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps[-1]["seconds"] = round(time.perf_counter() - self.began, 3)

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.steps[-1] |= {"loss": float(logs["loss"]), "grad_norm": float(logs["grad_norm"])}

    def count(self, inputs: dict[str, Any]) -> None:
        """Count the tokens of a micro-batch, padding left out; a first token is never predicted."""
        mask = inputs.get("attention_mask")
        tokens = inputs["input_ids"].numel() if mask is None else int(mask.sum())
        self.steps[-1]["tokens"] += tokens
        self.steps[-1]["supervised"] += int((inputs["labels"][:, 1:] != -100).sum())


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch; returns what every step took and gave."""
    variant = VARIANTS[job["variant"]]
    config = SFTConfig(
        output_dir=job["out"],
        max_length=job["row"],
        num_train_epochs=1,
        per_device_train_batch_size=1 if variant.get("packing") else job["conversations_per_row"],
        gradient_accumulation_steps=job["rows_per_step"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=job["max_grad_norm"],
        use_cpu=not torch.cuda.is_available(),
        bf16=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=job["seed"],
        **variant,
    )
    watch = Watch()
    data = load_dataset("json", data_files=f"{job['data']}.tokens.jsonl", split="train")
    trainer = SFTTrainer(model=job["base"], args=config, train_dataset=data, callbacks=[watch])
    of_trl = trainer.compute_loss

    def counted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        watch.count(inputs)
        return of_trl(model, inputs, *args, **kwargs)

    trainer.compute_loss = counted
    trainer.train()
    trainer.save_model(job["out"])
    return {
        "steps": watch.steps,
        "attention": trainer.model.config._attn_implementation,
        "optimizer": str(config.optim),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("trl", "torch", "transformers", "accelerate")
        },
    }


if __name__ == "__main__":
    print(json.dumps(train(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
