"""Texts as sequences of words, and runs of words as numbers: what overlap is counted in.

A word is a run of letters, digits and the marks that belong to them; case, punctuation and white
space do not count, and the letters of scripts that leave no spaces are words of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
A = TypeVar("A")

MULTIPLIER = 0x9E3779B97F4A7C15  # odd; a run's number is a polynomial in it, modulo 2^64
PIECE = 1 << 20  # characters of which the words are held as texts at a time
VOCABULARY = 1 << 20  # words whose numbers are remembered, about 150 MB at most
_ASCII = re.compile(r"[a-z0-9]+")
# Han, kana, Thai, Lao, Burmese, Khmer: written without spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)


@cache
def _pattern() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What a word is, and what in it is invisible; marks are no letters to `re`."""
    marks, invisible = [], []
    for code in range(0x80, 0x20000):
        category = unicodedata.category(chr(code))
        if category[0] == "M":
            marks.append(code)
        elif category == "Cf":
            invisible.append(code)
    inside = _ranges(sorted(marks + invisible))
    spaced = rf"[^\W_{_UNSPACED}](?:[^\W_{_UNSPACED}]|[{inside}])*"
    word = rf"{spaced}|[{_UNSPACED}](?<=[^\W_])[{inside}]*"
    return re.compile(word), re.compile(f"[{_ranges(invisible)}]")


def _ranges(codes: Sequence[int]) -> str:
    """Character codes, ascending, as the inside of a character class."""
    text, at = "", 0
    while at < len(codes):
        end = at
        while end + 1 < len(codes) and codes[end + 1] == codes[end] + 1:
            end += 1
        text += f"\\U{codes[at]:08x}-\\U{codes[end]:08x}"
        at = end + 1
    return text


def words(text: str) -> list[str]:
    """The words of a text, in lower case and compatibility form (Unicode's NFKC)."""
    if text.isascii():
        return _ASCII.findall(text.lower())
    pattern, invisible = _pattern()
    return [
        word.lower()
        if word.isascii()
        else unicodedata.normalize("NFKC", invisible.sub("", word).lower())
        for word in pattern.findall(text)
    ]


def spans(text: str) -> list[tuple[int, int]]:
    """Where each word of `words(text)` stands: index of its first character, and after its last."""
    pattern = re.compile(r"[A-Za-z0-9]+") if text.isascii() else _pattern()[0]
    return [word.span() for word in pattern.finditer(text)]


class _Vocabulary(dict[str, int]):
    """Words to numbers in 0..2^64, the same in every process; starts anew when it grows large."""

    def __missing__(self, word: str) -> int:
        if len(self) >= VOCABULARY:
            self.clear()
        number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        self[word] = number
        return number


_vocabulary = _Vocabulary()


def numbers(listed: Sequence[str]) -> Numbers:
    """[words] a number for each word."""
    return np.fromiter(map(_vocabulary.__getitem__, listed), np.uint64, len(listed))


def word_numbers(text: str) -> Numbers:
    """[words] a number for each word of a text, which is read piece by piece if it is huge."""
    if len(text) <= PIECE:
        return numbers(words(text))
    parts, at = [], 0
    while at < len(text):
        end = at + PIECE
        while end < len(text) and not text[end].isspace():
            end += 1
        parts.append(numbers(words(text[at:end])))
        at = end
    return np.concatenate(parts)


def runs(ids: Numbers, n: int) -> Numbers:
    """[words - n + 1] a number for every run of n words; none if there are fewer words."""
    count = max(0, len(ids) - n + 1)
    found = np.zeros(count, np.uint64)
    for at in range(n if count else 0):
        found *= np.uint64(MULTIPLIER)
        found += ids[at : at + count]
    return found


def in_batches(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Lists of `size` items, the last one shorter."""
    batch: list[A] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
