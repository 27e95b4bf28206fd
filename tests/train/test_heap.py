"""Memory that is freed stays for the next tensor: few pages are met twice."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from cameleer.train.heap import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def work():
    kept = [torch.ones(1 << 20) for _ in range(8)]  # 4 MiB each
    return kept + [torch.ones(24 << 20)]

for _ in range(5):  # until each size has found its place
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries lack the setting")
def test_few_pages_are_met_again() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    kept, given_back = faults("keep"), faults("give back")
    assert given_back > 100_000  # 5 x 96 MiB, in pages of 4 KiB
    assert kept < 30_000
