"""Having a judge compare two models' answers: asked once, resumed, counted, and written down."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from cameleer.chat.own import OWN
from cameleer.core.artifact import SCRATCH, Stage
from cameleer.core.config import Config
from cameleer.core.console import note, warn
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_json
from cameleer.core.folders import locate
from cameleer.core.text import whole
from cameleer.engines.engine import Engine
from cameleer.engines.registry import Chosen
from cameleer.engines.server import Limits
from cameleer.evals.answering import answered
from cameleer.evals.asking import limited
from cameleer.evals.benchmarks import alpaca_eval
from cameleer.evals.judge.outcome import SAME_TEXT, annotation_rows, rates
from cameleer.evals.judge.outputs import (
    Output,
    Outputs,
    Pair,
    pair_outputs,
    read_annotations,
    read_outputs,
)
from cameleer.evals.judge.plan import Plan, planned
from cameleer.evals.judge.prompting import Question, questions, same_text
from cameleer.evals.judge.spec import Pairwise
from cameleer.evals.judge.verdict import read_verdict
from cameleer.evals.protocol import Opens, template_for
from cameleer.results.judgements import FILE, TIE, write_judgements
from cameleer.results.records import Answer, Item, Judgement

ANNOTATIONS, RESULT, REPLIES = "annotations.json", "result.json", "answers.jsonl"


class JudgeSpec(Config):
    """How a judge is asked, whichever it is.

    both_orders: every pair is shown in both orders. limit: so many pairs, drawn as items of a
    benchmark are. seed: of the orders, and of replies that are sampled. template: how messages
    become a local model's prompt; None is its own, which it must have.
    """

    both_orders: bool = False
    limit: int | None = Field(default=None, ge=1)
    seed: int = 42
    template: str | None = None


def answers_of(given: str, data: Path | None = None, *, second: bool = False) -> Outputs:
    """The answers that a path or the name of a published model stands for.

    given: a file or folder (see `read_outputs`), a model of AlpacaEval's results in the data
    folder, such as `text_davinci_003`, or an annotations.json, which holds the answers of two: the
    reference's first, the model's `second`. Raises UserError for anything else.
    """
    path = Path(given).expanduser()
    if path.name == ANNOTATIONS:
        return _annotated(path, second)
    if path.exists() or "/" in given or path.suffix == ".json":
        return read_outputs(path)
    try:
        results = locate(data, "eval", "alpaca_eval", alpaca_eval.NATIVE) / "results"
    except UserError:
        return read_outputs(path)
    if not (results / given).is_dir():
        known = ", ".join(sorted(one.name for one in results.iterdir()))
        raise UserError(
            f"'{given}' is neither a file nor a published model", hint=f"known: {known}"
        )
    return read_outputs(results / given)


def _annotated(path: Path, second: bool) -> Outputs:
    """One side of an annotations.json."""
    found = read_annotations(path)
    sets = [str(record.get("dataset") or "") for record in read_json(path)]
    rows = []
    for row, dataset in zip(found.rows, sets, strict=True):
        text = row.b if second else row.a
        if text is None:
            raise UserError(f"holds no answer to {row.item}", file=path)
        rows.append(Output(row.item, row.instruction, text, dataset))
    return Outputs(found.b if second else found.a, tuple(rows), path)


@dataclass(frozen=True)
class Judging:
    """A judge, with the model that answers for it, over two models' answers; `a` is the reference.

    who: the judge's name in records (see `who`).
    """

    judge: Pairwise
    who: str
    chosen: Chosen
    a: Outputs
    b: Outputs
    spec: JudgeSpec = field(default_factory=JudgeSpec)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What, besides a request, decides a reply."""
        return self.chosen.identity()

    @cached_property
    def pairs(self) -> list[Pair]:
        """What is compared; answers that stand alone are told of.

        Raises UserError where both models have one name: judgements tell models by it.
        """
        if self.a.generator == self.b.generator:
            about = f"both files are answers of '{self.a.generator}'"
            raise UserError(about, file=self.b.path, hint="name one of them otherwise (generator)")
        pairing = pair_outputs(self.a, self.b)
        if said := pairing.alone(self.a.generator, self.b.generator):
            warn(said)
        items = [Item(pair.item, pair.dataset, "", "", None) for pair in pairing.pairs]
        kept = {item.key for item in limited(items, self.spec.limit)}
        return [_whole(pair) for pair in pairing.pairs if pair.item in kept]

    def stage(self, folder: Path) -> Stage:
        """The stage whose result is these judgements."""
        judge = {"version": self.judge.version, "fingerprint": self.judge.fingerprint}
        config = {
            "judge": {"who": self.who, **judge},
            "engine": self.identity,
            "spec": self.spec.model_dump(),
        }
        texts = [asdict(pair) for pair in self.pairs]
        facts = {"a": self.a.generator, "b": self.b.generator, "pairs": texts}
        content = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return Stage("judge", folder, config, {"pairs": content})

    def questions(self, template: Opens | None) -> list[Question]:
        """What is asked, in order."""
        both, seed = self.spec.both_orders, self.spec.seed
        return questions(self.judge, self.pairs, template, both_orders=both, seed=seed)

    def dollars(self, answer: Answer) -> float | None:
        """What an answer cost, where the engine's prices are given."""
        options = self.chosen.options
        if not (isinstance(options, Limits) and (options.price_in or options.price_out)):
            return None
        # A label is one token, which the answer does not count as output.
        return options.dollars(answer.prompt_tokens, answer.new_tokens or 1)


