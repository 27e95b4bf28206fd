"""How many bytes each way of training keeps for one weight that is learned: what a planner adds up.

Needs no torch. Read beside cameleer.train.optim, which allocates what stands here (tests measure).
"""

from __future__ import annotations

from dataclasses import dataclass

from cameleer.train.config import MasterWeights, OptimName

BUCKET = 1 << 24  # weights that are updated at a time, in float32 whatever they are kept in
SMALL = 4096  # parameters of fewer, over all ranks, keep float32 moments in 8-bit optimizers
BLOCK = 256  # weights of an 8-bit moment that share one float32 scale


@dataclass(frozen=True)
class BytesPerWeight:
    """Bytes kept per learned weight during a step; and for the bucket that is being updated.

    embedding_moments: the moments of input embeddings, which stay float32 as in transformers, for
    their gradients are sparse and 8 bits do not hold them. bucket: float32 gradients, and masters
    that are made for the step, of at most BUCKET weights (or of the largest parameter, if larger).
    """

    weight: float
    gradient: float
    master: float
    moments: float
    embedding_moments: float
    bucket: float


def bytes_per_weight(
    optim: OptimName, master_weights: MasterWeights, bf16: bool = True
) -> BytesPerWeight:
    """What the optimizer `optim` keeps for each weight of a model in bf16, else in float32.

    Float32 weights are their own masters. With `offload_optimizer` masters, moments and bucket lie
    in the host's memory; with a paged optimizer moments move there when the GPU's is full.
    """
    eight = optim in ("adamw_bnb_8bit", "paged_adamw_8bit")
    kept = master_weights == "fp32"
    return BytesPerWeight(
        weight=2 if bf16 else 4,
        gradient=2 if bf16 else 4,
        master=4 if bf16 and kept else 0,
        moments=2 * (1 + 4 / BLOCK) if eight else 8,
        embedding_moments=8,
        bucket=(4 if kept else 8) if bf16 else 0,
    )
