"""Answers are compared question by question, and other prompts are found out."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from bench import eval as bench_eval
from cameleer.core.errors import UserError


def answers(*prompts: str) -> dict[str, Any]:
    return {
        f"mmlu/anatomy/{i}": {"prompt": text, "chosen": i, "logprobs": [-1.0, -2.0, -3.0, -4.0]}
        for i, text in enumerate(prompts)
    }


def test_agreement_counts_choices_and_the_distance_of_log_probabilities() -> None:
    mine, other = answers("a", "b"), answers("a", "b")
    other["mmlu/anatomy/1"] |= {"chosen": 3, "logprobs": [-1.0, -2.5, -3.0, -4.25]}
    said = bench_eval.agreement("lm-eval", mine, other)
    assert said == {"same_prompts": True, "same_choice": 1, "logprobs_apart": 0.25}


def test_agreement_of_texts_counts_what_was_read_out_of_them_beside() -> None:
    said = {"prompt": "p", "output": "It is 7.", "extracted": "7"}
    mine = {f"gsm/{n}": dict(said) for n in range(4)}
    other = {key: dict(one) for key, one in mine.items()}
    other["gsm/1"]["output"] = "7"
    other["gsm/2"] |= {"output": "8", "extracted": "8"}
    found = bench_eval.agreement("lm-eval", mine, other)
    assert found == {"same_prompts": True, "same_output": 2, "same_extracted": 3}


def test_other_prompts_and_other_questions_are_found_out() -> None:
    mine = answers("a", "b")
    assert not bench_eval.agreement("lm-eval", mine, answers("a", "b "))["same_prompts"]
    with pytest.raises(UserError, match="same questions"):
        bench_eval.agreement("lm-eval", mine, answers("a"))


@pytest.mark.real_data
def test_only_the_chosen_subjects_are_asked(real_data: Path, tmp_path: Path) -> None:
    given = Namespace(data=real_data, subjects=["anatomy"])
    home = bench_eval.chosen_data(given, tmp_path)
    found = sorted(path.relative_to(home).as_posix() for path in home.rglob("*.csv"))
    assert found == ["dev/anatomy_dev.csv", "test/anatomy_test.csv"]
    with pytest.raises(UserError, match=r"cooking_dev\.csv"):
        bench_eval.chosen_data(Namespace(data=real_data, subjects=["cooking"]), tmp_path / "more")
