"""Beside a real server: what `transformers serve` answers with the embedded model, we do too."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.engines.registry import choose
from cameleer.results.records import Answer

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

QUESTIONS = ["The capital of France is", "Two plus two is", "A camel can", "Water boils at"]
LETTERS = (" A", " B", " C", " D")


@pytest.fixture(scope="module")
def url(embedded_model: Path) -> Iterator[str]:
    """The address of a `transformers serve` of the embedded model, in float32."""
    for needed in ("fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not here: pip install 'cameleer[serve]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    how = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    program = Path(sys.executable).with_name("transformers")
    process = subprocess.Popen(
        [program, "serve", str(embedded_model), *how],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while not _up(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, "the server ended at once"
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _up(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


def served(
    url: str, model: Path, cache: Path, asked: list[Request], **options: Any
) -> list[Answer]:
    options |= {"tokenizer": str(model), "cache": cache, "tries": 2}
    engine = choose(f"openai:{model}@{url}", None, options).open({})
    return [answer for batch in engine.batches(asked) for answer in engine.answer(batch)]


def local(model: Path, asked: list[Request]) -> dict[str, Answer]:
    engine = choose(str(model), None, {"precision": "fp32"}).open({})
    found = [answer for batch in engine.batches(asked) for answer in engine.answer(batch)]
    return {answer.item: answer for answer in found}


def test_greedy_outputs_are_the_local_engines(
    url: str, embedded_model: Path, tmp_path: Path
) -> None:
    asked = [
        Request(f"i/{n}", text, max_new_tokens=16, stop=("\n", ".")[n % 2 :])
        for n, text in enumerate(QUESTIONS)
    ]
    ours = local(embedded_model, asked)
    for theirs in served(url, embedded_model, tmp_path, asked):
        mine = ours[theirs.item]
        assert (theirs.outputs, theirs.finish) == (mine.outputs, mine.finish)
        assert (theirs.prompt_tokens, theirs.new_tokens) == (mine.prompt_tokens, mine.new_tokens)


def test_a_chat_in_the_models_own_template(url: str, embedded_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    asked = []
    for n, text in enumerate(QUESTIONS[:2]):
        message = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        asked.append(Request(f"i/{n}", prompt, max_new_tokens=12, text=text, format="chat"))
    ours = local(embedded_model, asked)
    for theirs in served(url, embedded_model, tmp_path, asked):
        assert theirs.outputs == [ours[theirs.item].outputs[0].strip()]
        assert theirs.prompt_tokens == ours[theirs.item].prompt_tokens


def test_letters_by_bias_are_those_by_probability(
    url: str, embedded_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    asked = []
    for n, text in enumerate(QUESTIONS):
        text = f"{text}\nA. Paris\nB. four\nC. walk\nD. 100 degrees\nAnswer:"
        message = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        asked.append(Request(f"i/{n}", prompt, choices=LETTERS, text=text, format="chat"))
    ours = local(embedded_model, asked)
    biased = served(url, embedded_model, tmp_path, asked, choices="logit_bias")
    for theirs in biased:
        assert theirs.outputs == ours[theirs.item].outputs
        assert theirs.finish == ["choice"]
    with pytest.raises(UserError, match="gives no log-probabilities"):
        served(url, embedded_model, tmp_path, asked)
