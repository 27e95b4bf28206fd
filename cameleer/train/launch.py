"""Starting many ranks: what torchrun tells a process, and scripts for torchrun on a cluster."""

from __future__ import annotations

import os


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun says; (0, 1) without it."""
    if "MASTER_ADDR" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
