"""Fine-tuning beside TRL and the paper's own loop: same model, same tokens in the same loss.

All learn one epoch of real conversations of several data sets in the Tülu format, one system after
the other, with the same optimizer. The others get the very token ids and labels that Cameleer
makes. Every system first takes one single step over some conversations (`check`), whose loss and
gradient norm, before any update, must agree; then it is timed on others. At the end one judge
(plain transformers, float32) scores every checkpoint on conversations nobody learned.

tokens/s counts no padding and leaves out the first step. The reference is TRL's fastest packed
variant. "cores" is processor time by wall time: systems that differ much in it were disturbed.
"held-out" is the judge's loss with weights as saved, "as bf16" with them rounded.

    python -m bench.sft --conversations 400
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
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
from cameleer.core.errors import UserError
from cameleer.core.files import write_json

CAMELEER, PAPER, AGREE = "Cameleer", "the paper's loop", 0.01
SOURCES = ["stanford_alpaca", "gpt4_alpaca", "dolly", "code_alpaca", "oasst1", "sharegpt"]
VARIANTS = ("packed-autocast", "packed-bf16", "padded-autocast", "padded-bf16")
ALL_ROWS = 10**6  # rows per step, for the check: whatever there is makes one step


@dataclass(frozen=True)
class System:
    """A system to be measured: its name, and what begins the command that runs its jobs."""

    name: str
    python: Path | None = None  # None: our own
    variant: str = ""
    script: str = "sft_trl"

    def command(self, to_do: Path) -> list[str]:
        own = ours("sft_cameleer", to_do)
        return theirs(self.python, self.script, to_do) if self.python else own


def main() -> None:
    """Prepare, measure one system after the other, score, compare."""
    given = options()
    work, facts = fresh("sft"), machine(given.threads)
    python = peer_python("trl", given.trl_python)
    systems = [System(CAMELEER)]
    systems += [System(f"TRL {variant}", python, variant) for variant in given.variants]
    if given.paper:
        systems.append(System(PAPER, python, script="sft_paper"))
    data, common = prepared(given, work)
    found, failed = {}, {}
    for system in systems:
        try:
            found[system.name] = measure(system, common, work, given.threads)
        except UserError as error:  # a peer that ran out of memory, say, does not undo the others
            if system.python is None:
                raise
            failed[system.name] = str(error)
            warn(str(error))
    losses = scored(found, data["base"], work, given.threads)
    report = {
        "machine": facts,
        "settings": {**common, "model": given.model},
        "data": data["counts"],
        "failed": failed,
        "held_out_loss_before": losses.pop("base")[0],
        "systems": [summary(*pair) | held_out(*losses[pair[0]]) for pair in found.items()],
    }
    compare(report, data["counts"])
    write_json(OUT / "sft.json", report | {"steps": {k: v["steps"] for k, v in found.items()}})
    shutil.rmtree(work / "checkpoints")
    note(f"written: {OUT / 'sft.json'}; logs are in {work}")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--conversations", type=int, default=400, help="to learn (%(default)s)")
    parser.add_argument("--checked", type=int, default=16, help="in the check (%(default)s)")
    parser.add_argument("--held-out", type=int, default=30, help="to score (%(default)s)")
    parser.add_argument("--row", type=int, default=1024, help="tokens of a row (%(default)s)")
    parser.add_argument("--rows-per-step", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-5, help="(%(default)s)")
    parser.add_argument("--sources", nargs="+", default=SOURCES, help="learned (%(default)s)")
    parser.add_argument("--paper", action="store_true", help="the paper's padded loop as well")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=VARIANTS, help="of TRL")
    parser.add_argument("--trl-python", type=Path, help="interpreter that has TRL")
    return parser.parse_args()


def prepared(given: argparse.Namespace, work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was made of the data, and the settings that all jobs share."""
    parts = {"train": given.conversations, "check": given.checked, "held_out": given.held_out}
    folder = given.data.absolute()
    asked = {"do": "prepare", "model": given.model, "folder": folder, "parts": parts}
    asked |= {"sources": given.sources, "row": given.row, "work": work}
    command = ours("sft_cameleer", job(work, "prepare", asked))
    data = run("prepare", command, work=work, threads=given.threads).said
    mean = data["counts"]["train"]["tokens"] / given.conversations
    return data, {
        "base": data["base"],
        "row": given.row,
        "rows_per_step": given.rows_per_step,
        "conversations_per_row": max(1, round(given.row / mean)),  # for what is not packed
        "learning_rate": given.learning_rate,
        "max_grad_norm": 1.0,
        "seed": 42,
    }


def measure(system: System, common: dict[str, Any], work: Path, threads: int) -> dict[str, Any]:
    """Check and time one system; its checkpoint stays in `work`."""

    def once(part: str, **changed: Any) -> tuple[Ran, Path]:
        name = f"{system.name} {part}"
        out = work / "checkpoints" / name.replace(" ", "-")
        own = {"do": "train", "variant": system.variant, "data": work / part, "out": out}
        to_do = job(work, name, common | own | changed)
        return run(name, system.command(to_do), work=work, threads=threads), out

    checked, out = once("check", rows_per_step=ALL_ROWS)
    shutil.rmtree(out)
    ran, out = once("train")
    steps = checked.said["steps"]
    if len(steps) != 1:
        raise UserError(f"{system.name} took {len(steps)} steps where one was meant")
    about = {key: value for key, value in ran.said.items() if key != "steps"}
    process = {"wall": ran.wall, "cpu": ran.cpu, "peak": ran.peak}
    return {"check": steps[0], "steps": ran.said["steps"], "out": out, "about": about, **process}


