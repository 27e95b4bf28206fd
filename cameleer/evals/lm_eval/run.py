"""One task or group of lm-eval with one engine: rows and scores, as every benchmark's run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.engines.engine import Engine
from cameleer.evals.asking import EvalSpec, limited
from cameleer.evals.benchmark import Benchmark, benchmark_named
from cameleer.evals.lm_eval.model import Asked
from cameleer.evals.lm_eval.tasks import load, package
from cameleer.evals.lm_eval.told import Told, number_of
from cameleer.evals.runner import ANSWERS
from cameleer.results.records import Format, Item, Sample, Score

FEWSHOT_SEED = 1234  # lm-eval's own default

Row = dict[str, Any]


class LmEvalRun:
    """One task or group of lm-eval with one engine: rows and scores, as every benchmark's run."""

    def __init__(self, spec: EvalSpec, engine: Engine, data: Path | None) -> None:
        self.spec, self.engine = spec, engine
        self.benchmark: Benchmark = benchmark_named(spec.benchmark)
        self.name = self.benchmark.setting_name
        if spec.samples is not None:
            raise UserError("tasks of lm-eval say themselves how many outputs they want")
        self.form: Format = spec.format or "plain"
        self.loaded = load(self.name, self.benchmark.folder(data))
        self.tasks: dict[str, Any] = self.loaded["tasks"]
        for name, task in self.tasks.items():
            if getattr(task, "UNSAFE_CODE", False):
                raise UserError(f"{name} would run code of the model's outside any sandbox")
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        self.documents = self._documents()
        self.told: Told | None = None

    def _documents(self) -> dict[str, list[int]]:
        """Which documents are asked of each task; all, or a sample by each task's share."""
        items = [
            Item(f"{name}/{row}", name, "", "", None, {"row": row})
            for name, task in self.tasks.items()
            for row in range(len(task.eval_docs))
        ]
        found: dict[str, list[int]] = {name: [] for name in self.tasks}
        for item in limited(items, self.spec.limit):
            found[item.group].append(item.meta["row"])
        self.tasks = {name: task for name, task in self.tasks.items() if found[name]}
        self.loaded["tasks"] = self.tasks
        return found

    def rows(self, folder: Path) -> list[Row]:
        """Every document's row; answers that the folder's log holds are not asked again."""
        asked = Asked(self, folder / ANSWERS)
        with redirect_stdout(sys.stderr):
            results = package(".evaluator").evaluate(
                lm=asked,
                task_dict=self.loaded,
                samples=None if self.spec.limit is None else self.documents,
                bootstrap_iters=0,
                apply_chat_template=self.form == "chat",
            )
        self.told = Told(self.name, self.tasks, results)
        return [
            self._row(name, documents, asked, self.told.metric(name))
            for name in self.tasks
            for documents in self.told.by_document(name)
        ]

    def _row(self, task: str, told: list[Row], asked: Asked, metric: str) -> Row:
        """One document's row; `told`: what lm-eval logged of it, once for every filter."""
        first = told[0]
        values: dict[str, float] = {}
        for one in told:
            for name in one["metrics"]:
                number = number_of(one[name])
                if number is not None:
                    values[f"{name},{one['filter']}"] = number
        answer = asked.answer_to(task, first)
        value = values.get(metric)
        score = None
        if value is not None and 0 <= value <= 1:
            score = Score(value, _plain(first["filtered_resps"]), values)
        key = f"lm_eval/{task}/{first['doc_id']}"
        group = task if len(self.tasks) > 1 else ""
        target = first["target"]
        row = Sample(key, group, first["arguments"][0][0], target, answer, score).to_row()
        return row | {"item": key, "values": values}

    def scores(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What scores.json holds: lm-eval's numbers, with intervals of ours."""
        assert self.told is not None  # rows come first
        told, first = self.told, next(iter(self.tasks))
        tasks = {name: told.estimates(name) for name in self.tasks}
        metric = told.metric(first)
        up = told.results["higher_is_better"][first]
        finish = Counter(how for row in rows for how in row["finish"])
        return {
            "benchmark": self.benchmark.name,
            "setting": self.name,
            "rule": self.spec.rule,
            "format": self.form,
            "metric": metric,
            "lower_is_better": up.get(metric.partition(",")[0]) is False,
            "macro": False,
            **told.whole(tasks, metric, rows),
            "groups": {name: tasks[name][metric] for name in tasks if metric in tasks[name]}
            if len(tasks) > 1
            else {},
            "metrics": tasks[first] if len(tasks) == 1 else {},
            "lm_eval": told.numbers(),
            "versions": told.results["versions"],
            "shots": told.results["n-shot"],
            "finish": dict(sorted(finish.items())),
            "no_answer": 0,
            "notes": {},
            "dropped_shots": 0,
            "too_long": 0,
            **{key: sum(row[key] for row in rows) for key in ("prompt_tokens", "new_tokens")},
            "seconds": round(sum(row["seconds"] for row in rows), 3),
        }


def _plain(responses: list[Any]) -> list[Any]:
    """Filtered responses as JSON takes them: tuples of likelihoods become lists."""
    return [list(one) if isinstance(one, tuple) else one for one in responses]
