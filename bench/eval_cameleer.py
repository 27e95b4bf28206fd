"""Cameleer's side of `bench.eval`: writes the questions for all, answers them, grades all outputs.

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
from cameleer.evals.asking import EvalSpec, prompts
from cameleer.evals.benchmark import Ask, benchmark_named
from cameleer.evals.benchmarks.mmlu import LETTERS
from cameleer.evals.recorded import grade
from cameleer.evals.runner import SAMPLES, eval_stage, evaluate
from cameleer.model.load import load_tokenizer, model_fingerprint, model_folder


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write the prompts that we ask, with the number of the right choice, for the peer."""
    base, home, label = model_folder(job["model"]), Path(job["data"]), job["label"]
    tokenizer, right = load_tokenizer(str(base)), targets(label, home)

    def tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    rows = [
        {"key": row["item"], "prompt": row["prompt"], "target": right.get(row["item"], 0)}
        for row in prompts(label, home, form="plain", count_tokens=tokens, limit=job["limit"])
    ]
    write_jsonl(Path(job["questions"]), rows)
    asked = sum(tokens(str(row["prompt"])) for row in rows)
    stop = list(benchmark_named(label).setting.stop.get("plain", ()))
    return {"base": str(base), "questions": len(rows), "prompt_tokens": asked, "stop": stop}


def targets(label: str, home: Path) -> dict[str, int]:
    """The number of the right letter of every question of multiple choice."""
    benchmark = benchmark_named(label)
    if not benchmark.setting.choices:
        return {}
    ask = Ask(home, benchmark.setting_name, grading=True)
    return {item.key: LETTERS.index(item.target) for item in benchmark.module.items(ask)}


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Evaluate as `cameleer eval run` does; returns the answers and the time of each part."""
    base, began = Path(job["base"]), time.perf_counter()
    identity = {"model": model_fingerprint(base)}
    engine = TransformersEngine(base, identity, precision=job["precision"])
    loaded = time.perf_counter()
    spec = EvalSpec(
        benchmark=job["label"],
        format="plain",
        limit=job["limit"],
        max_new_tokens=job["new_tokens"],
    )
    stage = eval_stage(spec, engine.identity, Path(job["data"]), Path(job["out"]))
    folder = evaluate(spec, lambda: engine, Path(job["data"]), stage)
    rows = [row for _, row in read_jsonl(folder / SAMPLES)]
    seconds = sum(row["seconds"] for row in rows)
    return {
        "load_seconds": loaded - began,
        "answer_seconds": seconds,
        "rest_seconds": time.perf_counter() - loaded - seconds,
        "answers": {row["item"]: one(row) for row in rows},
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }


def one(row: dict[str, Any]) -> dict[str, Any]:
    """What is compared of an answer."""
    said = {"prompt": row["prompt"], "right": row["score"]}
    if row["logprobs"]:
        chosen = max(range(len(LETTERS)), key=row["logprobs"].__getitem__)
        return said | {"chosen": chosen, "logprobs": row["logprobs"]}
    tokens = {"new_tokens": row["new_tokens"]}
    return said | {"output": row["outputs"][0], "extracted": row["extracted"][0]} | tokens


def graded(job: dict[str, Any]) -> dict[str, Any]:
    """Grade a peer's outputs by our rules."""
    outputs = json.loads(Path(job["answers"]).read_text(encoding="utf-8"))
    recorded = Path(job["answers"]).with_suffix(".jsonl")
    write_jsonl(recorded, [{"item": key, "output": said} for key, said in outputs.items()])
    rows = grade(job["label"], recorded, Path(job["data"]))
    return {
        "answers": {
            row["item"]: {"extracted": row["extracted"], "right": row["score"]} for row in rows
        }
    }


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    does = {"prepare": prepare, "answer": answer, "grade": graded}
    print(json.dumps(does[asked["do"]](asked)))