def summary(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """The figures of one system; rates leave out its first step."""
    steps, later = found["steps"], found["steps"][1:]
    seconds = sum(step["seconds"] for step in later)
    supervised = sum(step["supervised"] for step in steps)
    return {
        "system": name,
        "tokens_per_second": round(sum(s["tokens"] for s in later) / seconds, 1),
        "supervised_per_second": round(sum(s["supervised"] for s in later) / seconds, 1),
        "peak_gib": round(found["peak"] / 2**30, 2),
        "wall_seconds": round(found["wall"], 1),
        "cpu_seconds": round(found["cpu"], 1),
        "cores_used": round(found["cpu"] / found["wall"], 2),
        "steps": len(steps),
        "tokens": sum(step["tokens"] for step in steps),
        "supervised": supervised,
        "checked": found["check"]["supervised"],
        "first_loss": found["check"]["loss"],
        "first_grad_norm": found["check"]["grad_norm"],
        "epoch_loss": sum(s["loss"] * s["supervised"] for s in steps) / supervised,
        **found["about"],
    }


def scored(
    found: dict[str, dict[str, Any]], base: str, work: Path, threads: int
) -> dict[str, list[float]]:
    """Mean loss of the base model and of every checkpoint on conversations nobody learned."""
    checkpoints = {"base": base} | {name: str(one["out"]) for name, one in found.items()}
    asked = {"do": "score", "checkpoints": checkpoints, "tokens": work / "held_out.tokens.jsonl"}
    command = ours("sft_cameleer", job(work, "score", asked))
    losses: dict[str, list[float]] = run("score", command, work=work, threads=threads).said[
        "losses"
    ]
    return losses


def held_out(as_saved: float, rounded: float) -> dict[str, float]:
    """The judge's figures for one checkpoint."""
    return {"held_out_loss": as_saved, "held_out_loss_bf16": rounded}


def compare(report: dict[str, Any], counts: dict[str, dict[str, int]]) -> None:
    """Print the table, and whether all systems did the same work; adds both to the report."""
    own, *peers = report["systems"]
    packed = [one for one in peers if " packed" in one["system"]]
    best = max(packed, key=lambda one: float(one["tokens_per_second"]), default=own)
    rows = []
    for one in report["systems"]:
        one["times_reference"] = round(one["tokens_per_second"] / best["tokens_per_second"], 2)
        one["memory_of_reference"] = round(one["peak_gib"] / best["peak_gib"], 2)
        rows.append(
            [
                one["system"],
                one["tokens_per_second"],
                one["supervised_per_second"],
                one["times_reference"],
                one["peak_gib"],
                one["wall_seconds"],
                one["cores_used"],
                f"{one['first_loss']:.4f}",
                f"{one['first_grad_norm']:.2f}",
                f"{one['epoch_loss']:.4f}",
                f"{one['held_out_loss']:.4f}",
                f"{one['held_out_loss_bf16']:.4f}",
            ]
        )
    train = counts["train"]
    title = f"{train['conversations']} conversations, {train['tokens']} tokens, "
    title += f"{train['supervised']} of them learned; reference: {best['system']}"
    columns = ["system", "tokens/s", "learned/s", "x reference", "GiB", "wall s", "cores"]
    columns += ["first loss", "first |g|", "epoch loss", "held-out", "as bf16"]
    table(title, columns, rows)
    print(f"held-out loss before training: {report['held_out_loss_before']:.4f}")
    report |= {"reference": best["system"], "agreement": agreement(report["systems"], counts)}


def agreement(
    systems: list[dict[str, Any]], counts: dict[str, dict[str, int]]
) -> dict[str, bool | float]:
    """Whether all saw the same tokens and learned the same ones, and how far first losses lie."""
    wanted = counts["train"]["tokens"], counts["train"]["supervised"], counts["check"]["supervised"]
    same = all((one["tokens"], one["supervised"], one["checked"]) == wanted for one in systems)
    losses = sorted(one["first_loss"] for one in systems)
    apart = losses[-1] - losses[0]
    print(f"tokens seen and tokens learned agree with the data in every system: {same}")
    print(f"first losses, over the same tokens, lie at most {apart:.4f} apart")
    for one in systems:
        seen = one["tokens"], one["supervised"], one["checked"]
        if seen != wanted:
            warn(f"{one['system']} saw, learned, checked {seen} tokens, not {wanted}")
    if apart > AGREE:
        warn(f"first losses lie more than {AGREE} apart: the systems do not measure the same")
    return {"same_tokens": same, "first_losses_apart": apart}


if __name__ == "__main__":
    answer_for(main)
