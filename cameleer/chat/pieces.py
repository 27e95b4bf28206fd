"""Tokenising by pieces: text is cut where no token can reach across, and a piece is read once.

Most of what a tokenizer is given it has seen before: words with the blank before them and the
punctuation behind them. Such pieces are kept with their token ids, so that a text costs one search
for its pieces and one look-up for each; only new pieces are given to the tokenizer.

A cut is made before a single blank, and after a single line break, between visible characters.
Whether every token ends there follows from what the tokenizer is made of:

- byte-level (GPT-2, Pythia, OLMo, Llama 3, Qwen 2, SmolLM): it splits text by a regular expression
  before all else, and no alternative of those in `SPLITS` goes on past a cut or looks behind it;
- sentence pieces by byte-pair merging (LLaMA, Llama 2, Mistral): merges know no words, but none can
  reach across a cut if no entry of the vocabulary has characters of both its sides.

Any other tokenizer is not read by pieces.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

BLANK = "▁"
MOST, LONGEST = 1 << 17, 48  # pieces kept, twice (some 60 MB), and characters of those worth it

# A piece begins with the blank before it and ends with the line break behind it. White space of
# other kinds, or more than one of it, stays within the piece together with what follows.
find_pieces = re.compile(r"\s*\S+(?:(?![ \n]\S)\s+\S*)*\n?|\s+").findall

DIGITS = r"\p{N}"
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPLITS = {DIGITS.join(WORDS), (DIGITS + "{1,3}").join(WORDS)}
"""Expressions of Qwen 2 and Llama 3; GPT-2's is built into the byte-level pre-tokenizer."""

ASCII_SIGNS = {byte: chr(256 + byte) for byte in range(33)} | {127: chr(289)}
"""Characters that stand for bytes without a picture in byte-level vocabularies."""


Blank = Literal["never", "first", "always", "prepend"]
Read = Callable[[str], bytes]
"""Gives the token ids of a text, as uint32."""


class Known(dict[str, bytes]):
    """Token ids, as uint32, of pieces; those of a new one are asked for once.

    When it is full it begins anew, and takes over from before what is asked for again.
    """

    def __init__(self, read: Read) -> None:
        super().__init__()
        self.read, self.before = read, dict[str, bytes]()

    def __missing__(self, piece: str) -> bytes:
        ids = self.before.pop(piece, None) if self.before else None
        if ids is None:
            ids = self.read(piece)
        if len(piece) <= LONGEST:
            if len(self) >= MOST:
                self.before = dict(self)
                self.clear()
            self[piece] = ids
        return ids


@dataclass(frozen=True)
class Pieces:
    """A tokenizer that reads by pieces.

    before, after: ids that it adds around a text; end: its end token's; blank: where it puts a
    blank of its own, of the stretches between end tokens (`first` and `always` not where one
    stands already); refused: texts that hold one of these are not read here.
    """

    known: Known
    eos: str
    before: bytes
    after: bytes
    end: bytes
    blank: Blank = "never"
    refused: tuple[str, ...] = ()

    def refuses(self, text: str) -> bool:
        """Whether the text is beyond what is surely read right; the end token is none of that."""
        return any(one in text for one in self.refused)

    def stretch(self, text: str, *, begins: bool = False, first: bool = False) -> bytes:
        """Ids, as uint32, of a text without end tokens; both its ends must be cuts.

        begins: it stands at the beginning or after an end token; first: at the beginning.
        """
        found = find_pieces(text)
        if begins and found and self.blank != "never":
            meant = first or self.blank != "first"
            if meant and (found[0][0] != " " or self.blank == "prepend"):
                found[0] = BLANK + found[0]
        return b"".join(map(self.known.__getitem__, found))

    def whole(self, text: str) -> bytes:
        """Ids, as uint32, of a whole text, with those that the tokenizer adds around it."""
        stretches = [
            self.stretch(part, begins=True, first=number == 0)
            for number, part in enumerate(text.split(self.eos))
        ]
        return self.before + self.end.join(stretches) + self.after


def is_cut(left: str, right: str) -> bool:
    """Whether `left` ends and `right` begins at a line break's cut."""
    return left[-1:] == "\n" and not (left[-2:-1] or " ").isspace() and not right[:1].isspace()


def by_pieces(backend: Any, eos: str) -> Pieces | None:
    """A tokenizers.Tokenizer read by pieces, or None if it could read a text otherwise so."""
    added = list(backend.get_added_tokens_decoder().values())
    sample = backend.encode("a")
    if not _plain(added, eos) or 0 not in sample.special_tokens_mask:
        return None
    if getattr(backend.model, "dropout", None):
        return None  # reads the same text now so, now so
    lead = sample.special_tokens_mask.index(0)
    own = len(sample) - sum(sample.special_tokens_mask)
    ids = array("I", sample.ids)
    around = ids[:lead].tobytes(), ids[lead + own :].tobytes()
    end = array("I", [backend.token_to_id(eos)]).tobytes()
    normal, splits = _steps(backend.normalizer), _steps(backend.pre_tokenizer)
    if _is_byte_level(normal, splits):
        known = Known(_byte_level_reader(backend, splits, [token.content for token in added]))
        return Pieces(known, eos, *around, end)
    if (blank := _sentence_piece_blank(normal, splits)) is None or not _cuts_hold(backend):
        return None
    known = Known(_merger(backend.model, {ord(" "): BLANK}))
    refused = (BLANK, *(token.content for token in added if token.content != eos))
    return Pieces(known, eos, *around, end, blank, refused)


