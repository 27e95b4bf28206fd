"""Ranks: two processes, each with half of the weights and rows, learn what one does.

torchrun --nproc-per-node 2 -m cameleer.train.proof.ranks FOLDER
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cameleer.core.console import note
from cameleer.core.files import read_json, write_json
from cameleer.train.config import TrainConfig
from cameleer.train.parallel import joined
from cameleer.train.proof.case import Case, comparable, too_much
from cameleer.train.proof.check import Check
from cameleer.train.proof.learned import Learned, apart, learn

FAILED = {"loss": math.inf, "gradient": math.inf}


def two_ranks(
    case: Case, weights: int, one_rank: dict[str, Learned], before: list[Check]
) -> list[Check]:
    """What one rank learned, by precision, beside two; before: checks whose limits hold here."""
    reason = too_much("weights", weights)
    if case.config.quantization:
        reason = "weights in 4 bits are shown on one rank"
    differences: dict[str, dict[str, float]] = {precision: {} for precision in one_rank}
    if reason is None:
        leave_for_ranks(case, one_rank)
        note("proving on two ranks")
        reason = started(case.folder)
        failed = dict.fromkeys(one_rank, FAILED)
        differences = failed if reason else read_json(case.folder / "apart.json")
    return [
        Check(
            f"2 ranks = 1 rank: {what}",
            check.precision,
            differences[check.precision].get(what),
            check.tolerance,
            reason or check.why,
        )
        for check in before
        if check.shows.startswith("the loss is")
        for what in [check.shows.rpartition(": ")[2]]
    ]


def leave_for_ranks(case: Case, one_rank: dict[str, Learned]) -> None:
    """Write into the case's folder what ranks need to know."""
    for precision, learned in one_rank.items():
        loss = torch.tensor([learned.loss], dtype=torch.float64)
        save_file({**learned.gradients, "": loss}, case.folder / f"{precision}.safetensors")
    write_json(case.folder / "config.json", case.config.model_dump(mode="json"))
    write_json(case.folder / "rows.json", {"rows": case.rows, "base": str(case.base)})


def started(folder: Path) -> str | None:
    """Have two ranks work on `folder`; returns how they failed, if they did."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "cameleer.train.proof.ranks", str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = re.search(r"^(?:\[rank\d\]: )?[\w.]*Error: (.*)", done.stderr, re.MULTILINE)
    return f"two ranks ended: {said[1] if said else f'code {done.returncode}'}"


def on_a_rank(folder: Path) -> None:
    """What each of the ranks does: the same rows, shared out, beside what one rank left."""
    facts = read_json(folder / "rows.json")
    differences = {}
    with joined() as ranks:
        for file in sorted(folder.glob("*.safetensors")):
            precision = file.stem
            config = TrainConfig(**read_json(folder / "config.json") | {"precision": precision})
            run = comparable(config, Path(facts["base"]), folder / f"ranks-{precision}", ranks)
            learned = learn(run, facts["rows"], config.loss_reduction)
            wanted = load_file(file)
            loss = float(wanted.pop(""))
            differences[precision] = apart(learned, Learned(loss, wanted), precision)
        if ranks.first:
            write_json(folder / "apart.json", differences)


if __name__ == "__main__":
    on_a_rank(Path(sys.argv[1]))
