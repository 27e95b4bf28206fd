"""Any task of lm-eval through our engines: their prompts and their scoring, our log and intervals.

lm-eval builds a task's requests and is handed a model that asks ours; filters, metrics and the
means over documents and groups are theirs, so that numbers are, too. What is answered is logged
request by request, and not asked again. (lm-eval 0.4: Gao et al., doi:10.5281/zenodo.10256836.)
"""

from __future__ import annotations

import importlib
import math
import os
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameleer.chat.conversation import Message
from cameleer.chat.template import Template
from cameleer.core.console import progress
from cameleer.core.errors import UserError, unknown
from cameleer.core.files import JsonlLog, sha256_file
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.engine import Engine, Request
from cameleer.evals.benchmark import Benchmark, benchmark_named
from cameleer.evals.protocol import template_for
from cameleer.results.records import Answer, Format, Item, Sample, Score
from cameleer.results.stats import mean_interval

if TYPE_CHECKING:
    from cameleer.evals.asking import EvalSpec

ANSWERS = "answers.jsonl"  # the log: one line for each request of lm-eval's
FEWSHOT_SEED = 1234  # lm-eval's own default
NEW_TOKENS = 256  # lm-eval's own, where a task says nothing
RESAMPLES, SEED = 200, 42  # bootstrap of metrics that are no means of numbers in 0..1
KNOWN = {"until", "do_sample", "max_gen_toks", "temperature", "top_p"}
NEUTRAL: dict[str, Any] = {"num_beams": 1, "top_k": 0, "repetition_penalty": 1.0}

Row = dict[str, Any]
Pair = tuple[float, bool]
"""lm-eval's answer to a likelihood request: log-probability, and whether greedy decoding says so"""


def package(part: str = "") -> Any:
    """A module of lm-eval; UserError if it is not installed."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # its bars; ours tell how far it is
    try:
        return importlib.import_module(f"lm_eval{part}")
    except ImportError as error:
        hint = "pip install 'cameleer[lm-eval]'"
        raise UserError(f"lm-eval cannot be imported: {error}", hint=hint) from None


def tasks_folder(data: Path | None) -> Path:
    """Where tasks are looked for besides lm-eval's own: what the user gave, else nowhere else."""
    return data or Path(package().__file__).parent / "tasks"


@cache
def _manager(folder: Path) -> Any:
    own = package().__file__ and folder == tasks_folder(None)
    return package(".tasks").TaskManager(include_path=None if own else str(folder))


def task_inputs(task: str, folder: Path) -> dict[str, str]:
    """What decides a task's questions: lm-eval's version, or the files beside a task of one's own.

    Raises UserError for a name that lm-eval does not know.
    """
    index = _manager(folder).task_index
    if task not in index:
        raise unknown("task of lm-eval", task, index, "lm-eval ls tasks")
    inputs = {"lm_eval": importlib.import_module("importlib.metadata").version("lm_eval")}
    file = index[task].yaml_path
    if file is not None and Path(file).is_relative_to(folder) and folder != tasks_folder(None):
        beside = sorted(one for one in Path(file).parent.iterdir() if one.is_file())
        inputs |= {one.name: sha256_file(one) for one in beside}
    return inputs


