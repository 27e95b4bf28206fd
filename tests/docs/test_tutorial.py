"""The tutorial is run from its first line to its last, and prints what the page says it does.

Commands that train or ask a model are given a tiny random one, fewer steps and fewer items; what
they print is another thing then, and only that they work is tested. What all others print is held
against the page.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.transcripts import BLOCK, output

PAGE = Path(__file__).resolve().parents[2] / "docs/tutorial.md"
LATER = ("cameleer train", "cameleer eval", "cameleer study", "ls models")
"""What works on what was trained, or tells of this machine."""

pytestmark = [pytest.mark.slow, pytest.mark.embedded]


def smaller(command: str, model: Path) -> str:
    """The same command on a tiny model."""
    asked = '[{benchmark: "gsm:cot", limit: 2, max_new_tokens: 4}]'
    base = f"'bases=[{{name: smollm2, model: {model}}}]' 'benchmarks={asked}'"
    command = command.replace("max_steps=12", f"max_steps=1 precision=fp32 model={model}")
    command = command.replace("--limit 24 --max-new-tokens 64", "--limit 24 --max-new-tokens 1")
    more = f"train.max_steps=1 train.precision=fp32 {base}"
    return re.sub(r"^(cameleer study \w+ study.yaml)", rf"\1 {more}", command)


def commands(body: str) -> list[tuple[str, str]]:
    """The commands of a block, each with what the page says it prints."""
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return [(command, said) for command, _, said in (part.partition("\n") for part in parts)]


def test_every_command_works_and_prints_what_the_page_says(
    embedded_model: Path, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    assert embedded_model.is_dir()  # it is what the first half of the page counts tokens with
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 4096}
    model, folder = tiny_model("llama", **sizes), tmp_path / "work"
    folder.mkdir()
    (tmp_path / "cameleer").write_text(f'#!/bin/sh\nexec {sys.executable} -m cameleer.cli "$@"\n')
    (tmp_path / "cameleer").chmod(0o755)
    here = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = []
    for kind, name, body in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if name:
            (folder / name).write_text(body, encoding="utf-8")
        for command, said in commands(body) if kind == "console" else ():
            printed = output(smaller(command, model), folder, here)
            if command.startswith(LATER):
                assert "error:" not in printed, printed
            else:
                assert printed == said, command
            ran.append(" ".join(command.split()[:3]))
    assert (folder / "runs/own/report/report.html").is_file()
    assert (folder / "look.html").is_file()
    assert [one for one in ran if one.startswith(LATER)] == [
        "cameleer train plan",
        "cameleer train run",
        "ls models/skills",
        "cameleer eval run",
        "cameleer eval show",
        "cameleer eval show",
        "cameleer study plan",
        "cameleer study run",
    ]
