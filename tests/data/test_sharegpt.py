"""Splitting ShareGPT's conversations: the paper's walk and its losses, and the mended one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.data.convert import convert
from cameleer.data.split import Chunks, round_lengths, split_fixed, split_paper

ROUNDS = st.lists(st.integers(1, 14), min_size=1, max_size=12)
MOST = 10


class Words:
    """A tokenizer of one token a word, with one before each text, as LLaMA's has it."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1, *range(len(text.split()))] for text in texts]}


def restated(rounds: list[int], most: int) -> Chunks:
    """The paper's walk, told by what each round is carried into instead of by a loop's state."""

    def carried(place: int) -> int:
        if place == 0:
            return 0
        before = 0 if overflows(place - 1) else carried(place - 1)
        return before + rounds[place - 1]

    def overflows(place: int) -> bool:
        return carried(place) + rounds[place] > most

    ends = [place for place in range(len(rounds)) if overflows(place)]
    starts = [0, *(place + (rounds[place] > most) for place in ends)]
    last = [] if overflows(len(rounds) - 1) else [len(rounds)]
    return list(zip(starts, ends + last, strict=False))


@given(ROUNDS)
def test_the_papers_walk(rounds: list[int]) -> None:
    assert split_paper(rounds, MOST) == restated(rounds, MOST)


@given(ROUNDS)
def test_the_mended_walk_loses_no_round_that_fits(rounds: list[int]) -> None:
    chunks = split_fixed(rounds, MOST)
    inside = [place for first, end in chunks for place in range(first, end)]
    assert inside == [place for place, size in enumerate(rounds) if size <= MOST]
    for first, end in chunks:
        assert 0 < sum(rounds[first:end]) <= MOST
        assert end == len(rounds) or sum(rounds[first : end + 1]) > MOST


@pytest.mark.parametrize(
    ("rounds", "paper", "fixed"),
    [
        ([4, 6], [(0, 2)], [(0, 2)]),
        ([4, 6, 1, 2], [(0, 2), (2, 4)], [(0, 2), (2, 4)]),
        ([4, 7], [(0, 1)], [(0, 1), (1, 2)]),  # (a) the last round overflows and is lost
        ([12, 4, 4], [(0, 0), (1, 1), (1, 3)], [(1, 3)]),  # (b) two empty chunks
        ([12, 4], [(0, 0), (1, 1)], [(1, 2)]),  # (b) makes (a): a last round that fits is lost
        ([4, 12, 4, 4], [(0, 1), (2, 2), (2, 4)], [(0, 1), (2, 4)]),
        ([4, 12], [(0, 1)], [(0, 1)]),
        ([12], [(0, 0)], []),
    ],
)
def test_losses(rounds: list[int], paper: Chunks, fixed: Chunks) -> None:
    assert split_paper(rounds, MOST) == paper
    assert split_fixed(rounds, MOST) == fixed


def test_a_message_has_its_tokens_one_before_and_six_more() -> None:
    assert round_lengths(["a b", "c", "", "d d d"], Words()) == [2 + 1 + 14, 0 + 3 + 14]


@pytest.mark.embedded
def test_a_real_tokenizer_measures(tokenizer: Any) -> None:
    texts = ["What is a camel?", "An animal.\n" * 3000]
    expected = sum(len(tokenizer(text).input_ids) + 6 for text in texts)
    assert round_lengths(texts, tokenizer) == [expected]


# --- conversations; a message of n words has n + 7 tokens, a round of 2 one-word messages 16


def chat(identity: Any, *turns: str) -> dict[str, Any]:
    """A conversation of turns such as "human: two words"."""
    pairs = (turn.split(": ") for turn in turns)
    return {"id": identity, "conversations": [{"from": a, "value": b} for a, b in pairs]}


def rounds_of(identity: Any, *words: int) -> dict[str, Any]:
    """A conversation whose n-th round has so many words as answer, and its place as question."""
    turns = ((f"human: q{n}", f"gpt: {'a ' * count}") for n, count in enumerate(words))
    return chat(identity, *(turn.strip() for pair in turns for turn in pair))


