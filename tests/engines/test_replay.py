"""Recorded outputs in place of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.engine import Engine, Request, UnansweredError
from cameleer.engines.registry import choose


def replay(tmp_path: Path, *rows: dict[str, Any]) -> Engine:
    file = tmp_path / "outputs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = choose(f"replay:{file}")
    return chosen.open(chosen.identity())


def test_each_item_gets_what_the_file_holds(tmp_path: Path) -> None:
    sample = {
        "item": "c",
        "outputs": [" B"],
        "logprobs": [-2.0, -0.5],
        "finish": ["choice"],
        "prompt_tokens": 7,
        "new_tokens": 0,
        "seconds": 0.5,
        "score": 1.0,
        "prompt": "Which?",
    }
    recorded = {"item": "a", "output": "one"}, {"item": "b", "output": ["x", "y"]}
    engine = replay(tmp_path, *recorded, sample)
    asked = [Request("c", "Which?", choices=(" A", " B")), Request("a", "?"), Request("b", "?")]
    [c, a, b] = [answer for batch in engine.batches(asked) for answer in engine.answer(batch)]
    assert (a.outputs, a.finish, a.logprobs) == (["one"], ["stop"], [])
    assert (b.outputs, b.finish) == (["x", "y"], ["stop", "stop"])
    assert (c.outputs, c.logprobs, c.finish) == ([" B"], [-2.0, -0.5], ["choice"])
    assert (c.prompt_tokens, c.seconds) == (7, 0.5)
    with pytest.raises(UnansweredError, match=r"outputs\.jsonl: item d is not there"):
        engine.answer([Request("d", "?")])


def test_half_a_character_is_marked(tmp_path: Path) -> None:
    engine = replay(tmp_path, {"item": "a", "output": "half \ud83d"})
    assert engine.answer([Request("a", "?")])[0].outputs == ["half \ufffd"]


def test_another_file_is_another_model(tmp_path: Path) -> None:
    first = replay(tmp_path, {"item": "a", "output": "one"}).identity
    assert replay(tmp_path, {"item": "a", "output": "two"}).identity != first
    assert replay(tmp_path, {"item": "a", "output": "one"}).identity == first
    with pytest.raises(UserError, match="no such file"):
        choose(f"replay:{tmp_path}/none.jsonl").identity()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"output": "one"}, "field 'item': is missing"),
        ({"item": "b"}, "field 'output': is not a text"),
        ({"item": "b", "output": []}, "field 'output': is not a text"),
        ({"item": "b", "outputs": [1]}, "field 'outputs': is not a text"),
        ({"item": "a", "output": "two"}, "is there twice"),
    ],
)
def test_lines_that_cannot_be_read(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        replay(tmp_path, {"item": "a", "output": "one"}, row)
    assert "outputs.jsonl:2" in str(error.value)
