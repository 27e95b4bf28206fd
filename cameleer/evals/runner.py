"""Taking a model through a benchmark, so that a killed run goes on where it was."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from cameleer.chat.template import Template, template_named
from cameleer.core.artifact import Stage
from cameleer.core.config import Config
from cameleer.core.console import progress
from cameleer.core.errors import UserError
from cameleer.core.files import JsonlLog, sha256_file, write_json, write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.engine import Engine, Request
from cameleer.evals.benchmark import Ask, Benchmark, benchmark_named
from cameleer.evals.extract import NO_ANSWER
from cameleer.evals.protocol import prompt_of
from cameleer.results.records import Answer, Format, Item, Rule, Sample
from cameleer.results.stats import mean_interval

SAMPLES, SCORES = "samples.jsonl", "scores.json"
PROMPT_TOKENS = 2048  # the paper's limit, at which few-shot examples are dropped

Row = dict[str, Any]
T = TypeVar("T")


class EvalSpec(Config):
    """One benchmark in one setting, and how to ask it.

    benchmark: `name` or `name:setting`. format: None takes the setting's own. limit: so many items
    of the whole, drawn with seed 42 from every group by its share and asked in the same order, so
    that a few stand for all. samples, temperature, max_new_tokens: None takes the setting's own.
    """

    benchmark: str
    rule: Rule = "fixed"
    format: Format | None = None
    limit: int | None = Field(default=None, ge=1)
    template: str = "tulu"
    samples: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    max_new_tokens: int | None = Field(default=None, ge=1)
    seed: int = 42


def eval_stage(
    spec: EvalSpec, engine_identity: dict[str, Any], data: Path | None, folder: Path
) -> Stage:
    """The stage whose result is this benchmark's samples and scores; hashes the native files.

    data: what the user gave as data folder, or None for the default; folder: where the result goes.
    Raises UserError if benchmark, template or data are not there.
    """
    benchmark = benchmark_named(spec.benchmark)
    template_named(spec.template)
    home = benchmark.folder(data)
    files = sorted({file for pattern in benchmark.module.NATIVE for file in home.glob(pattern)})
    inputs = {file.relative_to(home).as_posix(): sha256_file(file) for file in files}
    asked = spec.model_dump() | {"benchmark": benchmark.label}
    return Stage("eval", folder, {"spec": asked, "engine": engine_identity}, inputs)


def evaluate(
    spec: EvalSpec, make_engine: Callable[[], Engine], data: Path | None, stage: Stage
) -> Path:
    """Ask the model, score, write samples.jsonl and scores.json; returns the stage's folder.

    The engine is made only if there is something left to do. Raises UserError for data that cannot
    be read; whatever the engine raises goes through, and the next call goes on from there.
    """

    def work(folder: Path) -> dict[str, Any]:
        run = _Run(spec, make_engine(), data)
        rows = run.rows(folder / SAMPLES)
        write_jsonl(folder / SAMPLES, rows)
        scores = run.scores(rows)
        write_json(folder / SCORES, scores)
        return {key: scores[key] for key in ("metric", "value", "low", "high", "n")}

    stage.run(work)
    return stage.folder


def prompts(
    label: str,
    data: Path | None,
    rule: Rule = "fixed",
    form: Format | None = None,
    count_tokens: Callable[[str], int] | None = None,
    template: str = "tulu",
    limit: int | None = None,
    cut: Callable[[str, int, Rule], str] | None = None,
) -> Iterator[dict[str, str]]:
    """The exact strings that a local model would get, as {"item", "prompt"}.

    Without `count_tokens` no few-shot example is dropped, however long the prompt, without `cut`
    no context is shortened.
    """
    benchmark = benchmark_named(label)
    spec = EvalSpec(benchmark=label, rule=rule, format=form, limit=limit, template=template)
    ask, shown = _ask(spec, benchmark, data, count_tokens, cut), template_named(template)
    for item in limited(benchmark.module.items(ask), limit):
        yield {"item": item.key, "prompt": prompt_of(item.text, item.cue, ask.format, shown)}


def grade(
    label: str, answers: Path, data: Path | None, rule: Rule = "fixed"
) -> Iterator[dict[str, Any]]:
    """Score recorded outputs: {"item", "output"} in, {"item", "extracted", "score"} out.

    An output is a text or a list of texts (samples); "target" in a line takes the place of the
    data's. Raises UserError with file and line for a line that cannot be graded.
    """
    benchmark = benchmark_named(label)
    setting = benchmark.setting
    ask = Ask(benchmark.folder(data), benchmark.setting_name, rule, setting.format, grading=True)
    known: dict[str, Item] = {item.key: item for item in benchmark.module.items(ask)}
    for line, row in read_jsonl(answers):
        item, outputs = _recorded(row, known, answers, line)
        try:
            score = benchmark.module.grade(item, outputs, ask)
        except UserError as error:
            raise UserError(error.message, file=answers, line=line, hint=error.hint) from None
        one = isinstance(row["output"], str)
        extracted = score.extracted[0] if one else score.extracted
        yield {"item": item.key, "extracted": extracted, "score": score.value}


def limited(items: Sequence[Item], limit: int | None) -> list[Item]:
    """`limit` items drawn with seed 42, each group by its share, in the order given.

    Shares are rounded by largest remainder, so exactly `limit` items come, or all if there are
    fewer. The same items come whatever the model, so that runs with one limit can be paired.
    """
    if limit is None or limit >= len(items):
        return list(items)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[item.group].append(index)
    shares = {group: limit * len(rows) / len(items) for group, rows in groups.items()}
    counts = {group: int(share) for group, share in shares.items()}
    by_remainder = sorted(shares, key=lambda group: counts[group] - shares[group])
    for group in by_remainder[: limit - sum(counts.values())]:
        counts[group] += 1
    draw = random.Random(42)
    chosen = [row for group, rows in groups.items() for row in draw.sample(rows, counts[group])]
    return [items[index] for index in sorted(chosen)]


def weights(items: Sequence[Item], macro: bool) -> dict[str, float]:
    """The weight of each item in the benchmark's mean, 1 on average.

    macro: every group counts the same, however many items it has.
    """
    if not macro:
        return {item.key: 1.0 for item in items}
    sizes = Counter(item.group for item in items)
    return {item.key: len(items) / (len(sizes) * sizes[item.group]) for item in items}


class _Run:
    """One benchmark with one engine: items, requests, rows, scores."""

    def __init__(self, spec: EvalSpec, engine: Engine, data: Path | None) -> None:
        self.spec, self.engine = spec, engine
        self.benchmark = benchmark_named(spec.benchmark)
        self.ask = _ask(spec, self.benchmark, data, engine.count_tokens, engine.cut)
        self.items = limited(self.benchmark.module.items(self.ask), spec.limit)
        if not self.items:
            raise UserError("holds no items", file=self.ask.data)
        self.by_key = {item.key: item for item in self.items}
        self.weights = weights(self.items, self.benchmark.setting.macro)
        template = template_named(spec.template)
        self.requests = [self._request(item, template) for item in self.items]

    def rows(self, path: Path) -> list[Row]:
        """Every item's row, in the items' order; those already in the file are not asked again."""
        log = JsonlLog(path)
        try:
            rows = {row["item"]: row for _, row in read_jsonl(path)}
            with progress(self.benchmark.label, len(self.items), len(rows)) as ticker:
                for batch in self.engine.batches(self.requests):
                    missing = [request for request in batch if request.key not in rows]
                    if not missing:
                        continue
                    # Answered whole, so that every batch is made up as in an unbroken run.
                    answers = zip(batch, self.engine.answer(batch), strict=True)
                    new = [self._row(*pair) for pair in answers if pair[0] in missing]
                    log.append(new)
                    rows |= {row["item"]: row for row in new}
                    ticker.advance(len(new))
        finally:
            log.close()
        return [rows[item.key] for item in self.items]

    def scores(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What scores.json holds: the score with its interval, by group and metric, and counts."""
        groups: dict[str, list[float]] = defaultdict(list)
        metrics: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            groups[row["group"]].append(row["score"])
            for name, value in row["values"].items():
                metrics[name].append(value)
        notes = Counter(row["note"] for row in rows if row["note"])
        finish = Counter(how for row in rows for how in row["finish"])
        return {
            "benchmark": self.benchmark.name,
            "setting": self.benchmark.setting_name,
            "rule": self.ask.rule,
            "format": self.ask.format,
            "metric": self.benchmark.setting.metric,
            **_estimate([row["score"] for row in rows]),
            "groups": {group: _estimate(values) for group, values in groups.items() if group},
            "metrics": {name: _estimate(values) for name, values in metrics.items()},
            "finish": dict(sorted(finish.items())),
            "no_answer": notes[NO_ANSWER],
            "notes": dict(sorted(notes.items())),
            "dropped_shots": sum(item.meta.get("dropped_shots", 0) > 0 for item in self.items),
            "too_long": sum("too_long" in item.meta for item in self.items),
            "prompt_tokens": sum(row["prompt_tokens"] for row in rows),
            "new_tokens": sum(row["new_tokens"] for row in rows),
            "seconds": round(sum(row["seconds"] for row in rows), 3),
        }

    def _request(self, item: Item, template: Template) -> Request:
        spec, setting = self.spec, self.benchmark.setting
        return Request(
            key=item.key,
            prompt=prompt_of(item.text, item.cue, self.ask.format, template),
            choices=item.choices or setting.choices,
            max_new_tokens=_or(spec.max_new_tokens, setting.max_new_tokens),
            stop=setting.stop.get(self.ask.format, ()),
            temperature=_or(spec.temperature, setting.temperature),
            top_p=setting.top_p,
            samples=_or(spec.samples, setting.samples),
            seed=spec.seed,
            scoring=setting.scoring,
            text=item.text,
            cue=item.cue,
            format=self.ask.format,
        )

    def _row(self, request: Request, answer: Answer) -> Row:
        item = self.by_key[request.key]
        if item.choices:
            item = replace(item, meta=item.meta | {"logprobs": answer.logprobs})
        score = self.benchmark.module.grade(item, answer.outputs, self.ask)
        return Sample(
            item.key,
            item.group,
            request.prompt,
            item.target,
            answer,
            score,
            item.cluster,
            self.weights[item.key],
        ).to_row()


