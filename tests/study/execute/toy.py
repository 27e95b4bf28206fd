"""A study of which nothing is there: what executors read of one, and no more."""

from __future__ import annotations

from typing import Any

from cameleer.study.study import Study


def toy_study(**changes: Any) -> Study:
    """The study, with some of its fields changed."""
    declared = {
        "name": "toy",
        "bases": [{"name": "base", "model": "org/base"}],
        "mixtures": [{"name": "cot", "parts": [{"source": "cot"}]}],
        "benchmarks": ["mmlu:0-shot"],
    }
    return Study.model_validate({**declared, **changes})
