"""Everything about a file of conversations that can be counted in one pass over it.

Memory does not grow with the texts: lengths are counted by value, repeats by 8 bytes per text, and
only a few short excerpts are kept.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rendered, Rule, render
from cameleer.chat.template import Template
from cameleer.core.errors import UserError
from cameleer.data.describe import batches, token_counts
from cameleer.data.portrait.asked import asked
from cameleer.data.portrait.language import NONE, UNSURE, language
from cameleer.data.portrait.signs import looks_like_code, signs

LIMITS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)  # tokens, for what is cut
ROOM = 20_000  # texts remembered while repeats are counted
EXCERPT = 200  # characters kept of a text that is shown
EXAMPLES = 3
OPENING = 4  # words


class Repeats:
    """Counts how often texts come again: exactly, by their hashes, 8 bytes each.

    The words of frequent texts are remembered by the rule of Misra and Gries (1982): any text that
    makes up more than 1/ROOM of all is among them; in a file of up to ROOM texts each one is.
    """

    def __init__(self) -> None:
        self.hashes = array("q")
        self.kept: dict[int, list[Any]] = {}

    def add(self, text: str) -> None:
        key = hash(text)
        self.hashes.append(key)
        if key in self.kept:
            self.kept[key][0] += 1
            return
        self.kept[key] = [1, text[:EXCERPT]]
        if len(self.kept) > 2 * ROOM:
            floor = sorted((count for count, _ in self.kept.values()), reverse=True)[ROOM]
            for entry in self.kept.values():
                entry[0] -= floor
            self.kept = {one: entry for one, entry in self.kept.items() if entry[0] > 0}

    def counts(self) -> tuple[int, int]:
        """(texts that are repeats of one before, distinct texts)."""
        distinct = len(np.unique(np.frombuffer(self.hashes, np.int64))) if self.hashes else 0
        return len(self.hashes) - distinct, distinct

    def most_common(self, count: int) -> list[tuple[str, int]]:
        """The most frequent texts that occur at least twice, with how often each occurs."""
        if not self.hashes:
            return []
        keys, first, times = np.unique(
            np.frombuffer(self.hashes, np.int64), return_index=True, return_counts=True
        )
        order = np.lexsort((first, -times))
        often = ((int(keys[at]), int(times[at])) for at in order[: np.sum(times > 1)])
        found = ((self.kept[key][1], n) for key, n in often if key in self.kept)
        return list(islice(found, count))


@dataclass
class Survey:
    """What was counted of one file. Lengths are in tokens of the tokenizer.

    sources: conversations of each source; learned_of: its learned tokens.
    lengths: how often each length occurs, by kind ("prompt" and "completion": each message without
    special tokens; "conversation": all its tokens by the template; "learned": those in the loss).
    shares: how often so many per cent of a conversation's tokens are learned. cut[name][i]: what
    LIMITS[i] takes away: "conversations" touched, "emptied" of all that is learned, "tokens",
    "learned" tokens. signs and their examples (conversation id, how the answer begins and ends):
    see signs.py.
    """

    file: Path
    template: str
    rule: Rule
    conversations: int = 0
    answers: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    learned_of: Counter[str] = field(default_factory=Counter)
    messages: Counter[int] = field(default_factory=Counter)
    shape: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    shares: Counter[int] = field(default_factory=Counter)
    cut: dict[str, NDArray[np.int64]] = field(
        default_factory=lambda: defaultdict(lambda: np.zeros(len(LIMITS), np.int64))
    )
    languages: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    crossed: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    asked_of: Counter[str] = field(default_factory=Counter)
    asked_examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    signs: Counter[str] = field(default_factory=Counter)
    sign_examples: dict[str, list[tuple[str, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    repeats: dict[str, Repeats] = field(default_factory=lambda: defaultdict(Repeats))

    def add(self, conversation: Conversation) -> None:
        """Count what does not depend on tokens."""
        turns = conversation.messages
        self.conversations += 1
        self.sources[conversation.source] += 1
        self.messages[len(turns)] += 1
        self._add_shape([turn.role for turn in turns])
        self.repeats["conversation"].add("\0".join(f"{t.role}\1{t.content}" for t in turns))
        first = next((turn.content for turn in turns if turn.role == "user"), "")
        last = next((turn.content for turn in reversed(turns) if turn.role == "assistant"), "")
        self._add_texts(first.strip(), last.strip())
        prompt = ""
        for turn in turns:
            if turn.role == "assistant":
                self._add_answer(conversation.id, prompt, turn.content)
            prompt = turn.content

    def _add_shape(self, roles: list[str]) -> None:
        spoken = [role for role in roles if role != "system"]
        self.shape["system message"] += len(spoken) < len(roles)
        self.shape["no answer at all"] += "assistant" not in spoken
        self.shape["ends in a question"] += spoken[-1:] == ["user"] and "assistant" in spoken
        self.shape["begins with an answer"] += spoken[:1] == ["assistant"]
        self.shape["same speaker twice"] += any(one == two for one, two in pairwise(spoken))

    def _add_texts(self, prompt: str, answer: str) -> None:
        """First prompt and last answer: languages, what is asked, repeats."""
        here, there = language(prompt), language(answer)
        self.languages["prompt"][here] += 1
        self.languages["answer"][there] += 1
        self.crossed += here != there and not {here, there} & {UNSURE, NONE}
        if prompt:
            self.repeats["prompt"].add(prompt)
            self._add_asked(prompt, here)
        if answer:
            self.repeats["answer"].add(answer)
            self.repeats["opening"].add(" ".join(answer.split(None, OPENING)[:OPENING]))

    def _add_asked(self, prompt: str, tongue: str) -> None:
        if tongue not in ("en", UNSURE, NONE):
            self.asked_of["another language"] += 1
            return
        root = asked(prompt)
        self.asked_of["told" if root else "not told"] += 1
        if root:
            self.asked[root] += 1
            _keep_example(self.asked_examples[root[0]], prompt[:EXCERPT], self.conversations)

    def _add_answer(self, identity: str, prompt: str, answer: str) -> None:
        self.answers += 1
        self.shape["answers with code"] += looks_like_code(answer)
        for sign in signs(prompt, answer):
            self.signs[sign] += 1
            if len(self.sign_examples[sign]) < EXAMPLES:
                self.sign_examples[sign].append((identity, _ends(answer.strip())))

    def add_rendered(self, one: Rendered) -> None:
        """Count one conversation's tokens, and what each limit would cut of them."""
        mask = np.asarray(one.supervised, np.int64)
        total, learned = len(mask), int(mask.sum())
        self.lengths["conversation"][total] += 1
        self.lengths["learned"][learned] += 1
        self.learned_of[one.source] += learned
        self.shares[round(100 * learned / total)] += 1
        before = np.concatenate([[0], np.cumsum(mask)])
        kept = before[np.minimum(LIMITS, total)]
        self.cut["conversations"] += np.asarray(LIMITS) < total
        self.cut["tokens"] += np.maximum(0, total - np.asarray(LIMITS))
        self.cut["learned"] += learned - kept
        self.cut["emptied"] += kept == 0


