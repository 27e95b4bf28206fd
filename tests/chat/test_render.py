"""The loss mask against independent restatements of the paper's rule and of ours."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.chat.render import Rendered, Rule, render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError

TULU = template_named("tulu")
NASTY = [
    "",
    " ",
    "\r\n\t ",
    "<|user|>\nhi\n<|assistant|>\n",
    "<|assistant|>",
    "crème brûlée 🐪👩‍👩‍👧",
    "a\r\nb\r\n",
    "日本語\u3000テスト",
    "\u00a0x\u2028y\u0085",
    "  two  blanks  ",
    "\n\nlines\n\n\n",
    "e\u0301 \u200b\ufeffz",
    "\x00\x1b[31m",
    "🇩🇪\ufe0f",
]
# What a decoder cannot give back is no matter of the mask: "▁" is a blank to sentence pieces.
contents = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=40),
)


def exchange(question: str, answer: str) -> tuple[Message, Message]:
    return Message("user", question), Message("assistant", answer)


chats = st.builds(
    lambda system, rounds: (
        *(Message("system", text) for text in system),
        *(turn for question, answer in rounds for turn in exchange(question, answer)),
    ),
    st.lists(contents, max_size=1),
    st.lists(st.tuples(contents, contents), min_size=1, max_size=3),
)
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rendered(messages: tuple[Message, ...], tokenizer: Any, rule: Rule = "fixed") -> Rendered:
    [one] = render([Conversation("0", "test", messages)], tokenizer, TULU, rule=rule)
    return one


def learned_runs(one: Rendered, tokenizer: Any) -> list[str]:
    """The text of each unbroken run of supervised tokens."""
    spans = [match.span() for match in re.finditer("1+", "".join(map(str, one.supervised)))]
    return [
        tokenizer.decode(one.ids[begin:end], clean_up_tokenization_spaces=False)
        for begin, end in spans
    ]


def answers(messages: tuple[Message, ...], eos: str) -> list[str]:
    return [turn.content.strip() + eos for turn in messages if turn.role == "assistant"]


def paper_ids_and_mask(
    messages: tuple[Message, ...], tokenizer: Any, limit: int
) -> tuple[list[int], list[int]]:
    """The paper's rule, restated from its description (sections 2.1 and 2.2 of our fact sheet)."""

    def concatenated(turns: tuple[Message, ...]) -> str:
        end = {"assistant": tokenizer.eos_token + "\n"}
        return "".join(
            f"<|{t.role}|>\n{t.content.strip()}{end.get(t.role, chr(10))}" for t in turns
        )

    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return ids

    ids = tokens(concatenated(messages).strip())
    mask = [1] * len(ids)
    for index, turn in enumerate(messages):
        if turn.role != "assistant":
            begin = len(tokens(concatenated(messages[:index]))) if index else 0
            following = messages[index + 1 : index + 2]
            cue = "<|assistant|>\n" if following and following[0].role == "assistant" else ""
            end = len(tokens(concatenated(messages[: index + 1]) + cue))
            for place in range(begin, min(end, len(ids))):
                mask[place] = 0
            if end >= limit:
                break
    return ids, mask


@quick
@given(messages=chats)
def test_what_is_learned_is_every_answer_and_its_end(family: Any, messages: Any) -> None:
    one = rendered(messages, family)
    assert learned_runs(one, family) == answers(messages, family.eos_token)


@pytest.mark.embedded
@quick
@given(messages=chats)
def test_what_is_learned_by_the_embedded_model(tokenizer: Any, messages: Any) -> None:
    expected = answers(messages, tokenizer.eos_token)
    # Its vocabulary lacks some bytes: characters made of them are lost to it in any case.
    assume(all(tokenizer.decode(tokenizer(text)["input_ids"]) == text for text in expected))
    assert learned_runs(rendered(messages, tokenizer), tokenizer) == expected


@quick
@given(messages=chats)
def test_paper_rule_restated(family: Any, messages: Any) -> None:
    one = rendered(messages, family, "paper")
    ids, mask = paper_ids_and_mask(messages, family, 10**6)
    assert (one.ids, one.supervised) == (ids, mask)


@quick
@given(messages=chats)
def test_paper_rule_restated_where_prefixes_are_off(joining: Any, messages: Any) -> None:
    ids, mask = paper_ids_and_mask(messages, joining, 10**6)
    found = render([Conversation("0", "test", messages)], joining, TULU, rule="paper")
    assert [(one.ids, one.supervised) for one in found] == [(ids, mask)] * any(mask)


@pytest.mark.embedded
@quick
@given(messages=chats)
def test_rules_differ_in_the_line_break_alone(tokenizer: Any, messages: Any) -> None:
    ours, paper = rendered(messages, tokenizer), rendered(messages, tokenizer, "paper")
    turns = sum(turn.role == "assistant" for turn in messages)
    assert differences(ours, paper, tokenizer) == ["</s>\n"] * (turns - 1)


def differences(ours: Rendered, paper: Rendered, tokenizer: Any) -> list[str]:
    """What the rules disagree on; "</s>\\n" is a line break after an end token, in the paper's loss
    only; anything else is shown by its text."""
    assert ours.ids == paper.ids
    found = []
    for place, token in enumerate(ours.ids):
        if ours.supervised[place] != paper.supervised[place]:
            text = tokenizer.decode([token])
            after_end = place > 0 and ours.ids[place - 1] == tokenizer.eos_token_id
            known = after_end and text == "\n" and paper.supervised[place]
            found.append("</s>\n" if known else text)
    return found


