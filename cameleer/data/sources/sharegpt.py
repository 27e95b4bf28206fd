"""ShareGPT: conversations with ChatGPT and other models that their users shared.

Origin: anon8231489123/ShareGPT_Vicuna_unfiltered on the Hugging Face hub. Licence: none stated.
Native files, of which the first kind that is there is read: the paper's own split to 2,048 tokens;
`sg_90k_part*_html_cleaned.json`, whole conversations; or
`ShareGPT_V3_unfiltered_cleaned_split.json`, split to 2,048 tokens by others. One file of any other
name is read as whole conversations (as split ones, if "split" is in its name), be it an array or
JSON lines.

Whole conversations are split to `max_tokens` if there is a tokenizer to measure with (the paper's
168,864 instances: 2,048 tokens of LLaMA's), and kept whole otherwise, which is said. What is read,
kept and dropped are then chunks; conversations are counted on their own. A chunk is named by its
conversation's id and the place of its first message.

Both rules: "human" and "user" are the user, "gpt" and "chatgpt" the assistant; any other speaker
than these, "system" and "bing" makes a bad record.

Rule `paper`: the last turn of an odd number is cut; then the split, with its losses (see
`cameleer/data/split.py`); then a conversation or chunk is dropped unless its speakers are "human",
"gpt", "human", "gpt", … So one bad turn drops no more than its chunk, unknown speakers included.

Rule `fixed`: a conversation with a turn of "system" or "bing" is dropped; answers before the first
question and a question after the last answer are cut; what is left is dropped if the roles do not
alternate or a message is empty; then the split, in which a round that is too long for a chunk is
left out, counted.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from cameleer.chat.conversation import Conversation, Message
from cameleer.data.encode import Row, either_rows
from cameleer.data.own import native_id
from cameleer.data.source import Card, Convert, Download, Dropped, Made, native_files
from cameleer.data.split import Chunks, round_lengths, split_fixed, split_paper

REPOSITORY = "hf://datasets/anon8231489123/ShareGPT_Vicuna_unfiltered"

CARD = Card(
    title="ShareGPT",
    origin="https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered",
    licence="none stated",
    citation="Chiang et al. (2023), Vicuna: An open-source chatbot impressing GPT-4 with 90%* "
    "ChatGPT quality; conversations shared on sharegpt.com",
    native=(
        "sharegpt_html_cleaned_and_split_2048.json",
        "sg_90k_part*_html_cleaned.json",
        "ShareGPT_V3_unfiltered_cleaned_split.json",
    ),
    instances=168864,
    rounds=3.2,
    prompt_tokens=71.0,
    completion_tokens=357.8,
    downloads=tuple(
        Download(f"{REPOSITORY}/HTML_cleaned_raw_dataset/{name}", name)
        for name in ("sg_90k_part1_html_cleaned.json", "sg_90k_part2_html_cleaned.json")
    ),
    any_file=True,
)

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant"}
DROPPED = ("system", "bing")  # the paper drops every conversation in which they speak

Turn = tuple[str, str]
"""Speaker and text."""


def convert(job: Convert) -> Iterator[Made]:
    """The conversations in the files' order; `sharegpt_<n>` is the n-th read, from 0."""
    paths = _files(job)
    rows = either_rows(job, *paths)
    whole = not any("split" in path.name for path in paths)
    if whole and job.tokenizer is not None:
        return rows.each(partial(_chunks, job))
    if whole:
        job.say("no tokenizer is given: long conversations are kept whole, not split")
    elif job.tokenizer is not None:
        job.say(f"{paths[0].name} is split already: the tokenizer is not used")
    return rows.each(partial(_conversation, job, whole))


def _files(job: Convert) -> list[Path]:
    """The files of the first kind that is there."""
    kinds = (native_files(replace(CARD, native=(kind,)), job.folder) for kind in CARD.native)
    return next(filter(None, kinds), [])


def _conversation(job: Convert, whole: bool, row: Row) -> Iterator[Made]:
    if whole:
        job.counts["not split"] += 1
    messages, reason = (_paper if job.rule == "paper" else _fixed)(job, _turns(job, row))
    if reason:
        yield Dropped(reason)
    else:
        yield Conversation(f"sharegpt_{row.number}", "sharegpt", tuple(messages))


def _chunks(job: Convert, row: Row) -> Iterator[Made]:
    name = job.once(native_id(job, row) or str(row.number))
    turns = _turns(job, row, strict=job.rule == "fixed")
    job.counts["conversations"] += 1
    yield from (_paper_chunks if job.rule == "paper" else _fixed_chunks)(job, name, turns)


