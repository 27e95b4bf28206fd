"""The list of judges, with the benchmarks that each of them reads for."""

from __future__ import annotations

from typing import Any

from cameleer.evals.benchmark import all_benchmarks
from cameleer.evals.judge.spec import Pairwise, load_judge, named_judges


def listed() -> list[dict[str, Any]]:
    """Judges of pairs first, then those of single texts; `used by` names benchmarks."""
    found = []
    for name, path in named_judges().items():
        judge = load_judge(path)
        mark = {"fingerprint": judge.fingerprint} if isinstance(judge, Pairwise) else {}
        found.append(
            {
                "judge": name,
                "kind": judge.kind,
                "version": judge.version,
                "model": judge.model or "",
                "about": judge.about,
                "used by": ", ".join(_users(name)),
                **mark,
            }
        )
    return sorted(found, key=lambda row: (row["kind"] != "pairwise", row["judge"]))


def _users(name: str) -> list[str]:
    """The benchmarks whose outputs it reads."""
    return [
        one.label
        for one in all_benchmarks()
        if any(reviewer.judge == name for reviewer in one.setting.reviewers.values())
    ]
