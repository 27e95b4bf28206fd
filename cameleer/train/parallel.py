"""Many ranks: processes that torchrun starts, each with a share of every weight and of every step.

FSDP2 cuts each weight by rows and gathers a layer's only while the layer is at work. What is cut is
the very weight that one rank would have (bf16 with float32 masters behind it, or float32), so that
optimizer, adapters and checkpoints are the same code on one rank and on many: 16 bytes per trained
weight over all ranks, as with FSDP's own mixed precision. Gradients are added up in float32, not
averaged: the loss of each rank already is its share of the whole step's (see reduction.py).

One rank without torchrun has no process group and goes through none of this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from cameleer.core import console
from cameleer.core.errors import UserError
from cameleer.model.memory import decoder_layers
from cameleer.train.launch import rank_and_world

A = TypeVar("A")

PATIENCE = timedelta(hours=2)  # others wait so long while the first rank tokenises
LET_THE_FIRST_SPEAK = 10.0  # seconds; torchrun ends us meanwhile if the first rank failed as well


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; rank 0 speaks and writes for all."""

    rank: int = 0
    world: int = 1
    mesh: DeviceMesh | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.mesh is not None:
            dist.barrier()

    def told(self, value: A) -> A:
        """The first rank's `value`, on every rank."""
        if self.mesh is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: A) -> list[A]:
        """Every rank's `value`, on every rank."""
        if self.mesh is None:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def first_before_others(self, work: Callable[[], A]) -> A:
        """`work` done by the first rank, then by the others, who find what it left on disk."""
        if self.first:
            result = work()
            self.barrier()
            return result
        self.barrier()
        return work()

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each of `values` added up over the ranks, in float64."""
        if self.mesh is None:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def shard(self, model: Any) -> None:
        """Cut the weights of `model` over the ranks, in place; its forward and backward stay as is.

        Those of QLoRA's base are cut in their 4 bits, if they are packed into floats.
        """
        if self.mesh is None:
            return
        kept = {p for p in model.parameters() if not p.is_floating_point()}
        how: dict[str, Any] = {
            "mesh": self.mesh,
            "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
            "ignored_params": kept,
        }
        for layer in decoder_layers(model):  # of a model without such, all is gathered at once
            fully_shard(layer, **how)
        fully_shard(model, **how)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
                module.set_gradient_divide_factor(1.0)

    def let_go(self, model: Any) -> None:
        """Have the outermost weights cut again, which stay gathered after a pass without gradients.

        Else `model.parameters()` were the gathered ones, and the next pass would use old values.
        """
        if self.mesh is not None:
            model.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A weight as one rank would have it; all ranks must ask for the same ones, in one order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this rank has, plain, in the tensor's own memory."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def first_row(tensor: Tensor) -> int:
    """Which row of a tensor is the first of this rank's."""
    if not isinstance(tensor, DTensor):
        return 0
    cut = tensor.shape, tensor.device_mesh, tensor.placements
    _, offset = compute_local_shape_and_global_offset(*cut)
    return offset[0]


def cut_like(like: Tensor, rows: Tensor) -> Tensor:
    """`rows` as this rank's part of a tensor that is cut over the ranks as `like` is.

    They stay where they are: DTensor.from_local would bring what is offloaded to the GPU.
    """
    if not isinstance(like, DTensor):
        return rows
    shape = torch.Size((len(like), *rows.shape[1:]))
    meta = TensorMeta(shape, torch.empty(shape, device="meta").stride(), rows.dtype)
    spec = DTensorSpec(like.device_mesh, like.placements, tensor_meta=meta)
    return DTensor(rows, spec, requires_grad=False)  # type: ignore[no-untyped-call]


def norm_of_all(norm: Tensor, of: Tensor) -> Tensor:
    """The norm over all ranks, from that of each one's rows of tensors that are cut like `of`."""
    if not isinstance(of, DTensor):
        return norm
    squared = norm.double().square()
    dist.all_reduce(squared, group=of.device_mesh.get_group())
    return squared.sqrt().to(norm.dtype)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other ranks that torchrun started, if it did; others than the first are silent.

    An error on another rank than the first is told with its number, once the first had its say.
    """
    rank, world = rank_and_world()
    if world == 1:
        yield Ranks()
        return
    kind = _take_device()
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    console.silence(rank != 0)
    try:
        yield Ranks(rank, world, init_device_mesh(kind, (world,)))
        dist.barrier()
    except BaseException as error:
        if rank:
            time.sleep(LET_THE_FIRST_SPEAK)
            console.silence(False)
            _tell(rank, error)
        raise
    dist.destroy_process_group()
    console.silence(False)


def _take_device() -> str:
    """Make this rank's GPU, if there are any, the current one; returns the kind of device."""
    if not torch.cuda.is_available():
        return "cpu"
    local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= found:
        raise UserError(
            f"rank {local} of this machine has no GPU: there are {found}",
            hint=f"give torchrun --nproc-per-node {found}",
        )
    torch.cuda.set_device(local)
    return "cuda"


def _tell(rank: int, error: BaseException) -> None:
    if not isinstance(error, UserError | KeyboardInterrupt):
        console.note(f"rank {rank} ends: {type(error).__name__}")
