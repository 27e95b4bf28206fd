"""Building a mixture: read its parts, choose, shuffle, write; and say what is in it."""

from __future__ import annotations

import json
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.chat.render import Rule
from cameleer.core.artifact import Stage
from cameleer.core.console import progress
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, sha256_file, to_json
from cameleer.data.gather import Gathered, Leaf, Meter, gather, leaves
from cameleer.data.mixture import MixConfig, Part, expand
from cameleer.data.mixture_page import page
from cameleer.data.provenance import NONE_STATED, asks, edges, licence_of, strictest
from cameleer.data.selection import SEED, Positions, Selection

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


# ---- building


def build(
    config: MixConfig, data_root: Path | None, stage: Stage, load: LoadTokenizer | None = None
) -> Path:
    """Build the mixture unless it is there; returns the folder, which holds conversations.jsonl.

    Conversations pass through a spool file, so that memory holds only their positions. Each part is
    sampled by its own seed: adding a part changes no other part's picks. A conversation that is
    taken again has `#2`, `#3`, … behind its id. The manifest's outcome is told by `plan`; people
    read it in MIXTURE.md. Raises UserError if a part cannot give what is asked for.
    """

    def work(folder: Path) -> dict[str, Any]:
        whole, spool = expand(config), folder / "spool.jsonl"
        with spool.open("wb") as out:
            gathered = gather(whole, data_root, _meter(whole, load), out)
        taken = _select(whole, gathered)
        _write(whole, gathered, taken, spool, folder / CONVERSATIONS)
        spool.unlink()
        outcome = _outcome(whole, gathered, taken)
        with replacing(folder / PAGE) as handle:
            handle.write(page(outcome))
        return outcome

    stage.run(work)
    return stage.folder


def plan(
    config: MixConfig, data_root: Path | None, load: LoadTokenizer | None = None
) -> dict[str, Any]:
    """What building would take, without writing anything: the outcome that a manifest holds.

    `conversations`, `measure` (what answers are counted in), `licences`, `strictest`, `derived`,
    `warnings`, and in `sources` for each part its conversion's counts with the filters', `asked`,
    `taken`, `repeats` (of those, second and further times), `messages`, `share` of conversations,
    `answer_share` of the assistant's characters, with a tokenizer `supervised_tokens`, their
    `token_share` and `without_answer` (conversations that teach nothing), and `licence`.
    """
    whole = expand(config)
    gathered = gather(whole, data_root, _meter(whole, load), None)
    return _outcome(whole, gathered, _select(whole, gathered))


def _select(config: MixConfig, gathered: Gathered) -> Positions:
    tokens = np.array(gathered.supervised, dtype=np.int64)
    return Selection(gathered.pools, tokens).mixture(config)


def _write(config: MixConfig, gathered: Gathered, taken: Positions, spool: Path, to: Path) -> None:
    """Copy what is taken from the spool in an order drawn by the mixture's seed."""
    order = array("q", taken.tobytes())
    random.Random(SEED if config.seed is None else config.seed).shuffle(order)
    identities = np.array(gathered.identities)[taken]
    values, times = np.unique(identities, return_counts=True)
    seen = dict.fromkeys(values[times > 1].tolist(), 0)
    with (
        spool.open("rb") as source,
        replacing(to, "wb") as out,
        progress(f"write {config.name}", len(order)) as ticker,
    ):
        for position in order:
            begin, end = gathered.starts[position], gathered.starts[position + 1]
            source.seek(begin)
            line = source.read(end - begin)
            if (identity := gathered.identities[position]) in seen:
                seen[identity] += 1
                line = _numbered(line, seen[identity])
            out.write(line)
            ticker.advance()


def _numbered(line: bytes, time: int) -> bytes:
    """The conversation as it stands the second time and later: with the number behind its id."""
    if time == 1:
        return line
    row = json.loads(line)
    return (to_json({**row, "id": f"{row['id']}#{time}"}) + "\n").encode()


# ---- what is in it


