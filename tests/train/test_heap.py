"""Memory that is freed stays for the next tensor, and whole: few pages are met twice."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from cameleer.train.heap import GPU, JOINED, TUNED, pieces_joined

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

HOLES = """
import re, sys
from pathlib import Path
import torch
from cameleer.train.heap import TUNED, join_freed_pieces, keep_freed_memory

join_freed_pieces("join")
assert (TUNED in __import__("os").environ) == (sys.argv[1] == "join")
keep_freed_memory()

def most():  # of this program alone: ru_maxrss begins with that of the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

before, stays = most(), []
for _ in range(40):
    layer = [torch.ones(1 << 19) for _ in range(4)]  # 2 MiB each
    stays.append(torch.ones(64).relu())
    layer.append(torch.ones(1 << 20))
    del layer
print(most() - before)
"""
glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries lack the setting"
)


def said(script: str, how: str) -> int:
    """The number that a program of its own prints, whose C library nobody has set up."""
    clean = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", script, how]
    return int(
        subprocess.run(command, check=True, capture_output=True, text=True, env=clean).stdout
    )


@glibc
def test_few_pages_are_met_again() -> None:
    kept, given_back = said(FAULTS, "keep"), said(FAULTS, "give back")
    assert given_back > 100_000  # 5 x 96 MiB, in pages of 4 KiB
    assert kept < 30_000


@glibc
def test_what_small_objects_left_is_no_hole() -> None:
    joined = said(HOLES, "join")
    assert joined < 24  # MiB: 12 are needed
    # Where the heap begins is left to chance, and now and then the crumbs happen to fit.
    assert any(said(HOLES, "as it is") > 2 * joined for _ in range(20))


@glibc
@pytest.mark.skipif(GPU.exists(), reason="tensors lie in the GPU's memory")
def test_programs_started_meanwhile_join_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TUNED, raising=False)
    show = [sys.executable, "-c", f"import os; print(os.environ.get('{TUNED}'))"]
    with pieces_joined():
        within = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    after = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    assert (within.strip(), after.strip()) == (JOINED, "None")


@glibc
def test_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TUNED, "glibc.malloc.arena_max=1")
    with pieces_joined():
        assert os.environ[TUNED] == "glibc.malloc.arena_max=1"
    assert os.environ[TUNED] == "glibc.malloc.arena_max=1"