def _plain(added: list[Any], eos: str) -> bool:
    """Whether no added token reaches across a cut, or hides an end token that begins later."""
    for token in added:
        text = token.content
        if token.lstrip or token.rstrip or token.single_word:
            return False
        if re.search(r"\s", text) and not text.isspace():
            return False
        if text != eos and any(text.endswith(eos[:size]) for size in range(1, len(eos) + 1)):
            return False
        if text != eos and text.startswith(eos):
            return False
    return any(token.content == eos for token in added)


Steps = list[dict[str, Any]]
"""What a normalizer or pre-tokenizer does, one after the other, as its file says it."""


def _steps(part: Any) -> Steps:
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    sequence = state.get("normalizers") or state.get("pretokenizers")
    return sequence if state["type"] == "Sequence" else [state]


def _is_byte_level(normal: Steps, splits: Steps) -> bool:
    if not splits or splits[-1]["type"] != "ByteLevel" or splits[-1]["add_prefix_space"]:
        return False
    by_expression = splits[-1]["use_regex"]
    for split in splits[:-1]:
        if split["type"] == "Split":
            known = split["pattern"].get("Regex") in SPLITS and not split["invert"]
            if not known or split["behavior"] != "Isolated":
                return False
            by_expression = True
        elif split["type"] != "Digits":
            return False
    return by_expression and all(one["type"] == "NFC" for one in normal)


def _byte_level_reader(backend: Any, splits: Steps, added: list[str]) -> Read:
    """Reads new pieces: their words one by one where these are surely told, else as a text."""
    find_words = _word_finder(splits)
    any_added = re.compile("|".join(map(re.escape, added))).search
    begins = {text[0] for text in added}
    always = begins.pop() if len(begins) == 1 else ""  # with what each begins, mostly "<"
    words = Known(_merger(backend.model, ASCII_SIGNS))

    def read(piece: str) -> bytes:
        if find_words and piece.isascii() and not (always in piece and any_added(piece)):
            return b"".join(map(words.__getitem__, find_words(piece)))
        return array("I", backend.encode(piece, add_special_tokens=False).ids).tobytes()

    return read


def _word_finder(splits: Steps) -> Callable[[str], list[str]] | None:
    """Finds words of ASCII text as the pre-tokenizer does, if one expression alone does it there.

    Python reads these expressions as the tokenizer does, but for the names of Unicode's classes.
    """
    *before, last = splits
    if len(before) + last["use_regex"] != 1 or (before and before[0]["type"] != "Split"):
        return None
    expression = GPT2 if last["use_regex"] else before[0]["pattern"]["Regex"]
    expression = expression.replace(r"\p{L}\p{N}", "A-Za-z0-9")
    expression = expression.replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]")
    return re.compile(expression, re.ASCII).findall


def _merger(model: Any, signs: dict[int, str]) -> Read:
    """Reads what no pre-tokenizer would split; signs: what stands for some characters."""

    blank = signs[ord(" ")]

    def merge(text: str) -> bytes:
        # Of printable ASCII the blank alone has a sign, and to replace it is quicker.
        plain = text.isascii() and text.isprintable()
        text = text.replace(" ", blank) if plain else text.translate(signs)
        return array("I", [token.id for token in model.tokenize(text)]).tobytes()

    return merge


def _sentence_piece_blank(normal: Steps, splits: Steps) -> Blank | None:
    """Where a tokenizer that keeps texts in one puts a blank; None for other tokenizers."""
    prepend = {"type": "Prepend", "prepend": BLANK}
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    if not splits:
        return "prepend" if normal == [prepend, blanks] else None
    metaspace = {"type": "Metaspace", "replacement": BLANK, "split": False}
    schemes: tuple[Blank, ...] = get_args(Blank)
    for scheme in schemes:
        if not normal and splits == [metaspace | {"prepend_scheme": scheme}]:
            return scheme
    return None


def _cuts_hold(backend: Any) -> bool:
    """Whether byte pairs are merged, none of them across a cut, and every character is known."""
    model = backend.model
    if type(model).__name__ != "BPE" or model.ignore_merges or not model.byte_fallback:
        return False
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if not all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        return False
    across = re.compile(rf"[^{BLANK}]{BLANK}|\n.", re.DOTALL)
    return not any(across.search(entry) for entry in vocabulary)
