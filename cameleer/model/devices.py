"""What torch computes with on this machine: threads of the processor, and GPUs."""

from __future__ import annotations


def threads_and_gpus() -> tuple[int, int]:
    """The threads that torch takes by itself, and the GPUs that it sees."""
    import torch

    return torch.get_num_threads(), torch.cuda.device_count()


def compute_with(threads: int) -> None:
    """Have torch take so many threads; sums of bf16 and float32 depend on how many there are."""
    import torch

    torch.set_num_threads(threads)
