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


@pytest.mark.parametrize("script", ["sft_trl.py", "sft_paper.py", "eval_lm_eval.py"])
def test_a_peers_script_imports_nothing_of_ours(script: str) -> None:
    tree = ast.parse((Path(sft.__file__).parent / script).read_text())
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not {name.partition(".")[0] for name in names} & {"cameleer", "bench"}


@pytest.mark.real_data
@pytest.mark.embedded
def test_labels_are_the_answers_and_their_ends(
    real_data: Path, embedded_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    job = {"model": str(embedded_model), "folder": real_data, "work": tmp_path, "row": 256}
    job |= {"sources": ["stanford_alpaca", "dolly", "oasst1"]}
    said = sft_cameleer.prepare(job | {"parts": {"train": 6, "check": 3}})
    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    for part, size in (("train", 6), ("check", 3)):
        chats, rows = (
            [json.loads(line) for line in (tmp_path / f"{part}.{end}").read_text().splitlines()]
            for end in ("jsonl", "tokens.jsonl")
        )
        assert len({chat["source"] for chat in chats}) == 3
        assert len(rows) == size
        for chat, row in zip(chats, rows, strict=True):
            learned = [label for label in row["labels"] if label != -100]
            turns = chat["messages"]
            answers = [turn["content"].strip() for turn in turns if turn["role"] == "assistant"]
            end = tokenizer.eos_token
            assert tokenizer.decode(learned) == "".join(answer + end for answer in answers)
            assert len(row["input_ids"]) <= 256
        count = sum(label != -100 for row in rows for label in row["labels"])
        assert said["counts"][part]["supervised"] == count


def test_the_papers_loop_pads_what_is_not_learned(tmp_path: Path) -> None:
    from bench.sft_paper import batch_of

    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    made = {name: tensor.tolist() for name, tensor in batch_of(rows).items()}
    assert made["input_ids"] == [[5, 6, 7], [8, 0, 0]]
    assert made["attention_mask"] == [[1, 1, 1], [1, 0, 0]]
    assert made["labels"] == [[-100, 6, 7], [8, -100, -100]]
