"""Keeping freed memory for the next tensor, which on a CPU is most of what the kernel has to do."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt(3)
ALL = -1


def keep_freed_memory() -> bool:
    """Have the C library neither give freed memory back nor map large blocks one by one.

    A step makes and drops tensors of the same few sizes; each that is mapped anew is zeroed page by
    page. Peak memory stays the same, as every step needs it again (dev/LOG.md). Returns whether the
    C library has the setting; glibc alone does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, ALL))
