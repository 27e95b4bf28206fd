"""What lm-eval takes for a model: every request goes to our engine, or comes from the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameleer.chat.conversation import Message
from cameleer.chat.template import Template
from cameleer.core.errors import UserError
from cameleer.engines.engine import TOO_LONG, Request
from cameleer.evals.answering import answered
from cameleer.evals.lm_eval.tasks import package
from cameleer.evals.protocol import template_for
from cameleer.results.records import Answer

if TYPE_CHECKING:
    from cameleer.evals.lm_eval.run import LmEvalRun

NEW_TOKENS = 256  # lm-eval's own, where a task says nothing
KNOWN = {"until", "do_sample", "max_gen_toks", "temperature", "top_p"}
NEUTRAL: dict[str, Any] = {"num_beams": 1, "top_k": 0, "repetition_penalty": 1.0}

Row = dict[str, Any]
Pair = tuple[float, bool]
"""lm-eval's answer to a likelihood request: log-probability, and whether greedy decoding says so"""


class Asked:
    """A model in the eyes of lm-eval: what it asks, in requests of ours."""

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
        engine, label = self.run.engine, self.run.benchmark.label
        rows = answered(engine, requests, self.log, label, lambda _, answer: asdict(answer))
        found = {key: Answer(**row) for key, row in rows.items()}
        for request in requests:
            if TOO_LONG in found[request.key].finish:
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
