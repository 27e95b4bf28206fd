"""Runs a page's console blocks and writes in what they print: `python -m docs.transcripts PAGE`.

A block ```` ```yaml mix.yaml ```` is a file to write. In a block ```` ```console ```` the lines
after `$ ` are commands; what stands between them is their output, which is written anew. All run in
one empty folder. Notes on progress, which depend on the time, are left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TIMED = re.compile(r"(\d+/\d+|begun), [\d.]+ ?(/s|s left|GiB)")


def main(page: Path) -> None:
    """Run the page from top to bottom; a command that fails is told and ends it."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        text = BLOCK.sub(lambda block: _block(block, Path(folder)), text)
    page.write_text(text, encoding="utf-8")


def _block(block: re.Match[str], folder: Path) -> str:
    kind, name, body = block.groups()
    if kind == "console":
        commands = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
        shown = "".join(f"$ {command}\n{output(command, folder)}" for command in commands)
        return f"```console\n{shown}```"
    if name:
        (folder / name).write_text(body, encoding="utf-8")
    return block.group(0)


def output(command: str, folder: Path, environment: Mapping[str, str] = os.environ) -> str:
    """What a command prints in that folder, as a page shows it; SystemExit where it fails."""
    print(f"$ {command}", file=sys.stderr)
    done = subprocess.run(
        ["bash", "-c", f"{{ {command}\n}} 2>&1"],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode not in (0, 2):  # a mistake may be what the page shows
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stdout}")
    lines = [line.rstrip() for line in done.stdout.replace(str(folder), "…").splitlines()]
    return "".join(f"{line}\n" for line in lines if not TIMED.search(line))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
