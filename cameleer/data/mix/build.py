"""Building a mixture: its parts are read, chosen from, shuffled and written as one stage."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cameleer.chat.render import Rule
from cameleer.core.artifact import Stage
from cameleer.core.console import progress
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, sha256_file, to_json
from cameleer.data.mix.config import MixConfig, Part, expand
from cameleer.data.mix.contents import contents
from cameleer.data.mix.gather import Gathered, Meter, gather, identity, leaves
from cameleer.data.mix.page import page
from cameleer.data.mix.selection import SEED, Positions, Selection

CONVERSATIONS, PAGE = "conversations.jsonl", "MIXTURE.md"

LoadTokenizer = Callable[[str], Any]
"""Gives the tokenizer of a folder, hub id or `embedded:NAME`; called only where one is named."""


def mix_stage(
    config: MixConfig, data_root: Path | None, folder: Path, load: LoadTokenizer | None = None
) -> Stage:
    """The stage that builds a mixture in `folder`; reads its inputs to fingerprint them.

    What decides the result are seeds, parts, and the contents of native files, of files of ids and
    of the tokenizer: not where they lie, nor the mixture's name.
    """
    config = expand(config)
    inputs, decides = {}, {"seed": SEED, **_deciding(config, "fixed")}
    for leaf in leaves(config):
        for name, path in leaf.files(data_root).items():
            inputs[f"{leaf.path}/{name}"] = sha256_file(path)
        for sieve in leaf.sieves:
            if sieve.filters.drop is not None:
                inputs[f"{sieve.where}: ids to drop"] = sha256_file(sieve.filters.drop)
    if meter := _meter(config, load):
        inputs["tokenizer"] = meter.fingerprint
        decides |= {"template": config.template, "max_seq_length": config.max_seq_length}
    return Stage("mix", folder, decides, inputs)


def _deciding(mixture: MixConfig, rule: Rule) -> dict[str, Any]:
    """The fields that decide what a mixture takes, as JSON values; those left out are not there."""
    rule = mixture.rule or rule
    parts = []
    for part in mixture.parts:
        said = _said(part, {"name", "rule", "folder", "file", "mix", "filters"})
        if part.source is not None:
            said["rule"] = part.rule or rule
        if isinstance(part.mix, MixConfig):
            said["mix"] = _deciding(part.mix, rule)
        parts.append({"name": part.name, **said})
    counting = {"tokenizer", "template", "max_seq_length"}
    return {
        **_said(mixture, {"name", "about", "rule", "parts", "filters", *counting}),
        "parts": parts,
    }


def _said(config: MixConfig | Part, but: set[str]) -> dict[str, Any]:
    """Fields that are not at their default; a file of ids to drop is an input."""
    said = config.model_dump(mode="json", exclude=but, exclude_defaults=True)
    filters = config.filters.model_dump(mode="json", exclude={"drop"}, exclude_defaults=True)
    return {**said, **({"filters": filters} if filters else {})}


def _meter(config: MixConfig, load: LoadTokenizer | None) -> Meter | None:
    if config.tokenizer is None:
        return None
    if load is None:
        raise UserError("nothing loads tokenizers here", field="tokenizer")
    return Meter(load(config.tokenizer), config)


def build(
    config: MixConfig,
    data_root: Path | None,
    stage: Stage,
    load: LoadTokenizer | None = None,
    *,
    strict: bool = False,
) -> Path:
    """Build the mixture unless it is there; returns the folder, which holds conversations.jsonl.

    Conversations pass through a spool file, so that memory holds only their positions. Each part is
    sampled by its own seed: adding a part changes no other part's picks. A conversation that is
    taken again has `#2`, `#3`, … behind its id. The manifest's outcome is what `contents` tells;
    people read it in MIXTURE.md. Raises UserError if a part cannot give what is asked for, and with
    `strict` for the first record that cannot be read, which is dropped and counted otherwise.
    """

    def work(folder: Path) -> dict[str, Any]:
        whole, spool = expand(config), folder / "spool.jsonl"
        with spool.open("wb") as out:
            gathered = gather(whole, data_root, _meter(whole, load), out, strict=strict)
        taken = _select(whole, gathered)
        _write(whole, gathered, taken, spool, folder / CONVERSATIONS)
        spool.unlink()
        outcome = contents(whole, gathered, taken)
        with replacing(folder / PAGE) as handle:
            handle.write(page(outcome))
        return outcome

    stage.run(work)
    return stage.folder


def plan(
    config: MixConfig,
    data_root: Path | None,
    load: LoadTokenizer | None = None,
    *,
    strict: bool = False,
) -> dict[str, Any]:
    """What building would take, without writing anything: what `contents` tells."""
    whole = expand(config)
    gathered = gather(whole, data_root, _meter(whole, load), None, strict=strict)
    return contents(whole, gathered, _select(whole, gathered))


def _select(config: MixConfig, gathered: Gathered) -> Positions:
    tokens = np.array(gathered.supervised, dtype=np.int64)
    return Selection(gathered.pools, tokens).mixture(config)


def _write(config: MixConfig, gathered: Gathered, taken: Positions, spool: Path, to: Path) -> None:
    """Copy what is taken from the spool in an order drawn by the mixture's seed."""
    order = array("q", taken.tobytes())
    random.Random(SEED if config.seed is None else config.seed).shuffle(order)
    there, times = np.unique(np.array(gathered.identities)[taken], return_counts=True)
    seen = dict.fromkeys(there[times > 1].tolist(), 0)
    with (
        spool.open("rb") as source,
        replacing(to, "wb") as out,
        progress(f"write {config.name}", len(order)) as ticker,
    ):
        for position in order:
            begin, end = gathered.starts[position], gathered.starts[position + 1]
            source.seek(begin)
            line = source.read(end - begin)
            if (one := gathered.identities[position]) in seen:
                line, seen[one] = _numbered(line, seen[one] + 1, there)
            out.write(line)
            ticker.advance()


def _numbered(line: bytes, time: int, there: NDArray[np.uint64]) -> tuple[bytes, int]:
    """A conversation as it stands the second time and later, with the number behind its id.

    there: identities, sorted, that no number may bring forth again; returns the number as well.
    """
    if time == 1:
        return line, time
    row = json.loads(line)
    while True:
        name = f"{row['id']}#{time}"
        new = np.uint64(identity(row["source"], name))
        place = int(np.searchsorted(there, new))
        if place == len(there) or there[place] != new:
            return (to_json({**row, "id": name}) + "\n").encode(), time
        time += 1
