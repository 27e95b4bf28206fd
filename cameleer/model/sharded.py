"""Loading a model of which each of many processes keeps a part: built empty, cut, then read in.

A model of 65 billion weights fits no single process. So its modules are made without weights (on
torch's `meta` device), cut over the processes, and each reads its own rows from the safetensors
files: nobody ever holds more than its part and one piece that is being read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.nn import Parameter

from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.model.bnb import bitsandbytes
from cameleer.model.load import quiet


def empty_model(folder: Path, dtype: torch.dtype, attention: str | None = None) -> Any:
    """The model of a folder in evaluation mode, its weights on `meta`, its buffers as they must be.

    Buffers, such as the frequencies of rotary positions, are worked out by the model's own code
    where it is built, so they are real here.
    """
    with quiet():
        from accelerate import init_empty_weights  # type: ignore[import-untyped]
        from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
        from transformers.conversion_mapping import get_model_conversion_mapping

        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            with init_empty_weights(include_buffers=False):
                model = AutoModelForCausalLM.from_config(
                    config, dtype=dtype, attn_implementation=attention, trust_remote_code=False
                )
            if (folder / "generation_config.json").is_file():
                model.generation_config = GenerationConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"no model can be read: {reason}", file=folder) from None
    # Where transformers itself keeps it; later FSDP gives the model's class another name.
    model._weight_conversions = get_model_conversion_mapping(model)
    model.tie_weights()
    return model.eval()


@contextmanager
def adapters_kept() -> Iterator[None]:
    """Have peft leave adapters of an empty model on the CPU, with their random numbers.

    It would move them to the base's device, `meta`. They are drawn as on a whole model.
    """
    bitsandbytes()  # before peft imports it
    from peft.tuners.lora import LoraModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    move, replace = BaseTunerLayer._move_adapter_to_device_of_base_layer, LoraModel._replace_module

    def stay(layer: Any, name: str, device: torch.device | None = None) -> None:
        on_meta = next(layer.get_base_layer().parameters()).device.type == "meta"
        move(layer, name, torch.device("cpu") if on_meta else device)

    def put(model: Any, parent: Any, name: str, new: Any, old: Any) -> None:
        if next(old.parameters()).device.type == "meta":
            setattr(parent, name, new)
        else:
            replace(model, parent, name, new, old)

    BaseTunerLayer._move_adapter_to_device_of_base_layer = stay
    LoraModel._replace_module = put
    try:
        yield
    finally:
        BaseTunerLayer._move_adapter_to_device_of_base_layer = move
        LoraModel._replace_module = replace


@torch.no_grad()
def read_weights(model: Any, folder: Path, device: torch.device) -> None:
    """Give every weight that is still on `meta` its values: of a cut weight, this process's rows.

    model: as `empty_model` made it, then maybe with adapters, then maybe cut by FSDP. Raises
    UserError if the folder lacks a weight.
    """
    names: dict[Parameter, list[str]] = {}  # tied weights have several
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.device.type == "meta":
            names.setdefault(parameter, []).append(name)
    if not names:
        return
    files = _Files(folder, plain_model(model))
    found = {parameter: files.key(own) for parameter, own in names.items()}
    values: dict[str, Parameter] = {}
    for parameter in sorted(found, key=lambda p: files.order(found[p])):
        part = Parameter(_part(parameter, files, found[parameter], device), parameter.requires_grad)
        values |= dict.fromkeys(names[parameter], part)
    model.load_state_dict(values, strict=False, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def _part(like: Parameter, files: _Files, key: str, device: torch.device) -> Tensor:
    """The rows of a tensor on disk that `like` stands for, in its dtype."""
    if tuple(like.shape) != files.shape(key):
        raise UserError(
            f"'{key}' has the shape {list(files.shape(key))}, the model wants {list(like.shape)}",
            file=files.folder,
        )
    if not isinstance(like, DTensor):
        return files.rows(key, 0, None).to(device, like.dtype, copy=True)
    shape, offset = compute_local_shape_and_global_offset(
        like.shape, like.device_mesh, like.placements
    )
    local = files.rows(key, offset[0], offset[0] + shape[0]).to(device, like.dtype, copy=True)
    return DTensor.from_local(
        local.contiguous(),
        like.device_mesh,
        like.placements,
        shape=like.shape,
        stride=like.stride(),
    )


def plain_model(model: Any) -> Any:
    """The model without what peft puts around it."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def plain_name(name: str) -> str:
    """What a weight is called without peft."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def name_on_disk(model: Any, name: str) -> str:
    """What a weight of the (plain) model is called in its files."""
    from transformers.core_model_loading import WeightRenaming, apply_renamings

    changes = reversed(model._weight_conversions or [])
    back = [change.reverse_transform() for change in changes if isinstance(change, WeightRenaming)]
    renamed: str = apply_renamings(name, back)
    return renamed


def _renamings(model: Any) -> list[Any]:
    """How transformers renames weights of this model's files; UserError if it rebuilds some."""
    from transformers.core_model_loading import WeightRenaming

    changes: list[Any] = model._weight_conversions
    if any(not isinstance(change, WeightRenaming) for change in changes):
        raise UserError(
            f"models of type '{model.config.model_type}' cannot be read in parts yet",
            hint="train it on one rank",
        )
    return changes


class _Files:
    """The safetensors files of a model folder; one is open at a time."""

    def __init__(self, folder: Path, model: Any) -> None:
        from safetensors import safe_open
        from transformers.core_model_loading import apply_renamings

        self.folder, self.open = folder, safe_open
        self.file: Path | None = None
        self.prefix, renamings = model.base_model_prefix, _renamings(model)
        self.where = {apply_renamings(key, renamings): (file, key) for key, file in self._on_disk()}
        if not self.where:
            raise UserError(
                "holds no safetensors weights", file=folder, hint="convert it: pickles run code"
            )

    def _on_disk(self) -> Iterator[tuple[str, Path]]:
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            for key, name in read_json(index)["weight_map"].items():
                yield key, self.folder / name
            return
        for file in sorted(self.folder.glob("*.safetensors")):
            with self.open(file, framework="pt") as handle:
                for key in handle.keys():  # noqa: SIM118 (it is no dict)
                    yield key, file

    def key(self, names: list[str]) -> str:
        """Under which of our keys a weight of these names is: with the body's prefix or without."""
        for name in names:
            plain = plain_name(name)
            for key in (plain, plain.removeprefix(f"{self.prefix}."), f"{self.prefix}.{plain}"):
                if key in self.where:
                    return key
        raise UserError(
            f"lacks the weight '{names[0]}'",
            file=self.folder,
            hint="the folder is not whole, or it is no causal language model",
        )

    def order(self, key: str) -> tuple[Path, str]:
        """Sorts weights by the file they are in."""
        return self.where[key]

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._slice(key).get_shape())

    def rows(self, key: str, begin: int, end: int | None) -> Tensor:
        """Rows `begin` to `end` of a tensor; nothing else of it is read."""
        piece = self._slice(key)
        if not piece.get_shape():
            number: Tensor = piece[...]
            return number
        rows: Tensor = piece[begin:end]
        return rows

    def _slice(self, key: str) -> Any:
        file, own = self.where[key]
        if file != self.file:
            self.file, self.handle = file, self.open(file, framework="pt")
        return self.handle.get_slice(own)  # type: ignore[no-untyped-call]
