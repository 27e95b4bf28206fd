"""What is watched while a model learns: losses by source, and steps at which it had better stop."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cameleer.chat.conversation import read_conversations
from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.files import write_json, write_jsonl
from cameleer.data.loader import Tokens

WINDOW = 50  # steps that a spike is told from, and that are shown with a step that stopped a run
ENOUGH = 10  # fewer say nothing
NOTED = 5.0  # standard deviations from which a spike is noted; our real runs never reach 2
LEAST = 0.05  # of the mean: no standard deviation is taken to be smaller


@dataclass(frozen=True)
class DocumentLosses:
    """What each document of a step, or of a validation, has lost.

    documents: their indices; sums: [documents] float64, of -log p over supervised tokens, in nats;
    counts: [documents] supervised tokens.
    """

    documents: Sequence[int]
    sums: NDArray[np.float64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, documents: Sequence[int], counts: Sequence[int], nll: Any) -> DocumentLosses:
        """nll: [supervised] -log p of each token, documents in order; their numbers: counts."""
        which = np.repeat(np.arange(len(counts)), counts)
        sums = np.bincount(which, np.asarray(nll), minlength=len(counts)).astype(np.float64)
        return cls(documents, sums, np.asarray(counts, np.int64))

    @classmethod
    def joined(cls, parts: Sequence[DocumentLosses]) -> DocumentLosses:
        """Those of all ranks, one behind the other."""
        return cls(
            [document for part in parts for document in part.documents],
            np.concatenate([part.sums for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )

    def in_order(self) -> DocumentLosses:
        """Sorted by document: the same however they were dealt to ranks."""
        order = np.argsort(self.documents)
        documents = [self.documents[at] for at in order]
        return DocumentLosses(documents, self.sums[order], self.counts[order])

    def by_source(self, tokens: Tokens) -> dict[str, float]:
        """What a step's row says of each source with a supervised token, in the order of `names`:
        `loss/NAME`, per supervised token, and `supervised_tokens/NAME`."""
        own = tokens.sources[np.asarray(self.documents, np.int64)]
        sums = np.bincount(own, self.sums, minlength=len(tokens.names))
        counts = np.bincount(own, self.counts, minlength=len(tokens.names)).astype(int)
        said: dict[str, float] = {}
        for name, total, count in zip(tokens.names, sums, counts.tolist(), strict=True):
            if count:
                said |= {f"loss/{name}": float(total / count), f"supervised_tokens/{name}": count}
        return said


class Spikes:
    """Tells a step whose loss and gradient are both far above those of the steps before.

    Both, because a loss alone is high whenever a step happens to hold hard conversations; and
    measured against what chance allows a step of so few supervised tokens.
    """

    def __init__(self) -> None:
        self.recent: deque[tuple[float, float, int]] = deque(maxlen=WINDOW)

    def add(self, loss: float, norm: float, supervised: int) -> None:
        """A step that was taken."""
        self.recent.append((loss, norm, supervised))

    def height(self, loss: float, norm: float, supervised: int) -> float:
        """By how many standard deviations the loss, or its gradient's norm if that is less, is
        above the mean of the steps before; 0 where those are too few to tell."""
        if len(self.recent) < ENOUGH:
            return 0.0
        losses, norms, counts = np.array(self.recent).T
        chance = max(1.0, sqrt(counts.mean() / supervised))  # a mean of few tokens varies more
        return min(
            float((value - past.mean()) / (chance * max(past.std(), LEAST * past.mean())))
            for value, past in ((loss, losses), (norm, norms))
        )


class StoppedError(UserError):
    """A run that stopped before its weights took up a step; it can go on from there."""


class Watch:
    """Looks at every step before its weights are changed.

    height of a spike: see `Spikes.height`. One that does not stop the run is said and counted.
    """

    def __init__(
        self, tokens: Tokens, data: Path, folder: Path, stop_on_spike: float | None
    ) -> None:
        """data: the file that `tokens` were made of; folder: where a step that stops the run is
        kept, as `step-N`; stop_on_spike: height from which to stop, if at all."""
        self.tokens, self.data, self.folder = tokens, data, folder
        self.stop_on_spike = stop_on_spike
        self.spikes, self.before = Spikes(), deque[dict[str, Any]](maxlen=WINDOW)
        self.noted = 0

    def take_up(self, rows: Iterable[dict[str, Any]]) -> None:
        """rows: of metrics.jsonl, one for each step that was taken."""
        for row in rows:
            self.spikes.add(row["loss"], row["grad_norm"], row["supervised_tokens"])
            self.before.append(row)
            self.noted += "spike" in row

    def check(
        self, step: int, loss: float, norm: float, losses: DocumentLosses
    ) -> dict[str, float]:
        """Raises StoppedError if the step, counted from 1, must not be taken; what it was made of
        is kept then. Returns what the step's row says of it."""
        if not (isfinite(loss) and isfinite(norm)):
            reason = f"the loss or its gradient is not a number at step {step}"
            self._stop(step, reason, "drop those from the data, or lower the learning rate", losses)
        height = self.spikes.height(loss, norm, int(losses.counts.sum()))
        reason = f"loss {loss:.3f} and gradient norm {norm:.3g} spike at step {step}"
        if self.stop_on_spike is not None and height > self.stop_on_spike:
            self._stop(step, reason, "to go on all the same, set stop_on_spike to null", losses)
        if height <= NOTED:
            return {}
        warn(reason)
        return {"spike": round(height, 1)}

    def _stop(self, step: int, reason: str, hint: str, losses: DocumentLosses) -> NoReturn:
        folder = self.folder / f"step-{step}"
        rows = keep_for_inspection(folder, self.data, self.tokens, losses, self.before)
        write_json(folder / "step.json", {"step": step, "reason": reason})
        worst = rows[0]
        raise StoppedError(
            f"{reason}, which was not taken; its conversations, worst first ('{worst['id']}' of "
            f"{worst['source']}), are in {folder}",
            hint=hint,
        )


def keep_for_inspection(
    folder: Path,
    data: Path,
    tokens: Tokens,
    losses: DocumentLosses,
    before: Iterable[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Write what a step learned from into `folder`, and return its conversations, worst first.

    conversations.jsonl: with texts, tokens, mask and each one's loss per supervised token, null
    where it is no number; metrics.jsonl: the steps before.
    """
    rows = []
    by_place = {int(tokens.places[index]): row for row, index in enumerate(losses.documents)}
    for place, conversation in enumerate(read_conversations(data)):
        if place not in by_place:
            continue
        row = by_place[place]
        index = losses.documents[row]
        span = slice(int(tokens.starts[index]), int(tokens.starts[index + 1]))
        loss = float(losses.sums[row] / max(1, losses.counts[row]))
        rows.append(
            {
                **conversation.to_row(),
                "loss": loss if isfinite(loss) else None,
                "supervised_tokens": int(losses.counts[row]),
                "input_ids": tokens.ids[span].tolist(),
                "supervised": tokens.supervised[span].astype(int).tolist(),
            }
        )
    rows.sort(key=lambda row: -(float("inf") if row["loss"] is None else row["loss"]))
    shutil.rmtree(folder, ignore_errors=True)
    write_jsonl(folder / "conversations.jsonl", rows)
    write_jsonl(folder / "metrics.jsonl", before)
    return rows
