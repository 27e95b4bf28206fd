"""Data at scale: a million conversations converted, rendered and packed; rates beside others.

Scale: every step in a process of its own. "peak" is the memory of that process and its workers
together; "cores" is processor time by wall time.

Rates: the same real conversations to token ids with loss masks, by one core: the tokenizer's bare
call (no masks, the floor of anything that gives it every text), the paper's way (one tokenisation
for each prefix, same fast tokenizer), TRL's, and ours. What each gives is compared conversation by
conversation. Seconds are processor time, start-up and reading files left out, of the middle one of
the repeats.

    python -m bench.data --conversations 1000000 --duplicates 500000
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare import (
    OUT,
    Ran,
    answer_for,
    arguments,
    fresh,
    job,
    machine,
    ours,
    peer_python,
    run,
    theirs,
)
from cameleer.core.console import note, table, warn
from cameleer.core.cores import cores
from cameleer.core.files import write_json

STEPS = ("convert", "render", "tokenise", "pack", "duplicates")
WAYS = {
    "bare": "tokenizer's bare call, no masks",
    "call": "transformers' call with offsets, no masks",
    "paper's way": "one tokenisation for each prefix",
    "TRL": "SFTTrainer, assistant_only_loss",
    "whole": "ours, texts whole",
    "pieces": "ours, by pieces",
    "known": "ours, all pieces seen before",
    "paper": "ours, the paper's rule",
}
SAME = {"TRL": "whole", "pieces": "whole", "known": "whole", "paper": "paper's way"}
"""Whose tokens and masks must be the same as whose."""


def main() -> None:
    """Prepare, measure scale and rates, compare."""
    given = options()
    work, facts = fresh("data"), machine(given.threads)
    python = peer_python("trl", given.trl_python)
    (work / "native").mkdir()
    common = {
        "model": given.model,
        "data": given.data.absolute(),
        "limit": given.row,
        "conversations": given.conversations,
        "duplicates": given.duplicates,
        "cores": cores(),
        "sample": work / "sample.jsonl",
        "native": work / "native",
        "file": work / "conversations.jsonl",
        "arrays": work / "arrays",
        "out": work / "trl",
    }

    def once(name: str, command: str, threads: int, **own: Any) -> Ran:
        to_do = job(work, name, common | own | {"digests": work / f"{name}.digests"})
        peer = command == "data_trl"
        return run(
            name,
            theirs(python, command, to_do) if peer else ours(command, to_do),
            work=work,
            threads=threads,
        )

    about = once("prepare", "data_cameleer", given.threads, do="prepare").said
    common["base"] = about["base"]
    rounds = [[rate(once, way, about["tokens"]) for way in WAYS] for _ in range(given.repeats)]
    rates = [median(ways) for ways in zip(*rounds, strict=True)]
    steps = [scale(once, step, given.threads) for step in STEPS]
    report: dict[str, Any] = {
        "machine": facts,
        "settings": {"row": given.row, "model": given.model},
    }
    report |= {"sample": about, "scale": steps, "rates": rates}
    report["agreement"] = agreement(work, about["conversations"])
    show(report)
    write_json(OUT / "data.json", report)
    for heavy in ("native", "arrays"):
        shutil.rmtree(work / heavy)
    common["file"].unlink()
    note(f"written: {OUT / 'data.json'}; logs are in {work}")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--conversations", type=int, default=100_000, help="made (%(default)s)")
    parser.add_argument("--duplicates", type=int, default=50_000, help="of these (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each rate (%(default)s)")
    parser.add_argument("--row", type=int, default=2048, help="tokens of a row (%(default)s)")
    parser.add_argument("--trl-python", type=Path, help="interpreter that has TRL")
    return parser.parse_args()


def scale(once: Any, step: str, threads: int) -> dict[str, Any]:
    """One step over all the made conversations."""
    ran = once(step, "data_cameleer", threads, do=step)
    said = dict(ran.said)
    wall, peak, done = said.pop("wall"), said.pop("peak"), said.pop("conversations")
    if "tokens" in said:
        said["tokens_per_core_second"] = round(said["tokens"] / ran.cpu)  # start-up and all
    return {
        "step": step,
        "conversations": done,
        "seconds": round(wall, 1),
        "per_second": round(done / wall),
        "peak_gib": round(max(peak, ran.peak) / 2**30, 2),
        "cores": round(ran.cpu / ran.wall, 2),
        **said,
    }


def rate(once: Any, way: str, tokens: int) -> dict[str, Any]:
    """One way to tokenise the sample, on one core."""
    name = way.replace("'", "")
    command = {"paper's way": "data_paper", "TRL": "data_trl"}.get(way, "data_cameleer")
    ran = once(name, command, 1, do="rate", way=way)
    return {
        "way": way,
        "seconds": round(ran.said["seconds"], 3),
        "tokens_per_second": round(tokens / ran.said["seconds"]),
        "peak_gib": round(ran.peak / 2**30, 2),
    }


def median(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The middle one of a way's runs, with the seconds of all."""
    ordered = sorted(runs, key=lambda one: one["seconds"])
    return ordered[len(ordered) // 2] | {"all_seconds": [one["seconds"] for one in runs]}


def agreement(work: Path, conversations: int) -> dict[str, int]:
    """For each pair that must agree, how many conversations have other tokens or another mask."""
    found = {}
    for one, other in SAME.items():
        mine, his = (
            (work / f"{name.replace(chr(39), '')}.digests").read_text().splitlines()
            for name in (one, other)
        )
        if not len(mine) == len(his) == conversations:
            warn(f"{one} and {other} gave {len(mine)} and {len(his)} of {conversations}")
        found[f"{one} = {other}"] = sum(a != b for a, b in zip(mine, his, strict=False))
        found[f"{one} = {other}"] += abs(len(mine) - len(his))
    return found


def show(report: dict[str, Any]) -> None:
    """Print both tables, and whether all that should agree does."""
    columns = ["step", "conversations", "seconds", "per_second", "peak_gib", "cores"]
    table("Scale", columns, [[one[key] for key in columns] for one in report["scale"]])
    full = next(one["full"] for one in report["scale"] if one["step"] == "pack")
    note(f"rows of {report['settings']['row']} tokens are {full:.2%} full")
    told = next(one["tokens_per_core_second"] for one in report["scale"] if "tokens" in one)
    note(f"tokenise, all told: {told} tokens for each second of a core")
    by_way = {one["way"]: one for one in report["rates"]}
    paper, bare = (by_way[way]["tokens_per_second"] for way in ("paper's way", "bare"))
    rows = [
        [
            WAYS[way],
            one["tokens_per_second"],
            round(one["tokens_per_second"] / paper, 1),
            round(one["tokens_per_second"] / bare, 2),
            one["peak_gib"],
        ]
        for way, one in by_way.items()
    ]
    heads = ["way", "tokens/s of a core", "× the paper's", "× bare", "peak GiB"]
    table("Rates", heads, rows)
    for pair, differ in report["agreement"].items():
        (warn if differ else note)(f"{pair}: {differ} conversations differ")


if __name__ == "__main__":
    answer_for(main)
