"""Tokenising by pieces: text is cut where no token can reach across, and a piece is read once.

Most of what a tokenizer is given it has seen before: words with the blank before them. Such pieces
are kept with their token ids. Cuts are found, and pieces looked up, for many texts at once, by
numpy; only new pieces are given to the tokenizer.

A cut is made before a single blank, and after a single line break, between visible characters.
Whether every token ends there follows from what the tokenizer is made of:

- byte-level (GPT-2, Pythia, OLMo, Llama 3, Qwen 2, SmolLM): it splits text by a regular expression
  before all else, and no alternative of those in `SPLITS` goes on past a cut or looks behind it;
  nor past the end of a word, so that there is a cut behind it too, before blanks and punctuation;
- sentence pieces by byte-pair merging (LLaMA, Llama 2, Mistral): merges know no words, but none can
  reach across a cut if no entry of the vocabulary has characters of both its sides.

Any other tokenizer is not read by pieces.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

BLANK = "▁"
MOST, LONGEST = 1 << 17, 48  # pieces kept, and words (some 40 MB), and characters of each
AT_ONCE = 1 << 16  # pieces looked up at once: their arrays fit into the processor's cache

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

ENDS, BEGINS, SPACE, BREAK, WORD, OTHER, MAY_END, BEFORE = (1 << bit for bit in range(8))
"""What a byte can be: surely a visible character's last or first; a blank; a line break; part of a
word, or no part of one; such a character's last if what is `BEFORE` it is so marked."""

SHORT, BITS = 15, 18  # bytes of a piece that the table takes, and bits of a place in it
LOW, HIGH = (
    np.array([(1 << 8 * max(0, min(8, size - at))) - 1 for size in range(SHORT + 1)] + [0], "u8")
    for at in (0, 8)
)
SIZE = np.arange(SHORT + 2, dtype="u8") << np.uint64(56)
"""Which of the 16 bytes that begin with a piece are its own, by its size; the last says the size.
A piece that is longer than `SHORT` has a key that no place holds."""

Blank = Literal["never", "first", "always", "prepend"]
Bytes = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.intp]
Read = Callable[[str], bytes]
"""Gives the token ids of a text, as uint32."""


class Table:
    """Token ids of short pieces, to be looked up for many at once.

    A key is a piece's bytes and their number, so what is found is right. Each has two places; if
    others hold both, it takes the second.
    """

    def __init__(self) -> None:
        self.low, self.high = np.zeros((2, 1 << BITS), np.uint64)
        self.ids = np.zeros(1 << BITS, object)

    def find(self, low: Keys, high: Keys) -> tuple[Places, Places]:
        """The places of pieces, and which pieces are not there yet, but may be put there."""
        mixed = low * np.uint64(0x9E3779B97F4A7C15) + high * np.uint64(0xC2B2AE3D27D4EB4F)
        places = (mixed >> np.uint64(64 - BITS)).astype(np.intp)
        other = np.flatnonzero((self.low[places] != low) | (self.high[places] != high))
        second = (mixed[other] >> np.uint64(64 - 2 * BITS)).astype(np.intp) & ((1 << BITS) - 1)
        new = (self.low[second] != low[other]) | (self.high[second] != high[other])
        free = new & (self.high[places[other]] == 0)
        places[other] = np.where(free, places[other], second)
        return places, other[new]


