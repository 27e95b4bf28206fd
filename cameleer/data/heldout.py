"""Conversations that are kept from training to be validated on, and all that would give them away.

Conversations that open with the same request belong together: their answers are alike, and copies
of one are among them. Such a group is held out whole or not at all, whatever its sources, so that
nothing that is trained on opens like anything that is validated on. Which groups are held out is
told by their texts alone: the same ones from run to run, and in every mixture that has them.

What this does not see: a request in other words, and later chunks of a conversation that was split.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, to_json, write_json
from cameleer.data.mix.filters import content_digest
from cameleer.data.overlap.duplicates import unframed

TRAINED, VALIDATED = "trained: ", "validated: "
LEFT_OUT = "left out: opens like a held-out one"


class Told(NamedTuple):
    """What is known of a conversation: its group, its source, and what its copies share."""

    group: bytes
    source: str
    copy: bytes


@dataclass(frozen=True)
class HeldOut:
    """Files of conversations to train and to validate on, and how many of each source.

    counts: `trained: <source>`, `validated: <source>`, and LEFT_OUT, those in neither file.
    """

    train: Path
    validation: Path
    counts: Counter[str]

    def say(self) -> None:
        """One line about what is held out."""
        held, more = _total(self.counts, VALIDATED), self.counts[LEFT_OUT]
        said = [f"{held} held out for validation"] if held else []
        said += [f"{more} left out that open like one of those"] if more else []
        note(f"of {self.counts.total()} conversations {', '.join(said) or 'none is held out'}")


def hold_out(
    data: Path,
    folder: Path,
    *,
    fraction: float = 0.0,
    conversations: int | None = None,
    given: Path | None = None,
) -> HeldOut:
    """Part `data` into two files in `folder`, or take up what an earlier call left there.

    given: a file of conversations to validate on; then none of `data` are, but those of its groups
    are left out. Else so many `conversations` of each source are, or this `fraction`, at least one;
    never more than half. Copies count once. A group of more than that is not held out. Of one that
    is, copies and what is beyond the number are left out.

    Raises UserError if nothing is left to train on, or nothing could be held out.
    """
    whole = folder / "counts.json"  # written last: its presence says that the rest is whole
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        told = [Told(opening(one), one.source, digest(one)) for one in read_conversations(data)]
        totals = Counter(one.source for one in set(told))
        if given is not None:
            limits = dict.fromkeys(totals, 0)
            chosen = {opening(one) for one in read_conversations(given)}
        else:
            limits = {
                source: min(conversations or max(1, round(fraction * total)), total // 2)
                for source, total in totals.items()
            }
            chosen = _chosen(sorted(set(told)), limits)
        write_json(whole, _write(data, folder, told, chosen, limits))
    counts = Counter[str](read_json(whole))
    _require_both(counts, data, given)
    return HeldOut(folder / "train.jsonl", given or folder / "validation.jsonl", counts)


def opening(conversation: Conversation) -> bytes:
    """[8] the same for conversations whose first request has the same words, those of the paper's
    14 + 14 instruction templates, case and punctuation aside; of all words if nothing is asked."""
    asked = next((one.content for one in conversation.messages if one.role == "user"), None)
    if asked is None:
        asked = "\n".join(message.content for message in conversation.messages)
    words = " ".join(unframed(asked)) or asked.strip()
    return blake2b(words.encode(), digest_size=8).digest()


def digest(conversation: Conversation) -> bytes:
    """[8] the same for copies."""
    return content_digest(conversation)[:8]


def _chosen(told: list[Told], limits: dict[str, int]) -> set[bytes]:
    """The groups to hold out: in the order of their digests, until each source has enough."""
    chosen, have = set[bytes](), Counter[str]()
    for group, members in groupby(told, key=lambda one: one.group):
        own = Counter(one.source for one in members)
        small = own.total() <= sum(limits[source] for source in own)
        if small and any(have[source] < limits[source] for source in own):
            chosen.add(group)
            have += own
    return chosen


def _write(
    data: Path,
    folder: Path,
    told: list[Told],
    chosen: set[bytes],
    limits: dict[str, int],
) -> Counter[str]:
    """Write the two files; returns what was counted."""
    left, seen, counts = Counter(limits), set[bytes](), Counter[str]()
    with (
        (folder / "train.jsonl").open("w", encoding="utf-8") as train,
        (folder / "validation.jsonl").open("w", encoding="utf-8") as validation,
    ):
        for one, (group, source, copy) in zip(read_conversations(data), told, strict=True):
            if group not in chosen:
                train.write(to_json(one.to_row()) + "\n")
                counts[TRAINED + source] += 1
            elif left[source] and copy not in seen:
                validation.write(to_json(one.to_row()) + "\n")
                counts[VALIDATED + source] += 1
                left[source] -= 1
                seen.add(copy)
            else:
                counts[LEFT_OUT] += 1
    return counts


def _require_both(counts: Counter[str], data: Path, given: Path | None) -> None:
    if not _total(counts, TRAINED):
        hint = "give other data, or another file to validate on"
        raise UserError("holds nothing that may be trained on", file=data, hint=hint)
    if not _total(counts, VALIDATED) and given is None:
        hint = "give a file of your own as validation_data"
        raise UserError("is too small to hold out any of it", file=data, hint=hint)


def _total(counts: Counter[str], kind: str) -> int:
    return sum(number for key, number in counts.items() if key.startswith(kind))
