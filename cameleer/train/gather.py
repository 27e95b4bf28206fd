"""The checkpoint of many ranks: each weight is brought together in turn, and the first rank writes.

Nobody holds more than one whole weight, the first rank besides the file that it is about to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cameleer.core.errors import UserError
from cameleer.core.files import write_json
from cameleer.model.adapters import ADAPTER
from cameleer.model.merge import unpacked
from cameleer.model.sharded import name_on_disk, plain_model, plain_name
from cameleer.train.parallel import Ranks, whole

FILE = 5_000_000_000  # most bytes of one file of weights; transformers' "5GB"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class _Piece:
    """One weight as it is to be written; every rank must call `make` in turn."""

    name: str
    bytes: int
    make: Callable[[], Tensor]


def save_weights(
    folder: Path, model: Any, masters: dict[str, Tensor], dtype: torch.dtype, ranks: Ranks
) -> None:
    """Write the configuration and weights of a Hugging Face folder; all ranks call it.

    masters: float32 weights by parameter's name, which are written where there are any; dtype: of
    the weights in the files. Adapters are folded in, and kept beside in `adapter/`.
    """
    if hasattr(model, "peft_config"):
        adapters = {name: whole(masters.get(name, p.detach())) for name, p in _adapters(model)}
        if ranks.first:
            model.save_pretrained(folder / ADAPTER, state_dict=adapters)
    plain = plain_model(model)
    files = _in_files(list(_pieces(model, masters, dtype)))
    where: dict[str, str] = {}
    for number, pieces in enumerate(files, 1):
        name = WEIGHTS if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        part: dict[str, Tensor] = {}
        for piece in pieces:
            tensor = piece.make()
            if ranks.first:
                part[piece.name] = tensor.to("cpu", dtype).contiguous()
        where |= dict.fromkeys(part, name)
        if ranks.first:
            save_file(part, folder / name, metadata={"format": "pt"})
    if ranks.first:
        if len(files) > 1:
            total = sum(piece.bytes for pieces in files for piece in pieces)
            write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
        _save_config(folder, plain, dtype)


def require_foldable(model: Any, adapted: bool) -> None:
    """UserError for adapters, if the model has any, that `save_weights` could not fold in."""
    if not adapted:
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".lora_A." not in name and ".lora_B." not in name:
            raise UserError(
                f"the adapter '{name}' cannot be trained on many ranks yet",
                field="lora.target_modules",
                hint="adapt linear layers only, or train on one rank",
            )


def _adapters(model: Any) -> Iterator[tuple[str, Tensor]]:
    return ((name, p) for name, p in model.named_parameters() if ".lora_" in name)


def _pieces(model: Any, masters: dict[str, Tensor], dtype: torch.dtype) -> Iterator[_Piece]:
    plain, layers = plain_model(model), dict(model.named_modules())
    adapters = {name: masters.get(name, p.detach()) for name, p in _adapters(model)}
    size = torch.empty(0, dtype=dtype).element_size()
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        path = name.rpartition(".")[0].removesuffix(".base_layer")
        value = masters.get(name, parameter.detach())
        packing = _packing(layers[path], name)
        shape = packing.shape if packing else parameter.shape
        make = partial(_folded, value, packing, path, layers[path], adapters)
        yield _Piece(name_on_disk(plain, plain_name(name)), size * shape.numel(), make)
    kept = model.state_dict()
    for name, buffer in model.named_buffers():
        if name in kept:
            disk = name_on_disk(plain, plain_name(name))
            yield _Piece(disk, size * buffer.numel(), partial(whole, buffer))


def _packing(owner: Any, name: str) -> Any | None:
    """How bitsandbytes packed the weight `name` of a module, with its shape, if it is packed."""
    base = getattr(owner, "base_layer", owner)
    return getattr(base, "quant_state", None) if name.endswith(".weight") else None


@torch.no_grad()
def _folded(
    value: Tensor, packing: Any | None, path: str, owner: Any, adapters: dict[str, Tensor]
) -> Tensor:
    """A whole weight of the module `owner` at `path`; its adapter, if any, folded in in float32."""
    base = unpacked(whole(value), packing) if packing else whole(value)
    if not hasattr(owner, "lora_A") or base.ndim < 2:
        return base
    (name,) = owner.active_adapters
    a, b = (whole(adapters[f"{path}.lora_{which}.{name}.weight"]).float() for which in "AB")
    delta = owner.scaling[name] * (b @ a)
    folded: Tensor = base.float() + (delta.T if owner.fan_in_fan_out else delta)
    return folded


def _in_files(pieces: list[_Piece]) -> list[list[_Piece]]:
    files: list[list[_Piece]] = [[]]
    for piece in pieces:
        if files[-1] and sum(held.bytes for held in files[-1]) + piece.bytes > FILE:
            files.append([])
        files[-1].append(piece)
    return files


def _save_config(folder: Path, plain: Any, dtype: torch.dtype) -> None:
    if getattr(plain, "hf_quantizer", None) is not None:
        plain.hf_quantizer.remove_quantization_config(plain)
    plain.config.dtype = dtype
    plain.config.architectures = [type(plain).__name__.removeprefix("FSDP")]
    plain.config.save_pretrained(folder)
    plain.generation_config.save_pretrained(folder)
