"""Reading by pieces gives the very tokens of reading whole, for every tokenizer that allows it."""

from __future__ import annotations

import json
import pickle
import random
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from cameleer.chat import pieces, render
from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.chat.pieces import SPLITS, Pieces, Table, by_pieces, is_cut
from cameleer.chat.render import BATCH, Renderer, Rule
from cameleer.chat.template import Template, template_named

TULU = template_named("tulu")
SPECIAL = ["<unk>", "<s>", "</s>"]
SIGNS = [*"ab.,'1<>|/é日🐪", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u0301"]
SIGNS += ["</s>", "<s>", "'s", " word", "▁", "\x1c", "\u0085", "\u2028", "\u200b", "ﬃ", "\x7f"]
MORE = [
    "\0",
    "“",
    "’s",
    "ſ",
    "ế",
    "\u1680",
    "\u2003",
    "\u037e",
    "_",
    "X1",
    "(",
    "a-word-quite-long",
]
texts = st.lists(st.sampled_from(SIGNS + MORE), max_size=12).map("".join)
busy = settings(max_examples=150, deadline=None)


def corpus(signs: list[str]) -> list[str]:
    draw = random.Random(0)
    made = ["".join(draw.choices(signs, k=60)) for _ in range(200)]
    return [*made, "Where does the camel live? In the desert, where there is little water."]


def byte_level(
    *steps: Any, normal: Any = None, before: bool = False, added: tuple[Any, ...] = ()
) -> Tokenizer:
    core = Tokenizer(models.BPE(ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
    if normal:
        core.normalizer = normal
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(corpus(SIGNS), trainer)
    core.add_tokens(list(added))
    if before:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return core


def expression(pattern: str, normal: Any = None) -> Tokenizer:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return byte_level(split, words(use_regex=False), normal=normal)


def out_of_reach() -> Tokenizer:
    """With entries of whole words that merges do not lead to, and merges of other ways to them."""
    state = json.loads(byte_level(words()).to_str())
    model = state["model"]
    model["ignore_merges"] = False
    for word in ("Ġwater", "abab", "aba"):
        model["vocab"].setdefault(word, len(model["vocab"]))
    model["merges"] = [["a", "b"], ["b", "a"], ["ba", "b"], *model["merges"]]
    for word in ("ab", "ba", "bab"):
        model["vocab"].setdefault(word, len(model["vocab"]))
    return Tokenizer.from_str(json.dumps(state))


def drops_merges() -> Tokenizer:
    core = byte_level(words())
    core.model.dropout = 0.5
    return core


def words(**changed: Any) -> Any:
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **changed})


def sentence_piece(scheme: str | None, signs: list[str] | None = None) -> Tokenizer:
    """As LLaMA (None) or Mistral ("first") has it; words end before blanks, as in theirs."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL + raw, show_progress=False)
    plain = [sign for sign in SIGNS if sign not in ("\u2028", "</s>", "<s>") and "\n" not in sign]
    core.train_from_iterator(corpus(signs or plain), trainer)
    state = json.loads(core.to_str()) | {"pre_tokenizer": None}
    state["added_tokens"] = [one for one in state["added_tokens"] if one["content"] in SPECIAL]
    core = Tokenizer.from_str(json.dumps(state))
    if scheme is None:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        core.normalizer = normalizers.Sequence(steps)
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return core


QWEN, LLAMA = sorted(SPLITS, key=len)
READ: dict[str, Callable[[], Tokenizer]] = {
    "GPT-2": lambda: byte_level(words()),
    "GPT-2, start and end added": lambda: byte_level(words(), before=True),
    "Pythia": lambda: byte_level(words(), normal=normalizers.NFC(), added=("  ", "   ")),
    "SmolLM": lambda: byte_level(pre_tokenizers.Digits(True), words()),
    "letters added": lambda: byte_level(words(), added=("wor", "b.a", "_")),
    "words out of reach": out_of_reach,
    "Qwen": lambda: expression(QWEN, normalizers.NFC()),
    "Llama 3": lambda: expression(LLAMA),
    "LLaMA": lambda: sentence_piece(None),
    "Mistral": lambda: sentence_piece("first"),
    "a blank after end tokens": lambda: sentence_piece("always"),
    "no blank": lambda: sentence_piece("never"),
}
REFUSED: dict[str, Callable[[], Tokenizer]] = {
    "added blank": lambda: byte_level(words(add_prefix_space=True)),
    "drops merges": drops_merges,
    "no expression": lambda: byte_level(words(use_regex=False)),
    "unknown expression": lambda: expression(r"\p{L}+ ?"),
    "other normalizer": lambda: byte_level(words(), normal=normalizers.Lowercase()),
    "words split at blanks": lambda: split_at_blanks(),
    "merges across blanks": lambda: across(sentence_piece(None)),
    "reaches across": lambda: byte_level(words(), added=("of the",)),
    "strips": lambda: byte_level(words(), added=(AddedToken("<x>", lstrip=True),)),
    "hides the end": lambda: byte_level(words(), added=("TITLE<",)),
}


def split_at_blanks() -> Tokenizer:
    core = sentence_piece("always")
    core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    return core


def across(core: Tokenizer) -> Tokenizer:
    """The same with one merge that joins a letter and the blank behind it."""
    state = json.loads(core.to_str())
    state["model"]["vocab"]["a▁"] = len(state["model"]["vocab"])
    state["model"]["merges"].append(["a", "▁"])
    return Tokenizer.from_str(json.dumps(state))


@cache
def reader(name: str) -> tuple[Tokenizer, Pieces]:
    core = READ[name]()
    found = by_pieces(core, "</s>")
    assert found is not None
    return core, found


@pytest.mark.parametrize("name", READ)
def test_the_same_tokens_as_read_whole(name: str) -> None:
    core, found = reader(name)
    read = 0

    @busy
    @given(texts)
    @example("a b.\nc\n\nd  e </s>\n<|user|>\nIt's 12 o'clock.")
    @example(" a </s> b</s>")
    def check(text: str) -> None:
        nonlocal read
        if not found.refuses(text):
            read += 1
            assert array("I", found.whole([text])[0]).tolist() == core.encode(text).ids

    check()
    assert read > 50


@pytest.mark.parametrize("name", REFUSED)
def test_tokenizers_whose_cuts_are_not_sure_are_not_read_by_pieces(name: str) -> None:
    assert by_pieces(REFUSED[name](), "</s>") is None


@pytest.mark.parametrize("name", READ)
def test_texts_read_together_are_read_as_if_alone(name: str) -> None:
    _, found = reader(name)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(texts, max_size=5))
    @example([])
    @example(["", "a", " ", "b", "\n", "c", "a\n", "\nb", "a ", "b", ""])
    def check(some: list[str]) -> None:
        assert found.read(some) == [found.read([text])[0] for text in some]

    check()


def pieces_of(found: Pieces, text: str) -> list[str]:
    data = text.encode()
    signs = np.frombuffer(data + bytes(4), np.uint8)
    places = found.cuts(signs, np.array([0, len(data)])).tolist()
    return [data[begin:end].decode() for begin, end in pairwise(places)]


@pytest.mark.parametrize("name", ["GPT-2", "letters added", "LLaMA"])
def test_pieces_are_the_text_cut_in_the_places_that_are_meant(name: str) -> None:
    _, found = reader(name)
    kept_whole = {"GPT-2": "<s>/unk", "letters added": "<s>/unkworb.a_"}.get(name)

    def ascii_cut(before: str, left: str, right: str, after: str) -> bool:
        """Whether there is a cut between two of four characters of ASCII."""
        seen = [bool(one) and not one.isspace() for one in (before, left, right, after)]
        ends_word = left.isalnum() and not right.isalnum()
        return (
            (seen[1] and right == " " and seen[3])
            or (seen[0] and left == "\n" and seen[2])
            or (kept_whole is not None and ends_word and right not in kept_whole)
        )

    @busy
    @given(texts)
    def check(text: str) -> None:
        parts = pieces_of(found, text)
        assert "".join(parts) == text
        ends = {len("".join(parts[:number])) for number in range(1, len(parts))}
        for place in range(1, len(text)):
            around = [text[at : at + 1] if at >= 0 else "" for at in range(place - 2, place + 2)]
            if all(one.isascii() for one in around):
                assert (place in ends) == ascii_cut(*around), (around, parts)
            elif place in ends:  # beyond ASCII there may be fewer
                assert ascii_cut(*("x" if not (c.isascii() or c.isspace()) else c for c in around))

    check()


def test_cuts() -> None:
    _, found = reader("LLaMA")
    text = "\nIt is  2\nno\n\nyes, \nso été là “x” кот 日"
    wanted = ["\nIt", " is  2\n", "no\n\nyes, \nso", " été", " là “x”", " кот", " 日"]
    assert pieces_of(found, text) == wanted
    words = ["a", ", \nb", ". \n\nc", "'s", " it", "'s", " x", ";", " 1", ")<s>é"]
    assert pieces_of(reader("GPT-2")[1], "".join(words)) == words
    assert is_cut("<|user|>\n", "a")
    assert not is_cut("a\n\n", "b")
    assert not is_cut("a\n", " b")
    assert not is_cut("\n", "b")
    assert not is_cut("a ", "b")


def test_what_is_new_is_asked_once_and_long_texts_are_not_kept() -> None:
    asked: list[str] = []

    def read(text: str) -> bytes:
        asked.append(text)
        return text.encode()

    known = pieces.kept(read)
    assert [known(text) for text in "abca"] == [b"a", b"b", b"c", b"a"]
    assert asked == list("abc")
    long = "x" * (pieces.LONGEST + 1)
    assert known(long) == known(long) == long.encode()
    assert asked.count(long) == 2


@pytest.mark.parametrize("bits", [1, 3, 18])
def test_pieces_that_want_the_same_place(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BITS", bits)
    monkeypatch.setattr(pieces, "AT_ONCE", 5)
    core, before = reader("Llama 3")
    found = replace(before, table=Table())
    draw = random.Random(2)
    for _ in range(60):
        some = ["".join(draw.choices(SIGNS + MORE, k=12)).replace("</s>", "") for _ in range(4)]
        wanted = [core.encode(text, add_special_tokens=False).ids for text in some]
        assert [array("I", ids).tolist() for ids in found.read(some)] == wanted


contents = st.one_of(texts, st.sampled_from(["", " ", "a</s>b", "<|user|>\nhi"]))
turns = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), contents)
chats = st.lists(st.lists(turns, min_size=1, max_size=5).map(tuple), min_size=1, max_size=6)


def fast(core: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")


@cache
def renderer(name: str, rule: Rule) -> Renderer:
    made = Renderer(fast(READ[name]()), TULU, rule=rule, max_tokens=40)
    made.pieces = by_pieces(made.backend, made.eos)
    return made


@pytest.mark.parametrize("rule", ["fixed", "paper"])
@pytest.mark.parametrize("name", ["GPT-2, start and end added", "Llama 3", "LLaMA", "Mistral"])
def test_the_same_masks_as_read_whole(name: str, rule: Rule) -> None:
    made, told = renderer(name, rule), Counter[bool]()
    assert made.pieces is not None

    @settings(max_examples=60, deadline=None)
    @given(chats)
    def check(messages: list[tuple[Message, ...]]) -> None:
        batch = [Conversation(str(n), "t", one) for n, one in enumerate(messages)]
        assert made.pieces is not None
        found = made.piecewise(made.pieces, batch)
        for one, whole in zip(found, made.whole(batch), strict=True):
            told[one is not None] += 1
            assert one in (None, whole)

    check()
    assert told[True] > 30


@pytest.mark.parametrize("long", [1, 100, 300])
def test_long_conversations_by_the_papers_rule(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = renderer("GPT-2, start and end added", "paper")
    assert made.pieces is not None
    conversations = many(50)
    wanted = made.whole(conversations)
    monkeypatch.setattr(render, "LONG", long)
    found = made.piecewise(made.pieces, conversations)
    assert all(one in (None, whole) for one, whole in zip(found, wanted, strict=True))
    assert found.count(None) == {1: 50, 300: 0}.get(long, found.count(None))


def many(count: int) -> list[Conversation]:
    draw = random.Random(1)
    return [
        Conversation(
            str(number),
            "t",
            (
                Message("user", "".join(draw.choices(SIGNS, k=9))),
                Message("assistant", f"a {number}"),
            ),
        )
        for number in range(count)
    ]


def test_batches_after_the_first_are_read_by_pieces() -> None:
    conversations = many(2 * BATCH + 9)
    made = Renderer(fast(READ["GPT-2"]()), TULU)
    found = list(made.render(conversations, Counter()))
    assert made.pieces is not None
    assert made.pieces.table.low.any()
    wanted = Renderer(fast(READ["GPT-2"]()), TULU).whole(conversations)
    assert [(one.ids, one.supervised) for one in found] == [(w.ids, w.mask) for w in wanted]


def test_pieces_that_give_other_tokens_are_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Pieces, "read", lambda self, texts: [bytes(4 * len(t)) for t in texts])
    conversations = many(BATCH + 9)
    made = Renderer(fast(READ["GPT-2"]()), TULU)
    found = list(made.render(conversations, Counter()))
    assert "cuts texts in an unknown way" in capsys.readouterr().err
    wanted = made.whole(conversations)
    assert [(one.ids, one.supervised) for one in found] == [(w.ids, w.mask) for w in wanted]


def test_a_format_whose_borders_are_no_cuts_is_rendered_whole() -> None:
    headers = {"system": "[S] ", "user": "[U] ", "assistant": "[A] "}
    template = Template("other", headers, TULU.footers, "")
    made = Renderer(fast(READ["GPT-2"]()), template)
    made.pieces = by_pieces(made.backend, made.eos)
    assert made.pieces is not None
    one, two = (
        Conversation("0", "t", (Message("user", "a"), Message("assistant", answer)))
        for answer in ("b", "")
    )
    found = made.piecewise(made.pieces, [one, two])
    assert found[0] is None
    assert found[1] is not None


def test_a_renderer_goes_to_other_processes() -> None:
    made = Renderer(fast(READ["GPT-2"]()), TULU)
    conversations = many(BATCH + 9)
    wanted = list(made.render(conversations, Counter()))
    other = pickle.loads(pickle.dumps(made))
    assert other.pieces is None
    assert list(other.render(conversations, Counter())) == wanted


@pytest.mark.real_data
@pytest.mark.embedded
def test_real_conversations_of_the_embedded_model(real_data: Path, tokenizer: Any) -> None:
    path = real_data / "instruct/tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"
    conversations = list(read_conversations(path))
    rules: list[Rule] = ["fixed", "paper"]
    for rule in rules:
        made = Renderer(tokenizer, TULU, max_tokens=2048, rule=rule)
        found = by_pieces(made.backend, made.eos)
        assert found is not None
        # The paper's rule takes its time.
        some = conversations if rule == "fixed" else conversations[::5]
        assert made.piecewise(found, some) == made.whole(some)
