"""One pass over a file against restatements that hold everything in memory."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.data.describe import describe
from cameleer.data.portrait import survey as module
from cameleer.data.portrait.findings import findings, share
from cameleer.data.portrait.survey import LIMITS, Repeats, Survey, mean, quantiles, survey

TULU = template_named("tulu")


def talk(*contents: str, first: str = "user") -> Conversation:
    roles = ["user", "assistant"] * 10
    roles = roles if first == "user" else ["system", *roles] if first == "system" else roles[1:]
    turns = (Message(role, text) for role, text in zip(roles, contents, strict=False))
    return Conversation("i", "own", tuple(turns))


CHATS = [
    talk("Write a poem about camels.", "Camels walk. " * 60),
    talk("Write a poem about camels.", "Camels sleep."),
    talk("Write a poem about camels.", "Camels sleep."),
    talk("Name two animals", "Camel", "And more?"),
    talk("Nobody answers this."),
    talk("Be kind.", "What is a hump?", "A store of fat.", first="system"),
    talk("I speak first.", "Do you?", "Yes, I do.", first="assistant"),
]


@pytest.fixture
def surveyed(tmp_path: Path, tiny_tokenizer: Any) -> Survey:
    path = tmp_path / "chats.jsonl"
    write_jsonl(path, (chat.to_row() for chat in CHATS))
    return survey(path, tiny_tokenizer, TULU)


def test_table_1_is_that_of_describe(surveyed: Survey, tiny_tokenizer: Any) -> None:
    plain = describe(surveyed.file, tiny_tokenizer)
    assert surveyed.conversations == plain["instances"] == 7
    assert mean(surveyed.messages) / 2 == pytest.approx(plain["rounds"])
    assert mean(surveyed.lengths["prompt"]) == pytest.approx(plain["prompt_tokens"])
    assert mean(surveyed.lengths["completion"]) == pytest.approx(plain["completion_tokens"])


def test_what_limits_cut_is_what_rendering_cuts(surveyed: Survey, tiny_tokenizer: Any) -> None:
    answered = [chat for chat in CHATS if any(t.role == "assistant" for t in chat.messages)]
    whole = sum(sum(one.supervised) for one in render(answered, tiny_tokenizer, TULU))
    for at, limit in enumerate(LIMITS):
        counts: Counter[str] = Counter()
        kept = list(render(answered, tiny_tokenizer, TULU, max_tokens=limit, counts=counts))
        assert surveyed.cut["conversations"][at] == counts["cut"]
        assert surveyed.cut["tokens"][at] == counts["cut_tokens"]
        assert surveyed.cut["emptied"][at] == counts["dropped_no_supervised"]
        assert surveyed.cut["learned"][at] == whole - sum(sum(one.supervised) for one in kept)
    assert surveyed.cut["conversations"][0] > 0
    assert surveyed.lengths["learned"].total() == len(answered)


def test_shape_repeats_and_requests(surveyed: Survey) -> None:
    assert surveyed.shape["no answer at all"] == 1
    assert surveyed.shape["ends in a question"] == 1
    assert surveyed.shape["begins with an answer"] == 1
    assert surveyed.shape["system message"] == 1
    assert surveyed.shape["same speaker twice"] == 0
    assert surveyed.repeats["conversation"].counts() == (1, 6)
    assert surveyed.repeats["prompt"].most_common(3) == [("Write a poem about camels.", 3)]
    assert surveyed.asked[("write", "poem")] == 3
    assert surveyed.signs["one word"] == 1
    assert surveyed.sign_examples["one word"] == [("i", "Camel")]
    assert surveyed.answers == 7


def test_what_stands_out_is_said(surveyed: Survey) -> None:
    found = findings(surveyed)
    said = " ".join(one.text for one in found)
    looks = [one.look for one in found]
    assert looks == sorted(looks, reverse=True)
    assert "29 % of the first prompts (2) came before; 1 with all that follows." in said
    assert "14 % are conversations (1) without an answer: nothing is learned from them." in said
    assert "“write poem” 60 %" in said
    assert "Nothing is cut at 2,048 tokens" in said


def test_a_file_of_other_sizes(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("\n")
    with pytest.raises(UserError, match="no conversation"):
        survey(path, tiny_tokenizer, TULU)
    path.write_text('{"messages": [{"role": "user", "content": 1}]}\n')
    with pytest.raises(UserError, match=r":1: field 'messages\.0\.content'"):
        survey(path, tiny_tokenizer, TULU)
    write_jsonl(path, [talk("Only a question?").to_row()])
    alone = survey(path, tiny_tokenizer, TULU)
    assert findings(alone)
    assert not alone.lengths["learned"]


@given(st.lists(st.sampled_from("abcdefghij"), max_size=60))
def test_repeats_are_exact_with_little_room(texts: list[str]) -> None:
    repeats = Repeats()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROOM", 3)
        for text in texts:
            repeats.add(text)
    counts = Counter(texts)
    assert repeats.counts() == (len(texts) - len(counts), len(counts))
    found = dict(repeats.most_common(10))
    assert found.items() <= counts.items()
    often = {text for text, n in counts.items() if n > 1 and n * 4 > len(texts)}
    assert often <= found.keys()


@given(st.lists(st.integers(0, 50), min_size=1), st.floats(0.01, 1))
def test_quantiles(values: list[int], part: float) -> None:
    [found] = quantiles(Counter(values), [part])
    assert found in values
    assert np.mean([value <= found for value in values]) >= part - 1e-9
    assert np.mean([value < found for value in values]) < part + 1e-9


def test_shares_read_well() -> None:
    assert [share(1, 5000), share(0, 3), share(1, 30), share(1, 3)] == [
        "under 0.1 %",
        "0 %",
        "3.3 %",
        "33 %",
    ]


@pytest.mark.real_data
@pytest.mark.embedded
def test_real_sample(real_data: Path, tokenizer: Any) -> None:
    path = real_data / "instruct/tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"
    found = survey(path, tokenizer, TULU)
    chats = list(read_conversations(path))
    rendered = list(render(chats, tokenizer, TULU))
    assert found.lengths["conversation"] == Counter(len(one.ids) for one in rendered)
    assert found.lengths["learned"] == Counter(sum(one.supervised) for one in rendered)
    assert found.sources == Counter(chat.source for chat in chats)
    assert found.learned_of["sharegpt"] == sum(
        sum(one.supervised) for one in rendered if one.source == "sharegpt"
    )
    assert found.learned_of.total() == sum(sum(one.supervised) for one in rendered)
    assert found.languages["prompt"]["en"] > 150
    assert found.signs["speaks as a model"] == sum(
        "language model" in turn.content or "OpenAI" in turn.content or " an AI" in turn.content
        for chat in chats
        for turn in chat.messages
        if turn.role == "assistant"
    )
