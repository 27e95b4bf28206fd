"""bitsandbytes is imported without what it would fetch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cameleer.model.bnb import bitsandbytes

FETCHES = """
import sys, types
asked = []
sys.modules["kernels"] = kernels = types.ModuleType("kernels")
kernels.get_kernel = lambda *given, **more: asked.append(given)
from cameleer.model.bnb import bitsandbytes
assert bitsandbytes() is not None
assert sys.modules["kernels"] is kernels
print(asked)
"""


def test_no_kernel_is_fetched_and_nothing_said() -> None:
    pytest.importorskip("bitsandbytes")
    done = subprocess.run([sys.executable, "-c", FETCHES], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_none_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert bitsandbytes() is None
    assert "kernels" not in sys.modules
