"""A study of two models and two benchmarks, made by hand: every number follows from samples."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from cameleer.core.artifact import Stage
from cameleer.core.files import write_json, write_jsonl
from cameleer.evals.scoring import estimates

MMLU, GSM = "mmlu:0-shot", "gsm:cot"


def rows_of(bench: str, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "item": f"{bench}/{row}",
            "group": ("law", "virology")[row % 2] if bench == "mmlu" else "",
            "score": float(rng.random() < 0.4 + 0.1 * (seed % 2)),
            "extracted": ["A"],
            "target": "A",
            "outputs": [f"answer {rng.randrange(1000)}"],
            "logprobs": [],
            "finish": ["stop"],
            "prompt_tokens": 10,
            "new_tokens": 3,
            "seconds": 0.1,
            "values": {"strict": float(rng.random() < 0.3)},
            "note": "" if row % 5 else "no answer found",
            "prompt": f"question {row}",
        }
        for row in range(40)
    ]


def evaluated(folder: Path, label: str, model: str, seed: int) -> Stage:
    bench, setting = label.split(":")
    rows = rows_of(bench, seed)

    def work(partial: Path) -> dict[str, Any]:
        write_jsonl(partial / "samples.jsonl", rows)
        macro = bench == "mmlu"
        scores = {
            "benchmark": bench,
            "setting": setting,
            "rule": "fixed",
            "format": "chat",
            "metric": "accuracy",
            "lower_is_better": False,
            "macro": macro,
            **estimates(rows, macro),
            "finish": {"stop": 40},
            "no_answer": 8,
            "notes": {"no answer found": 8},
            "dropped_shots": 0,
            "too_long": 0,
            "prompt_tokens": 400,
            "new_tokens": 120,
            "seconds": 4.0,
        }
        write_json(partial / "scores.json", scores)
        return {key: scores[key] for key in ("metric", "value", "low", "high", "n")}

    config = {"spec": {"benchmark": label, "limit": 40}, "engine": {"model": model}}
    stage = Stage("eval", folder, config, {"test": "0" * 64})
    stage.run(work)
    return stage


def mixed(folder: Path) -> Stage:
    def work(partial: Path) -> dict[str, Any]:
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
        rows = [{"id": f"d{i}", "source": "dolly", "messages": messages} for i in range(3)]
        write_jsonl(partial / "conversations.jsonl", [*rows, rows[0] | {"source": "code_alpaca"}])
        of = {"read": 9, "kept": 9, "dropped: empty answer": 2, "answer_share": 0.5}
        sources = {
            "dolly": of | {"taken": 3, "share": 0.75, "licence": "CC BY-SA 3.0"},
            "code_alpaca": of | {"taken": 1, "share": 0.25, "licence": "CC BY-NC 4.0"},
        }
        licences = {
            "CC BY-SA 3.0": "share-alike, attribution",
            "CC BY-NC 4.0": "non-commercial use, attribution",
        }
        facts = {"conversations": 4, "measure": "characters", "sources": sources}
        return facts | {"licences": licences, "warnings": ["made up"]}

    stage = Stage("mix", folder, {"seed": 42}, {"dolly/a.jsonl": "1" * 64})
    stage.run(work)
    return stage


def trained(folder: Path, data: str) -> Stage:
    def work(partial: Path) -> dict[str, Any]:
        (partial / "model.safetensors").write_bytes(b"weights" * 100)
        write_json(partial / "config.json", {"model_type": "llama"})
        write_jsonl(partial / "metrics.jsonl", [{"step": 1, "loss": 2.5, "supervised_tokens": 9}])
        counts = {"supervised: dolly": 90, "supervised: code_alpaca": 10}
        return {"steps": 1, "final_loss": 2.5, "cut": 2, "dropped": 1, "counts": counts}

    config = {"template": "tulu", "learning_rate": 2e-5, "seed": 1, "lora": None}
    stage = Stage("train", folder, config, {"model": "2" * 64, "data": data})
    stage.run(work)
    return stage


def searched(folder: Path, mixture: str) -> Stage:
    """Which items of gsm a mixture holds: seven of them."""

    def work(partial: Path) -> dict[str, Any]:
        found = {"touched": True, "kind": "exact", "answer_seen": False}
        rows = [
            {"item": f"gsm/{row}", **(found if row < 7 else {"touched": False})}
            for row in range(40)
        ]
        write_jsonl(partial / "labels.jsonl", rows)
        (partial / "matches.html").write_text("what the data says")
        counts = {"items": 40, "touched": 7, "answer_seen": 0, "kinds": {"exact": 7, "near": 0}}
        summary = {"benchmarks": {"gsm": counts}}
        write_json(partial / "summary.json", summary)
        return summary

    stage = Stage("touched", folder, {"benchmarks": ["gsm"]}, {"mixture": mixture})
    stage.run(work)
    return stage


def build(root: Path) -> Path:
    """A base and one model tuned from it, on two benchmarks; every number follows from samples."""
    mix = mixed(root / "mix/m")
    searched(root / "touched/m", mix.fingerprint)
    model = trained(root / "train/m", mix.fingerprint)
    evals: dict[str, dict[str, str]] = {"base": {}, "m": {}}
    for seed, (name, mark) in enumerate((("base", "2" * 64), ("m", model.fingerprint))):
        for label in (MMLU, GSM):
            below = f"eval/{name}-{label.partition(':')[0]}"
            evaluated(root / below, label, mark, seed)
            evals[name][label] = below
    cell = {"base": "smollm2-135m-instruct", "failed": None}
    cells = [
        cell | {"mixture": None, "seed": None, "evals": evals["base"]},
        cell | {"mixture": "m", "seed": 1, "evals": evals["m"], "mix": "mix/m", "train": "train/m"},
    ]
    study = {
        "name": "camels",
        "bases": [{"name": "smollm2-135m-instruct", "about": "a small model."}],
        "mixtures": [
            {"name": "m", "sources": {"dolly": 3, "code_alpaca": 1}, "touched": "touched/m"}
        ],
        "benchmarks": [MMLU, GSM],
        "cells": cells,
    }
    write_json(root / "study.json", study)
    return root
