"""Rates leave out the first step, and systems that did other work are found out."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from bench import sft, sft_cameleer


def step(tokens: int, supervised: int, seconds: float, loss: float) -> dict[str, float]:
    return {"tokens": tokens, "supervised": supervised, "seconds": seconds, "loss": loss}


def found() -> dict[str, Any]:
    return {
        "check": step(50, 20, 1.0, 1.5) | {"grad_norm": 6.0},
        "steps": [step(1000, 600, 90.0, 2.0), step(800, 400, 3.0, 1.0), step(100, 50, 1.0, 1.0)],
        "wall": 100.0,
        "cpu": 150.0,
        "peak": 3 << 30,
        "about": {"versions": {}},
    }


def test_rates_are_of_the_steps_after_the_first() -> None:
    one = sft.summary("A", found())
    assert one["tokens_per_second"] == 900 / 4
    assert one["supervised_per_second"] == pytest.approx(450 / 4, abs=0.05)
    assert (one["tokens"], one["supervised"], one["checked"]) == (1900, 1050, 20)
    assert one["epoch_loss"] == pytest.approx((600 * 2 + 450) / 1050)
    assert one["peak_gib"] == 3.0


def test_a_system_that_learned_other_tokens_is_found_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = {"train": {"tokens": 1900, "supervised": 1050}, "check": {"supervised": 20}}
    one, other = sft.summary("A", found()), sft.summary("B", found())
    assert sft.agreement([one, other], counts) == {"same_tokens": True, "first_losses_apart": 0.0}
    other |= {"supervised": 1049, "first_loss": 1.6}
    said = sft.agreement([one, other], counts)
    assert not said["same_tokens"]
    assert said["first_losses_apart"] == pytest.approx(0.1)
    assert "B saw, learned, checked (1900, 1049, 20)" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["sft_trl.py", "eval_lm_eval.py"])
def test_a_peers_script_imports_nothing_of_ours(script: str) -> None:
    tree = ast.parse((Path(sft.__file__).parent / script).read_text())
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not {name.partition(".")[0] for name in names} & {"cameleer", "bench"}


@pytest.mark.real_data
@pytest.mark.embedded
def test_labels_are_the_answer_and_its_end(
    real_data: Path, embedded_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    gsm = real_data / "eval" / "gsm" / "train.jsonl"
    job = {"model": str(embedded_model), "gsm": gsm, "work": tmp_path, "row": 1024}
    said = sft_cameleer.prepare(job | {"parts": {"train": 3, "check": 2}})
    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    native = [json.loads(line) for line in gsm.read_text().splitlines()[:5]]
    rows = [
        json.loads(line)
        for part in ("train", "check")
        for line in (tmp_path / f"{part}.tokens.jsonl").read_text().splitlines()
    ]
    for row, asked in zip(rows, native, strict=True):
        learned = [label for label in row["labels"] if label != -100]
        assert tokenizer.decode(learned) == asked["answer"].strip() + tokenizer.eos_token
        assert tokenizer.decode(row["input_ids"]).startswith(f"<|user|>\n{asked['question']}")
    assert said["counts"]["train"]["supervised"] == sum(
        label != -100 for row in rows[:3] for label in row["labels"]
    )