def _whole(pair: Pair) -> Pair:
    """The pair with U+FFFD for halves of characters, which neither a file nor a server takes."""
    return replace(pair, instruction=whole(pair.instruction), a=whole(pair.a), b=whole(pair.b))


def who(name: str, judge: Pairwise, model: str) -> str:
    """A judge in records: its name, and the model's where it is not the judge's own."""
    return name if model == judge.model else f"{name}/{short(model)}"


def short(model: str) -> str:
    """MODEL as people call it: without engine, address and folders."""
    bare = model.partition("@http")[0].rstrip("/")
    return bare.rpartition("/")[2].rpartition(":")[2]


def plan(judging: Judging, stage: Stage, engine: Engine | None = None) -> Plan:
    """What is to be asked and what it may cost; nothing is sent.

    engine: where it is open already. Of others only servers are opened, which costs nothing.
    """
    options = judging.chosen.options
    if engine is None and isinstance(options, Limits):
        engine = judging.chosen.open(judging.identity)
    template = _template(judging, engine) if engine else None
    asked = [one.request for one in judging.questions(template)]
    log = stage.partial / SCRATCH / REPLIES
    there = {row["item"]: Answer(**row) for row in _logged(log)} if log.is_file() else {}
    if kept := getattr(engine, "kept", None):
        there |= kept([request for request in asked if request.key not in there])
    same = sum(map(same_text, judging.pairs))
    count = engine.count_tokens if engine else None
    limits = options if isinstance(options, Limits) else None
    return planned(len(judging.pairs), same, asked, there, count, limits)


