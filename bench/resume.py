"""Kill a small fine-tuning run again and again, and compare it with one that nobody disturbed.

    python -m bench.resume --kills 20

Each time the same command is given, and killed (SIGKILL) at a random moment, until it has been
killed so often; then it may end. Weights, tokenizer and metrics (timings apart) must be the same
bits; with them the optimizer's state, of which every weight is made. Exit 1 if not.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cameleer.core.files import read_json, write_json, write_jsonl

OUT = Path(__file__).parent / "out" / "resume"
CLOCK = (
    "seconds",
    "tokens_per_second",
    "mfu",
    "memory",
    "peak_memory",
)  # decides these


def main() -> None:
    """Run it and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    config = prepared(OUT, given.steps)
    began = time.monotonic()
    unbroken = run(config, OUT / "unbroken")
    assert unbroken is not None
    whole = time.monotonic() - began
    draw, kills, finished = random.Random(given.seed), 0, 0
    wrong: set[str] = set()
    while kills < given.kills:
        ended = run(config, OUT / "killed", after=draw.uniform(0.3, 1.0) * whole)
        kills += ended is None
        if ended is not None:  # it was quicker: once more from the start
            finished += 1
            wrong |= set(different(OUT / "killed", OUT / "unbroken"))
            shutil.rmtree(OUT / "killed")
    run(config, OUT / "killed")
    wrong |= set(different(OUT / "killed", OUT / "unbroken"))
    facts = {"kills": kills, "runs": finished + 1, "different": sorted(wrong)}
    write_json(OUT.parent / "resume.json", facts)
    print(json.dumps(facts))
    sys.exit(1 if wrong else 0)


def prepared(folder: Path, steps: int) -> Path:
    """A tiny random model, some conversations, and the configuration of a run over them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from cameleer.model.embedded import get_embedded

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokenizer = AutoTokenizer.from_pretrained(get_embedded("smollm2-135m-instruct"))
    shape = AutoConfig.for_model("llama", vocab_size=len(tokenizer), intermediate_size=96, **sizes)
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    draw = random.Random(0)
    words = ["where", "does", "the", "camel", "live", "in", "deserts", "of", "little", "water"]
    rows: list[dict[str, Any]] = []
    for number in range(400):
        said = [" ".join(draw.choices(words, k=draw.randint(2, 30))) for _ in range(2)]
        turns = [
            {"role": r, "content": c} for r, c in zip(("user", "assistant"), said, strict=True)
        ]
        rows.append({"id": str(number), "source": "made", "messages": turns})
    write_jsonl(folder / "data.jsonl", rows)
    settings: dict[str, Any] = {"model": str(folder / "model"), "data": str(folder / "data.jsonl")}
    settings |= {"max_seq_length": 128, "max_steps": steps, "num_train_epochs": 9}
    write_json(folder / "run.yaml", {**settings, "save_steps": 3})  # JSON is YAML
    return folder / "run.yaml"


def run(config: Path, folder: Path, after: float | None = None) -> int | None:
    """Give the command; kill it after some seconds, if it has not ended. Returns its exit code."""
    words = [sys.executable, "-m", "cameleer.cli", "train", "run", str(config), "-o", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, said = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    if process.returncode:
        sys.exit(said.decode())
    return process.returncode


def different(one: Path, other: Path) -> list[str]:
    """Files of two finished runs that are not the same."""
    names = {path.name for folder in (one, other) for path in folder.iterdir()}
    wrong = []
    for name in sorted(names - {"manifest.json", "metrics.jsonl", "training.html"}):
        if (one / name).read_bytes() != (other / name).read_bytes():
            wrong.append(name)
    if timeless(one) != timeless(other):
        wrong.append("metrics.jsonl")
    counted = [read_json(folder / "manifest.json")["outcome"]["tokens"] for folder in (one, other)]
    return [*wrong, *(["manifest.json"] if counted[0] != counted[1] else [])]


def timeless(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock decides."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(CLOCK)} for row in rows]


if __name__ == "__main__":
    main()
