"""Taking a model through a benchmark, so that a killed run goes on where it was."""

from __future__ import annotations

import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from cameleer.chat.own import OWN
from cameleer.chat.template import template_named
from cameleer.core.artifact import SCRATCH, Stage
from cameleer.core.config import Config
from cameleer.core.console import note, progress, warn
from cameleer.core.errors import UserError
from cameleer.core.files import JsonlLog, sha256_file, write_json, write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.engine import CONTEXT, TOO_LONG, Engine, Request, UnansweredError
from cameleer.evals.benchmark import Ask, Benchmark, benchmark_named
from cameleer.evals.extract import NO_ANSWER
from cameleer.evals.protocol import Opens, prompt_of, template_for
from cameleer.evals.review import (
    Reviews,
    find_reviewers,
    review,
    reviewer_models,
    texts_to_read,
)
from cameleer.evals.written import OUTPUTS, alpaca_eval_rows, lengths
from cameleer.results.records import Answer, Format, Item, Rule, Sample, Score
from cameleer.results.stats import mean_interval

SAMPLES, SCORES = "samples.jsonl", "scores.json"
ANSWERS, REVIEWS = "answers.jsonl", "reviews.jsonl"
OUTCOME = ("metric", "value", "low", "high", "n")  # of scores.json, in the manifest too
PROMPT_TOKENS = 2048  # the paper's limit, at which few-shot examples are dropped

Row = dict[str, Any]
_Read = tuple[int, Row, Item, list[str]]
"""A line of recorded answers: its number, itself, the item that it is about, its outputs."""
T = TypeVar("T")


