"""How much there is to learn: an epoch's tokens, counted where that is quick, else estimated."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.data.loader import Tokens, epoch_rows, tokenise
from cameleer.train.config import TrainConfig

COUNTED = 8 << 20  # bytes of conversations that are tokenised whole: some seconds' work
SAMPLED = 2 << 20  # bytes that are tokenised of a larger file: lines at equal distances
BYTES_PER_TOKEN = 4.0  # of English, where no tokenizer is at hand
WITHOUT_DATA = 1_000_000  # tokens of an epoch to speak of, where nothing is known
DOCUMENT, SUPERVISED = 400, 0.6  # tokens of a conversation and share learned, likewise


@dataclass(frozen=True)
class Workload:
    """An epoch's work.

    tokens: of all conversations; supervised: share of them that is learned; pairs: tokens that one
    attends to, on average, itself included; rows: packed ones; row, learned: lengths of documents
    in the row that needs most memory, and the most tokens that are learned in one; how: `counted`
    or how it was estimated.
    """

    tokens: float
    supervised: float
    pairs: float
    rows: int
    row: list[int]
    learned: int
    how: str


def workload(config: TrainConfig, tokenizer: Any | None, given: float | None = None) -> Workload:
    """The work of an epoch of `config`; tokenizer: None if it is not at hand.

    given: tokens of an epoch, which go before everything that would be counted.
    """
    file = config.data / "conversations.jsonl" if config.data.is_dir() else config.data
    if given is not None or not file.is_file():
        why = f"{config.data} is not here: give --tokens"
        how = "as given" if given is not None else f"for a million tokens ({why})"
        return _assumed(config, given or WITHOUT_DATA, how)
    size = file.stat().st_size
    if not size:
        raise UserError("holds no conversation that can be learned from", file=file)
    if tokenizer is None:
        how = f"estimated from {size} bytes, as the model's tokenizer is not here"
        return _assumed(config, size / BYTES_PER_TOKEN, how)
    with tempfile.TemporaryDirectory() as scratch:
        part, share = file, 1.0
        if size > COUNTED:
            part = Path(scratch) / "sample.jsonl"
            share = _sample(file, part, size)
        tokens = tokenise(
            part,
            tokenizer,
            template_named(config.template),
            max_tokens=config.max_seq_length,
            on_long=config.on_long,
            rule=config.rule,
            folder=Path(scratch) / "tokens",
        )
        how = "counted" if part is file else f"estimated from {share:.1%} of the file"
        return workload_of(tokens, config, share, how)


def workload_of(
    tokens: Tokens, config: TrainConfig, share: float = 1.0, how: str = "counted"
) -> Workload:
    """The work of an epoch of which `tokens` are a `share`."""
    lengths = tokens.lengths
    ends = np.cumsum(np.concatenate([[0], np.asarray(tokens.supervised, np.int64)]))
    learned = ends[tokens.starts[1:]] - ends[tokens.starts[:-1]]
    rows = epoch_rows(lengths.tolist(), config.max_seq_length, config.seed, 0)
    hardest = max(rows, key=lambda row: int((lengths[row] ** 2).sum()))
    return Workload(
        tokens=float(lengths.sum()) / share,
        supervised=float(learned.sum() / lengths.sum()),
        pairs=float((lengths * (lengths + 1) / 2).sum() / lengths.sum()),
        rows=max(1, round(len(rows) / share)),
        row=[int(lengths[index]) for index in hardest],
        learned=max(int(learned[row].sum()) for row in rows),
        how=how,
    )


def _assumed(config: TrainConfig, tokens: float, how: str) -> Workload:
    length = config.max_seq_length
    documents = max(1, length // DOCUMENT)
    row = [length // documents] * documents
    row[-1] += length - sum(row)
    rows = max(1, round(tokens / length))
    return Workload(tokens, SUPERVISED, row[0] / 2, rows, row, length, how)


def _sample(file: Path, part: Path, size: int) -> float:
    """Write every so-manieth line of `file` to `part`; returns the share of bytes taken."""
    step = -(-size // SAMPLED)
    with file.open("rb") as source, part.open("wb") as target:
        target.writelines(_every(source, step))
    return part.stat().st_size / size


def _every(lines: Iterable[bytes], step: int) -> Iterable[bytes]:
    return islice(lines, 0, None, step)
