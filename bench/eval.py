"""Evaluation beside lm-eval: same model, same questions, byte for byte the same prompts.

Plain prompts of MMLU with five examples (multiple choice), GSM with eight and BBH with three that
show their reasoning (greedy outputs, ended by the same texts). Cameleer writes the prompts and asks
them through its whole evaluation; lm-eval gets them through a task of its own that adds nothing, in
several batch sizes, the fastest of which is the reference. Cameleer grades the outputs of both.

questions/s counts the time in which a model answers; loading it, reading data and scoring are shown
beside it. "cores" is processor time by wall time: systems that differ much in it were disturbed.

In bf16 two systems round differently, and where two tokens are about as probable their outputs part
for good; `--precision fp32` shows that they are the same but for rounding, at half the speed.

    python -m bench.eval --questions 200
    python -m bench.eval --tasks gsm bbh --questions 54 --precision fp32
"""

from __future__ import annotations

import argparse
import shutil
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

SUBJECTS = ("abstract_algebra", "anatomy", "astronomy")  # the first three of MMLU's list
LABELS = {"mmlu": "mmlu:5-shot", "gsm": "gsm:cot", "bbh": "bbh:cot"}
PARTS = ("load_seconds", "answer_seconds", "rest_seconds")


def main() -> None:
    """Measure one task after the other."""
    given = options()
    facts = machine(given.threads)
    python = peer_python("lm-eval", given.lm_eval_python)
    report: dict[str, Any] = {"machine": facts, "model": given.model, "precision": given.precision}
    report["tasks"] = {task: measure(task, given, python) for task in given.tasks}
    place = OUT / ("eval.json" if given.precision == "bf16" else f"eval-{given.precision}.json")
    write_json(place, report)
    note(f"written: {place}; logs are in {OUT / 'work'}")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--tasks", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, help="of MMLU")
    parser.add_argument("--questions", type=int, help="of each task, by group's share (all)")
    parser.add_argument("--new-tokens", type=int, default=256, help="at most (%(default)s)")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--batch", type=int, nargs="*", default=(1, 8), help="of lm-eval")
    parser.add_argument("--lm-eval-python", type=Path, help="interpreter that has lm-eval")
    return parser.parse_args()


def measure(task: str, given: argparse.Namespace, python: Path) -> dict[str, Any]:
    """Prepare a task, run one system after the other, compare."""
    work = fresh(f"eval-{task}")
    data = chosen_data(given, work) if task == "mmlu" else given.data.absolute() / "eval" / task
    common: dict[str, Any] = {"data": data, "limit": given.questions, "label": LABELS[task]}
    common |= {"questions": work / "questions.jsonl", "precision": given.precision}
    common |= {"new_tokens": given.new_tokens}

    def once(name: str, **own: Any) -> Ran:
        to_do = job(work, name, common | own)
        peer = name.startswith("lm-eval")
        command = theirs(python, "eval_lm_eval", to_do) if peer else ours("eval_cameleer", to_do)
        return run(name, command, work=work, threads=given.threads)

    about = once("prepare", do="prepare", model=given.model).said
    common |= {"base": about["base"], "stop": about["stop"]}
    found = {"Cameleer": once("Cameleer", do="answer", out=work / "cameleer")}
    for batch in given.batch:
        name = f"lm-eval batch {batch}"
        found[name] = once(name, batch=batch)
        if task != "mmlu":
            said, answers = found[name].said, work / f"said-{batch}.json"
            write_json(answers, {key: one["output"] for key, one in said["answers"].items()})
            graded = once(f"grading {batch}", do="grade", answers=answers).said["answers"]
            for key, one in graded.items():
                said["answers"][key] |= one
    report: dict[str, Any] = {"task": LABELS[task], "data": about}
    report |= {"systems": [summary(*pair) for pair in found.items()]}
    compare(report, found)
    return report


def chosen_data(given: argparse.Namespace, work: Path) -> Path:
    """A data folder with the files of the chosen subjects only."""
    home = given.data.absolute() / "eval" / "mmlu"
    for split in ("dev", "test"):
        (work / "mmlu" / split).mkdir(parents=True)
        for subject in given.subjects:
            file = home / split / f"{subject}_{split}.csv"
            if not file.is_file():
                raise UserError("no such file", file=file, hint="check --data and --subjects")
            shutil.copy(file, work / "mmlu" / split)
    return work / "mmlu"


def summary(name: str, ran: Ran) -> dict[str, Any]:
    """The figures of one system."""
    said, answers = ran.said, ran.said["answers"]
    return {
        "system": name,
        "questions_per_second": round(len(answers) / said["answer_seconds"], 3),
        "right": int(sum(one["right"] for one in answers.values())),
        "peak_gib": round(ran.peak / 2**30, 2),
        "wall_seconds": round(ran.wall, 1),
        "cpu_seconds": round(ran.cpu, 1),
        "cores_used": round(ran.cpu / ran.wall, 2),
        **{part: round(said[part], 2) for part in PARTS},
        "versions": said["versions"],
    }


AGREED = {
    "same_choice": "same choice",
    "logprobs_apart": "|dlogp|",
    "same_output": "same text",
    "same_extracted": "same answer",
}
"""What `agreement` tells, and how a table says it."""


def compare(report: dict[str, Any], found: dict[str, Ran]) -> None:
    """Print the table; adds speed against the reference and agreement to every system."""
    own, *peers = report["systems"]
    best = max(peers, key=lambda one: float(one["questions_per_second"]), default=own)
    mine = found[own["system"]].said["answers"]
    rows = []
    for one in report["systems"]:
        speed = one["questions_per_second"]
        one["times_reference"] = round(speed / best["questions_per_second"], 2)
        one |= agreement(one["system"], mine, found[one["system"]].said["answers"])
        figures = ("right", *(name for name in AGREED if name in one), "peak_gib", *PARTS)
        last = (one["wall_seconds"], one["cores_used"])
        rows.append(
            [one["system"], speed, one["times_reference"], *(one[name] for name in figures), *last]
        )
    columns = ["system", "questions/s", "x reference", "right"]
    columns += [text for name, text in AGREED.items() if name in own]
    columns += ["GiB", "load s", "answer s", "rest s", "wall s", "cores"]
    size = f"{len(mine)} questions, {report['data']['prompt_tokens']} tokens of prompts"
    table(f"{report['task']}: {size}; reference: {best['system']}", columns, rows)
    same = all(one["same_prompts"] for one in report["systems"])
    print(f"prompts are byte for byte the same in every system: {same}")
    report |= {"reference": best["system"], "same_prompts": same}


def agreement(system: str, mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Whether prompts are the same, and how many answers are, text by text or choice by choice.

    logprobs_apart: mean over questions of the largest difference, in nats, of a choice.
    """
    if mine.keys() != theirs.keys():
        raise UserError(f"{system} did not answer the same questions")
    pairs = [(mine[key], theirs[key]) for key in mine]

    def alike(what: str) -> int:
        return sum(a[what] == b[what] for a, b in pairs)

    same = alike("prompt") == len(pairs)
    if not same:
        warn(f"{system} was sent other prompts: the systems do not measure the same")
    if "output" in pairs[0][0]:
        told = {"same_output": alike("output"), "same_extracted": alike("extracted")}
        return {"same_prompts": same, **told}
    apart = [
        max(abs(x - y) for x, y in zip(a["logprobs"], b["logprobs"], strict=True)) for a, b in pairs
    ]
    distance = round(sum(apart) / len(apart), 4)
    return {"same_prompts": same, "same_choice": alike("chosen"), "logprobs_apart": distance}


if __name__ == "__main__":
    answer_for(main)
