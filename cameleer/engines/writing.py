"""Outputs written token by token by a local model, many side by side; who has ended makes place.

Which sequences stand beside which follows from the batch alone: requests come in their order, as
soon as a quarter of the places is free.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cameleer.engines import loops
from cameleer.engines.engine import CONTEXT, Hear, Request
from cameleer.engines.sampling import generator, next_tokens
from cameleer.model.attention import Prefix
from cameleer.model.cache import Cache, Decoding, Filling, Guessing

ROW = 2048  # tokens of prompts in one pass
HELD = 32768  # tokens of sequences, from which on no further ones are let in
TAIL = 24  # tokens that are decoded to look for a stop text, besides those of the text itself

Said = tuple[list[str], list[str], int]
"""Outputs, how each ended, and how many tokens they have together."""


@dataclass
class Prompt:
    """A request with the tokens that are its own.

    before: what its tokens come after; shared: the part of it that stays one for many sequences
    (the rest is copied for each); room: most tokens of an output.
    """

    request: Request
    own: list[int]
    before: Prefix | None
    shared: Prefix | None
    room: int

    @property
    def length(self) -> int:
        """Tokens that a sequence of this prompt holds for itself."""
        past = self.before.tokens if self.before else 0
        return len(self.own) + past - (self.shared.tokens if self.shared else 0)


@dataclass
class Output:
    """An output that is being written. `text` and `finish` are set when it ends."""

    prompt: int
    generator: torch.Generator | None
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    looked: int = 0  # tokens that it had when it was last looked at for loops


class Writer:
    """Writes with a model; forward: (tokens, positions, layout, kept places) to logits."""

    def __init__(
        self,
        forward: Callable[[list[int], Tensor, Any, Tensor], Tensor],
        tokenizer: Any,
        *,
        ends: set[int],
        layers: int,
        device: torch.device,
        batch_size: int,
        hear: Hear | None = None,
    ) -> None:
        """ends: tokens that end an output; hear: of outputs while they are written."""
        self.forward, self.tokenizer, self.ends = forward, tokenizer, ends
        self.layers, self.device, self.batch_size = layers, device, batch_size
        self.hear = hear
        self.outputs = self.ended = self.tokens = 0
        self.began = time.monotonic()

    def status(self) -> str:
        """How far the outputs are, in a few words."""
        rate = self.tokens / max(time.monotonic() - self.began, 1e-9)
        return f"{self.ended} of {self.outputs} outputs ended, {rate:.0f} tokens/s"

    def write(self, prompts: Sequence[Prompt]) -> list[Said]:
        """The outputs to every prompt."""
        self.outputs = sum(prompt.request.samples for prompt in prompts)
        cache = Cache(self.layers)
        waiting = deque(range(len(prompts)))
        everything: list[Output] = []
        active: list[Output] = []
        tokens: list[int] = []
        while True:
            live = [index for index, sequence in enumerate(active) if not sequence.finish]
            if not live and not waiting:
                return [self._said(index, everything) for index in range(len(prompts))]
            refill = bool(waiting) and len(live) <= 0.75 * self.batch_size
            if len(live) < len(active):
                cache.select(live)
                active, tokens = [active[i] for i in live], [tokens[i] for i in live]
            if refill and (new := self._let_in(prompts, waiting, active, cache)):
                logits = self._prefill(prompts, new, cache, len(active))
                came = [s for number in new for s in self._sequences(number, prompts)]
                row_of = {number: len(active) + row for row, number in enumerate(new)}
                cache.select([*range(len(active)), *(row_of[s.prompt] for s in came)])
                which = [row_of[s.prompt] - len(active) for s in came]
                tokens += self._taken(logits[which], prompts, came)
                active, everything = active + came, everything + came
                continue
            if self._guess(prompts, active, tokens, cache):
                continue
            layout = Decoding(cache, self.device)
            logits = self.forward(tokens, layout.positions(), layout, torch.arange(len(active)))
            cache.lengths += 1
            tokens = self._taken(logits, prompts, active)

    def _let_in(
        self, prompts: Sequence[Prompt], waiting: deque[int], active: list[Output], cache: Cache
    ) -> list[int]:
        """Who comes next: as many as there are places for, and one in any case if none is there."""
        new: list[int] = []
        count, held = len(active), int(cache.lengths.sum())
        while waiting:
            prompt = prompts[waiting[0]]
            count += prompt.request.samples
            held += prompt.request.samples * prompt.length
            full = count > self.batch_size or held > HELD
            if full and (active or new):
                break
            new.append(waiting.popleft())
        return new

    def _prefill(
        self, prompts: Sequence[Prompt], new: list[int], cache: Cache, first: int
    ) -> Tensor:
        """Take prompts into the cache, some at a time; logits [prompts, vocabulary] at ends."""
        chosen = [prompts[number] for number in new]
        cache.add([prompt.length for prompt in chosen], [prompt.shared for prompt in chosen])
        logits = []
        for part in portions([len(prompt.own) for prompt in chosen], ROW):
            rows = chosen[part.start : part.stop]
            lengths = [len(prompt.own) for prompt in rows]
            before = grouped(lengths, [prompt.before for prompt in rows])
            layout = Filling(before, cache, first + part.start)
            last = torch.tensor(lengths).cumsum(0) - 1
            ids = [token for prompt in rows for token in prompt.own]
            logits.append(self.forward(ids, layout.positions(), layout, last))
        return torch.cat(logits) if logits else torch.empty(0)

    def _sequences(self, number: int, prompts: Sequence[Prompt]) -> list[Output]:
        request = prompts[number].request
        return [
            Output(number, generator(request, sample, self.device))
            for sample in range(request.samples)
        ]

    def _taken(self, logits: Tensor, prompts: Sequence[Prompt], active: list[Output]) -> list[int]:
        """Each sequence's next token, added to it."""
        requests = [prompts[sequence.prompt].request for sequence in active]
        tokens = next_tokens(logits, requests, [sequence.generator for sequence in active])
        for sequence, token in zip(active, tokens, strict=True):
            self._add(sequence, token, prompts[sequence.prompt])
        return tokens

    def _guess(
        self, prompts: Sequence[Prompt], active: list[Output], tokens: list[int], cache: Cache
    ) -> bool:
        """Go on with the outputs that repeat themselves; whether there are any.

        tokens: the last one of each sequence, which the cache does not hold yet.
        """
        found = False
        for row, sequence in enumerate(active):
            prompt = prompts[sequence.prompt]
            guessed = self._guessed(sequence, prompt)
            if not guessed:
                continue
            found = True
            asked = [tokens[row], *guessed]
            layout = Guessing(cache, row, len(asked))
            logits = self.forward(asked, layout.positions(), layout, torch.arange(len(asked)))
            likeliest = logits.argmax(-1).tolist()
            right = loops.agreed(guessed, likeliest)
            cache.lengths[row] += right + 1
            cache.trim(row)
            for tokens[row] in likeliest[: right + 1]:
                if not sequence.finish:
                    self._add(sequence, tokens[row], prompt)
            if right == len(guessed):
                sequence.looked = 0  # it goes on so: look again at once
        return found

    def _guessed(self, sequence: Output, prompt: Prompt) -> list[int]:
        """What comes next if an output goes on as it does; empty if that is not to be told."""
        if sequence.generator is not None or len(sequence.ids) < sequence.looked + loops.EVERY:
            return []
        sequence.looked = len(sequence.ids)
        left = min(prompt.request.max_new_tokens, prompt.room) - len(sequence.ids)
        return loops.guess(sequence.ids, min(loops.GUESSED, left - 1))

    def _add(self, sequence: Output, token: int, prompt: Prompt) -> None:
        """Add a token to an output, count it, and let it be heard."""
        self.tokens += 1
        self._take(sequence, token, prompt)
        self.ended += bool(sequence.finish)
        if self.hear is not None:
            self.hear(sequence.text if sequence.finish else self._decode(sequence.ids))

    def _take(self, sequence: Output, token: int, prompt: Prompt) -> None:
        """Add a token to an output and see whether that ends it."""
        if token in self.ends:
            sequence.finish, sequence.text = "stop", self._decode(sequence.ids)
            return
        sequence.ids.append(token)
        request = prompt.request
        if request.stop:
            widest = max(len(stop) for stop in request.stop)
            tail = self._decode(sequence.ids[-(TAIL + widest) :])
            if any(stop in tail for stop in request.stop):
                text = self._decode(sequence.ids)
                cuts = [text.find(stop) for stop in request.stop if stop in text]
                if cuts:
                    sequence.finish, sequence.text = "stop", text[: min(cuts)]
                    return
        if len(sequence.ids) >= min(request.max_new_tokens, prompt.room):
            short = prompt.room < request.max_new_tokens and not request.clip
            sequence.finish = CONTEXT if short else "length"
            sequence.text = self._decode(sequence.ids)

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _said(self, number: int, sequences: list[Output]) -> Said:
        own = [sequence for sequence in sequences if sequence.prompt == number]
        return [s.text for s in own], [s.finish for s in own], sum(len(s.ids) for s in own)


def grouped(
    lengths: Sequence[int], before: Sequence[Prefix | None]
) -> list[tuple[list[int], Prefix | None]]:
    """Neighbours that come after the same prefix, as `Segments` wants them."""
    found: list[tuple[list[int], Prefix | None]] = []
    for length, prefix in zip(lengths, before, strict=True):
        if not found or found[-1][1] is not prefix:
            found.append(([], prefix))
        found[-1][0].append(length)
    return found


def portions(sizes: Sequence[int], most: int) -> list[range]:
    """Neighbours of at most `most` together, or one alone."""
    found, begin, total = [], 0, 0
    for index, size in enumerate(sizes):
        if index > begin and total + size > most:
            found.append(range(begin, index))
            begin, total = index, 0
        total += size
    return [*found, range(begin, len(sizes))] if sizes else []
