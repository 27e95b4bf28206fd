"""ShareGPT: conversations with ChatGPT and other models that their users shared.

Origin: anon8231489123/ShareGPT_Vicuna_unfiltered on the Hugging Face hub. Licence: none stated.
Native files, of which the first kind that is there is read: the paper's own split to 2,048 tokens;
`sg_90k_part*_html_cleaned.json`, whole conversations, which are kept whole here (the paper split
them to 2,048 tokens, which makes its 168,864 instances); or
`ShareGPT_V3_unfiltered_cleaned_split.json`, split to 2,048 tokens by others.

Both rules: "human" and "user" are the user, "gpt" and "chatgpt" the assistant; a conversation with
a turn of "system" or "bing" is dropped; any other speaker is an error.

Rule `paper`: the last turn of an odd number is cut; a conversation is dropped unless the speakers
are then "human", "gpt", "human", "gpt", … (the checks of the paper's splitter).

Rule `fixed`: answers before the first question and a question after the last answer are cut; what
is left is dropped if the roles do not alternate or a message is empty.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise

from cameleer.chat.conversation import Conversation, Message
from cameleer.data.encode import Row, array_rows
from cameleer.data.source import Card, Convert, Dropped, Made

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
)

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant"}
DROPPED = ("system", "bing")  # the paper drops every conversation in which they speak


def convert(job: Convert) -> Iterator[Made]:
    """The conversations in the files' order; `sharegpt_<n>` is the n-th read, from 0."""
    found = (sorted(job.folder.glob(pattern)) for pattern in CARD.native)
    paths = next(filter(None, found), [])
    rows = (row for path in paths for row in array_rows(job, path))
    return job.each(rows, partial(_conversation, job))


def _conversation(job: Convert, row: Row) -> Iterator[Made]:
    messages, reason = (_paper if job.rule == "paper" else _fixed)(job, _turns(job, row))
    if reason:
        yield Dropped(reason)
    else:
        yield Conversation(f"sharegpt_{row.number}", "sharegpt", tuple(messages))


def _turns(job: Convert, row: Row) -> list[tuple[str, str]]:
    """(speaker, text) of each turn; the speaker is known, the text is text."""
    turns = row.values.get("conversations")
    if not isinstance(turns, list):
        raise row.error("is missing or not a list", "conversations")
    checked = []
    for index, turn in enumerate(turns):
        field = f"conversations.{index}"
        if not isinstance(turn, dict):
            raise row.error("is not an object", field)
        speaker = turn.get("from")
        if not isinstance(speaker, str) or (speaker not in SPEAKERS and speaker not in DROPPED):
            known = ", ".join((*SPEAKERS, *DROPPED))
            message = f"unknown speaker {speaker!r}"
            raise row.error(message, f"{field}.from", f"known are {known}")
        if not isinstance(turn.get("value"), str):
            raise row.error("is missing or not text", f"{field}.value")
        checked.append((speaker, replace(row, values=turn).text(job, "value")))
    return checked


Verdict = tuple[list[Message], str]
"""The messages that are kept, and the reason why the conversation is dropped, or ""."""


def _paper(job: Convert, turns: list[tuple[str, str]]) -> Verdict:
    if len(turns) % 2:
        job.counts["cut: last turn of an odd number"] += 1
        turns = turns[:-1]
    if not turns:
        return [], "fewer than two messages"
    if any(speaker in DROPPED for speaker, _ in turns):
        return [], "a system or bing turn"
    if any(speaker != ("human", "gpt")[index % 2] for index, (speaker, _) in enumerate(turns)):
        return [], "speakers do not alternate"
    return [Message(SPEAKERS[speaker], text) for speaker, text in turns], ""


def _fixed(job: Convert, turns: list[tuple[str, str]]) -> Verdict:
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
