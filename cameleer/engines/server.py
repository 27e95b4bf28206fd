"""Asking a server: so many requests at a time, tried again with patience, within a budget.

Whatever comes is kept on the disk the moment it comes (see cameleer.engines.answers), so that it is
never asked and paid for again. Nothing here knows what is asked.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx2
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

import cameleer
from cameleer.core.config import Config
from cameleer.core.console import note
from cameleer.core.download import retry_after
from cameleer.core.errors import UserError
from cameleer.core.text import LONE, whole
from cameleer.engines.answers import Answers, key_of
from cameleer.engines.engine import Hear, UnansweredError
from cameleer.engines.streaming import STREAMED, is_stream, streamed

LATER = (408, 409, 425, 429)  # statuses after which, as after 5xx, it is worth asking again
LONGEST = 60.0  # seconds between two tries, unless the server asks for more
MOST_ASKED = 600.0  # seconds that a server may ask us to wait
CONTEXT = re.compile(r"maximum context length is (\d+)")
PROMPT = re.compile(r"(\d+) (?:input tokens|in the messages|in your prompt|of text input)")
LOST = 3  # requests in a row that failed for good, before anything came: then nothing will
SHOWN = 300  # characters of what a server says
COUNTED = ("prompt_tokens", "completion_tokens")


class Limits(Config):
    """How a server is asked. None of it decides an answer.

    concurrency: requests at a time. tries: of each request, with `wait` seconds before the second
    and twice as many before each further one. timeout: seconds for one answer, whole.
    max_requests, max_dollars: the most that one command may send (further tries count) and spend;
    price_in, price_out: dollars for a million tokens of prompts and of outputs.
    """

    concurrency: PositiveInt = Field(default=8, exclude=True)
    tries: PositiveInt = Field(default=8, exclude=True)
    wait: PositiveFloat = Field(default=1.0, exclude=True)
    timeout: PositiveFloat = Field(default=300.0, exclude=True)
    max_requests: PositiveInt | None = Field(default=None, exclude=True)
    max_dollars: PositiveFloat | None = Field(default=None, exclude=True)
    price_in: float = Field(default=0.0, ge=0, exclude=True)
    price_out: float = Field(default=0.0, ge=0, exclude=True)

    @model_validator(mode="after")
    def _priced(self) -> Limits:
        if self.max_dollars is not None and not (self.price_in or self.price_out):
            raise ValueError("max_dollars needs price_in and price_out, in dollars per million")
        return self

    def dollars(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass(frozen=True, slots=True)
class Said:
    """One text of a server's answer. likely: log-probabilities of the likeliest next tokens, or of
    an echoed text's tokens one after the other; None where the server gives none."""

    text: str
    finish: str
    likely: list[tuple[str, float | None]] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came for a request: its texts, and tokens of the prompt and of all texts (None: the
    server did not say)."""

    said: list[Said]
    prompt_tokens: int | None
    new_tokens: int | None
    seconds: float = 0.0
    model: str = ""

    def to_row(self) -> dict[str, Any]:
        said = [{"text": s.text, "finish": s.finish, "likely": s.likely} for s in self.said]
        counts = {"prompt_tokens": self.prompt_tokens, "new_tokens": self.new_tokens}
        return {"said": said, **counts, "seconds": self.seconds, "model": self.model}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Reply:
        said = [Said(s["text"], s["finish"], _pairs(s["likely"])) for s in row["said"]]
        return cls(said, row["prompt_tokens"], row["new_tokens"], row["seconds"], row["model"])


def _pairs(rows: list[list[Any]] | None) -> list[tuple[str, float | None]] | None:
    return None if rows is None else [(token, value) for token, value in rows]


class NoRoomError(UnansweredError):
    """The model's context has no room for prompt and outputs together; room: tokens for outputs."""

    def __init__(self, message: str, room: int) -> None:
        self.room = room
        super().__init__(message)


class AgainError(Exception):
    """A try came to nothing, though another may not; `wait`: seconds that the server asks for."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        self.wait = wait
        super().__init__(message)


Read = Callable[[dict[str, Any]], Reply]
"""Reads a server's JSON; raises AgainError for what is no answer."""


