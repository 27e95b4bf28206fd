"""The README's tour, pasted line by line: with a random model, a lighter world and no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("study")]


def tour() -> list[str]:
    text = (ROOT / "README.md").read_text()
    [block] = re.findall(r"^## Tour\n.*?^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for line in block.splitlines() if line]


def test_the_tour(random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "cameleer").write_text(f'#!/bin/sh\nexec {sys.executable} -m cameleer.cli "$@"\n')
    (tmp_path / "cameleer").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CAMELEER_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    done = []
    for line in tour():
        line = line.replace("embedded:smollm2-135m-instruct", str(random_model))
        line = line.replace("max_steps=20", "max_steps=2 precision=fp32")
        line = line.replace("--limit 20", "--limit 2 --max-new-tokens 4")
        if line.startswith(("cameleer models get", "cameleer study run")):
            continue  # these need the real model
        ran = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, (line, ran.stderr)
        done.append(line.split()[1])
    assert done == [*["data"] * 4, "'{name:", "mix", "'{model:", "train", "eval"]
    assert (tmp_path / "models/skills/model.safetensors").is_file()
    assert (tmp_path / "evals/gsm-cot/scores.json").is_file()
