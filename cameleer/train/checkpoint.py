"""The states that a killed run goes on from, and the checkpoint that a finished one leaves.

scratch/states/00000120/       the state after step 120: written aside, named by one rename
    optimizer*.safetensors     masters and moments; with many ranks each writes its rows (DCP)
    progress.json              what the loop has counted
    checksums.json             SHA-256 of the others; written last

The two newest are kept. One that is not as its checksums say is passed over, and that is said.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from cameleer.chat.template import Template
from cameleer.core.console import note, warn
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, sha256_file, write_json
from cameleer.model.adapters import ADAPTER
from cameleer.model.merge import merged
from cameleer.train.optim import AdamW
from cameleer.train.parallel import Ranks

STATES = "states"
KEPT = 2  # states
SHARD = "5GB"  # most that one file of a checkpoint's weights holds
PIECE = 1 << 29  # bytes of a state that DCP works on at a time: it copies each file before writing


class NotSavedError(Exception):
    """A state could not be written; those before are as they were."""


def save_state(scratch: Path, optimizer: AdamW, progress: dict[str, Any], ranks: Ranks) -> None:
    """Write the state after `progress["step"]`; all ranks call it. What was there stays meanwhile.

    Raises NotSavedError, on all ranks, where the disk is full.
    """
    states = scratch / STATES
    new = states / "new"
    reason = None
    if ranks.first:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    ranks.barrier()
    try:
        _write(new, optimizer.state(), ranks)
        sums = {file.name: sha256_file(file) for file in _own(new, ranks)}
        if ranks.first:
            write_json(new / "progress.json", progress)
            sums["progress.json"] = sha256_file(new / "progress.json")
    except Exception as error:  # DCP wraps what goes wrong on any rank in one of its own
        reason = disk_full(error)
        if reason is None:
            raise
    found = ranks.gathered((reason, {} if reason else sums))
    if ranks.first:
        reason = next((reason for reason, _ in found if reason), None)
        reason = reason or _name(new, progress["step"], [own for _, own in found])
    if reason := ranks.told(reason):
        if ranks.first:
            shutil.rmtree(new, ignore_errors=True)
        raise NotSavedError(reason)


def _write(folder: Path, state: dict[str, Tensor], ranks: Ranks) -> None:
    if ranks.world == 1:
        save_file(state, folder / "optimizer.safetensors")
    else:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        held, pieces = 0, {}
        for name, tensor in state.items():
            pieces[name] = 1 + held // PIECE
            held += tensor.nbytes // ranks.world
        writer = HuggingFaceStorageWriter(str(folder), pieces, save_distributed=True)
        save(state, storage_writer=writer)
    for file in _own(folder, ranks):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _own(folder: Path, ranks: Ranks) -> list[Path]:
    """The files of weights that this rank wrote."""
    pattern = "*" if ranks.world == 1 else f"shard-{ranks.rank + 1:05d}-*"
    return sorted(folder.glob(f"{pattern}.safetensors"))


def _name(new: Path, step: int, sums: list[dict[str, str]]) -> str | None:
    """Make what was written a state; only the newest are kept. Returns why not, if not."""
    try:
        write_json(new / "checksums.json", {k: v for own in sums for k, v in own.items()})
    except OSError as error:
        if reason := disk_full(error):
            return reason
        raise
    named = new.with_name(f"{step:08d}")
    shutil.rmtree(named, ignore_errors=True)  # it was there, but damaged
    new.rename(named)
    for old in _states(new.parent)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return None


def _states(folder: Path) -> list[Path]:
    """Folders of states, the newest first."""
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), reverse=True)


def steps_saved(scratch: Path) -> int:
    """Steps that the newest state has taken, whole or not; 0 without one."""
    return max((int(folder.name) for folder in _states(scratch / STATES)), default=0)


def disk_full(error: Exception) -> str | None:
    """A few words, if that is what went wrong."""
    seen: BaseException | None = error
    while seen is not None:
        full = isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left" in str(seen) or "quota exceeded" in str(seen).lower():
            return "the disk is full"
        seen = seen.__cause__
    return None


def load_state(scratch: Path, optimizer: AdamW, ranks: Ranks) -> dict[str, Any] | None:
    """Take up the newest whole state; returns its progress, or None if none was ever saved.

    Written by any number of ranks, read by any. Raises UserError if there are states, but none is
    whole.
    """
    states = ranks.told(_states(scratch / STATES))
    for folder in states:
        if fault := _fault(folder, ranks):
            warn(f"the state after step {int(folder.name)} is damaged ({fault}): passed over")
            continue
        anew = optimizer.load_state(_read(folder, optimizer, ranks))
        if any(ranks.gathered(anew)):
            note("other ranks cut the moments in 8 bits elsewhere: they are rounded anew")
        progress: dict[str, Any] = read_json(folder / "progress.json")
        return progress
    if states:
        raise UserError(
            "no state to resume from is whole",
            file=scratch / STATES,
            hint=f"delete {scratch.parent} to begin from the start",
        )
    return None


def _fault(folder: Path, ranks: Ranks) -> str | None:
    """What is wrong with a state, if anything; the ranks share the work of looking."""
    try:
        sums = json.loads((folder / "checksums.json").read_bytes())
        files = sorted(sums.items())[ranks.rank :: ranks.world]
        bad = next((name for name, wanted in files if not _is(folder / name, wanted)), None)
        fault = f"{bad} is not as it was written" if bad else None
    except (OSError, ValueError, AttributeError):
        fault = "checksums.json cannot be read"
    return next((found for found in ranks.gathered(fault) if found), None)


def _is(file: Path, wanted: str) -> bool:
    return file.is_file() and sha256_file(file) == wanted


def _read(folder: Path, optimizer: AdamW, ranks: Ranks) -> dict[str, Tensor]:
    """The tensors of a state, cut as this run's weights are: the optimizer's own, filled."""
    file = folder / "optimizer.safetensors"
    if ranks.world == 1 and file.exists():
        state: dict[str, Tensor] = load_file(file)
        return state
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    names = [name.partition(".") for name in reader.read_metadata().state_dict_metadata]
    optimizer.begin({weight for kind, _, weight in names if kind == "step"})
    state = optimizer.state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one rank alone reads is meant
        load(state, storage_reader=reader, no_dist=ranks.world == 1)
    return state


def save_checkpoint(folder: Path, model: Any, tokenizer: Any, template: Template) -> None:
    """Write a Hugging Face folder: safetensors, tokenizer, chat template.

    Adapters are folded in, so that whatever reads checkpoints can read this one, and kept beside
    in `adapter/`.
    """
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder / ADAPTER, safe_serialization=True)
        model = merged(model)
    model.save_pretrained(folder, max_shard_size=SHARD)
    save_tokenizer(folder, tokenizer, template)


def save_tokenizer(folder: Path, tokenizer: Any, template: Template) -> None:
    """Write the tokenizer with the chat template that the model was trained on."""
    tokenizer.chat_template = template.jinja
    tokenizer.save_pretrained(folder)
