"""Cameleer's side of `bench.eval`: writes the questions for all, and answers them.

python -m bench.eval_cameleer JOB.json     prints one JSON object
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

from cameleer.core.files import write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.transformers import TransformersEngine
from cameleer.evals.benchmarks.mmlu import LETTERS
from cameleer.evals.runner import SAMPLES, EvalSpec, eval_stage, evaluate, prompts
from cameleer.model.load import load_tokenizer, model_fingerprint, model_folder

BENCHMARK = "mmlu:5-shot"


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write the prompts that we ask, with the number of the right choice, for the peer."""
    base, home = model_folder(job["model"]), Path(job["data"])
    tokenizer, right = load_tokenizer(str(base)), targets(home)

    def tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    rows = [
        {"key": row["item"], "prompt": row["prompt"], "target": LETTERS.index(right[row["item"]])}
        for row in prompts(BENCHMARK, home, form="plain", count_tokens=tokens, limit=job["limit"])
    ]
    write_jsonl(Path(job["questions"]), rows)
    asked = sum(tokens(str(row["prompt"])) for row in rows)
    return {"base": str(base), "questions": len(rows), "prompt_tokens": asked}


def targets(home: Path) -> dict[str, str]:
    """The right letter of every question."""
    from cameleer.evals.benchmark import Ask
    from cameleer.evals.benchmarks import mmlu

    return {item.key: item.target for item in mmlu.items(Ask(home, "5-shot", grading=True))}


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Evaluate as `cameleer eval run` does; returns the answers and the time of each part."""
    base, began = Path(job["base"]), time.perf_counter()
    engine = TransformersEngine(base, {"model": model_fingerprint(base)}, precision="bf16")
    loaded = time.perf_counter()
    spec = EvalSpec(benchmark=BENCHMARK, format="plain", limit=job["limit"])
    stage = eval_stage(spec, engine.identity, Path(job["data"]), Path(job["out"]))
    folder = evaluate(spec, lambda: engine, Path(job["data"]), stage)
    rows = [row for _, row in read_jsonl(folder / SAMPLES)]
    return {
        "load_seconds": loaded - began,
        "answer_seconds": sum(row["seconds"] for row in rows),
        "rest_seconds": time.perf_counter() - loaded - sum(row["seconds"] for row in rows),
        "answers": {
            row["item"]: {
                "prompt": row["prompt"],
                "chosen": max(range(4), key=row["logprobs"].__getitem__),
                "logprobs": row["logprobs"],
                "right": row["score"],
            }
            for row in rows
        },
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps({"prepare": prepare, "answer": answer}[asked["do"]](asked)))
