"""Losses on conversations that are not trained on: by source, with intervals, as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cameleer.chat.conversation import read_conversations
from cameleer.core.files import JsonlLog
from cameleer.data.loader import Row, Tokens, epoch_rows, micro_batches
from cameleer.train.config import TrainConfig
from cameleer.train.parallel import Ranks
from cameleer.train.trackers import kept_up_to
from cameleer.train.watch import DocumentLosses

LOG = "validation.jsonl"
SURE = 0.95  # of an interval
ENOUGH = 5  # conversations; of fewer, their spread is not known well enough to give an interval


class Validation:
    """Conversations to try the model on: before training, every `eval_steps`, and at the end.

    Each one's loss is kept in `validation.jsonl`, so that runs can be compared pair by pair.
    """

    def __init__(
        self, config: TrainConfig, tokens: Tokens, data: Path, folder: Path, ranks: Ranks
    ) -> None:
        """tokens: of the file `data`; folder: where the log is written, by the first rank."""
        self.tokens, self.ranks, self.every = tokens, ranks, config.eval_steps
        wanted = set(tokens.places.tolist())
        ids = [one.id for n, one in enumerate(read_conversations(data)) if n in wanted]
        self.ids, self.log = ids, folder / LOG
        lengths = tokens.lengths.tolist()
        rows = epoch_rows(lengths, config.max_seq_length, config.seed, 0)
        size = config.per_device_train_batch_size
        self.batches = micro_batches(rows, lengths, size, ranks.world)[ranks.rank]
        self.rows: list[dict[str, Any]] = []  # of the log: of the first time, and of the last

    def due(self, step: int, steps: int) -> bool:
        """Whether to validate after so many of `steps`."""
        return step in (0, steps) or (self.every is not None and step % self.every == 0)

    def take_up(self, step: int) -> None:
        """Go on from what an earlier process left, as of `step`."""
        if self.ranks.first:
            self.rows = kept_up_to(self.log, step)

    def at(
        self, step: int, model: Any, losses_of: Callable[[list[Row], Tokens], DocumentLosses]
    ) -> dict[str, Any]:
        """What metrics.jsonl says of the model after `step`; losses_of: tries one micro-batch."""
        model.eval()
        with torch.no_grad():
            own = [losses_of(batch, self.tokens) for batch in self.batches]
        model.train()
        parts = self.ranks.gathered(DocumentLosses.joined(own))
        losses = DocumentLosses.joined(parts).in_order()
        if self.ranks.first:
            rows = self._rows(step, losses)
            log = JsonlLog(self.log)
            log.append(rows)
            log.close()
            self.rows = [row for row in self.rows if row["step"] == 0] + rows
        names = self._sources(losses.documents)
        return {"step": step, "validation": by_source(names, losses.sums, losses.counts)}

    def _sources(self, documents: Sequence[int]) -> list[str]:
        return [self.tokens.names[self.tokens.sources[document]] for document in documents]

    def _rows(self, step: int, losses: DocumentLosses) -> list[dict[str, Any]]:
        sources = self._sources(losses.documents)
        columns = zip(losses.documents, sources, losses.sums, losses.counts, strict=True)
        return [
            {
                "step": step,
                "id": self.ids[document],
                "source": source,
                "loss": float(total / count),
                "supervised_tokens": int(count),
            }
            for document, source, total, count in columns
        ]

    def outcome(self) -> dict[str, Any]:
        """For the manifest: before training, after it, and the change, paired by conversation.

        The change's `perplexity` is the factor by which that has changed. The first rank's to say.
        """
        if not self.ranks.first:
            return {}
        last = max(row["step"] for row in self.rows)
        before = [row for row in self.rows if row["step"] == 0]
        after = [row for row in self.rows if row["step"] == last]
        names = [row["source"] for row in after]
        counts = np.array([row["supervised_tokens"] for row in after])
        old, new = (np.array([row["loss"] for row in rows]) * counts for rows in (before, after))
        return {
            "before": by_source(names, old, counts),
            "after": by_source(names, new, counts),
            "change": by_source(names, new - old, counts),
        }


def by_source(
    names: Sequence[str], sums: NDArray[np.float64], counts: NDArray[np.int64]
) -> dict[str, Any]:
    """`token_mean` of all conversations, and under `sources` of each source's. names: of each."""
    own = np.array(names)
    parts = {name: own == name for name in sorted(set(names))}
    sources = {name: token_mean(sums[part], counts[part]) for name, part in parts.items()}
    return {**token_mean(sums, counts), "sources": sources}


def token_mean(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> dict[str, Any]:
    """The loss per supervised token of some conversations, with its interval, and as perplexity.

    sums, counts: [conversations] -log p and supervised tokens. The interval is for conversations
    drawn like these, null for fewer than ENOUGH: a ratio's by linearisation, as the tokens of one
    conversation are not independent.
    """
    from scipy.special import stdtrit

    n, tokens = len(sums), int(counts.sum())
    mean = float(sums.sum() / tokens)
    facts: dict[str, Any] = {"loss": mean, "low": None, "high": None, "perplexity": exp(mean)}
    if n >= ENOUGH:
        spread = float(np.square(sums - mean * counts).sum())
        reach = float(stdtrit(n - 1, (1 + SURE) / 2)) * sqrt(spread * n / (n - 1)) / tokens
        facts |= {"low": mean - reach, "high": mean + reach}
    return facts | {"conversations": n, "supervised_tokens": tokens}