class EvalSpec(Config):
    """One benchmark in one setting, and how to ask it.

    benchmark: `name` or `name:setting`. format: None takes the setting's own. limit: so many items
    of the whole, drawn with seed 42 from every group by its share and asked in the same order, so
    that a few stand for all. samples, temperature, max_new_tokens: None takes the setting's own.
    reviewers: by name, models to take in place of the setting's own. template: of the chat format;
    `own` is the one that the model's tokenizer brings along.
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
    reviewers: dict[str, str] = Field(default_factory=dict)


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
    files = sorted({file for pattern in benchmark.module.NATIVE for file in home.glob(pattern)})
    inputs = {file.relative_to(home).as_posix(): sha256_file(file) for file in files}
    if hasattr(benchmark.module, "inputs"):
        inputs |= benchmark.module.inputs(benchmark.setting_name, home)
    asked = spec.model_dump(exclude={"reviewers"}) | {"benchmark": benchmark.label}
    config: dict[str, Any] = {"spec": asked, "engine": engine_identity}
    # A reviewer is known by its fingerprint, wherever it stands.
    if found := find_reviewers(benchmark, spec.reviewers):
        config["reviewers"] = {name: mark for name, (_, mark) in found.items()}
    return Stage("eval", folder, config, inputs)


def evaluate(
    spec: EvalSpec, make_engine: Callable[[], Engine], data: Path | None, stage: Stage
) -> Path:
    """Ask the model, score, write samples.jsonl and scores.json; returns the stage's folder.

    The engine is made only if there is something left to do. Raises UserError for data that cannot
    be read; whatever the engine raises goes through, and the next call goes on from there.
    """

    def work(folder: Path) -> dict[str, Any]:
        begin = getattr(benchmark_named(spec.benchmark).module, "run", _Run)
        run = begin(spec, make_engine(), data)
        rows = run.rows(folder)
        write_jsonl(folder / SAMPLES, rows)
        scores = run.scores(rows)
        _warn(run.benchmark.label, scores.get("finish", {}))
        write_json(folder / SCORES, scores)
        if not run.benchmark.setting.scored:
            write_json(folder / OUTPUTS, run.outputs(rows))
        return {key: scores[key] for key in OUTCOME if key in scores}

    stage.run(work)
    return stage.folder


def _warn(label: str, finish: dict[str, int]) -> None:
    """Say what the context had no room for."""
    if count := finish.get(TOO_LONG):
        warn(f"{label}: {count} prompts are too long for the model's context, and were not asked")
    if count := finish.get(CONTEXT):
        warn(f"{label}: {count} outputs were cut where the model's context ended")


def prompts(
    label: str,
    data: Path | None,
    rule: Rule = "fixed",
    form: Format | None = None,
    count_tokens: Callable[[str], int] | None = None,
    template: str = "tulu",
    limit: int | None = None,
    cut: Callable[[str, int, Rule], str] | None = None,
    tokenizer: Any = None,
) -> Iterator[dict[str, str]]:
    """The exact strings that a local model would get, as {"item", "prompt"}.

    Without `count_tokens` no few-shot example is dropped, however long the prompt, without `cut`
    no context is shortened. tokenizer: whose template `own` stands for.
    """
    benchmark = benchmark_named(label)
    spec = EvalSpec(benchmark=label, rule=rule, format=form, limit=limit, template=template)
    shown = template_for(template, tokenizer)
    ask = _ask(spec, benchmark, data, shown, count_tokens, cut)
    for item in limited(benchmark.module.items(ask), limit):
        yield {"item": item.key, "prompt": prompt_of(item.text, item.cue, ask.format, shown)}


def grade(
    label: str,
    answers: Path,
    data: Path | None,
    rule: Rule = "fixed",
    reviewers: dict[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Score recorded outputs: {"item", "output"} in, {"item", "extracted", "score"} out.

    An output is a text or a list of texts (samples); "target" in a line takes the place of the
    data's, "logprobs" are those of its choices, "reviews" what reviewers said. Outputs without
    reviews are read by the setting's reviewers; all are if `reviewers` names others. Raises
    UserError with file and line for a line that cannot be graded.
    """
    benchmark = benchmark_named(label)
    setting = benchmark.setting
    if not setting.scored:
        raise UserError(f"{label} has no score: its answers are for a judge or people to compare")
    ask = Ask(benchmark.folder(data), benchmark.setting_name, rule, setting.format, grading=True)
    known: dict[str, Item] = {item.key: item for item in benchmark.module.items(ask)}
    read = [(line, row, *_recorded(row, known, answers, line)) for line, row in read_jsonl(answers)]
    said = _recorded_reviews(benchmark, reviewers or {}, ask, answers, read)
    for line, row, item, outputs in read:
        try:
            score = _score(benchmark, item, outputs, ask, said.get(line))
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
        template = template_for(spec.template, getattr(engine, "tokenizer", None))
        self.ask = _ask(spec, self.benchmark, data, template, engine.count_tokens, engine.cut)
        self.items = limited(self.benchmark.module.items(self.ask), spec.limit)
        if not self.items:
            raise UserError("holds no items", file=self.ask.data)
        self.by_key = {item.key: item for item in self.items}
        self.weights = weights(self.items, self.benchmark.setting.macro)
        self.requests = [self._request(item, template) for item in self.items]
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
        outputs = {answer.item: (self.by_key[answer.item], answer.outputs) for answer in answers}
        texts = texts_to_read(self.benchmark, outputs, self.ask)
        given = self.spec.reviewers
        try:
            reviews, self.read_in_part = review(self.benchmark, given, texts, logs / REVIEWS)
        except UserError as error:  # another reviewer is another run, which would ask all again
            hint = f"copy {logs / ANSWERS}, and another reviewer can read it as replay:FILE"
            hint = f"{error.hint}; {hint}" if error.hint else hint
            raise UserError(error.message, file=error.file, hint=hint) from None
        pairs = zip(self.requests, answers, strict=True)
        return [self._row(request, answer, reviews[request.key]) for request, answer in pairs]

    def _asked(self, path: Path, row_of: Callable[[Request, Answer], Row]) -> list[Row]:
        """The model's answer to every item, as rows of a log; what is logged is not asked again."""
        log = JsonlLog(path)
        status: Callable[[], str] = getattr(self.engine, "status", str)
        try:
            rows = {row["item"]: row for _, row in read_jsonl(path)}
            with progress(self.benchmark.label, len(self.items), len(rows)) as ticker:
                for batch in self.engine.batches(self.requests):
                    missing = [request for request in batch if request.key not in rows]
                    if not missing:
                        continue
                    # Answered whole, so that every batch is made up as in an unbroken run.
                    try:
                        answers = zip(batch, self.engine.answer(batch), strict=True)
                    except UnansweredError as error:
                        warn(str(error))
                        continue
                    new = [row_of(*pair) for pair in answers if pair[0] in missing]
                    log.append(new)
                    rows |= {row["item"]: row for row in new}
                    ticker.advance(len(new), status())
        finally:
            log.close()
        if unanswered := [item.key for item in self.items if item.key not in rows]:
            shown = ", ".join(unanswered[:3]) + (", …" if len(unanswered) > 3 else "")
            message = f"{len(unanswered)} of {len(self.items)} items got no answer ({shown})"
            hint = "the others are kept; the same command asks for these again"
            raise UserError(f"{self.benchmark.label}: {message}", hint=hint)
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
                else _written(rows)
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

    def _request(self, item: Item, template: Opens) -> Request:
        spec, setting = self.spec, self.benchmark.setting
        return Request(
            key=item.key,
            prompt=prompt_of(item.text, item.cue, self.ask.format, template),
            choices=item.choices or setting.choices,
            max_new_tokens=_or(spec.max_new_tokens, setting.max_new_tokens),
            stop=setting.stop.get(self.ask.format, ())
            + (setting.fixed_stop if self.ask.rule == "fixed" else ()),
            temperature=_or(spec.temperature, setting.temperature),
            top_p=setting.top_p,
            samples=_or(spec.samples, setting.samples),
            seed=spec.seed,
            scoring=setting.scoring,
            clip=setting.clip,
            text=item.text,
            cue=item.cue,
            format=self.ask.format,
        )

    def _row(self, request: Request, answer: Answer, reviews: Reviews | None = None) -> Row:
        item = self.by_key[request.key]
        if item.choices:
            item = replace(item, meta=item.meta | {"logprobs": answer.logprobs})
        score = None
        if self.benchmark.setting.scored:
            score = (
                # It was not asked, so there is nothing to grade; said, and counted as wrong.
                Score(0.0, [None] * len(answer.outputs), note=TOO_LONG)
                if TOO_LONG in answer.finish
                else _score(self.benchmark, item, answer.outputs, self.ask, reviews)
            )
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