def _outcome(config: MixConfig, gathered: Gathered, taken: Positions) -> dict[str, Any]:
    here = gathered.leaves
    names = _short([leaf.path for leaf in here])
    sources = {
        name: {**facts, **weight}
        for name, facts, weight in zip(
            names,
            (_facts(leaf, gathered, taken) for leaf in here),
            _weights(here, gathered, taken, config.tokenizer is not None),
            strict=True,
        )
    }
    stated = {one for leaf in here for one in _licences(leaf.part, gathered.sources[leaf.path])}
    derived = edges(name for found in gathered.sources.values() for name in found)
    return {
        "name": config.name,
        "about": config.about,
        "conversations": len(taken),
        "measure": "characters" if config.tokenizer is None else "supervised_tokens",
        "sources": sources,
        "licences": {one: asks(one) for one in sorted(stated)},
        "strictest": strictest(stated),
        "derived": derived,
        "warnings": list(_warnings(derived, gathered, taken)),
    }


def _own(leaf: Leaf, gathered: Gathered, taken: Positions) -> Positions:
    """What was taken of one part."""
    pool = gathered.pools[leaf.path]
    own: Positions = taken[(taken >= pool[0]) & (taken <= pool[-1])]
    return own


def _facts(leaf: Leaf, gathered: Gathered, taken: Positions) -> dict[str, Any]:
    own = _own(leaf, gathered, taken)
    return {
        **{reason: n for reason, n in gathered.counts[leaf.path].items() if n},
        "asked": leaf.asked,
        "taken": len(own),
        "repeats": len(own) - len(np.unique(own)),
        "messages": int(np.array(gathered.messages)[own].sum()),
        "licence": "; ".join(_licences(leaf.part, gathered.sources[leaf.path])),
    }


def _weights(
    here: list[Leaf], gathered: Gathered, taken: Positions, measured: bool
) -> Iterator[dict[str, Any]]:
    """Of each part its effective weights."""
    characters = np.array(gathered.characters, dtype=np.int64)
    tokens = np.array(gathered.supervised, dtype=np.int64)
    all_characters, all_tokens = max(1, characters[taken].sum()), max(1, tokens[taken].sum())
    for leaf in here:
        own = _own(leaf, gathered, taken)
        weight: dict[str, Any] = {
            "share": len(own) / len(taken),
            "answer_share": float(characters[own].sum() / all_characters),
        }
        if measured:
            weight["supervised_tokens"] = int(tokens[own].sum())
            weight["token_share"] = float(tokens[own].sum() / all_tokens)
            weight["without_answer"] = int((tokens[own] == 0).sum())
        yield weight


def _short(paths: list[str]) -> list[str]:
    """The last names of paths, or the whole paths of those that share it."""
    times = Counter(path.rpartition("/")[2] for path in paths)
    return [path if times[last := path.rpartition("/")[2]] > 1 else last for path in paths]


def _licences(part: Part, found: Counter[str]) -> list[str]:
    """The licences that a part is under; of own data, unless stated, those of known sources."""
    if part.licence is not None:
        return [part.licence]
    if part.source is not None and licence_of(part.source) != NONE_STATED:
        return [licence_of(part.source)]
    return sorted({licence_of(source) for source in found})


def _warnings(
    derived: list[tuple[str, str]], gathered: Gathered, taken: Positions
) -> Iterator[str]:
    for source, above in derived:
        yield f"{source} is derived from {above}: the same records may enter twice"
    distinct = np.unique(taken)
    again = len(distinct) - len(np.unique(np.array(gathered.identities)[distinct]))
    if again:
        yield f"{again} conversations have source and id of another; they end in #2, #3, …"
    sieves = {id(sieve): sieve for leaf in gathered.leaves for sieve in leaf.sieves}
    for sieve in sieves.values():
        if missing := sieve.not_met():
            path, total = sieve.filters.drop, len(sieve.unwanted)
            yield f"{missing} of the {total} ids of {path} were not met in {sieve.where}"
