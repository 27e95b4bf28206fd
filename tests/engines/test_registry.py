"""Engines found by name: what MODEL says, what options may be, what tells answers apart."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.engines.registry import choose, engine_named, engines


def test_engines_are_the_modules_that_make_one() -> None:
    found = engines()
    assert {"transformers", "openai", "replay"} <= set(found)
    assert not {"engine", "registry", "answers", "server", "lengths"} & set(found)
    for name, module in found.items():
        assert module.__doc__, name
        assert issubclass(module.Options, Config)
        assert set(getattr(module, "PAPER", {})) <= set(module.Options.model_fields)


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        ("openai:gpt-4@http://127.0.0.1:8000/v1", None, "openai"),
        ("gpt-4@http://127.0.0.1:8000/v1", "openai", "openai"),
        ("embedded:smollm2-135m-instruct", None, "transformers"),
        ("org/name", None, "transformers"),
        ("/some/where", None, "transformers"),
    ],
)
def test_the_engine_of_a_model(model: str, name: str | None, expected: str) -> None:
    chosen = choose(model, name)
    assert chosen.name == expected
    assert not chosen.model.startswith("openai:")


@pytest.mark.parametrize(
    ("model", "name", "options", "said"),
    [
        ("m", "transformer", [], "unknown engine 'transformer'.*'transformers'"),
        ("m", "server", [], "unknown engine 'server'"),
        ("camel:m", None, [], "unknown engine 'camel'"),
        ("m", None, ["batchsize=3"], "'batchsize': is not known.*'batch_size'"),
        ("m", None, ["batch_size=0"], "'batch_size': input should be greater"),
        ("m", None, ["batch_size"], "has no '='"),
        ("openai:m", None, ["batch_size=3"], "'batch_size': is not known"),
        ("openai:m", None, ["max_dollars=3"], "max_dollars needs price_in"),
    ],
)
def test_mistakes(model: str, name: str | None, options: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        choose(model, name, None, options)


def test_what_decides_no_answer_is_no_part_of_the_identity(tmp_path: Path) -> None:
    def identity(url: str, *options: str, rule: Any = "fixed") -> dict[str, Any]:
        return choose(f"openai:m@http://{url}/v1", None, None, options, rule).identity()

    first = identity("a")
    second = identity("b:1", "concurrency=3", "max_requests=9", f"cache={tmp_path}", "timeout=9")
    assert first == second
    assert (first["engine"], first["model"]) == ("openai", "m")
    assert identity("a", "cue=prefix") != first
    assert identity("a", "extra={reasoning_effort: low}") != first
    assert identity("a", rule="paper")["choices"] == "logit_bias"
    assert identity("a", "choices=text", rule="paper")["choices"] == "text"


def test_the_local_identity_is_that_of_studies(tiny_model: Any) -> None:
    """A study knows the fingerprint of a model that is still to be trained, `eval run` reads it."""
    from cameleer.model.load import model_fingerprint
    from cameleer.study.study import EngineSpec

    folder = tiny_model("llama")
    spec = EngineSpec.model_validate({"precision": "fp32", "batch_size": 3})
    chosen = choose(str(folder), None, {"precision": "fp32"}, ["batch_size=3"])
    untrained = spec.chosen(str(folder / "not there yet"))
    assert chosen.identity() == untrained.identity(model_fingerprint(folder))


def test_an_engine_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("parrot", "A parrot.")
    module.__dict__.update(Options=Config, fingerprint=str.upper, make=lambda *given: given)
    monkeypatch.setitem(sys.modules, "parrot", module)
    entry = importlib.metadata.EntryPoint("parrot", "parrot", "cameleer.engines")
    entries = importlib.metadata.EntryPoints([entry])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **how: entries.select(**how))
    assert engine_named("parrot") is module
    assert engines()["parrot"] is module
    chosen = choose("parrot:polly")
    assert chosen.identity() == {"engine": "parrot", "model": "POLLY"}
    opened: Any = chosen.open({})
    assert opened == ("polly", Config(), {})
