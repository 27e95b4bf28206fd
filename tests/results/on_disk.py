"""A finished study as a folder: scores, and hardly a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEXTS = {"prompt": "Q", "target": "", "outputs": [""], "extracted": [""], "finish": ["stop"]}


def study(
    folder: Path,
    scores: Mapping[str | None, list[list[float]]],
    methods: tuple[str, ...] = (),
    lower: bool = True,
    sources: Mapping[str, dict[str, int]] | None = None,
) -> Path:
    """A finished study: scores of each seed, by mixture, which holds what `sources` says, or 10 of
    the source that its name begins with; lower: is better."""
    cells = []
    for mixture, seeds in scores.items():
        for seed, values in enumerate(seeds):
            place = folder / f"{mixture}-{seed}"
            place.mkdir(parents=True)
            mean = sum(values) / max(1, len(values))
            told = {"value": mean, "lower_is_better": lower}
            (place / "scores.json").write_text(json.dumps(told))
            if values:
                (place / "manifest.json").write_text("{}")
            lines = [
                json.dumps({"item": f"i/{n}", "score": v} | TEXTS) for n, v in enumerate(values)
            ]
            (place / "samples.jsonl").write_text("\n".join(lines))
            cells.append(
                {"base": "b", "mixture": mixture, "seed": seed, "evals": {"t": place.name}}
            )
    named = [name for name in scores if name]
    holds = {name: {name.partition(" ")[0]: 10} for name in named} | dict(sources or {})
    mixtures = [{"name": name, "sources": holds[name]} for name in named]
    record: dict[str, Any] = {"name": "s", "bases": [{"name": "b"}], "mixtures": mixtures}
    record["study"] = {"methods": [{"name": name} for name in methods]}
    record |= {"benchmarks": ["t"], "cells": cells}
    (folder / "study.json").write_text(json.dumps(record))
    return folder
