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
from pathlib import Path
from typing import Any

import torch
from lm_eval import simple_evaluate  # type: ignore[import-not-found,unused-ignore]
from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found,unused-ignore]
from lm_eval.tasks import TaskManager  # type: ignore[import-not-found,unused-ignore]

NAME = "given_prompts"


def task(questions: str) -> dict[str, Any]:
    """The task, as its YAML file would say it."""
    return {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": questions}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": [" A", " B", " C", " D"],
        "doc_to_target": "target",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the task; returns the answers and the time of each part."""
    began = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = HFLM(pretrained=job["base"], dtype="bfloat16", batch_size=job["batch"], device=device)
    loaded, answering = time.perf_counter(), 0.0
    of_theirs = model.loglikelihood

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal answering
        start = time.perf_counter()
        try:
            return of_theirs(*args, **kwargs)
        finally:
            answering += time.perf_counter() - start

    model.loglikelihood = timed
    found = simple_evaluate(
        model=model,
        tasks=[task(job["questions"])],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    return {
        "load_seconds": loaded - began,
        "answer_seconds": answering,
        "rest_seconds": time.perf_counter() - loaded - answering,
        "answers": {row["doc"]["key"]: one(row) for row in found["samples"][NAME]},
        "versions": {
            name: importlib.metadata.version(name) for name in ("lm-eval", "torch", "transformers")
        },
    }


def one(row: dict[str, Any]) -> dict[str, Any]:
    """A sample of lm-eval: the prompt as sent, what was chosen, whether it was right."""
    arguments = row["arguments"]
    sent = arguments.values() if isinstance(arguments, dict) else arguments
    texts = {next(iter(one.values())) if isinstance(one, dict) else one[0] for one in sent}
    (prompt,) = texts  # one and the same for all choices
    logprobs = [response[0] for response in row["filtered_resps"]]
    chosen = max(range(4), key=logprobs.__getitem__)
    return {"prompt": prompt, "chosen": chosen, "logprobs": logprobs, "right": row["acc"]}


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
