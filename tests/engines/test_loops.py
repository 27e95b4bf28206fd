"""Outputs that repeat themselves are told as such, and guesses are what they go on with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.engines import loops, transformers
from cameleer.engines.engine import Request
from cameleer.engines.loops import SURE, TIMES, agreed, guess, period
from cameleer.engines.transformers import TransformersEngine
from cameleer.engines.writing import Output, Writer


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 9), min_size=1))
def test_what_is_said_again_and_again_is_guessed(before: list[int], said: list[int]) -> None:
    ids = before + said * (TIMES + SURE)
    size = period(ids)
    assert size is not None
    assert len(said) % size == 0  # or a part of it repeats
    assert guess(ids, 25) == (said * 25)[:25]
    assert guess(ids[:-1], 1) == [said[-1]]


@given(st.lists(st.integers(0, 2), max_size=200))
def test_a_period_is_the_smallest_that_held_long_enough(ids: list[int]) -> None:
    def repeats(size: int) -> bool:
        held = max((TIMES - 1) * size, SURE)
        if len(ids) < held + size:
            return False
        return all(ids[-at] == ids[-at - size] for at in range(1, held + 1))

    assert period(ids) == next((size for size in range(1, 200) if repeats(size)), None)


def test_what_does_not_repeat_is_not_guessed() -> None:
    assert period(list(range(500))) is None
    assert guess([1, 2] * 10, 8) == []  # not often enough
    assert guess([], 8) == []


def test_as_many_guesses_count_as_agree_from_the_first_on() -> None:
    assert agreed([5, 6, 7], [5, 6, 7, 8]) == 3
    assert agreed([5, 6, 7], [5, 0, 7, 8]) == 1
    assert agreed([], [4]) == 0


NAMES = ["llama", "gemma2", "gpt2"]  # rotary, sliding window and capped scores, learned positions
SHOTS = "Where does the camel live? In the desert. Is there water? There is little, of course. " * 2
TEXTS = ["Where?", "Is there a camel in the desert?", "?", SHOTS + "Why?", SHOTS + "Is it?"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("guesser", ["right", "wrong", "half right"])
def test_outputs_are_the_same_whatever_is_guessed(
    name: str,
    guesser: str,
    tiny_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = TransformersEngine(tiny_model(name), {"model": name}, precision="fp32", batch_size=3)
    asked = [Request(str(n), text, max_new_tokens=90) for n, text in enumerate(TEXTS)]
    asked += [
        replace(asked[0], key="stops", stop=("e",)),
        replace(asked[1], key="drawn", temperature=1.0),
    ]
    monkeypatch.setattr(transformers, "WORTH", 60)  # the long beginning stays shared

    def said() -> dict[str, tuple[list[str], list[str], int]]:
        answers = [one for batch in engine.batches(asked) for one in engine.answer(batch)]
        return {one.item: (one.outputs, one.finish, one.new_tokens) for one in answers}

    monkeypatch.setattr(loops, "guess", lambda _ids, _count: [])
    plain = said()
    written = [ids for ids in recorded(monkeypatch, said) if len(ids) > loops.EVERY]
    draw, count = random.Random(0), Counter[str]()

    def guess(ids: list[int], count_: int) -> list[int]:
        whole = next((one for one in written if one[: len(ids)] == ids), [])
        coming = whole[len(ids) : len(ids) + min(count_, draw.randint(1, 40))]
        count["guessed"] += bool(coming)
        if guesser == "wrong":
            return [(token + 1) % 320 for token in coming]
        cut = len(coming) // 2 if guesser == "half right" else len(coming)
        return coming[:cut] + [3] * (len(coming) - cut)

    monkeypatch.setattr(loops, "guess", guess)
    assert said() == plain
    assert count["guessed"] > 3


def recorded(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> list[list[int]]:
    """The tokens of all outputs of a run."""
    found: list[list[int]] = []
    said = Writer._said

    def keeping(self: Writer, number: int, outputs: list[Output]) -> Any:
        found.extend(one.ids for one in outputs if one.prompt == number)
        return said(self, number, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_said", keeping)
        run()
    return found


def test_an_output_that_repeats_itself_takes_few_passes(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(tiny_model("llama"), {}, precision="fp32")
    model, passes = engine.model, Counter[str]()

    def always_the_same(*given: Any, **more: Any) -> Any:
        passes["all"] += 1
        told = type(model).forward(model, *given, **more)
        told.logits[...] = 0
        told.logits[..., 7] = 1
        return told

    monkeypatch.setattr(model, "forward", always_the_same)
    [batch] = engine.batches([Request("a", "Where?", max_new_tokens=200)])
    [answer] = engine.answer(batch)
    assert (answer.new_tokens, answer.finish) == (200, ["length"])
    assert passes["all"] < 70  # 64 until it is sure, then one