def _ask(
    spec: EvalSpec,
    benchmark: Benchmark,
    data: Path | None,
    count_tokens: Callable[[str], int] | None,
    cut: Callable[[str, int, Rule], str] | None = None,
) -> Ask:
    """How the benchmark is asked; a prompt of fewer bytes than the limit is not even counted."""
    form = spec.format or benchmark.setting.format
    template = template_named(spec.template)

    def fits(text: str, cue: str) -> bool:
        if count_tokens is None:
            return True
        prompt = prompt_of(text, cue, form, template)
        # No tokenizer makes more tokens than bytes, but for one that may stand in front.
        return len(prompt.encode()) < PROMPT_TOKENS or count_tokens(prompt) <= PROMPT_TOKENS

    def shortened(text: str, tokens: int) -> str:
        return cut(text, tokens, spec.rule) if cut and len(text.encode()) >= tokens else text

    return Ask(benchmark.folder(data), benchmark.setting_name, spec.rule, form, fits, shortened)


def _recorded(
    row: dict[str, Any], known: dict[str, Item], file: Path, line: int
) -> tuple[Item, list[str]]:
    """The item that a line of recorded answers is about, and its outputs."""
    key, output = row.get("item"), row.get("output")
    if not isinstance(key, str):
        raise UserError("is missing or not text", file=file, line=line, field="item")
    outputs = [output] if isinstance(output, str) else output
    if not isinstance(outputs, list) or not outputs or any(not isinstance(o, str) for o in outputs):
        wanted = "is not a text or a list of texts"
        raise UserError(wanted, file=file, line=line, field="output")
    item = known.get(key)
    if item is None and "target" not in row:
        hint = "give the --data that it is from, or a target in the line"
        raise UserError(f"unknown item '{key}'", file=file, line=line, field="item", hint=hint)
    target = row.get("target", item.target if item else None)
    return Item(key, "", "", "", target, item.meta if item else {}), outputs


def _estimate(values: Sequence[float]) -> dict[str, Any]:
    return asdict(mean_interval(values))


def _or(given: T | None, default: T) -> T:
    return default if given is None else given