def _ends(text: str) -> str:
    """How a text begins and ends."""
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT // 2]} … {text[-EXCERPT // 2 :]}"


def _keep_example(kept: list[str], text: str, seen: int) -> None:
    """Keep a few texts; later ones take a place with falling chance, so all parts are shown."""
    if len(kept) < EXAMPLES:
        kept.append(text)
    elif (draw := random.Random(seen).randrange(seen)) < EXAMPLES:
        kept[draw] = text


def survey(path: Path, tokenizer: Any, template: Template, *, rule: Rule = "fixed") -> Survey:
    """Count everything in one pass over a file of conversations, streamed, with a progress bar.

    Raises UserError with file and line for a broken record, and for a file without conversations.
    """
    found = Survey(path, template.name, rule)
    for batch in batches(path):
        for conversation in batch:
            found.add(conversation)
        for role, kind in (("user", "prompt"), ("assistant", "completion")):
            found.lengths[kind].update(token_counts(batch, role, tokenizer))
        answered = (one for one in batch if any(t.role == "assistant" for t in one.messages))
        for one in render(answered, tokenizer, template, rule=rule):
            found.add_rendered(one)
    if not found.conversations:
        raise UserError("holds no conversation", file=path)
    return found


def mean(counts: Counter[int]) -> float:
    """Mean of values by how often each occurs; 0 of none."""
    return sum(value * times for value, times in counts.items()) / max(1, counts.total())


def quantiles(counts: Counter[int], shares: Iterable[float]) -> list[int]:
    """The smallest value that at least so large a share of all does not exceed, for each share."""
    if not counts:
        return [0 for _ in shares]
    values = np.array(sorted(counts))
    sums = np.cumsum([counts[int(value)] for value in values])
    return [int(values[np.searchsorted(sums, share * sums[-1])]) for share in shares]
