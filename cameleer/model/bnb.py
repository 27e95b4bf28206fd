"""bitsandbytes, which keeps weights in 4 bits and moments in 8, if it is installed."""

from __future__ import annotations

import logging
import sys
from typing import Any


def bitsandbytes() -> Any | None:
    """The library; None without it.

    As it is imported it would fetch a kernel from the Hugging Face hub and run it, if the package
    `kernels` is there, and else advise to install that. Here it does neither: nothing is fetched
    that nobody asked for. Whoever imports something that imports it (peft) calls this before.
    """
    theirs, logger = sys.modules.get("kernels"), logging.getLogger("bitsandbytes")
    level = logger.level
    sys.modules["kernels"] = None  # type: ignore[assignment]
    logger.setLevel(logging.ERROR)
    try:
        import bitsandbytes as library
    except ImportError:
        return None
    finally:
        logger.setLevel(level)
        del sys.modules["kernels"]
        if theirs is not None:
            sys.modules["kernels"] = theirs
    return library
