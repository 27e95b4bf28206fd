"""Local models: few-shot prefixes computed once, prompts unpadded, rows that ended leave the batch.

Every forward pass is one row of tokens without padding (see cameleer.model.attention). A batch and
its shared prefix follow from the list of requests alone, so that answers do not depend on where a
killed run went on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.engines.lengths import Lengths
from cameleer.model.attention import NAME, Documents, Prefix, positions
from cameleer.model.cache import Cache, Capturing, Decoding, Filling
from cameleer.model.load import (
    Precision,
    device_and_dtype,
    load_model,
    load_tokenizer,
    model_fingerprint,
    model_folder,
)
from cameleer.model.packing import require_packing, require_vocabulary, room
from cameleer.results.records import Answer, Rule

SHARED = 48  # tokens: a shorter common prefix is not worth a pass of its own
ROW = 2048  # tokens of new prompt text in one pass
TAIL = 24  # tokens that are decoded to look for a stop text, besides those of the text itself


class Options(Config):
    """precision: what is computed in, auto takes the fastest; batch_size: most sequences that are
    generated at a time."""

    precision: Precision = "auto"
    batch_size: PositiveInt = 32


def fingerprint(model: str) -> str:
    """What tells the model from every other, see `model_fingerprint`."""
    return model_fingerprint(model_folder(model))


def make(model: str, options: Options, identity: dict[str, Any]) -> TransformersEngine:
    """The engine for MODEL: a folder, a hub id, or `embedded:NAME`."""
    how = options.model_dump()
    return TransformersEngine(model_folder(model), identity, **how)


@dataclass
class _Sequence:
    """An output that is being generated. `step` counts its tokens; `text` is set when it ends."""

    request: int
    generator: torch.Generator | None
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""


class TransformersEngine:
    """A causal language model of a Hugging Face folder, on one GPU or the CPU."""

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        *,
        precision: Precision = "auto",
        batch_size: int = 32,
    ) -> None:
        """batch_size: most sequences that are generated at a time. identity: see Engine."""
        self.identity, self.batch_size = identity, batch_size
        self.tokenizer = load_tokenizer(str(folder))
        self.measure = Lengths(self.tokenizer)
        self.device, dtype = device_and_dtype(precision)
        self.model = load_model(folder, dtype, NAME).to(self.device)
        require_packing(self.model)
        self.layers = self.model.config.num_hidden_layers
        self.room = room(self.model)
        self.ends = self._end_tokens()
        self.prompts: dict[str, list[int]] = {}
        self.shared: dict[str, int] = {}
        self.prefix: tuple[list[int], Prefix] | None = None

    def _end_tokens(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return {end for end in (*ends, self.tokenizer.eos_token_id) if end is not None}

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return self.measure.count(text)

    def cut(self, text: str, tokens: int, rule: Rule) -> str:
        """See Engine."""
        return self.measure.cut(text, tokens, rule)

    # ---- which requests are answered together

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Requests that begin alike together, else those of similar length, longest first."""
        encoded = self.tokenizer([request.prompt for request in requests], verbose=False)
        self.prompts = {r.key: ids for r, ids in zip(requests, encoded["input_ids"], strict=True)}
        requests = [self._fitted(request) for request in requests]
        highest = max((max(ids, default=0) for ids in self.prompts.values()), default=0)
        require_vocabulary(self.model, self.tokenizer, highest)
        self.shared, batches = {}, []
        for chosen in (True, False):  # one batch is scored or written, never both
            own = [(r, self.prompts[r.key]) for r in requests if bool(r.choices) == chosen]
            for group, shared in _families(own):
                group.sort(key=lambda r: (-len(self.prompts[r.key]), r.key))
                for batch in self._cut(group, shared):
                    self.shared |= {request.key: shared for request in batch}
                    batches.append(batch)
        return batches

    def _fitted(self, request: Request) -> Request:
        """The request, of fewer new tokens where it may be clipped to the context."""
        length = len(self.prompts[request.key])
        if request.clip and self.room is not None and length < self.room:
            most = min(request.max_new_tokens, self.room - length)
            request = replace(request, max_new_tokens=most)
        needed = length + (0 if request.choices else request.max_new_tokens)
        if self.room is not None and needed > self.room:
            raise UserError(
                f"item {request.key}: {length} prompt tokens and {needed - length} new ones do not "
                f"fit into the model's {self.room}",
                hint="ask for fewer new tokens or few-shot examples",
            )
        return request

    def _cut(self, group: list[Request], shared: int) -> Iterator[list[Request]]:
        """Batches of at most `batch_size` sequences, or of about ROW tokens for choices."""
        batch: list[Request] = []
        size = 0
        for request in group:
            own = len(self.prompts[request.key]) - shared
            cost, limit = (own, ROW) if request.choices else (request.samples, self.batch_size)
            if batch and size + cost > limit:
                yield batch
                batch, size = [], 0
            batch.append(request)
            size += cost
        if batch:
            yield batch

    # ---- answering

    @torch.inference_mode()
    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        """The answers to one batch that `batches` made."""
        began = time.perf_counter()
        shared = self.shared[batch[0].key]
        prefix = self._prefix(self.prompts[batch[0].key][:shared]) if shared else None
        prompts = [self.prompts[request.key][shared:] for request in batch]
        answers = (self._choose if batch[0].choices else self._generate)(batch, prompts, prefix)
        seconds = round((time.perf_counter() - began) / len(batch), 4)
        return [
            Answer(r.key, *said, len(self.prompts[r.key]), new, seconds)
            for r, (said, new) in zip(batch, answers, strict=True)
        ]

    def _forward(self, ids: list[int] | Tensor, at: Tensor, layout: Any, keep: Tensor) -> Tensor:
        """Logits [kept, vocabulary] of one row; `at`: positions [1, tokens]."""
        row = torch.as_tensor(ids, device=self.device)[None]
        logits: Tensor = self.model(
            input_ids=row,
            position_ids=at.to(self.device),
            logits_to_keep=keep.to(self.device),
            use_cache=False,
            layout=layout,
        ).logits[0]
        return logits

    def _prefix(self, ids: list[int]) -> Prefix:
        """Keys and values of a shared prefix; the last one is kept, as it mostly comes again."""
        if self.prefix is None or self.prefix[0] != ids:
            layout = Capturing(len(ids))
            self._forward(ids, positions([len(ids)]), layout, torch.tensor([0]))
            self.prefix = (ids, layout.captured)
        return self.prefix[1]

    def _choose(
        self, batch: Sequence[Request], prompts: list[list[int]], prefix: Prefix | None
    ) -> list[tuple[tuple[list[str], list[float], list[str]], int]]:
        """Log-probability of each choice's token after each prompt; the likeliest is the output."""
        lengths = [len(prompt) for prompt in prompts]
        last = torch.tensor(lengths).cumsum(0) - 1
        at = positions(lengths, prefix.tokens if prefix else 0)
        row = [token for prompt in prompts for token in prompt]
        logits = self._forward(row, at, Documents(lengths, prefix), last)
        logprobs = logits.float().log_softmax(-1)
        answers = []
        for request, own in zip(batch, logprobs, strict=True):
            scores = own[self._choice_tokens(request.choices)].tolist()
            best = request.choices[scores.index(max(scores))]
            answers.append((([best], scores, ["choice"]), 0))
        return answers

    def _choice_tokens(self, choices: tuple[str, ...]) -> list[int]:
        tokens = [self.tokenizer(c, add_special_tokens=False)["input_ids"][-1] for c in choices]
        if len(set(tokens)) != len(choices):
            raise UserError(f"the tokenizer does not tell the choices {choices} apart")
        return tokens

    def _generate(
        self, batch: Sequence[Request], prompts: list[list[int]], prefix: Prefix | None
    ) -> list[tuple[tuple[list[str], list[float], list[str]], int]]:
        """Outputs of every request, token by token, until all have ended."""
        cache = Cache(self.layers, prefix)
        logits = self._prefill(prompts, cache)
        start = prefix.tokens if prefix else 0
        sequences = [
            _Sequence(index, _generator(request, sample, self.device))
            for index, request in enumerate(batch)
            for sample in range(request.samples)
        ]
        rows = torch.tensor([sequence.request for sequence in sequences])
        logits, active = logits[rows], list(sequences)
        cache.select(rows)
        while True:
            tokens = self._next_tokens(logits, [batch[s.request] for s in active], active)
            for sequence, token in zip(active, tokens, strict=True):
                if not sequence.finish:
                    self._take(sequence, token, batch[sequence.request])
            live = [index for index, sequence in enumerate(active) if not sequence.finish]
            if not live:
                break
            if len(live) <= 0.875 * len(active):  # leaving costs a copy of the cache: not each time
                kept = torch.tensor(live)
                cache.select(kept)
                active, tokens = [active[i] for i in live], [tokens[i] for i in live]
            at = (cache.lengths + start)[None]
            if self.room is not None:  # who has ended may stay for a while, and must not walk out
                at = at.clamp(max=self.room - 1)
            everyone = torch.arange(len(active))
            logits = self._forward(tokens, at, Decoding(cache), everyone)
            cache.lengths += 1
        return [self._outputs(index, sequences) for index in range(len(batch))]

    def _prefill(self, prompts: list[list[int]], cache: Cache) -> Tensor:
        """Take the prompts into the cache, some at a time; logits [prompts, vocabulary] at ends."""
        cache.start([len(prompt) for prompt in prompts])
        start = cache.prefix.tokens if cache.prefix else 0
        logits, first = [], 0
        while first < len(prompts):
            size, end = 0, first
            while end < len(prompts) and (end == first or size + len(prompts[end]) <= ROW):
                size, end = size + len(prompts[end]), end + 1
            lengths = [len(prompt) for prompt in prompts[first:end]]
            row = [token for prompt in prompts[first:end] for token in prompt]
            last = torch.tensor(lengths).cumsum(0) - 1
            layout = Filling(lengths, cache, first)
            logits.append(self._forward(row, positions(lengths, start), layout, last))
            first = end
        return torch.cat(logits)

    def _next_tokens(
        self, logits: Tensor, requests: list[Request], active: list[_Sequence]
    ) -> list[int]:
        """Greedy where the temperature is 0, else drawn from the top-p part by own generators."""
        if all(request.temperature == 0 for request in requests):
            greedy: list[int] = logits.argmax(-1).tolist()
            return greedy
        return [
            int(row.argmax()) if not request.temperature else _draw(row, request, sequence)
            for row, request, sequence in zip(logits, requests, active, strict=True)
        ]

    def _take(self, sequence: _Sequence, token: int, request: Request) -> None:
        """Add a token to an output and see whether that ends it."""
        if token in self.ends:
            sequence.finish, sequence.text = "stop", self._decode(sequence.ids)
            return
        sequence.ids.append(token)
        if request.stop:
            widest = max(len(stop) for stop in request.stop)
            tail = self._decode(sequence.ids[-(TAIL + widest) :])
            if any(stop in tail for stop in request.stop):
                text = self._decode(sequence.ids)
                cuts = [text.find(stop) for stop in request.stop if stop in text]
                if cuts:
                    sequence.finish, sequence.text = "stop", text[: min(cuts)]
                    return
        if len(sequence.ids) >= request.max_new_tokens:
            sequence.finish, sequence.text = "length", self._decode(sequence.ids)

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _outputs(
        self, index: int, sequences: list[_Sequence]
    ) -> tuple[tuple[list[str], list[float], list[str]], int]:
        own = [sequence for sequence in sequences if sequence.request == index]
        said = [s.text for s in own], list[float](), [s.finish for s in own]
        return said, sum(len(s.ids) for s in own)