def _logged(log: Path) -> list[dict[str, Any]]:
    """The rows of an unfinished log; a torn last line is none."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def judge_pairs(judging: Judging, stage: Stage) -> Path:
    """Ask about every pair, write judgements, annotations and result; returns the stage's folder.

    The engine is opened only if something is left to be asked. What it raises goes through, and the
    next call goes on from there.
    """
    _require_none_lost(judging, stage)

    def work(folder: Path) -> dict[str, Any]:
        engine = judging.chosen.open(judging.identity)
        _tell(plan(judging, stage, engine))
        asked = judging.questions(_template(judging, engine))
        logs = folder / SCRATCH
        logs.mkdir(exist_ok=True)
        label = f"{judging.who}: {judging.b.generator} against {judging.a.generator}"
        requests = [one.request for one in asked]
        rows = answered(engine, requests, logs / REPLIES, label, lambda _, one: asdict(one))
        answers = [Answer(**rows[one.request.key]) for one in asked]
        judgements = _judgements(judging, asked, answers)
        write_judgements(folder / FILE, judgements)
        write_json(folder / ANNOTATIONS, annotation_rows(judgements, judging.pairs))
        result = _result(judging, judgements, answers)
        write_json(folder / RESULT, result)
        return {name: result[name] for name in ("win_rate", "n", "no_verdict")}

    stage.run(work)
    return stage.folder


def read_result(folder: Path) -> dict[str, Any]:
    """What result.json holds of a finished judging."""
    found: dict[str, Any] = read_json(folder / RESULT)
    return found


def _template(judging: Judging, engine: Engine) -> Opens | None:
    """How messages become a prompt; None where the server has the template, or nothing is asked."""
    tokenizer, named = getattr(engine, "tokenizer", None), judging.spec.template
    if named:
        return template_for(named, tokenizer)
    if getattr(judging.chosen.options, "api", None) == "completions":
        hint = "give --template, or leave the API to the server (api=chat)"
        raise UserError("completions have no chat template of their own", hint=hint)
    local = tokenizer is not None and not isinstance(judging.chosen.options, Limits)
    return template_for(OWN, tokenizer) if local else None


def _tell(told: Plan) -> None:
    note(told.told())
    if said := told.short_of():
        warn(said)


def _require_none_lost(judging: Judging, stage: Stage) -> None:
    """UserError if this run would clear away replies of another one that is unfinished.

    Those of servers are kept in the cache besides.
    """
    if stage.done() or stage.begun_by_another() is None:
        return
    log = stage.partial / SCRATCH / REPLIES
    if log.is_file() and not isinstance(judging.chosen.options, Limits) and _logged(log):
        raise UserError(
            f"holds {len(_logged(log))} replies of an unfinished judging with other settings",
            file=stage.partial,
            hint="give those again to go on with it; else give another -o, or delete it",
        )


def _judgements(
    judging: Judging, asked: Sequence[Question], answers: Sequence[Answer]
) -> list[Judgement]:
    """A judgement for each time that a pair was shown, and for each pair of the same text."""
    by_item: dict[str, list[tuple[Question, Answer]]] = defaultdict(list)
    for question, answer in zip(asked, answers, strict=True):
        by_item[question.pair.item].append((question, answer))
    found = []
    for pair in judging.pairs:
        names = (pair.item, judging.a.generator, judging.b.generator)
        if same_text(pair):
            found.append(Judgement(*names, TIE, judging.who, "judge", note=SAME_TEXT))
        for question, answer in by_item[pair.item]:
            verdict = read_verdict(judging.judge.parser, answer)
            found.append(
                Judgement(
                    *names,
                    verdict.preference(question.b_first),
                    judging.who,
                    "judge",
                    b_first=question.b_first,
                    said=answer.outputs[0] if answer.outputs else "",
                    note=verdict.note,
                    seconds=answer.seconds,
                    price=judging.dollars(answer),
                )
            )
    return found


def _result(
    judging: Judging, judgements: Sequence[Judgement], answers: Sequence[Answer]
) -> dict[str, Any]:
    """What result.json holds."""
    prices = [one.price for one in judgements if one.price is not None]
    return {
        "judge": judging.who,
        "version": judging.judge.version,
        "fingerprint": judging.judge.fingerprint,
        "a": judging.a.generator,
        "b": judging.b.generator,
        **rates(judgements, judging.pairs),
        "same_text": sum(map(same_text, judging.pairs)),
        "requests": len(answers),
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "new_tokens": sum(answer.new_tokens for answer in answers),
        "dollars": round(sum(prices), 6) if prices else None,
        "seconds": round(sum(answer.seconds for answer in answers), 3),
    }