def _paper_chunks(job: Convert, name: str, turns: list[Turn]) -> Iterator[Made]:
    turns = _even(job, turns)
    if not turns:
        yield Dropped("fewer than two messages")
        return
    rounds = round_lengths([text for _, text in turns], job.tokenizer)
    chunks = split_paper(rounds, job.max_tokens)
    _count_cut(job, rounds, chunks)
    for first, end in chunks:
        messages, reason = _alternating(turns[2 * first : 2 * end])
        if first == end:
            yield Dropped("empty chunk")
        elif reason:
            yield Dropped(reason)
        else:
            yield Conversation(f"sharegpt_{name}_{2 * first}", "sharegpt", tuple(messages))


def _fixed_chunks(job: Convert, name: str, turns: list[Turn]) -> Iterator[Made]:
    messages, reason = _fixed(job, turns)
    if reason:
        yield Dropped(reason)
        return
    offset = next(place for place, (who, _) in enumerate(turns) if SPEAKERS[who] == "user")
    rounds = round_lengths([message.content for message in messages], job.tokenizer)
    chunks = split_fixed(rounds, job.max_tokens)
    _count_cut(job, rounds, chunks)
    if not chunks:
        yield Dropped("no round that fits")
    for first, end in chunks:
        place = offset + 2 * first
        part = tuple(messages[2 * first : 2 * end])
        yield Conversation(f"sharegpt_{name}_{place}", "sharegpt", part)


def _count_cut(job: Convert, rounds: list[int], chunks: Chunks) -> None:
    """Count the rounds that are in no chunk: too long for any, or the last, lost by `paper`."""
    too_long = sum(size > job.max_tokens for size in rounds)
    lost = len(rounds) - too_long - sum(end - first for first, end in chunks)
    job.counts[f"cut: round of more than {job.max_tokens} tokens"] += too_long
    job.counts["cut: last round, which did not fit"] += lost


def _turns(job: Convert, row: Row, strict: bool = True) -> list[Turn]:
    """The turns of a record; the speakers are known ones if `strict`, the texts are text."""
    turns = row.values.get("conversations")
    if not isinstance(turns, list):
        raise row.error("is missing or not a list", "conversations")
    checked = []
    for index, turn in enumerate(turns):
        field = f"conversations.{index}"
        if not isinstance(turn, dict):
            raise row.error("is not an object", field)
        speaker = turn.get("from")
        known = (*SPEAKERS, *DROPPED)
        if not isinstance(speaker, str) or (strict and speaker not in known):
            message = f"unknown speaker {speaker!r:.40}"
            raise row.error(message, f"{field}.from", f"known are {', '.join(known)}")
        if not isinstance(turn.get("value"), str):
            raise row.error("is missing or not text", f"{field}.value")
        checked.append((speaker, replace(row, values=turn).text(job, "value")))
    return checked


Verdict = tuple[list[Message], str]
"""The messages that are kept, and the reason why the conversation is dropped, or ""."""


def _paper(job: Convert, turns: list[Turn]) -> Verdict:
    turns = _even(job, turns)
    return _alternating(turns) if turns else ([], "fewer than two messages")


def _even(job: Convert, turns: list[Turn]) -> list[Turn]:
    job.counts["cut: last turn of an odd number"] += len(turns) % 2
    return turns[: len(turns) // 2 * 2]


def _alternating(turns: list[Turn]) -> Verdict:
    if any(speaker in DROPPED for speaker, _ in turns):
        return [], "a system or bing turn"
    if any(speaker != ("human", "gpt")[index % 2] for index, (speaker, _) in enumerate(turns)):
        return [], "speakers do not alternate"
    return [Message(SPEAKERS[speaker], text) for speaker, text in turns], ""


def _fixed(job: Convert, turns: list[Turn]) -> Verdict:
    if any(speaker in DROPPED for speaker, _ in turns):
        return [], "a system or bing turn"
    messages = [Message(SPEAKERS[speaker], text.strip()) for speaker, text in turns]
    roles = [message.role for message in messages]
    first = roles.index("user") if "user" in roles else len(roles)
    last = len(roles) - (roles[-1:] == ["user"])
    messages = messages[first:last]
    if len(messages) < 2:
        return [], "no question with an answer"
    if any(one.role == following.role for one, following in pairwise(messages)):
        return [], "speakers do not alternate"
    if not all(message.content for message in messages):
        return [], "an empty message"
    if first:
        job.counts["cut: answer before the first question"] += first
    if last < len(roles):
        job.counts["cut: question after the last answer"] += 1
    return messages, ""
