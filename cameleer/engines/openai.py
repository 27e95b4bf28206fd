"""Any OpenAI-compatible server: `openai:MODEL@URL`, several requests at a time, answers kept.

Without a URL, OPENAI_BASE_URL, else OpenAI's own; the key is OPENAI_API_KEY.

format plain    the prompt as it is, to `completions`
format chat     the question as the user's message, to `chat/completions`; the server has the
                template. The words that open the answer are appended to the question, or, where
                the server can (vLLM), left open as the assistant's (`cue=prefix`)
api=completions format chat, too, to `completions`, in our template: exactly a local model's prompt
api=chat        format plain, too, as a user's message: so the paper asked API models (5.10)

choices, how a letter is chosen:
logprobs    from the likeliest next tokens; a letter counts with and without a space before it
logit_bias  one token, +100 on the letters, as the paper asked API models; its rule `paper`
text        an answer in words, in which the benchmark looks for the letter
Whole answers (TruthfulQA's) need their own log-probability: `completions` of a server that echoes.

Sampled outputs that a server does not give at once (`n`) are asked for one by one. What a chat asks
is streamed (see Engine.hear).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

from pydantic import Field, PositiveInt

from cameleer.core.errors import UserError
from cameleer.core.folders import cache_root
from cameleer.engines.answers import Answers
from cameleer.engines.engine import CONTEXT, TOO_LONG, Hear, Request, UnansweredError
from cameleer.engines.lengths import Lengths
from cameleer.engines.replies import echoed, log_sum, read_reply, stopped
from cameleer.engines.server import Limits, NoRoomError, Reply, Said, Server
from cameleer.model.load import load_tokenizer
from cameleer.results.records import Answer, Rule

OWN = "https://api.openai.com/v1"
PAPER = {"choices": "logit_bias"}
BY_NAME = True
AHEAD = 4  # times as many requests as are asked at a time are under way or waiting
STOPS = 4  # stop texts that OpenAI takes; the others are looked for here alone
OVERHEAD = 64  # tokens that a chat template may add
PULSE = 0.2  # seconds after which a listener is told again where nothing has come
CL100K = {" A": 362, " B": 426, " C": 356, " D": 423}  # of gpt-3.5 and gpt-4
HAS_CL100K = re.compile(r"gpt-3\.5|gpt-4(-|$)")

T = TypeVar("T")


class Options(Limits):
    """api, cue, choices: see above. top: how many of the likeliest tokens are asked for (OpenAI's
    completions give 5). tokenizer: folder or hub id with the server's tokenizer, which tells when
    to drop few-shot examples and where to cut contexts; without it neither is done. empty: whether
    an empty text that the server gives no account of is an answer. extra: fields of every request;
    null takes a field out. cache: folder of answers; by default, `answers` in our cache."""

    api: Literal["chat", "completions"] | None = None
    cue: Literal["appended", "prefix"] = "appended"
    choices: Literal["logprobs", "logit_bias", "text"] = "logprobs"
    top: PositiveInt = 20
    tokenizer: str | None = None
    empty: Literal["fail", "keep"] = "fail"
    extra: dict[str, Any] = Field(default_factory=dict)
    cache: Path | None = Field(default=None, exclude=True)


def fingerprint(model: str) -> str:
    """The model's name, wherever it is served."""
    return _name_and_url(model)[0]


def make(model: str, options: Options, identity: dict[str, Any]) -> OpenAIEngine:
    """The engine for `MODEL` or `MODEL@URL`; nothing is sent yet."""
    name, url = _name_and_url(model)
    answers = Answers(options.cache or cache_root() / "answers", name)
    server = Server(url, os.environ.get("OPENAI_API_KEY", ""), options, answers)
    return OpenAIEngine(name, server, options, identity)


