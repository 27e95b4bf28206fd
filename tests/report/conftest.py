"""A seeded study as a folder of results, without any model: what the report has to cope with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

MIXTURES = {
    "flan": {"flan_v2": 2000},
    "dolly": {"dolly": 2000},
    "oasst": {"oasst1": 2000},
    "code": {"code_alpaca": 2000},
    "sharegpt": {"sharegpt": 2000},
    "human-mix": {"flan_v2": 700, "dolly": 600, "oasst1": 700},
}
BENCHMARKS = ("mmlu:0-shot", "gsm:cot", "tydiqa:gold")
LIFT = {"flan": (0.2, 0.05, 0.15), "oasst": (0.02, 0.15, -0.12), "code": (-0.2, 0.0, 0.02)}
EVIL = '<script>alert("x")</script> </pre>&amp; {{ 7 * 7 }} <img src=http://evil.example/x.png>'
ENVIRONMENT = {
    "cameleer": "0.1.0",
    "python": "3.11.9",
    "platform": "Linux-6.1-x86_64",
    "cores": 8,
    "torch": "2.12.0",
    "transformers": "5.23.0",
}
SANDBOX = "sandbox process+rlimits+userns+netns+ipcns+utsns+pidns+mountns+landlock+seccomp"
"""A word as long as this must not make a page wider than a phone."""


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in value))
    else:
        path.write_text(json.dumps(value))


def manifest(kind: str, config: Any, outcome: Any, seconds: float) -> dict[str, Any]:
    return {
        "kind": kind,
        "fingerprint": "f" * 64,
        "config": config,
        "inputs": {},
        "outcome": outcome,
        "seconds": seconds,
        "finished": "2026-11-20T10:00:00Z",
        "environment": ENVIRONMENT,
    }


def make_sample(
    rng: random.Random, name: str, row: int, lift: float, luck: float
) -> dict[str, Any]:
    bench = name.partition(":")[0]
    group = ("astronomy", "virology", "law")[row % 3] if bench == "mmlu" else ""
    chance = min(1.0, max(0.0, 0.35 + lift + (0.5 - luck) * 0.9))
    score: float = float(rng.random() < chance)
    if bench == "tydiqa" and score:
        score = round(rng.choice((1.0, 1.0, 0.5, rng.random())), 4)
    prompt = f"<|user|>\nAnswer question {row} of {bench}.\n{EVIL}\n<|assistant|>\n"
    output = (
        f"Let me think about {row}: first this, then that.\nSo the answer is {rng.randrange(99)}."
    )
    return {
        "item": f"{bench}/{group + '/' if group else ''}{row}",
        "group": group,
        "score": score,
        "extracted": [str(rng.randrange(99)) if score else None],
        "target": str(row % 50),
        "outputs": [output + (EVIL if row % 7 == 0 else "") + " So it goes." * rng.randrange(30)],
        "logprobs": [],
        "finish": ["stop" if rng.random() < 0.95 else "length"],
        "prompt_tokens": 120,
        "new_tokens": 40,
        "seconds": 0.2,
        "values": {},
        "note": "" if score else "no answer found" * (row % 5 == 0),
        "prompt": prompt,
    }


def make_eval(folder: Path, name: str, lift: float, seed: int, n: int, tuned: bool) -> None:
    rng, luck = random.Random(seed), random.Random(f"items of {name}")
    rows = [make_sample(rng, name, row, lift, luck.random()) for row in range(n)]
    scores = [row["score"] for row in rows]
    groups = {
        group: {"value": sum(of) / len(of), "low": 0.1, "high": 0.9, "n": len(of)}
        for group in sorted({row["group"] for row in rows} - {""})
        if (of := [row["score"] for row in rows if row["group"] == group])
    }
    bench, _, setting = name.partition(":")
    finish = [row["finish"][0] for row in rows]
    write(folder / "samples.jsonl", rows)
    write(
        folder / "scores.json",
        {
            "benchmark": bench,
            "setting": setting,
            "rule": "fixed",
            "format": "chat" if tuned else "plain",
            "metric": "F1" if bench == "tydiqa" else "accuracy",
            "value": sum(scores) / n,
            "low": 0.0,
            "high": 1.0,
            "n": n,
            "groups": groups,
            "metrics": {},
            "finish": {kind: finish.count(kind) for kind in ("stop", "length")},
            "no_answer": sum(row["note"] != "" for row in rows),
            "notes": {SANDBOX: n} if bench == "gsm" else {"no answer found": 7},
            "prompt_tokens": 120 * n,
            "new_tokens": 40 * n,
            "seconds": 31.5,
            "dropped_shots": 2 if bench == "tydiqa" else 0,
        },
    )
    write(folder / "manifest.json", manifest("eval", {"benchmark": name}, {}, 33.0))


def make_train(folder: Path, mixture: str, seed: int) -> None:
    rng = random.Random(f"{mixture} {seed}")
    floor = 1.2 + rng.random()
    rows = [
        {
            "step": step,
            "loss": floor + 1.5 * 0.97**step + rng.gauss(0, 0.06),
            "learning_rate": 2e-5,
            "grad_norm": 1.0,
            "supervised_tokens": 9000,
            "tokens": 30000,
            "tokens_per_second": 52000.0,
            "seconds": 0.6,
            "epoch": step / 60,
        }
        for step in range(1, 121)
    ]
    outcome = {
        "steps": 120,
        "tokens": 3600000,
        "supervised_tokens": 1080000,
        "conversations": 4000,
        "cut": 12,
        "dropped": 1,
        "final_loss": rows[-1]["loss"],
        "tokens_per_second": 52000.0,
        "counts": {f"supervised: {name}": 61 * n for name, n in MIXTURES[mixture].items()},
        "device": "cuda",
        "dtype": "bfloat16",
    }
    write(folder / "metrics.jsonl", rows)
    config = {"seed": seed, "learning_rate": 2e-5, "epochs": 2}
    write(folder / "manifest.json", manifest("train", config, outcome, 75.0))


def make_mix(folder: Path, sources: dict[str, int]) -> None:
    total = sum(sources.values())
    facts = {
        name: {
            "read": count + 9,
            "kept": count + 5,
            "dropped: empty answer": 4,
            "taken": count,
            "messages": 2 * count,
            "share": count / total,
            "answer_share": count / total,
        }
        for name, count in sources.items()
    }
    write(folder / "conversations.jsonl", [])
    outcome = {"sources": facts, "conversations": total}
    write(folder / "manifest.json", manifest("mix", {"seed": 42}, outcome, 1.5))


def build_study(
    folder: Path,
    *,
    mixtures: Sequence[str] = tuple(MIXTURES),
    benchmarks: Sequence[str] = BENCHMARKS,
    bases: Sequence[str] = ("smollm2-135m",),
    seeds: Sequence[int] = (1,),
    n: int = 300,
) -> Path:
    """Write a study whose `flan` helps much, `code` hurts mmlu and the rest does about nothing."""
    cells: list[dict[str, Any]] = []
    for base in bases:
        for mixture in (None, *mixtures):
            for seed in seeds if mixture else (None,):
                where = f"cells/{base}/{mixture or 'untuned'}" + (f"-{seed}" if mixture else "")
                evals = {}
                for index, name in enumerate(benchmarks):
                    evals[name] = f"{where}/{name.replace(':', '-')}"
                    lift = LIFT.get(mixture or "", (0.0,) * 9)[index % 3]
                    number = sum(map(ord, f"{where}{name}"))
                    make_eval(folder / evals[name], name, lift, number, n, mixture is not None)
                cell = {"base": base, "mixture": mixture, "seed": seed, "evals": evals}
                if mixture:
                    make_train(folder / where / "model", mixture, seed or 0)
                    make_mix(folder / "mixes" / mixture, MIXTURES[mixture])
                train = f"{where}/model" if mixture else None
                mix = f"mixes/{mixture}" if mixture else None
                cells.append(cell | {"train": train, "mix": mix, "failed": None})
    study = {
        "name": "camels <small>",
        "about": "Which of six instruction data sets helps a small base model?",
        "started": "2026-11-20T09:00:00Z",
        "bases": [{"name": base, "about": "a small open base model"} for base in bases],
        "mixtures": [{"name": name, "sources": MIXTURES[name]} for name in mixtures],
        "benchmarks": list(benchmarks),
        "cells": cells,
    }
    write(folder / "study.json", study)
    return folder


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def make_study() -> Callable[..., Path]:
    """The function that writes a study."""
    return build_study