class LmEvalRun:
    """One task or group of lm-eval with one engine: rows and scores, as every benchmark's run."""

    def __init__(self, spec: EvalSpec, engine: Engine, data: Path | None) -> None:
        self.spec, self.engine = spec, engine
        self.benchmark: Benchmark = benchmark_named(spec.benchmark)
        self.name = self.benchmark.setting_name
        if spec.samples is not None:
            raise UserError("tasks of lm-eval say themselves how many outputs they want")
        self.form: Format = spec.format or "plain"
        self.loaded = _load(self.name, self.benchmark.folder(data))
        self.tasks: dict[str, Any] = self.loaded["tasks"]
        for name, task in self.tasks.items():
            if getattr(task, "UNSAFE_CODE", False):
                raise UserError(f"{name} would run code of the model's outside any sandbox")
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        self.documents = self._documents()
        self.results: dict[str, Any] = {}

    def _documents(self) -> dict[str, list[int]]:
        """Which documents are asked of each task; all, or a sample by each task's share."""
        from cameleer.evals.asking import limited

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
        asked = _Asked(self, folder / ANSWERS)
        with redirect_stdout(sys.stderr):
            self.results = package(".evaluator").evaluate(
                lm=asked,
                task_dict=self.loaded,
                samples=None if self.spec.limit is None else self.documents,
                bootstrap_iters=0,
                apply_chat_template=self.form == "chat",
            )
        return [
            self._row(name, documents, asked)
            for name in self.tasks
            for documents in _by_document(self.results["samples"][name])
        ]

    def _row(self, task: str, told: list[Row], asked: _Asked) -> Row:
        """One document's row; `told`: what lm-eval logged of it, once for every filter."""
        first = told[0]
        values: dict[str, float] = {}
        for one in told:
            for metric in one["metrics"]:
                number = _number(one[metric])
                if number is not None:
                    values[f"{metric},{one['filter']}"] = number
        answer = asked.answer_to(task, first)
        metric = self._metric(task)
        value = values.get(metric)
        score = None
        if value is not None and 0 <= value <= 1:
            score = Score(value, _plain(first["filtered_resps"]), values)
        key = f"lm_eval/{task}/{first['doc_id']}"
        group = task if len(self.tasks) > 1 else ""
        target = first["target"]
        row = Sample(key, group, first["arguments"][0][0], target, answer, score).to_row()
        return row | {"item": key, "values": values}

    def _metric(self, task: str) -> str:
        """What a task's score is: the group's first metric where it has it, else its own first."""
        own = _metrics(self.results["results"][task])
        group = _metrics(self.results["results"].get(self.name, {}))
        return next((key for key in group if key in own), own[0])

    def scores(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What scores.json holds: lm-eval's numbers, with intervals of ours."""
        told = self.results["results"]
        tasks = {name: self._estimates(name) for name in self.tasks}
        metric = self._metric(next(iter(self.tasks)))
        whole = self._whole(tasks, metric, rows)
        up = self.results["higher_is_better"][next(iter(self.tasks))]
        return {
            "benchmark": self.benchmark.name,
            "setting": self.name,
            "rule": self.spec.rule,
            "format": self.form,
            "metric": metric,
            "lower_is_better": up.get(metric.partition(",")[0]) is False,
            "macro": False,
            **whole,
            "groups": {name: tasks[name][metric] for name in tasks if metric in tasks[name]}
            if len(tasks) > 1
            else {},
            "metrics": tasks[next(iter(tasks))] if len(tasks) == 1 else {},
            "lm_eval": {name: _numbers(facts) for name, facts in told.items()},
            "versions": self.results["versions"],
            "shots": self.results["n-shot"],
            "finish": _counted(how for row in rows for how in row["finish"]),
            "no_answer": 0,
            "notes": {},
            "dropped_shots": 0,
            "too_long": 0,
            **{key: sum(row[key] for row in rows) for key in ("prompt_tokens", "new_tokens")},
            "seconds": round(sum(row["seconds"] for row in rows), 3),
        }

    def _estimates(self, task: str) -> dict[str, dict[str, Any]]:
        """Every metric of a task: lm-eval's value, and an interval over its documents."""
        found: dict[str, dict[str, Any]] = {}
        raw: dict[str, list[Any]] = {}
        for one in self.results["samples"][task]:
            for metric in one["metrics"]:
                raw.setdefault(f"{metric},{one['filter']}", []).append(one[metric])
        for key, values in raw.items():
            value = self.results["results"][task][key]
            if isinstance(value, int | float):
                aggregate = self.tasks[task].aggregation().get(key.partition(",")[0])
                found[key] = {"value": value, **_interval(values, value, aggregate)}
        return found

    def _whole(
        self, tasks: dict[str, dict[str, Any]], metric: str, rows: Sequence[Row]
    ) -> dict[str, Any]:
        """The score of what was asked for: the task's, the group's, else the mean over tasks."""
        if len(tasks) == 1:
            only: dict[str, Any] = next(iter(tasks.values()))[metric]
            return only
        parts = [one[metric]["value"] for one in tasks.values() if metric in one]
        value = self.results["results"].get(self.name, {}).get(metric, statistics.fmean(parts))
        if any(row["score"] is None for row in rows):
            hint = f"name its tasks one by one: {', '.join(list(tasks)[:3])}, …"
            raise UserError(f"{self.name} has no common score in 0..1 to take a mean of", hint=hint)
        sizes = {name: len(self.documents[name]) for name in tasks}
        by_size = math.isclose(value, statistics.fmean(row["score"] for row in rows))
        found = mean_interval(
            [row["score"] for row in rows],
            weights=None if by_size else [1 / sizes[row["group"]] for row in rows],
            strata=[row["group"] for row in rows],
        )
        return asdict(found) | {"value": value}


class _Asked:
    """What lm-eval takes for a model; every request goes to our engine, or comes from the log."""

    rank, world_size = 0, 1

    def __init__(self, run: LmEvalRun, log: Path) -> None:
        self.run, self.log = run, log
        self.tokenizer: Any = getattr(run.engine, "tokenizer", None)
        self.tokenizer_name = str(run.engine.identity.get("model"))
        self.answers: dict[str, dict[str, Answer]] = {}
        """By document, then by request."""

    # ---- the four things that lm-eval asks of a model

    def loglikelihood(self, asked: Sequence[Any]) -> list[Pair]:
        """Of each (context, continuation), its log-probability; one prompt is asked once."""
        prompts: dict[tuple[str, str], list[str]] = {}
        places: list[tuple[tuple[str, str], int]] = []
        for one in asked:
            context, continuation = one.args[:2]
            spaces = len(context) - len(context.rstrip())
            if spaces:  # lm-eval's rule: white space belongs to the word that it stands before
                context, continuation = context[:-spaces], context[-spaces:] + continuation
            place = (self._document(one), context)
            choices = prompts.setdefault(place, [])
            if continuation not in choices:
                choices.append(continuation)
            places.append((place, choices.index(continuation)))
        requests = {
            place: Request(f"{place[0]}#{number}", place[1], tuple(choices), scoring="sum")
            for number, (place, choices) in enumerate(prompts.items())
        }
        answers = self._ask(list(requests.values()))
        self._require_greedy(answers)
        found = []
        for place, choice in places:
            answer = answers[requests[place].key]
            greedy = bool(answer.greedy) and answer.greedy[choice]
            found.append((answer.logprobs[choice], greedy))
        return found

    def loglikelihood_rolling(self, asked: Sequence[Any]) -> list[float]:
        """Of each text, the log-probability of the whole."""
        start = self._start()
        requests = [
            Request(f"{self._document(one)}#whole", "", (start + one.args[0],), scoring="sum")
            for one in asked
        ]
        answers = self._ask(requests)
        return [answers[request.key].logprobs[0] for request in requests]

    def generate_until(self, asked: Sequence[Any]) -> list[str]:
        """Of each (context, settings), an output; repeats of one are draws of their own."""
        seen: dict[str, int] = {}
        requests = []
        for one in asked:
            place = f"{self._document(one)}#{one.idx}"
            seen[place] = seen.get(place, 0) + 1
            requests.append(self._generation(f"{place}.{seen[place]}", *one.args[:2]))
        answers = self._ask(requests)
        return [answers[request.key].outputs[0] for request in requests]

    def apply_chat_template(self, history: list[Row], add_generation_prompt: bool = True) -> str:
        """The prompt of a conversation, by the template that the evaluation names."""
        template = template_for(self.run.spec.template, self.tokenizer)
        if not isinstance(template, Template):
            text: str = self.tokenizer.apply_chat_template(
                history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
            return text
        begun = "" if add_generation_prompt else history[-1]["content"]
        told = history if add_generation_prompt else history[:-1]
        messages = [Message(one["role"], one["content"]) for one in told]
        return template.prefix(messages, _end(self.tokenizer), cue=True) + begun

    # ---- and how that is done

    def _document(self, one: Any) -> str:
        """The key of the document that a request is about, by its row in the whole task."""
        rows = self.run.documents[one.task_name]
        return f"lm_eval/{one.task_name}/{rows[one.doc_id]}"

    def _start(self) -> str:
        """What lm-eval's own models put before a whole text: what the tokenizer itself does."""
        ids = self.tokenizer("")["input_ids"] if self.tokenizer else []
        return str(self.tokenizer.decode(ids)) if ids else ""

    def _generation(self, key: str, prompt: str, settings: Row) -> Request:
        spec = self.run.spec
        said = package(".models.utils").normalize_gen_kwargs(settings, NEW_TOKENS)
        strange = {k: v for k, v in said.items() if k not in KNOWN and NEUTRAL.get(k) != v}
        if strange:
            raise UserError(
                f"{self.run.name} generates with {strange}, which no engine of ours can"
            )
        until = said["until"]
        stops = tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop)
        heat = said.get("temperature", 0.0) if spec.temperature is None else spec.temperature
        most = said["max_gen_toks"] if spec.max_new_tokens is None else spec.max_new_tokens
        top_p = said.get("top_p", 1.0)
        how: dict[str, Any] = {"temperature": heat, "top_p": top_p, "seed": spec.seed}
        return Request(key, prompt, (), most, stops, clip=True, text=prompt, **how)

    def _require_greedy(self, answers: dict[str, Answer]) -> None:
        """Some metrics ask whether greedy decoding says the same, which not every engine tells."""
        if all(answer.greedy for answer in answers.values()):
            return
        for name, task in self.run.tasks.items():
            wanted = task.OUTPUT_TYPE == "loglikelihood" or "exact_match" in task.aggregation()
            if wanted:
                hint = "take transformers or vllm"
                raise UserError(f"the engine does not tell what {name} is scored by", hint=hint)

    def _ask(self, requests: list[Request]) -> dict[str, Answer]:
        """The answers by key; what is logged is not asked again."""
        log = JsonlLog(self.log)
        try:
            found = {row["item"]: Answer(**row) for _, row in read_jsonl(self.log)}
            done = sum(request.key in found for request in requests)
            with progress(self.run.benchmark.label, len(requests), done) as ticker:
                for batch in self.run.engine.batches(requests):
                    missing = {request.key for request in batch if request.key not in found}
                    if not missing:
                        continue
                    # Answered whole, so that every batch is made up as in an unbroken run.
                    new = [a for a in self.run.engine.answer(batch) if a.item in missing]
                    log.append([asdict(answer) for answer in new])
                    found |= {answer.item: answer for answer in new}
                    ticker.advance(len(new))
        finally:
            log.close()
        for request in requests:
            if "too long" in found[request.key].finish:
                raise UserError(f"a prompt of {request.key} does not fit the model's context")
            document = request.key.rpartition("#")[0]
            self.answers.setdefault(document, {})[request.key] = found[request.key]
        return found

    def answer_to(self, task: str, told: Row) -> Answer:
        """All that was answered about a document, as one answer."""
        key = f"lm_eval/{task}/{told['doc_id']}"
        parts = list(self.answers[key].values())
        if any(part.finish == ["choice"] for part in parts):
            pairs = [pair for response in told["resps"] for pair in response]
            scores = [float(p[0]) if isinstance(p, tuple | list) else float(p) for p in pairs]
            texts = [arguments[-1] for arguments in told["arguments"]]
            outputs, finish = [str(texts[scores.index(max(scores))])], ["choice"]
        else:
            scores, outputs = [], [text for part in parts for text in part.outputs]
            finish = [how for part in parts for how in part.finish]
        return Answer(
            key,
            outputs,
            scores,
            finish,
            sum(part.prompt_tokens for part in parts),
            sum(part.new_tokens for part in parts),
            round(sum(part.seconds for part in parts), 4),
        )


def _end(tokenizer: Any) -> str:
    return str(tokenizer.eos_token) if tokenizer is not None and tokenizer.eos_token else ""


def _load(name: str, folder: Path) -> Any:
    """A task or group with its data; what it prints goes to stderr, what it misses is one line."""
    try:
        with redirect_stdout(sys.stderr):
            return _manager(folder).load([name])
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"lm-eval cannot load {name}: {reason}") from error


