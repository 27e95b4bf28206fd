"""Baize: 210,311 dialogues that ChatGPT held with itself, of questions from four places.

Origin: project-baize/baize-chatbot, `data/{alpaca,medical,quora,stackoverflow}_chat_data.json`.
Licence: GPL-3.0; its README allows research alone. A record holds `topic` and `input`: an opening
line, then rounds of `[|Human|] …` and `[|AI|] …`, and a last empty `[|Human|]`.

The four files are read in that order, and one that is not there is counted as missing. Nothing in a
record names its release, and look-alikes under the same names are read too: records that do not
begin with Baize's opening line are therefore counted ("not Baize's opening line").

Rule `paper`: what lies between two `[|Human|]` is a round; it is left out if it is blank or holds
no `[|AI|]`, and both texts are stripped but may be empty. Two `[|AI|]` in a round stopped the
paper's code: here the record is bad. It wrote records without rounds, which its trainer refused:
here they are dropped.

Rule `fixed`: the dialogue ends before the first round that is not one question and one answer, both
with text, as in the release's own preprocessing: what comes after it was said with that round in
view. What is cut is counted.
"""

from collections.abc import Iterator
from functools import partial

from cameleer.chat.conversation import Conversation, Message
from cameleer.data.encode import Row, array_rows
from cameleer.data.source import Card, Convert, Download, Dropped, Made

FILES = tuple(
    f"{topic}_chat_data.json" for topic in ("alpaca", "medical", "quora", "stackoverflow")
)

CARD = Card(
    title="Baize",
    origin="https://github.com/project-baize/baize-chatbot",
    licence="GPL-3.0",
    citation="Xu et al. (2023), Baize: An Open-Source Chat Model with Parameter-Efficient Tuning "
    "on Self-Chat Data, arXiv 2304.01196",
    native=FILES,
    instances=210311,
    rounds=3.1,
    prompt_tokens=17.6,
    completion_tokens=52.8,
    downloads=tuple(
        Download(f"https://github.com/project-baize/baize-chatbot/raw/main/data/{name}", name)
        for name in FILES
    ),
    derived_from=("stanford_alpaca",),
)

OPENING = "The conversation between human and AI assistant."
HUMAN, AI = "[|Human|]", "[|AI|]"


def convert(job: Convert) -> Iterator[Made]:
    """The dialogues in the order of the files; `baize_<n>` is the n-th read, from 0."""
    paths = [job.folder / name for name in FILES]
    there = [path for path in paths if path.exists()]
    job.counts.update(f"missing: {path.name}" for path in paths if path not in there)
    return array_rows(job, *there, counted=True).each(partial(_dialogue, job))


def _dialogue(job: Convert, row: Row) -> Iterator[Made]:
    opening, *rounds = row.text(job, "input").split(HUMAN)
    if opening.strip() != OPENING:
        job.counts["not Baize's opening line"] += 1
    pairs = _paper(row, rounds) if job.rule == "paper" else _fixed(job, rounds)
    messages = [
        Message(role, text.strip())
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    if messages:
        yield Conversation(f"baize_{row.number}", "baize", tuple(messages))
    else:
        yield Dropped("no question with an answer")


def _paper(row: Row, rounds: list[str]) -> list[list[str]]:
    pairs = [text.split(AI) for text in rounds if AI in text]
    if any(len(pair) > 2 for pair in pairs):
        raise row.error(f"has a round with more than one {AI}", "input")
    return pairs


def _fixed(job: Convert, rounds: list[str]) -> list[list[str]]:
    said = [text.split(AI) for text in rounds if text.strip()]
    good = [len(pair) == 2 and all(text.strip() for text in pair) for pair in said]
    kept = (*good, False).index(False)
    if kept and kept < len(said):
        job.counts["cut: rounds from the first broken one"] += len(said) - kept
    return said[:kept]