Read = Callable[..., tuple[list[Conversation], dict[str, int]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Converts conversations as the unsplit release, by default with 40 tokens a chunk."""

    def one(
        rows: list[Any], rule: Rule = "fixed", **given: Any
    ) -> tuple[list[Conversation], dict[str, int]]:
        (tmp_path / "sg_90k_part1_html_cleaned.json").write_text(json.dumps(rows, indent=1))
        given = {"tokenizer": Words(), "max_tokens": 40, **given}
        stream, counts = convert("sharegpt", tmp_path, rule, **given)
        found = list(stream)
        dropped = sum(n for reason, n in counts.items() if reason.startswith("dropped: "))
        assert counts["read"] == counts["kept"] + dropped
        assert counts["kept"] == len(found)
        return found, {key: n for key, n in counts.items() if n}

    return one


def told(found: list[Conversation]) -> list[tuple[str, str]]:
    """Ids and texts, a bar between messages."""
    return [(one.id, "|".join(turn.content for turn in one.messages)) for one in found]


GOLDEN = [
    chat("aQ3", "human: Hi there", "gpt: Hello", "human: And you", "gpt: Fine thanks", "human: Ok"),
    rounds_of("b", 1, 1, 30, 1),
    chat(
        "c",
        *("human: x", "gpt: y", "bing: z", "gpt: w"),
        *("human: u", "gpt: v", "human: s", "gpt: t"),
    ),
]


def test_golden_by_the_papers_rule(read: Read) -> None:
    found, counts = read(GOLDEN, "paper")
    assert told(found) == [
        ("sharegpt_aQ3_0", "Hi there|Hello|And you|Fine thanks"),  # 17 + 18 tokens
        ("sharegpt_b_0", "q0|a|q1|a"),  # then a round of 45, and a last one that is lost
        ("sharegpt_c_4", "u|v|s|t"),  # the turn of bing takes its chunk along, no more
    ]
    assert counts == {
        "read": 5,
        "kept": 3,
        "conversations": 3,
        "dropped: empty chunk": 1,
        "dropped: a system or bing turn": 1,
        "cut: last turn of an odd number": 1,
        "cut: round of more than 40 tokens": 1,
        "cut: last round, which did not fit": 1,
    }


def test_golden_by_the_fixed_rule(read: Read) -> None:
    found, counts = read(GOLDEN)
    assert told(found) == [
        ("sharegpt_aQ3_0", "Hi there|Hello|And you|Fine thanks"),
        ("sharegpt_b_0", "q0|a|q1|a"),
        ("sharegpt_b_6", "q3|a"),
    ]
    assert counts == {
        "read": 4,
        "kept": 3,
        "conversations": 3,
        "dropped: a system or bing turn": 1,
        "cut: question after the last answer": 1,
        "cut: round of more than 40 tokens": 1,
    }


def test_chunks_begin_with_the_user(read: Read) -> None:
    """An answer before the first question shifts every pair of the paper's, so that all go."""
    row = chat("a", "gpt: 0", "human: 1", "gpt: 2", "human: 3", "gpt: 4", "human: 5", "gpt: 6")
    assert told(read([row])[0]) == [("sharegpt_a_1", "1|2|3|4"), ("sharegpt_a_5", "5|6")]
    found, counts = read([row], "paper")
    assert found == []
    assert counts["dropped: speakers do not alternate"] == 1


def test_ids_stay_unique(read: Read) -> None:
    rows = [rounds_of(one, 1) for one in ("a", "a", "a-2", None, "3", 3, "a", " ", "\ud800")]
    found = read(rows)[0]
    names = ["a", "a-2", "a-2-2", "3", "3-2", "3-3", "a-3", "7", "\ufffd"]
    assert [one.id for one in found] == [f"sharegpt_{name}_0" for name in names]


def test_what_gives_no_chunk_is_dropped(read: Read) -> None:
    rows = [rounds_of("a", 50), chat("b", "human: x"), chat("c")]
    assert read(rows)[1]["dropped: no round that fits"] == 1
    assert read(rows)[1]["dropped: no question with an answer"] == 2
    assert read(rows, "paper")[1]["dropped: fewer than two messages"] == 2
    assert read(rows, "paper")[1]["dropped: empty chunk"] == 1


def test_an_unknown_speaker(read: Read) -> None:
    """By `paper` its chunk goes with it, as in the paper; by `fixed` the record is a bad one."""
    row = rounds_of("a", 1, 1, 1, 1)
    row["conversations"][6]["from"] = "bard"
    assert told(read([row], "paper")[0]) == [("sharegpt_a_0", "q0|a|q1|a")]
    told_of: list[Any] = []
    assert read([row], on_bad=told_of.append)[0] == []
    assert told_of[0].field == "conversations.6.from"


def test_without_a_tokenizer_conversations_are_kept_whole(
    read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    found, counts = read([rounds_of("a", 99, 99)], tokenizer=None)
    assert [(one.id, len(one.messages)) for one in found] == [("sharegpt_0", 4)]
    assert counts["not split"] == 1
    assert "no tokenizer is given" in capsys.readouterr().err


def test_a_split_file_is_not_split_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ShareGPT_V3_unfiltered_cleaned_split.json"
    file.write_text(json.dumps([rounds_of("a_0", 99, 99)]))
    for root in (tmp_path, file):
        stream, counts = convert("sharegpt", root, tokenizer=Words(), max_tokens=40)
        assert [len(one.messages) for one in stream] == [4]
        assert not counts["not split"]
    assert "is split already" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_file_of_any_name(tmp_path: Path, form: str) -> None:
    rows = [rounds_of("a", 1, 1, 1), rounds_of("b", 1)]
    file = tmp_path / "chats"
    file.write_text(json.dumps(rows) if form == "array" else "\n".join(map(json.dumps, rows)))
    stream, _ = convert("sharegpt", file, tokenizer=Words(), max_tokens=40)
    assert [one.id for one in stream] == ["sharegpt_a_0", "sharegpt_a_4", "sharegpt_b_0"]


@pytest.mark.real_data
def test_real_conversations(real_data: Path, tmp_path: Path) -> None:
    """The slice, which others have split, split further; what is in no chunk is accounted for."""
    slice_ = real_data / "instruct/sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json"
    file = tmp_path / "whole.json"
    file.symlink_to(slice_)
    rows = json.loads(slice_.read_text())
    kept = {rule: convert("sharegpt", slice_, rule)[0] for rule in ("paper", "fixed")}
    whole = [[turn.content for turn in one.messages] for one in kept["fixed"]]
    sizes = [round_lengths(texts, Words()) for texts in whole]
    assert len(whole) == 484

    stream, counts = convert("sharegpt", file, tokenizer=Words(), max_tokens=300)
    fixed = [[turn.content for turn in one.messages] for one in stream]
    fitting = [
        texts[2 * place : 2 * place + 2]
        for texts, size in zip(whole, sizes, strict=True)
        for place, tokens in enumerate(size)
        if tokens <= 300
    ]
    assert [text for texts in fixed for text in texts] == [t for pair in fitting for t in pair]
    assert all(sum(round_lengths(texts, Words())) <= 300 for texts in fixed)
    assert counts["conversations"] == len(rows) == 495
    assert counts["cut: round of more than 300 tokens"] == sum(map(len, sizes)) - len(fitting)

    stream, counts = convert("sharegpt", file, "paper", tokenizer=Words(), max_tokens=300)
    assert counts["conversations"] == 0  # nothing is read before it is asked for
    assert {one.id for one in stream} != set()
    expected = 0
    for row in rows:
        turns = row["conversations"][: len(row["conversations"]) // 2 * 2]
        speakers = [turn["from"] for turn in turns]
        if not turns:
            continue
        for first, end in restated(round_lengths([t["value"] for t in turns], Words()), 300):
            expected += first < end and speakers[2 * first : 2 * end] == ["human", "gpt"] * (
                end - first
            )
    assert counts["kept"] == expected
