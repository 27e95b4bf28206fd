"""What is in a mixture: counts, effective weights, licences and origins, as its manifest says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from cameleer.data.mix.config import MixConfig, Part
from cameleer.data.mix.gather import Gathered
from cameleer.data.mix.provenance import NONE_STATED, asks, edges, licence_of, strictest
from cameleer.data.mix.selection import Positions


def contents(config: MixConfig, gathered: Gathered, taken: Positions) -> dict[str, Any]:
    """The outcome of building an expanded mixture, of which `taken` was chosen.

    `conversations`, `measure` (what answers are counted in), `licences` (what each asks),
    `strictest`, `derived` (pairs of sources), `warnings`, and in `sources` for each part its
    conversion's counts with those of the filters, `asked`, `taken`, `repeats` (of those, second and
    further times), `messages`, `share` of conversations, `answer_share` of the assistant's
    characters, `licence`, and with a tokenizer `supervised_tokens`, `token_share` (of them) and
    `without_answer` (conversations that have none).
    """
    leaves, measured = gathered.leaves, config.tokenizer is not None
    stated = {one for leaf in leaves for one in _licences(leaf.part, gathered.sources[leaf.path])}
    derived = edges(name for found in gathered.sources.values() for name in found)
    return {
        "name": config.name,
        "about": config.about,
        "conversations": len(taken),
        "measure": "supervised_tokens" if measured else "characters",
        "sources": dict(_sources(gathered, taken, measured)),
        "licences": {one: asks(one) for one in sorted(stated)},
        "strictest": strictest(stated),
        "derived": derived,
        "warnings": list(_warnings(derived, gathered, taken)),
    }


def _sources(
    gathered: Gathered, taken: Positions, measured: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    messages = np.array(gathered.messages, dtype=np.int64)
    characters = np.array(gathered.characters, dtype=np.int64)
    tokens = np.array(gathered.supervised, dtype=np.int64)
    all_characters, all_tokens = int(characters[taken].sum()), int(tokens[taken].sum())
    names = _short([leaf.path for leaf in gathered.leaves])
    for name, leaf in zip(names, gathered.leaves, strict=True):
        pool, named = gathered.pools[leaf.path], gathered.sources[leaf.path]
        own: Positions = taken[(taken >= pool[0]) & (taken <= pool[-1])]
        facts = {
            **{reason: n for reason, n in gathered.counts[leaf.path].items() if n},
            "asked": leaf.asked,
            "taken": len(own),
            "repeats": len(own) - len(np.unique(own)),
            "messages": int(messages[own].sum()),
            "share": len(own) / len(taken),
            "answer_share": int(characters[own].sum()) / max(1, all_characters),
        }
        if measured:
            facts["supervised_tokens"] = int(tokens[own].sum())
            facts["token_share"] = int(tokens[own].sum()) / max(1, all_tokens)
            facts["without_answer"] = int((tokens[own] == 0).sum())
        yield name, {**facts, "licence": "; ".join(_licences(leaf.part, named))}


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
