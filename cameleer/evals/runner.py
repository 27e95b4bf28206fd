"""Taking a model through a benchmark, so that a killed run goes on where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cameleer.chat.own import OWN
from cameleer.chat.template import template_named
from cameleer.core.artifact import SCRATCH, Stage
from cameleer.core.console import note, warn
from cameleer.core.errors import UserError
from cameleer.core.files import sha256_file, write_json, write_jsonl
from cameleer.engines.engine import CONTEXT, FILTERED, TOO_LONG, Engine, Request
from cameleer.evals.answering import answered
from cameleer.evals.asking import EvalSpec, ask_of, items_of, request_of
from cameleer.evals.benchmark import Benchmark, benchmark_named
from cameleer.evals.extract import NO_ANSWER
from cameleer.evals.protocol import template_for
from cameleer.evals.review import (
    REVIEWS,
    Reviews,
    find_reviewers,
    review,
    reviewer_models,
    texts_to_read,
)
from cameleer.evals.scoring import Row, estimates, score_answer, unanswered, weights, written
from cameleer.evals.written import alpaca_eval_rows
from cameleer.results.answer_files import OUTPUTS
from cameleer.results.records import Answer, Rule, Sample

SAMPLES, SCORES, ANSWERS = "samples.jsonl", "scores.json", "answers.jsonl"
OUTCOME = ("metric", "value", "low", "high", "n")  # of scores.json, in the manifest too


def eval_stage(
    spec: EvalSpec, engine_identity: dict[str, Any], data: Path | None, folder: Path
) -> Stage:
    """The stage whose result is this benchmark's samples and scores; hashes the native files.

    data: what the user gave as data folder, or None for the default; folder: where the result goes.
    Raises UserError if benchmark, template, data or a reviewer are not there.
    """
    benchmark = benchmark_named(spec.benchmark)
    if spec.template != OWN:
        template_named(spec.template)
    home = benchmark.folder(data)
    found = {file for pattern in benchmark.module.NATIVE for file in home.glob(pattern)}
    files = sorted(file for file in found if file.is_file())
    inputs = {file.relative_to(home).as_posix(): sha256_file(file) for file in files}
    if hasattr(benchmark.module, "inputs"):
        inputs |= benchmark.module.inputs(benchmark.setting_name, home)
    asked = spec.model_dump(exclude={"reviewers"}) | {"benchmark": benchmark.label}
    config: dict[str, Any] = {"spec": asked, "engine": engine_identity}
    # A reviewer is known by its fingerprint, wherever it stands.
    if readers := find_reviewers(benchmark, spec.reviewers):
        config["reviewers"] = {name: mark for name, (_, mark) in readers.items()}
    return Stage("eval", folder, config, inputs)


def evaluate(
    spec: EvalSpec, make_engine: Callable[[], Engine], data: Path | None, stage: Stage
) -> Path:
    """Ask the model, score, write samples.jsonl and scores.json; returns the stage's folder.

    The engine is made only if there is something left to do. Raises UserError for data that cannot
    be read, and for answers that an unfinished evaluation with other settings has left in the
    folder; whatever the engine raises goes through, and the next call goes on from there.
    """
    _require_none_lost(stage)

    def work(folder: Path) -> dict[str, Any]:
        begin = getattr(benchmark_named(spec.benchmark).module, "run", _Run)
        run = begin(spec, make_engine(), data)
        rows = run.rows(folder)
        write_jsonl(folder / SAMPLES, rows)
        scores = run.scores(rows)
        _warn(run.benchmark, spec.rule, rows)
        write_json(folder / SCORES, scores)
        if not run.benchmark.setting.scored:
            write_json(folder / OUTPUTS, run.outputs(rows))
        return {key: scores[key] for key in OUTCOME if key in scores}

    stage.run(work)
    return stage.folder


def _require_none_lost(stage: Stage) -> None:
    """UserError if this stage would clear away what another one has asked and not finished."""
    left = None if stage.done() else stage.begun_by_another()
    if left is None:
        return
    logs = (Path(SAMPLES), Path(ANSWERS), Path(SCRATCH) / ANSWERS)
    found = [stage.partial / log for log in logs if (stage.partial / log).is_file()]
    if count := sum(path.read_bytes().count(b"\n") for path in found):
        then, now = (_settings(one) for one in (left.get("config"), stage.config))
        other = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
        what = ", ".join(other) or "other files of the test set, or another version"
        raise UserError(
            f"holds {count} answers of an unfinished evaluation with other settings ({what})",
            file=stage.partial,
            hint="give those again to go on with it; else give another -o, or delete it",
        )


def _settings(config: Any) -> dict[str, Any]:
    """What decides an evaluation, by the name of each setting."""
    parts = config.values() if isinstance(config, dict) else ()
    return {key: value for part in parts for key, value in part.items()}


def _warn(benchmark: Benchmark, rule: Rule, rows: Sequence[Row]) -> None:
    """Say what the context had no room for."""
    if count := sum(TOO_LONG in row["finish"] for row in rows):
        scored = "an empty output" if rule == "paper" else "wrong"
        if rule == "fixed" and benchmark.setting.lower_is_better:
            scored = "the worst"
        how = f"each counts as {scored}" if benchmark.setting.scored else "their outputs are empty"
        about = "too long for the model's context, and were not asked"
        warn(f"{benchmark.label}: {count} prompts are {about}: {how}")
    if count := sum(CONTEXT in row["finish"] for row in rows):
        warn(f"{benchmark.label}: {count} items have outputs cut where the model's context ended")
    if count := sum(FILTERED in row["finish"] for row in rows):
        about = "cut or withheld by the server's own filter, and count as they came"
        warn(f"{benchmark.label}: {count} items have outputs {about}")


class _Run:
    """One benchmark with one engine: items, requests, rows, scores."""

    def __init__(self, spec: EvalSpec, engine: Engine, data: Path | None) -> None:
        self.spec, self.engine = spec, engine
        self.benchmark = benchmark_named(spec.benchmark)
        template = template_for(spec.template, getattr(engine, "tokenizer", None))
        self.ask = ask_of(spec, self.benchmark, data, template, engine.count_tokens, engine.cut)
        self.items = items_of(self.benchmark, self.ask, spec.limit)
        self.by_key = {item.key: item for item in self.items}
        self.weights = weights(self.items, self.benchmark.setting.macro)
        self.requests = [
            request_of(item, spec, self.benchmark, self.ask, template) for item in self.items
        ]
        self.read_in_part: dict[str, int] = {}

    def rows(self, folder: Path) -> list[Row]:
        """Every item's row, in the items' order; what the folder holds is not done again."""
        if not self.benchmark.setting.reviewers:
            return self._asked(folder / SAMPLES, self._row)
        # No score without the reviewers' word: until then answers stand in a log of their own.
        logs = folder / SCRATCH
        logs.mkdir(exist_ok=True)
        told = self._asked(logs / ANSWERS, lambda _, answer: asdict(answer))
        answers = [Answer(**row) for row in told]
        outputs = {
            answer.item: (self.by_key[answer.item], answer.outputs)
            for answer in answers
            if self.ask.rule == "paper" or not unanswered(answer)
        }
        texts = texts_to_read(self.benchmark, outputs, self.ask)
        given = self.spec.reviewers
        try:
            reviews, self.read_in_part = review(self.benchmark, given, texts, logs / REVIEWS)
        except UserError as error:  # another reviewer is another run, which would ask all again
            hint = f"copy {logs / ANSWERS}, and another reviewer can read it as replay:FILE"
            hint = f"{error.hint}; {hint}" if error.hint else hint
            raise UserError(error.message, file=error.file, hint=hint) from None
        pairs = zip(self.requests, answers, strict=True)
        return [self._row(request, answer, reviews.get(request.key)) for request, answer in pairs]

    def _asked(self, path: Path, row_of: Callable[[Request, Answer], Row]) -> list[Row]:
        """The model's answer to every item, in the items' order, as rows of a log."""
        rows = answered(self.engine, self.requests, path, self.benchmark.label, row_of)
        return [rows[item.key] for item in self.items]

    def scores(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What scores.json holds: the score with its interval, by group and metric, and counts."""
        notes = Counter(row["note"] for row in rows if row["note"])
        finish = Counter(how for row in rows for how in row["finish"])
        return {
            "benchmark": self.benchmark.name,
            "setting": self.benchmark.setting_name,
            "rule": self.ask.rule,
            "format": self.ask.format,
            "metric": self.benchmark.setting.metric,
            "lower_is_better": self.benchmark.setting.lower_is_better,
            **self._reviewers(),
            "macro": self.benchmark.setting.macro,
            **(
                estimates(rows, self.benchmark.setting.macro)
                if self.benchmark.setting.scored
                else written(rows)
            ),
            "finish": dict(sorted(finish.items())),
            "no_answer": notes[NO_ANSWER],
            "notes": dict(sorted(notes.items())),
            "dropped_shots": sum(item.meta.get("dropped_shots", 0) > 0 for item in self.items),
            "too_long": sum(
                TOO_LONG in row["finish"] or "too_long" in self.by_key[row["item"]].meta
                for row in rows
            ),
            "prompt_tokens": sum(row["prompt_tokens"] for row in rows),
            "new_tokens": sum(row["new_tokens"] for row in rows),
            "seconds": round(sum(row["seconds"] for row in rows), 3),
        }

    def outputs(self, rows: Sequence[Row]) -> list[dict[str, str]]:
        """What outputs.json holds, where nothing is scored: the answers, for a judge."""
        if any(len(row["outputs"]) > 1 for row in rows):
            note(f"{OUTPUTS} of {self.benchmark.label} holds the first output of each item")
        return alpaca_eval_rows(self.items, rows, str(self.engine.identity["model"]))

    def _reviewers(self) -> dict[str, Any]:
        """Which models read the outputs, and how many outputs they could read in part only."""
        models = reviewer_models(self.benchmark, self.spec.reviewers)
        facts = {
            name: {"model": model, "read_in_part": self.read_in_part[name]}
            for name, model in models.items()
        }
        return {"reviewers": facts} if facts else {}

    def _row(self, request: Request, answer: Answer, reviews: Reviews | None = None) -> Row:
        item = self.by_key[request.key]
        if item.choices:
            item = replace(item, meta=item.meta | {"logprobs": answer.logprobs})
        score = None
        if self.benchmark.setting.scored:
            score = score_answer(self.benchmark, item, answer, self.ask, reviews)
        return Sample(
            item.key,
            item.group,
            request.prompt,
            item.target,
            answer,
            score,
            item.cluster,
            self.weights[item.key],
            reviews or {},
        ).to_row()