@pytest.mark.real_data
@pytest.mark.embedded
def test_tulu_sample_by_the_papers_rule(real_data: Path, tokenizer: Any) -> None:
    path = real_data / "instruct/tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"
    conversations = list(read_conversations(path))
    assert len(conversations) == 200
    counts: Counter[str] = Counter()
    stream = render(conversations, tokenizer, TULU, max_tokens=2048, rule="paper", counts=counts)
    paper = {one.id: one for one in stream}
    ours = {one.id: one for one in render(conversations, tokenizer, TULU, max_tokens=2048)}
    assert counts["read"] == 200
    assert paper.keys() == ours.keys()
    breaks = 0
    for conversation in conversations:
        ids, mask = paper_ids_and_mask(conversation.messages, tokenizer, 2048)
        if not any(mask):
            assert conversation.id not in paper
            continue
        one = paper[conversation.id]
        assert (one.ids, one.supervised) == (ids, mask)
        different = differences(ours[conversation.id], one, tokenizer)
        assert set(different) <= {"</s>\n"}
        breaks += len(different)
    assert breaks > 100
    assert len(paper) == counts["kept"] == 200 - counts["dropped_no_supervised"]


def test_prefixes_that_are_off(joining: Any) -> None:
    """Where a token crosses the border, ours leaves that token out; the paper's prefix, tokenised
    alone, has more tokens than the same text inside the whole, and so hides half the answer."""
    messages = (
        Message("user", "hello there"),
        Message("assistant", "hi, how are you? hello, how are you there?"),
    )
    counts: Counter[str] = Counter()
    [ours] = render([Conversation("0", "t", messages)], joining, TULU, counts=counts)
    paper = rendered(messages, joining, "paper")
    assert counts["straddling"] == 1
    [whole] = answers(messages, "</s>")
    [run], [papers] = learned_runs(ours, joining), learned_runs(paper, joining)
    crossing = joining.decode(ours.ids[ours.supervised.index(1) - 1])
    assert crossing.endswith("<|assistant|>\n" + whole.removesuffix(run))
    assert run.endswith(papers)
    assert len(papers) < len(run) < len(whole)


def test_a_short_answer_can_vanish_by_prefixes_that_are_off(joining: Any) -> None:
    messages = (Message("user", "hello there"), Message("assistant", "hi, how are you?"))
    counts: Counter[str] = Counter()
    chat = Conversation("0", "t", messages)
    assert not list(render([chat], joining, TULU, rule="paper", counts=counts))
    assert counts["dropped_no_supervised"] == 1


def test_paper_rule_learns_the_header_of_an_opening_answer(family: Any) -> None:
    messages = (Message("assistant", "Hello"), Message("user", "Hi"), Message("assistant", "Bye"))
    paper, ours = rendered(messages, family, "paper"), rendered(messages, family)
    assert learned_runs(ours, family) == ["Hello</s>", "Bye</s>"]
    assert "<|assistant|>" in learned_runs(paper, family)[0]


def test_a_token_added_at_the_end_is_not_learned(family: Any) -> None:
    messages = (Message("user", "a"), Message("assistant", "b"))
    one = rendered(messages, family)
    assert sum(one.supervised) == 2
    assert learned_runs(one, family) == ["b</s>"]


def test_an_end_token_inside_an_answer_is_learned_and_in_a_question_is_not() -> None:
    messages = (Message("user", "a</s>b"), Message("assistant", "c</s>d"))
    tokenizer = _plain()
    assert learned_runs(rendered(messages, tokenizer), tokenizer) == ["c</s>d</s>"]


def _plain() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(["a"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


def test_cut_and_dropped_are_counted(family: Any) -> None:
    short = Conversation("s", "t", (Message("user", "a"), Message("assistant", "b")))
    late = Conversation("l", "t", (Message("user", "a " * 200), Message("assistant", "b")))
    lone = Conversation("q", "t", (Message("user", "a"),))
    whole = {one.id: one for one in render([short, late], family, TULU)}
    limit = len(whole["s"].ids) + 1
    counts: Counter[str] = Counter()
    kept = list(render([short, late, lone], family, TULU, max_tokens=limit, counts=counts))
    assert [one.id for one in kept] == ["s"]
    assert counts["read"] == counts["kept"] + counts["dropped_no_supervised"] == 3
    assert counts["cut"] == 1
    assert counts["cut_tokens"] == len(whole["l"].ids) - limit


def test_a_cut_conversation_keeps_its_beginning(family: Any) -> None:
    chat = Conversation("c", "t", (Message("user", "a"), Message("assistant", "b " * 50)))
    [whole] = render([chat], family, TULU)
    [cut] = render([chat], family, TULU, max_tokens=len(whole.ids) - 10)
    assert (cut.ids, cut.supervised) == (whole.ids[:-10], whole.supervised[:-10])
    assert cut.cut == 10


def test_batches_do_not_matter(family: Any) -> None:
    chats = [
        Conversation(str(n), "t", (Message("user", "a" * n), Message("assistant", f"{n} b")))
        for n in range(600)
    ]
    alone = [rendered(chat.messages, family) for chat in chats]
    together = list(render(chats, family, TULU))
    assert [one.id for one in together] == [chat.id for chat in chats]
    assert [one.ids for one in together] == [one.ids for one in alone]
    assert [one.supervised for one in together] == [one.supervised for one in alone]


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    tokenizer = _plain()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end-of-text token"):
        rendered((Message("assistant", "a"),), tokenizer)


def test_a_tokenizer_that_splits_its_end_token_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {sign: number for number, sign in enumerate([*"a</s>|utnip\n", "[END]"])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="[END]")
    core = tokenizer.backend_tokenizer
    state = core.to_str().replace('"content":"[END]"', '"content":"[NOT]"')
    tokenizer._tokenizer = Tokenizer.from_str(state)
    with pytest.raises(UserError, match="splits its own end token"):
        rendered((Message("assistant", "a"),), tokenizer)