def _families(
    requests: list[tuple[Request, list[int]]],
) -> Iterator[tuple[list[Request], int]]:
    """Groups of requests with the number of tokens that all in the group begin with.

    Sorted by their tokens, requests that share a prefix are neighbours. Those that share none of
    worth make one last group, with 0.
    """
    loose: list[Request] = []
    ordered = sorted(requests, key=lambda pair: (pair[1], pair[0].key))
    begin = 0
    while begin < len(ordered):
        end, shared = begin + 1, len(ordered[begin][1]) - 1
        while end < len(ordered):
            common = min(shared, _common(ordered[end - 1][1], ordered[end][1]))
            if common < SHARED:
                break
            end, shared = end + 1, common
        family = [request for request, _ in ordered[begin:end]]
        if len(family) > 1 and shared >= SHARED:
            yield family, shared
        else:
            loose += family
        begin = end
    if loose:
        yield loose, 0


def _common(a: list[int], b: list[int]) -> int:
    """Tokens that two prompts begin with alike, at least one short of either's end."""
    most = min(len(a), len(b)) - 1
    return next((i for i in range(most) if a[i] != b[i]), most)


def _generator(request: Request, sample: int, device: torch.device) -> torch.Generator | None:
    """The source of an output's random draws, told by seed, key and number of the sample."""
    if not request.temperature:
        return None
    name = f"{request.seed}/{request.key}/{sample}".encode()
    seed = int.from_bytes(hashlib.sha256(name).digest()[:7], "big")
    return torch.Generator(device).manual_seed(seed)


def _draw(logits: Tensor, request: Request, sequence: _Sequence) -> int:
    """One token from the smallest set of tokens that holds `top_p` of the probability."""
    probabilities, order = (logits.float() / request.temperature).softmax(-1).sort(descending=True)
    outside = probabilities.cumsum(-1) - probabilities >= request.top_p
    probabilities[outside] = 0.0
    drawn = torch.multinomial(probabilities, 1, generator=sequence.generator)
    return int(order[drawn])
