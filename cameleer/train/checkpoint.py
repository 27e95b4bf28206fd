"""The state that a killed run goes on from, and the checkpoint that a finished one leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from cameleer.chat.template import Template
from cameleer.core.files import read_json, write_json
from cameleer.model.merge import merged
from cameleer.train.optim import AdamW

STATE = "resume"


def save_state(folder: Path, optimizer: AdamW, progress: dict[str, Any]) -> None:
    """Write the state beside the old one and swap them, so that one of the two is always whole."""
    new, old = folder / f"{STATE}.new", folder / STATE
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    save_file(optimizer.state(), new / "optimizer.safetensors")
    write_json(new / "progress.json", progress)
    aside = folder / f"{STATE}.old"
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


def load_state(folder: Path, optimizer: AdamW) -> dict[str, Any] | None:
    """Take up the newest whole state; returns its progress, or None if there is none."""
    for name in (STATE, f"{STATE}.new", f"{STATE}.old"):
        if (folder / name / "progress.json").exists():
            optimizer.load_state(load_file(folder / name / "optimizer.safetensors"))
            progress: dict[str, Any] = read_json(folder / name / "progress.json")
            return progress
    return None


def save_checkpoint(folder: Path, model: Any, tokenizer: Any, template: Template) -> None:
    """Write a Hugging Face folder: safetensors, tokenizer, chat template.

    Adapters are folded in, so that whatever reads checkpoints can read this one, and kept beside
    in `adapter/`.
    """
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder / "adapter", safe_serialization=True)
        model = merged(model)
    model.save_pretrained(folder)
    tokenizer.chat_template = template.jinja
    tokenizer.save_pretrained(folder)
