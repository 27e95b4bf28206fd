"""How large a model is, told by the heads of its weights' files: nothing is loaded."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path


def parameters(folder: Path) -> int | None:
    """How many weights a model folder holds; None where its files do not tell.

    A file of safetensors begins with the length of its head (8 bytes, the lowest first) and the
    head, a JSON object with the shape of every tensor. Weights packed into bytes tell no number.
    """
    count = 0
    try:
        for file in folder.glob("model*.safetensors"):
            with file.open("rb") as handle:
                head = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
            head.pop("__metadata__", None)
            if any(tensor["dtype"] == "U8" for tensor in head.values()):
                return None
            count += sum(prod(tensor["shape"]) for tensor in head.values())
    except (OSError, ValueError, OverflowError, MemoryError):
        return None  # a broken file is told by those who read it
    return count or None