@dataclass(frozen=True)
class Pieces:
    """A tokenizer that reads by pieces.

    new: reads a piece; kinds: [256] what each byte is; before, after: ids that it adds around a
    text; end: its end token's; blank: where it puts a blank of its own, of the stretches between
    end tokens (`first` and `always` not where one stands already); refused: texts that hold one of
    these are not read here.
    """

    new: Read
    kinds: Bytes
    eos: str
    before: bytes
    after: bytes
    end: bytes
    blank: Blank = "never"
    refused: tuple[str, ...] = ()
    table: Table = field(default_factory=Table)

    def refuses(self, text: str) -> bool:
        """Whether the text is beyond what is surely read right; the end token is none of that."""
        return any(one in text for one in self.refused)

    def begun(self, text: str, *, first: bool) -> str:
        """A stretch that begins the text (first) or follows an end token, with the blank put in."""
        if not text or self.blank == "never" or (self.blank == "first" and not first):
            return text
        return text if text[0] == " " and self.blank != "prepend" else BLANK + text

    def whole(self, texts: Iterable[str]) -> list[bytes]:
        """Ids, as uint32, of whole texts, with those that the tokenizer adds around them."""
        split = [text.split(self.eos) for text in texts]
        stretches = [
            self.begun(part, first=number == 0)
            for parts in split
            for number, part in enumerate(parts)
        ]
        found = iter(self.read(stretches))
        return [
            self.before + self.end.join(islice(found, len(parts))) + self.after for parts in split
        ]

    def read(self, stretches: Sequence[str]) -> list[bytes]:
        """Ids, as uint32, of texts without end tokens; both ends of each must be cuts."""
        texts = [text.encode() for text in stretches]
        whole = b"".join(texts) + bytes(SHORT + 1)
        starts = np.zeros(len(texts) + 1, np.intp)
        np.cumsum(np.fromiter(map(len, texts), np.intp), out=starts[1:])
        cuts = self.cuts(np.frombuffer(whole, np.uint8), starts)
        found = list[bytes]()
        for at in range(0, len(cuts) - 1, AT_ONCE):
            found += self._look_up(whole, cuts[at : at + AT_ONCE + 1])
        edges = np.searchsorted(cuts, starts).tolist()
        return [b"".join(found[begin:end]) for begin, end in pairwise(edges)]

    def cuts(self, text: Bytes, starts: Places) -> Places:
        """Where pieces begin, and at last where the last one ends.

        text: bytes of stretches, and at least four behind them; starts: where each begins, and at
        last where the last one ends.
        """
        kinds = self.kinds[text]
        cut = np.zeros(len(text), bool)
        ends = kinds & ENDS
        ends[1:] |= (kinds[1:] & MAY_END & kinds[:-1] >> 1) >> 6
        between = (ends[:-2] & kinds[2:] >> 1) != 0
        between[starts - 1] = between[starts - 2] = False  # a neighbour is of another stretch
        cut[1:-1] = between & (kinds[1:-1] & SPACE != 0)
        cut[2:] |= between & (kinds[1:-1] & BREAK != 0)
        cut[1:] |= (kinds[:-1] & WORD != 0) & (kinds[1:] & OTHER != 0)
        cut[starts] = True
        cut[starts[-1] + 1 :] = False
        return np.flatnonzero(cut)

    def _look_up(self, text: bytes, cuts: Places) -> list[bytes]:
        """Ids of each piece; what is new is read, and kept if it is short."""
        begins, ends = cuts[:-1], cuts[1:]
        sizes = np.minimum(ends - begins, SHORT + 1)
        bits = sliding_window_view(np.frombuffer(text, np.uint8), SHORT + 1)[begins].view("<u8")
        low, high = bits[:, 0] & LOW[sizes], bits[:, 1] & HIGH[sizes] | SIZE[sizes]
        places, new = self.table.find(low, high)
        ids = self.table.ids[places]
        edges = zip(begins[new].tolist(), ends[new].tolist(), strict=True)
        ids[new] = [self.new(text[begin:end].decode()) for begin, end in edges]
        kept = new[sizes[new] <= SHORT]
        into, first = np.unique(places[kept], return_index=True)  # one piece for each place
        kept = kept[first]
        self.table.low[into], self.table.high[into] = low[kept], high[kept]
        self.table.ids[into] = ids[kept]
        found: list[bytes] = ids.tolist()
        return found


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
    contents = [token.content for token in added]
    normal, splits = _steps(backend.normalizer), _steps(backend.pre_tokenizer)
    if _is_byte_level(normal, splits):
        new = kept(_byte_level_reader(backend, splits, contents))
        return Pieces(new, _kinds(True, "".join(contents)), eos, *around, end)
    if (blank := _sentence_piece_blank(normal, splits)) is None or not _cuts_hold(backend):
        return None
    new = kept(_merger(backend.model, {ord(" "): BLANK}))
    refused = (BLANK, *(text for text in contents if text != eos))
    return Pieces(new, _kinds(False), eos, *around, end, blank, refused)


def kept(read: Read) -> Read:
    """The same, but what was asked for lately is remembered, if it is no longer than `LONGEST`."""
    known = lru_cache(MOST)(read)
    return lambda piece: known(piece) if len(piece) <= LONGEST else read(piece)


def _kinds(words: bool, added: str = "") -> Bytes:
    """[256] what each byte of UTF-8 is.

    words: whether there is a cut behind words; added: characters of added tokens, before which
    there is none, so that no such token is parted.
    """
    kinds = np.zeros(256, np.uint8)
    # Beyond ASCII a character is surely visible if no white space begins with the same byte, or if
    # none ends with the same two bytes.
    spaces = [chr(code).encode() for code in range(0x3001) if chr(code).isspace()]
    first, last, before = (
        {space[at] for space in spaces if len(space) >= -at} for at in (0, -1, -2)
    )
    for byte in range(256):
        opens, closes = not 0x80 <= byte < 0xC0, byte < 0xC0  # some character
        if opens and byte not in first:
            kinds[byte] |= BEGINS
        if closes and byte not in last:
            kinds[byte] |= ENDS
        if closes and not opens:
            kinds[byte] |= MAY_END
        if byte not in before:
            kinds[byte] |= BEFORE
    kinds[ord(" ")] |= SPACE
    kinds[ord("\n")] |= BREAK
    for sign in map(chr, range(128) if words else ()):
        if sign.isalnum():
            kinds[ord(sign)] |= WORD
        elif sign not in added:
            kinds[ord(sign)] |= OTHER
    return kinds


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
    merge = _merger(backend.model, ASCII_SIGNS)
    word = kept(merge)

    def read(piece: str) -> bytes:
        if piece.isascii() and not (always in piece and any_added(piece)):
            if (piece[1:] if piece[0] == " " else piece).isalpha():
                return merge(piece)  # it is one word
            if find_words:
                return b"".join(map(word, find_words(piece)))
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