class Server:
    """A server at `url`, asked as `limits` say; answers are kept in `answers`."""

    def __init__(self, url: str, key: str, limits: Limits, answers: Answers) -> None:
        self.url, self.limits, self.answers = url.rstrip("/"), limits, answers
        self.key = key.strip()  # a file's line break is no part of it
        if not (self.key.isascii() and self.key.isprintable()):
            raise UserError("OPENAI_API_KEY holds characters that no key has", hint="set it anew")
        headers = {"User-Agent": f"cameleer/{cameleer.__version__}"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        pool = httpx2.Limits(max_connections=limits.concurrency)
        try:
            self.http = httpx2.AsyncClient(headers=headers, timeout=limits.timeout, limits=pool)
            self.address = httpx2.URL(self.url)
        except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
            raise UserError(f"{self.url}: {error}", hint="check the URL and HTTPS_PROXY") from None
        self.slots = asyncio.Semaphore(limits.concurrency)
        self.end: UserError | None = None
        self.ended = asyncio.Event()
        self.quiet_until = 0.0
        self.streams = True  # until it says that it does not
        self.sent = self.retried = self.flying = self.answered = self.lost = 0
        self.spent = self.reserved = 0.0

    def status(self) -> str:
        """Requests sent, dollars spent and tries that failed, in a few words."""
        parts = [f"{self.sent} requests"]
        parts += [f"${self.spent:.2f}"] * bool(self.limits.price_in or self.limits.price_out)
        parts += [f"{self.retried} tried again"] * bool(self.retried)
        return ", ".join(parts)

    def renew(self) -> None:
        """Take it that the server answers again: a person asks, who may have mended it."""
        self.end, self.lost, self.ended = None, 0, asyncio.Event()

    async def ask(
        self,
        item: str,
        endpoint: str,
        body: dict[str, Any],
        most: tuple[int, int],
        read: Read,
        hear: Hear | None = None,
    ) -> Reply:
        """The answer to a request, from the disk if it came before.

        most: tokens of prompt and outputs that it can cost; hear: if given, the answer is asked for
        as a stream, and told as it comes, anew with each try. Raises UnansweredError if this
        request fails for good, UserError if no other can be expected to succeed either.
        """
        key = key_of(endpoint, body)
        if (row := self.answers.get(key)) is not None:
            self.answered += 1  # it is the right server, then
            return Reply.from_row(row)
        said = ""
        for tried in range(1, self.limits.tries + 1):
            try:
                async with self.slots:
                    reply = await self._try(item, endpoint, body, most, read, hear)
            except (httpx2.HTTPError, TimeoutError, AgainError) as error:
                said, asked = self._shown(error), getattr(error, "wait", 0.0)
                if asked > MOST_ASKED:
                    raise self._stop(f"{said}, to wait {asked:.0f} s", "try later") from None
                absent = isinstance(error, httpx2.ConnectError) and not self.answered
                if absent and tried >= LOST:
                    break  # a wrong address is told soon
                if tried < self.limits.tries:
                    self.retried += 1
                    if self.retried == 1:
                        note(f"{item}: {said}; asking again")
                    await self._rest(self._pause(tried, asked))
                continue
            self.answers.put(key, reply.to_row())
            self.answered, self.lost = self.answered + 1, 0
            return reply
        raise self._lost(item, f"{said} (and so {tried} times)", of_server=True)

    async def _try(
        self,
        item: str,
        endpoint: str,
        body: dict[str, Any],
        most: tuple[int, int],
        read: Read,
        hear: Hear | None,
    ) -> Reply:
        worst = self.limits.dollars(*most)
        await self._admit(worst)
        began = time.perf_counter()
        try:
            reply = self._read(await self._payload(item, endpoint, body, hear), read)
        except asyncio.CancelledError:
            self.spent += worst  # the server does not say how far it came
            raise
        finally:
            self.reserved -= worst
            self.flying -= 1
        return replace(reply, seconds=round(time.perf_counter() - began, 4))

    async def _payload(
        self, item: str, endpoint: str, body: dict[str, Any], hear: Hear | None
    ) -> Any:
        """The JSON that the server sends, whole or as a stream."""
        streams = hear is not None and self.streams
        sent, seconds = body | STREAMED if streams else body, self.limits.timeout
        try:
            async with (
                asyncio.timeout(seconds) as patience,
                self.http.stream("POST", f"{self.url}/{endpoint}", json=sent) as response,
            ):
                if hear is not None and response.status_code == 200 and is_stream(response):
                    return _whole(await streamed(response, hear, patience, seconds))
                await response.aread()
            if streams and response.status_code in (400, 422) and "stream" in response.text:
                self.streams = False
                raise AgainError(f"the server takes no streams: {self._message(response)}")
            self._require_success(item, response)
            return _whole(response.json())
        except (ValueError, RecursionError):
            raise AgainError("the server sends broken JSON") from None

    async def _admit(self, worst: float) -> None:
        """Wait until a request may be sent; `worst`: dollars that it may cost."""
        most = self.limits.max_dollars
        while True:
            if self.end is not None:
                raise self.end
            if (pause := self.quiet_until - time.monotonic()) > 0:
                await self._rest(pause)
            elif self.limits.max_requests is not None and self.sent >= self.limits.max_requests:
                raise self._stop(f"the {self.sent} requests of max_requests are sent", self._kept())
            elif most is None or self.spent + self.reserved + worst <= most:
                break
            elif self.flying:
                await asyncio.sleep(0.02)  # what is being asked may cost less than it could
            else:
                left = f"of ${most:g} (max_dollars) ${self.spent:.4f} are spent"
                raise self._stop(f"{left}, and the next may cost ${worst:.4f}", self._kept())
        self.sent += 1
        self.flying += 1
        self.reserved += worst

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until there is nothing to wait for any more."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)

    def _kept(self) -> str:
        path = self.answers.path
        return (
            f"answers are kept in {path}; the same command goes on from here, and may use as much"
        )

    def _require_success(self, item: str, response: httpx2.Response) -> None:
        status = response.status_code
        if status == 200:
            return
        said = f"the server answers {status} {response.reason_phrase}".rstrip()
        about = self._message(response)
        said += f": {about}" if about else ""
        if (status in LATER or status >= 500) and "insufficient_quota" not in response.text:
            wait = retry_after(response)
            if status in (429, 503):  # it is said to one, and meant for all
                self.quiet_until = max(self.quiet_until, time.monotonic() + min(wait, MOST_ASKED))
            raise AgainError(said, wait)
        if (room := _room(about)) is not None:
            raise NoRoomError(f"item {item}: {said}", room)
        if status in (400, 413, 422):
            raise self._lost(item, said, of_server=False)
        hints = {401: "set OPENAI_API_KEY", 403: "may the key do this?", 404: "check URL and model"}
        raise self._stop(said, hints.get(status, "check the URL"))

    def _message(self, response: httpx2.Response) -> str:
        """What a server says of an error."""
        try:
            text = _about(response.json())
        except (ValueError, AttributeError):
            text = response.text
        return self._told(text)

    def _told(self, said: Any) -> str:
        """What a server says, in a line, without the key."""
        text = " ".join((said if isinstance(said, str) else json.dumps(said)).split())
        return (text.replace(self.key, "…") if self.key else text)[:SHOWN]

    def _read(self, payload: Any, read: Read) -> Reply:
        """The answer, paid for even if it is none."""
        if not isinstance(payload, dict):
            raise AgainError("the server sends no JSON object")
        usage = payload.get("usage")
        told = {name: _count(usage, name) for name in COUNTED}
        payload["usage"] = told
        self.spent += self.limits.dollars(*(count or 0 for count in told.values()))
        if self.limits.max_dollars is not None and "choices" in payload and None in told.values():
            raise self._stop(
                "the server does not say how many tokens it used, so no cost can be told",
                "take max_requests in place of max_dollars",
            )
        if "choices" not in payload and "error" in payload:
            raise AgainError(f"the server says: {self._told(_about(payload))}")
        return read(payload)

    def _pause(self, tried: int, asked: float) -> float:
        """Seconds before the next try; others wait at other times, and not all come at once."""
        own = min(LONGEST, self.limits.wait * 2.0 ** (tried - 1)) * random.uniform(0.75, 1.25)
        return max(own, asked)

    def _shown(self, error: Exception) -> str:
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            return f"no answer within {self.limits.timeout:g} s"
        said = str(error) or type(error).__name__
        if isinstance(error, httpx2.ConnectError | httpx2.ProxyError):
            return f"{self.address.host} cannot be reached: {said}"
        return said

    def _lost(self, item: str, said: str, *, of_server: bool) -> UserError:
        """One request has failed for good; too many of them, and the others will fail as well."""
        self.lost += 1
        most = self.limits.concurrency if self.answered else min(LOST, self.limits.concurrency)
        if self.lost >= most and (of_server or not self.answered):
            hint = f"is this the right server? {self._kept()}"
            return self._stop(f"{self.lost} requests in a row failed: {said}", hint)
        return UnansweredError(f"item {item}: {said}")

    def _stop(self, said: str, hint: str) -> UserError:
        """Nothing more is asked from here on; what is being asked is waited for and kept."""
        if self.end is None:
            self.end = UserError(f"{self.url}: {said}", hint=hint)
            self.ended.set()
        return self.end


def _about(told: dict[str, Any]) -> Any:
    """What is said of an error, of which every server has its own form."""
    error = told.get("error", told.get("detail", told.get("message", "")))
    return error.get("message", "") if isinstance(error, dict) else error


def _whole(payload: Any) -> Any:
    """What a server sent, without halves of characters."""
    text = json.dumps(payload, ensure_ascii=False)
    return json.loads(whole(text)) if LONE.search(text) else payload


def _count(usage: Any, name: str) -> int | None:
    """A number of tokens, or None where what a server says is none."""
    said = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return int(said) if said >= 0 and said % 1 == 0 else None


def _room(said: str) -> int | None:
    """Tokens that a context has for outputs, where a server says why it has no room for more, in
    OpenAI's words or vLLM's; negative if the prompt alone is too long."""
    context, prompt = CONTEXT.search(said), PROMPT.search(said)
    return int(context[1]) - int(prompt[1]) if context and prompt else None