def _name_and_url(model: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.+?)@(https?://.+)", model)
    if found is None and "://" in model:
        raise UserError(f"'{model}' names no model", hint="write it MODEL@http://HOST:PORT/v1")
    default = os.environ.get("OPENAI_BASE_URL") or OWN
    return (found[1], found[2]) if found else (model, default)


class OpenAIEngine:
    """A model on a server. Requests are answered in order, and asked some way ahead."""

    def __init__(
        self, model: str, server: Server, options: Options, identity: dict[str, Any]
    ) -> None:
        self.model, self.server, self.options, self.identity = model, server, options, identity
        self.tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else None
        self.measure = Lengths(self.tokenizer) if options.tokenizer else None
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.queue: list[Request] = []
        self.place: dict[str, int] = {}
        self.asked: dict[str, Future[Answer]] = {}
        self.hear: Hear | None = None
        self.heard: SimpleQueue[str | None] = SimpleQueue()

    def count_tokens(self, text: str) -> int:
        """Tokens of a text; 0 without a tokenizer, so that nothing is found too long."""
        return self.measure.count(text) if self.measure else 0

    def cut(self, text: str, tokens: int, rule: Rule) -> str:
        """See Engine; without a tokenizer nothing is cut."""
        return self.measure.cut(text, tokens, rule) if self.measure else text

    def status(self) -> str:
        """What was sent and spent, in a few words."""
        return self.server.status()

    def kept(self, requests: Sequence[Request]) -> dict[str, Answer]:
        """The answers that are on the disk already, by key; nothing is sent."""
        self.server.end = UserError("nothing is to be sent")
        try:
            asked = {request.key: self._run(self._answer(request)) for request in requests}
            wait_for(asked.values())
            return {key: own.result() for key, own in asked.items() if own.exception() is None}
        finally:
            self.server.end = None

    def close(self) -> None:
        """End the thread that asks."""
        self._run(self.server.http.aclose()).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.server.answers.close()

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """One request each: what else is asked does not bear on an answer."""
        if self.hear is not None:
            self.server.renew()
        for request in requests:
            self._require_possible(request)
        self.queue, self.asked, self.heard = list(requests), {}, SimpleQueue()
        self.place = {request.key: place for place, request in enumerate(requests)}
        return [[request] for request in requests]

    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        """The answers. Raises UnansweredError for an item that fails for good, UserError if there
        is no sense in going on; then what is being asked has come and is kept."""
        first = self.place[batch[0].key]
        for request in self.queue[first : first + AHEAD * self.options.concurrency]:
            if request.key not in self.asked:
                self.asked[request.key] = self._run(self._answer(request))
        if self.hear is not None:
            self._listen(self.asked[batch[0].key], self.hear)
        try:
            return [self.asked[request.key].result() for request in batch]
        except UnansweredError:
            raise
        except UserError:
            wait_for(self.asked.values())
            raise

    def _listen(self, asked: Future[Answer], hear: Hear) -> None:
        """Tell `hear` what comes until all of it has; what it raises takes the request back."""
        written: str | None = ""
        asked.add_done_callback(lambda _: self.heard.put(None))
        try:
            while written is not None:
                hear(written)
                with suppress(Empty):
                    written = self.heard.get(timeout=PULSE)
        except BaseException:
            asked.cancel()
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def _require_possible(self, request: Request) -> None:
        """Raise for choices that this server cannot be asked to make."""
        if not request.choices:
            return
        if request.scoring == "sum" and self._api(request) == "chat":
            raise UserError(
                f"item {request.key}: a chat server does not tell how likely a given answer is",
                hint="--engine-option api=completions, on a server that echoes prompts",
            )
        if request.scoring == "last" and self.options.choices == "logit_bias":
            self._choice_ids(request)

    # ---- what is asked

    def _api(self, request: Request) -> str:
        return self.options.api or ("chat" if request.format == "chat" else "completions")

    def _body(self, request: Request, **fields: Any) -> tuple[str, dict[str, Any]]:
        """Endpoint and JSON of a request, without the fields that are None."""
        if self._api(request) == "completions":
            endpoint, asked = "completions", {"prompt": request.prompt}
        else:
            endpoint, asked = "chat/completions", self._messages(request)
        body = {"model": self.model, **asked, "temperature": request.temperature, **fields}
        body |= self.options.extra
        # OpenAI's newer models know the other name alone, other servers only this one.
        if endpoint != "completions" and self.server.url == OWN and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return endpoint, {name: value for name, value in body.items() if value is not None}

    def _messages(self, request: Request) -> dict[str, Any]:
        """The fields of a chat that say what is asked."""
        if request.messages:
            return {"messages": [_message(*message) for message in request.messages]}
        text, cue = (request.text, request.cue) if request.text else (request.prompt, "")
        if request.format == "plain":
            text, cue = request.prompt, ""
        before = [_message("system", request.system)] if request.system else []
        if cue and self.options.cue == "prefix":
            messages = [*before, _message("user", text), _message("assistant", cue)]
            opened = {"add_generation_prompt": False, "continue_final_message": True}
            return {"messages": messages, **opened}
        space = "\n" if cue and not text[-1:].isspace() else ""
        return {"messages": [*before, _message("user", text + space + cue)]}

    def _most(self, request: Request, new: int) -> tuple[int, int]:
        """Tokens that a request can cost; no tokenizer makes more of a prompt than its bytes."""
        size = self.count_tokens(request.prompt) or len(request.prompt.encode())
        return size + OVERHEAD, new

    async def _ask(self, request: Request, new: int, **fields: Any) -> Reply:
        """The server's reply, whose outputs have at most `new` tokens altogether."""
        endpoint, body = self._body(request, **fields)
        most = self._most(request, new)
        hear = self.heard.put if self.hear is not None and request.samples == 1 else None
        return await self.server.ask(request.key, endpoint, body, most, self._read, hear)

    def _read(self, payload: dict[str, Any]) -> Reply:
        return read_reply(payload, self.model, empty=self.options.empty == "keep")

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._way(request)(request)
        except NoRoomError as error:
            if error.room > 0 and not request.choices:
                return await self._in_room(request, error.room)
            samples = 1 if request.choices else request.samples
            size = self.count_tokens(request.prompt)
            return Answer(request.key, [""] * samples, [], [TOO_LONG] * samples, size, 0, 0.0)

    async def _in_room(self, request: Request, room: int) -> Answer:
        """Outputs of as many tokens as the context has room for."""
        answer = await self._generate(replace(request, max_new_tokens=room))
        full = "length" if request.clip else CONTEXT
        finish = [full if how == "length" else how for how in answer.finish]
        return replace(answer, finish=finish)

    def _way(self, request: Request) -> Callable[[Request], Coroutine[Any, Any, Answer]]:
        if not request.choices:
            return self._generate
        if request.scoring == "sum":
            return self._score
        return self._generate if self.options.choices == "text" else self._choose

    async def _generate(self, request: Request) -> Answer:
        """Outputs, asked for until there are enough: not every server gives several at once."""
        replies: list[Reply] = []
        said: list[Said] = []
        while (missing := request.samples - len(said)) > 0:
            drawn = request.temperature > 0
            reply = await self._ask(
                request,
                missing * request.max_new_tokens,
                max_tokens=request.max_new_tokens,
                stop=list(request.stop[:STOPS]) or None,
                top_p=request.top_p if drawn else None,
                seed=_seed(request, len(said)) if drawn else request.seed,
                n=missing if missing > 1 else None,
            )
            replies.append(reply)
            said += [stopped(one, request.stop) for one in reply.said[:missing]]
        outputs, finish = [one.text for one in said], [one.finish for one in said]
        return self._answered(request, replies, outputs, [], finish)

    async def _choose(self, request: Request) -> Answer:
        """The likeliest choice, or what else the model says: then there is no choice in it."""
        if self.options.choices == "logit_bias":
            # OpenAI's API has whole numbers here; transformers serve takes no others than floats.
            most = 100 if self.server.url == OWN else 100.0
            bias = {str(token): most for token in self._choice_ids(request)}
            reply = await self._ask(request, 1, max_tokens=1, seed=request.seed, logit_bias=bias)
            said = reply.said[0].text
            best = next((c for c in request.choices if c.strip() == said.strip()), said)
            return self._answered(request, [reply], [best], [], ["choice"])
        top: dict[str, Any] = {"logprobs": self.options.top}
        if self._api(request) == "chat":
            top = {"logprobs": True, "top_logprobs": self.options.top}
        reply = await self._ask(request, 1, max_tokens=1, seed=request.seed, **top)
        if not reply.said[0].likely:
            raise UserError(
                f"{self.server.url} gives no log-probabilities",
                hint="--engine-option choices=logit_bias or choices=text",
            )
        scores = [log_sum(choice, reply.said[0].likely) for choice in request.choices]
        if max(scores) == -math.inf:
            said, finish = reply.said[0].text, reply.said[0].finish
            return self._answered(request, [reply], [said], [], [finish])
        # What is not among the likeliest is at most as likely as the least of them.
        least = min(value for _, value in reply.said[0].likely if value is not None)
        scores = [max(score, least) if score == -math.inf else score for score in scores]
        best = request.choices[scores.index(max(scores))]
        return self._answered(request, [reply], [best], scores, ["choice"])

    async def _score(self, request: Request) -> Answer:
        """Log-probability of each whole choice, from the prompt with it, echoed."""
        replies = await asyncio.gather(
            *(
                self._ask(
                    request, 1, prompt=request.prompt + choice, max_tokens=1, echo=True, logprobs=1
                )
                for choice in request.choices
            )
        )
        scores = [
            echoed(reply.said[0], request.prompt + choice, choice, self.server.url)
            for reply, choice in zip(replies, request.choices, strict=True)
        ]
        best = request.choices[scores.index(max(scores))]
        return self._answered(request, list(replies), [best], scores, ["choice"])

    def _choice_ids(self, request: Request) -> list[int]:
        """The token of each choice: the last one of its own."""
        if self.measure is not None:
            encode = self.measure.tokenizer
            found = [encode(c, add_special_tokens=False)["input_ids"][-1] for c in request.choices]
        elif HAS_CL100K.match(self.model) and set(request.choices) <= CL100K.keys():
            found = [CL100K[choice] for choice in request.choices]
        else:
            raise UserError(
                f"which tokens of {self.model} the letters are is not known",
                hint="--engine-option tokenizer=FOLDER with its tokenizer, or choices=logprobs",
            )
        if len(set(found)) != len(request.choices):
            raise UserError(f"the tokenizer does not tell the choices {request.choices} apart")
        return found

    def _answered(
        self,
        request: Request,
        replies: list[Reply],
        outputs: list[str],
        logprobs: list[float],
        finish: list[str],
    ) -> Answer:
        prompt = replies[0].prompt_tokens
        size = prompt if prompt is not None else self.count_tokens(request.prompt)
        new = 0 if finish == ["choice"] else sum(reply.new_tokens or 0 for reply in replies)
        seconds = round(sum(reply.seconds for reply in replies), 4)
        return Answer(request.key, outputs, logprobs, finish, size, new, seconds)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _seed(request: Request, sample: int) -> int:
    """A seed of 31 bits for what is drawn from here on, told by seed, key and number of outputs."""
    name = f"{request.seed}/{request.key}/{sample}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:4], "big") >> 1
