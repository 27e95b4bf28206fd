"""Open Assistant 1: conversations written and rated by volunteers, as trees of messages.

Origin: OpenAssistant/oasst1 on the Hugging Face hub, `2023-04-12_oasst_ready.trees.jsonl.gz`
(packed or not). Licence: Apache-2.0. A line is a tree: `prompt` holds `role` (prompter or
assistant), `text`, `deleted` and `replies`, which are messages of the same shape. Without that file
any `*_tree.jsonl` of the shape is read. What is counted as read are the paths from a prompt to a
message after which none comes (a deleted one ends its path); `oasst1_<t>_<p>` is path p of tree t.

Rule `paper`: a path gives a conversation if it ends with an answer; all replies, in the file's
order. This is the rule of the paper's code since August 2023. The first release took every answer
for an end, which would give more conversations than the 34,795 of the paper, and trained the early
messages of a tree many times. Lost are answers followed only by unanswered or deleted messages.

Rule `fixed`: every answer that no other answer follows gives one conversation. Paths that end in an
unanswered, deleted or empty message, or where one speaks twice running, are cut back to the last
answer before it; those whose answers stand in another conversation already are dropped.

Both rules: a message that cannot be read is a bad record, and what it leads to is not looked at.
Prompts that have several answers stand in several conversations, and are trained on in each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.encode import Row, jsonl_rows
from cameleer.data.source import Card, Convert, Download, Dropped, Made

RELEASE = "2023-04-12_oasst_ready.trees.jsonl"

CARD = Card(
    title="Open Assistant 1",
    origin="https://huggingface.co/datasets/OpenAssistant/oasst1",
    licence="Apache-2.0",
    citation="Köpf et al. (2023), OpenAssistant Conversations: Democratizing Large Language Model "
    "Alignment, arXiv 2304.07327",
    native=(f"{RELEASE}.gz", RELEASE, "*_tree.jsonl"),
    instances=34795,
    rounds=1.6,
    prompt_tokens=34.8,
    completion_tokens=212.5,
    downloads=(
        Download(
            "hf://datasets/OpenAssistant/oasst1@fdf72ae0827c1cda404aff25b6603abec9e3399b/"
            f"{RELEASE}.gz",
            f"{RELEASE}.gz",
            bytes=34145252,
            sha256="2a9a8fd343e9b28e04a895a669d3253f82d93e9c174d440199ae19d5fafbdff7",
        ),
    ),
)

ROLES = {"prompter": "user", "assistant": "assistant"}
UNANSWERED = "a question without an answer"
REPEATED = "its answers stand in another conversation"


@dataclass(frozen=True, slots=True)
class _Node:
    """A message of a tree, None if it is deleted; what answers it is not read yet."""

    field: str
    message: Message | None
    replies: list[object]


@dataclass(frozen=True, slots=True)
class _Path:
    """Messages from a prompt on; `answered`: how many there are up to the last answer, whose number
    among the tree's messages, from 1, is `answer`; stopped: why no more are taken."""

    messages: tuple[Message, ...] = ()
    answered: int = 0
    answer: int = 0
    stopped: str = ""


def convert(job: Convert) -> Iterator[Made]:
    """The conversations of each tree, in the order of the first kind of file that is there."""
    found = (sorted(job.folder.glob(pattern)) for pattern in CARD.native)
    paths = next(filter(None, found), [])
    return jsonl_rows(job, *paths).each(partial(_tree, job))


def _tree(job: Convert, row: Row) -> Iterator[Made]:
    job.counts["trees"] += 1
    paths, followed = _paths(job, row)
    for place, path in enumerate(paths):
        messages, reason = path.messages, path.stopped
        if job.rule == "fixed":
            messages, reason = _cut_back(job, path, followed)
            followed.add(path.answer)  # a later path with the same last answer would repeat it
        elif not reason and messages[-1].role == "user":
            reason = UNANSWERED
        if reason:
            yield Dropped(reason)
        else:
            yield Conversation(f"oasst1_{row.number}_{place}", "oasst1", messages)


def _cut_back(job: Convert, path: _Path, followed: set[int]) -> tuple[tuple[Message, ...], str]:
    """The messages up to the last answer, and why there is no conversation of them, or ""."""
    if not path.answer:
        return (), path.stopped or UNANSWERED
    if path.answer in followed:
        return (), REPEATED
    if path.stopped or path.answered < len(path.messages):
        job.counts["cut back to the last answer"] += 1
    return path.messages[: path.answered], ""


def _paths(job: Convert, row: Row) -> tuple[list[_Path], set[int]]:
    """Every path of a tree, in its order; the answers that another answer follows."""
    ended: list[_Path] = []
    followed: set[int] = set()
    number = 0
    waiting = [(_node(job, row, row.values.get("prompt"), "prompt"), _Path())]
    while waiting:
        node, before = waiting.pop()
        number += 1
        path = _then(before, node.message, number, job.rule)
        if path.answer != before.answer:
            followed.add(before.answer)
        replies = _replies(job, row, node)
        waiting += [(reply, path) for reply in reversed(replies)]
        if not replies:
            ended.append(path)
    return ended, followed


def _then(path: _Path, message: Message | None, number: int, rule: Rule) -> _Path:
    """The path with one more message, or stopped before it."""
    if path.stopped:
        return path
    if message is None:
        return replace(path, stopped="a deleted message")
    if rule == "fixed":
        message = replace(message, content=message.content.strip())
        turn = ("user", "assistant")[len(path.messages) % 2]
        if message.role != turn:
            return replace(path, stopped="speakers do not alternate")
        if not message.content:
            return replace(path, stopped="an empty message")
    messages = (*path.messages, message)
    if message.role == "assistant":
        return _Path(messages, len(messages), number)
    return replace(path, messages=messages)


def _replies(job: Convert, row: Row, node: _Node) -> list[_Node]:
    """The messages that follow one; those that cannot be read are dropped, each by itself."""
    replies = []
    for place, values in enumerate(node.replies):
        try:
            replies.append(_node(job, row, values, f"{node.field}.replies.{place}"))
        except UserError as error:
            job.drop(error)
    return replies


def _node(job: Convert, row: Row, values: object, field: str) -> _Node:
    if not isinstance(values, dict):
        raise row.error("is missing or not an object", field)
    deleted, role, replies = (values.get(key) for key in ("deleted", "role", "replies"))
    if not isinstance(deleted, bool):
        raise row.error("is missing or not true or false", f"{field}.deleted")
    if deleted:
        return _Node(field, None, [])
    if not isinstance(role, str) or role not in ROLES:
        message = f"unknown role {role!r:.40}"
        raise row.error(message, f"{field}.role", f"known are {', '.join(ROLES)}")
    if not isinstance(replies, list):
        raise row.error("is missing or not a list", f"{field}.replies")
    if not isinstance(values.get("text"), str):
        raise row.error("is missing or not text", f"{field}.text")
    text = replace(row, values=values).text(job, "text")
    return _Node(field, Message(ROLES[role], text), replies)
