"""lm-eval's side of `bench.eval`: answers given prompts; runs in lm-eval's own environment.

    python -P bench/eval_lm_eval.py JOB.json     prints one JSON object

Imports nothing of Cameleer. The prompts come whole, examples included, and pass through a task file
that adds nothing to them. Batch size `auto` is not offered: on a CPU it tries out 64 sequences of
the model's full length, which neither time nor memory allows.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lm_eval import simple_evaluate  # type: ignore[import-not-found,unused-ignore]
from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found,unused-ignore]
from lm_eval.tasks import TaskManager  # type: ignore[import-not-found,unused-ignore]

NAME = "given_prompts"


def task(job: dict[str, Any]) -> dict[str, Any]:
    """The task, as its YAML file would say it."""
    given = {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": job["questions"]}},
        "test_split": "test",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "target_delimiter": "",
        "num_fewshot": 0,
    }
    if job["label"].startswith("mmlu"):
        return given | {
            "output_type": "multiple_choice",
            "doc_to_choice": [" A", " B", " C", " D"],
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    until = {"until": job["stop"], "max_gen_toks": job["new_tokens"], "do_sample": False}
    return given | {
        "output_type": "generate_until",
        "generation_kwargs": until,
        "metric_list": [{"metric": "bypass", "aggregation": "bypass", "higher_is_better": True}],
    }


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the task; returns the answers and the time of each part."""
    began = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[job["precision"]]
    model = HFLM(pretrained=job["base"], dtype=dtype, batch_size=job["batch"], device=device)
    loaded, answering = time.perf_counter(), 0.0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **kwargs: Any) -> Any:
            nonlocal answering
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                answering += time.perf_counter() - start

        return measured

    model.loglikelihood = timed(model.loglikelihood)
    model.generate_until = timed(model.generate_until)
    found = simple_evaluate(
        model=model,
        tasks=[task(job)],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    one = chosen if job["label"].startswith("mmlu") else written
    return {
        "load_seconds": loaded - began,
        "answer_seconds": answering,
        "rest_seconds": time.perf_counter() - loaded - answering,
        "answers": {row["doc"]["key"]: one(row) for row in found["samples"][NAME]},
        "versions": {
            name: importlib.metadata.version(name) for name in ("lm-eval", "torch", "transformers")
        },
    }


def sent(row: dict[str, Any]) -> str:
    """The prompt of a sample of lm-eval, which is one and the same for all choices."""
    arguments = row["arguments"]
    calls = arguments.values() if isinstance(arguments, dict) else arguments
    texts = {next(iter(one.values())) if isinstance(one, dict) else one[0] for one in calls}
    (prompt,) = texts
    return str(prompt)


def chosen(row: dict[str, Any]) -> dict[str, Any]:
    """What was chosen, and whether it was right."""
    logprobs = [response[0] for response in row["filtered_resps"]]
    best = max(range(4), key=logprobs.__getitem__)
    return {"prompt": sent(row), "chosen": best, "logprobs": logprobs, "right": row["acc"]}


def written(row: dict[str, Any]) -> dict[str, Any]:
    """What was written; Cameleer grades it."""
    return {"prompt": sent(row), "output": row["resps"][0][0]}


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
