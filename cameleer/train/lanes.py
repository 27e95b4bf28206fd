"""On a CPU, two parts of a micro-batch at once, each by half of the cores.

Most of a step's kernels are too small to keep several cores busy together: a core of its own for
each half of the documents takes some fifth less time (dev/LOG.md), and suffers far less from other
processes on the same cores. Gradients stay the same to the bit from run to run: each parameter gets
two, and a + b = b + a.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from cameleer.model.attention import Documents, positions

T = TypeVar("T")
R = TypeVar("R")
LARGEST = 0.6  # of all tokens in one lane, up to which two lanes are quicker than one


class Lanes:
    """Works on parts of a micro-batch side by side where that pays and changes nothing.

    It does not on a GPU, on many ranks, and for weights of 4 bits; nor where training draws random
    numbers (dropout): two lanes would draw from one stream, in an order that differs each time.
    """

    def __init__(self, model: Any, *, alone: bool = True) -> None:
        """model: as it is trained; alone: by this process."""
        self.threads = torch.get_num_threads()
        self.several = alone and self.threads > 1 and _whole_on_cpu(model) and not draws(model)
        self.pool = ThreadPoolExecutor(1, initializer=_keep_to, initargs=(self.threads // 2,))

    def parts(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which documents, by their places in `lengths`, each lane takes; one lane or two."""
        if self.several and len(lengths) > 1:
            both = halves(lengths)
            largest = max(sum(lengths[place] for place in half) for half in both)
            if largest <= LARGEST * sum(lengths):
                return both
        return [list(range(len(lengths)))]

    def each(self, work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
        """What `work` gives for one part, or two at once; both end before an error is raised."""
        if len(parts) == 1:
            return [work(parts[0])]
        first, second = parts
        later = self.pool.submit(work, second)
        torch.set_num_threads(self.threads - self.threads // 2)
        try:
            done = work(first)
        finally:
            torch.set_num_threads(self.threads)
            later.exception()
        return [done, later.result()]


def _whole_on_cpu(model: Any) -> bool:
    weights = model.parameters()
    return all(weight.is_floating_point() and weight.device.type == "cpu" for weight in weights)


def _keep_to(threads: int) -> None:
    """Have this thread's kernels use so many; asked first, as the first question resets it."""
    torch.get_num_threads()
    torch.set_num_threads(threads)


@torch.no_grad()
def draws(model: Any) -> bool:
    """Whether the model, as it stands, draws random numbers on its way forward."""
    before = torch.get_rng_state()
    model(
        input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device),
        position_ids=positions([2]).to(model.device),
        use_cache=False,
        layout=Documents([2]),
    )
    return not torch.equal(before, torch.get_rng_state())


def halves(lengths: Sequence[int]) -> list[list[int]]:
    """Places in `lengths` in two groups, in order, whose sums are as equal as can be.

    Bit s of reached[n] says that some of the first n lengths sum up to s.
    """
    reached = [1]
    for length in lengths:
        reached.append(reached[-1] | reached[-1] << length)
    sum_left = (reached[-1] & ((2 << sum(lengths) // 2) - 1)).bit_length() - 1
    taken = []
    for place in reversed(range(len(lengths))):
        if not reached[place] >> sum_left & 1:
            taken.append(place)
            sum_left -= lengths[place]
    return [[p for p in range(len(lengths)) if p not in taken], taken[::-1]]
