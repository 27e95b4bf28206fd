"""Multiple choice beside lm-eval: same model, same questions, byte for byte the same prompts.

MMLU with five examples, plain prompts. Cameleer writes the prompts (and asks them through its whole
evaluation); lm-eval gets them through a task of its own that adds nothing, in several batch sizes,
the fastest of which is the reference.

questions/s counts the time in which a model answers; loading it, reading data and scoring are shown
beside it. "cores" is processor time by wall time: systems that differ much in it were disturbed.

    python -m bench.eval --questions 200
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


def main() -> None:
    """Prepare, measure one system after the other, compare."""
    given = options()
    work, facts = fresh("eval"), machine(given.threads)
    python = peer_python("lm-eval", given.lm_eval_python)
    common = {"data": chosen_data(given, work), "limit": given.questions}
    common |= {"questions": work / "questions.jsonl"}

    def once(name: str, **own: Any) -> Ran:
        to_do = job(work, name, common | own)
        peer = name.startswith("lm-eval")
        command = theirs(python, "eval_lm_eval", to_do) if peer else ours("eval_cameleer", to_do)
        return run(name, command, work=work, threads=given.threads)

    about = once("prepare", do="prepare", model=given.model).said
    common["base"] = about["base"]
    found = {"Cameleer": once("Cameleer", do="answer", out=work / "cameleer")}
    for batch in given.batch:
        found[f"lm-eval batch {batch}"] = once(f"lm-eval batch {batch}", batch=batch)
    report = {"machine": facts, "model": given.model, "subjects": given.subjects, "data": about}
    report |= {"systems": [summary(*pair) for pair in found.items()]}
    compare(report, found)
    write_json(OUT / "eval.json", report)
    note(f"written: {OUT / 'eval.json'}; logs are in {work}")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, help="of MMLU")
    parser.add_argument("--questions", type=int, help="that many, by each subject's share (all)")
    parser.add_argument("--batch", type=int, nargs="*", default=(1, 8, 16), help="of lm-eval")
    parser.add_argument("--lm-eval-python", type=Path, help="interpreter that has lm-eval")
    return parser.parse_args()


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


PARTS = ("load_seconds", "answer_seconds", "rest_seconds")


def compare(report: dict[str, Any], found: dict[str, Ran]) -> None:
    """Print the table, and how far the answers agree; adds both to the report."""
    own, *peers = report["systems"]
    best = max(peers, key=lambda one: float(one["questions_per_second"]), default=own)
    mine = found[own["system"]].said["answers"]
    rows = []
    for one in report["systems"]:
        answers = found[one["system"]].said["answers"]
        one["times_reference"] = round(
            one["questions_per_second"] / best["questions_per_second"], 2
        )
        one |= agreement(one["system"], mine, answers)
        rows.append(
            [
                one["system"],
                one["questions_per_second"],
                one["times_reference"],
                one["right"],
                one["same_choice"],
                f"{one['logprobs_apart']:.3f}",
                one["peak_gib"],
                *(one[part] for part in PARTS),
                one["wall_seconds"],
                one["cores_used"],
            ]
        )
    title = f"{len(mine)} questions, {report['data']['prompt_tokens']} tokens of prompts; "
    columns = ["system", "questions/s", "x reference", "right", "same choice", "|dlogp|", "GiB"]
    columns += ["load s", "answer s", "rest s", "wall s", "cores"]
    table(f"{title}reference: {best['system']}", columns, rows)
    same = all(one["same_prompts"] for one in report["systems"])
    print(f"prompts are byte for byte the same in every system: {same}")
    report |= {"reference": best["system"], "same_prompts": same}


def agreement(system: str, mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Whether prompts are the same, how many choices are, and how far log-probabilities lie apart.

    logprobs_apart: mean over questions of the largest difference, in nats, of a choice.
    """
    if mine.keys() != theirs.keys():
        raise UserError(f"{system} did not answer the same questions")
    pairs = [(mine[key], theirs[key]) for key in mine]
    same = all(a["prompt"] == b["prompt"] for a, b in pairs)
    if not same:
        warn(f"{system} was sent other prompts: the systems do not measure the same")
    apart = [
        max(abs(x - y) for x, y in zip(a["logprobs"], b["logprobs"], strict=True)) for a, b in pairs
    ]
    return {
        "same_prompts": same,
        "same_choice": sum(a["chosen"] == b["chosen"] for a, b in pairs),
        "logprobs_apart": sum(apart) / len(apart),
    }


if __name__ == "__main__":
    answer_for(main)