def _by_document(told: Sequence[Row]) -> list[list[Row]]:
    """What lm-eval logged, put together by document, in the documents' order."""
    found: dict[int, list[Row]] = {}
    for one in told:
        found.setdefault(one["doc_id"], []).append(one)
    return [found[document] for document in sorted(found)]


def _interval(values: list[Any], value: float, aggregate: Any) -> dict[str, Any]:
    """95 % interval over documents: of a mean in 0..1 as all ours, else by bootstrap."""
    n = len(values)
    numbers = [_number(one) for one in values]
    scores = [one for one in numbers if one is not None and 0 <= one <= 1]
    if len(scores) == n and math.isclose(statistics.fmean(scores), value, abs_tol=1e-12):
        found = mean_interval(scores)
        return {"low": found.low, "high": found.high, "n": n}
    aggregate = aggregate or statistics.fmean  # as lm-eval, where a task names none
    draw = random.Random(SEED)
    again = sorted(float(aggregate(draw.choices(values, k=n))) for _ in range(RESAMPLES))
    cut = round(0.025 * RESAMPLES)
    return {"low": again[cut], "high": again[-1 - cut], "n": n}


def _number(value: Any) -> float | None:
    """A metric's value for one document as a number, if it is one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _metrics(facts: Row) -> list[str]:
    """The metrics (name,filter) among what lm-eval tells of a task or group."""
    return [key for key in facts if "," in key and "_stderr," not in key]


def _numbers(facts: Row) -> Row:
    return {key: value for key, value in facts.items() if isinstance(value, int | float)}


def _counted(names: Iterator[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def _plain(responses: list[Any]) -> list[Any]:
    """Filtered responses as JSON takes them: tuples of likelihoods become lists."""
    return [list(one) if isinstance(one, tuple) else one for one in responses]