def _score(
    benchmark: Benchmark, item: Item, outputs: list[str], ask: Ask, reviews: Reviews | None
) -> Score:
    """The benchmark's grade, which takes reviews where there are reviewers."""
    more = (reviews,) if benchmark.setting.reviewers else ()
    score: Score = benchmark.module.grade(item, outputs, ask, *more)
    return score


def _ask(
    spec: EvalSpec,
    benchmark: Benchmark,
    data: Path | None,
    template: Opens,
    count_tokens: Callable[[str], int] | None,
    cut: Callable[[str, int, Rule], str] | None = None,
) -> Ask:
    """How the benchmark is asked; a prompt of fewer bytes than the limit is not even counted."""
    form = spec.format or benchmark.setting.format

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
    meta = item.meta if item else {}
    if row.get("logprobs"):
        meta = meta | {"logprobs": row["logprobs"]}
    return Item(key, "", "", "", target, meta, item.choices if item else ()), outputs


def _recorded_reviews(
    benchmark: Benchmark, given: dict[str, str], ask: Ask, file: Path, read: Sequence[_Read]
) -> dict[int, Reviews]:
    """What reviewers say of the outputs of each line: as recorded there, else they are asked."""
    found: dict[int, Reviews] = {}
    unread: dict[str, tuple[Item, list[str]]] = {}
    models = reviewer_models(benchmark, given)
    for line, row, item, outputs in read if models else ():
        reviews = row.get("reviews")
        if reviews is None or given:
            unread[str(line)] = (item, outputs)
        elif not _fits(reviews, models, len(outputs)):
            wanted = f"is not a list of {len(outputs)} numbers in 0..1 for each of"
            raise UserError(f"{wanted} {', '.join(models)}", file=file, line=line, field="reviews")
        else:
            found[line] = reviews
    if unread:
        with tempfile.TemporaryDirectory() as folder:
            texts = texts_to_read(benchmark, unread, ask)
            said, _ = review(benchmark, given, texts, Path(folder) / REVIEWS)
        found |= {int(line): reviews for line, reviews in said.items()}
    return found


def _fits(reviews: Any, names: Iterable[str], outputs: int) -> bool:
    """Whether recorded reviews hold a probability for every output, of every reviewer."""
    lists = [reviews.get(name) if isinstance(reviews, dict) else None for name in names]
    return all(
        isinstance(values, list)
        and len(values) == outputs
        and all(isinstance(value, int | float) and 0 <= value <= 1 for value in values)
        for values in lists
    )


def estimates(rows: Sequence[Row], macro: bool) -> dict[str, Any]:
    """The score, the scores of groups and further metrics, each with its interval.

    macro: the groups are a fixed list, and the score is the mean over them.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    metrics: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
        for name in row["values"]:
            metrics[name].append(row)

    def estimate(of: Sequence[Row], metric: str = "") -> dict[str, Any]:
        found = mean_interval(
            [row["values"][metric] if metric else row["score"] for row in of],
            weights=[row.get("weight", 1.0) for row in of],
            clusters=[row.get("cluster", "") for row in of],
            strata=[row["group"] for row in of] if macro else None,
        )
        return asdict(found)

    return {
        **estimate(rows),
        "groups": {group: estimate(of) for group, of in groups.items() if group},
        "metrics": {name: estimate(of, name) for name, of in metrics.items()},
    }


def _written(rows: Sequence[Row]) -> dict[str, Any]:
    """What is known of answers that are not scored: how many there are, and how long."""
    groups = Counter(row["group"] for row in rows)
    return {"n": len(rows), "groups": {g: {"n": n} for g, n in groups.items()}} | {
        "lengths": lengths(rows)
    }


def _or(given: T | None, default: T) -> T:
    return default if given is None else given
