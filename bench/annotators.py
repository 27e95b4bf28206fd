"""People at the app, played by a program: they log in, read, rate and send again what got lost.

They speak HTTP as a browser does, and keep a list of what the server confirmed.
"""

from __future__ import annotations

import asyncio
import html
import random
import re
import time
from dataclasses import dataclass, field

import httpx2

PASSWORD = "a password for the bench"
BACK = 300.0  # seconds that a server may be away before an annotator gives up
FIELD = re.compile(r'name="(csrf|submission)" value="([^"]*)"')
ACTION = re.compile(r'action="/rate/([^"]+)"')
AWAY = (httpx2.TransportError, httpx2.RemoteProtocolError)


@dataclass(frozen=True)
class Sent:
    """A rating that the server confirmed, and how often it had to be sent."""

    annotator: str
    token: str
    submission: str
    preference: int
    tries: int


@dataclass
class Log:
    """What all annotators met. times: seconds by kind of request, of those that were answered;
    confirmed: in the order of the answers; slowed: 429s; lost: requests without an answer;
    refused: other answers that were no success, by status. enough: nobody begins another."""

    times: dict[str, list[float]] = field(default_factory=dict)
    confirmed: list[Sent] = field(default_factory=list)
    slowed: int = 0
    lost: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    enough: bool = False


@dataclass
class Annotator:
    """One of them. think: mean seconds between a page and its rating, 0 for as fast as can be;
    all_in: passed when everybody is logged in."""

    name: str
    site: str
    log: Log
    think: float
    draw: random.Random
    http: httpx2.AsyncClient
    all_in: asyncio.Barrier

    async def work(self, items: int) -> int:
        """Log in, and when all are in, rate `items` items, or all there are; returns how many."""
        await self.log_in()
        await self.all_in.wait()
        await asyncio.sleep(self.draw.uniform(0, self.think))
        done = 0
        while done < items and not self.log.enough:
            page = await self.get("/rate", "page")
            if "/rate/" not in page:
                break
            if self.think:
                await asyncio.sleep(self.draw.expovariate(1 / self.think))
            await self.rate(page)
            done += 1
        return done

    async def log_in(self) -> None:
        page = await self.get("/login", "login page")
        given = {"name": self.name, "password": PASSWORD, "csrf": _fields(page)["csrf"]}
        await self.post("/login", given, "login")

    async def rate(self, page: str) -> None:
        """Send a rating until it is confirmed: always with the same submission."""
        found = ACTION.search(page)
        assert found, "a page without a form"
        token, fields = found[1], _fields(page)
        preference = self.draw.choice((-2, -1, 0, 1, 2))
        given = {
            **fields,
            "first_acceptable": self.draw.choice(("yes", "no")),
            "second_acceptable": self.draw.choice(("yes", "no")),
            "preference": str(preference),
            "quality": "good",
            "comment": "",
            "seconds": "1.5",
        }
        tries = await self.post(f"/rate/{token}", given, "rating")
        sent = Sent(self.name, token, fields["submission"], preference, tries)
        self.log.confirmed.append(sent)

    async def get(self, path: str, kind: str) -> str:
        answer, _ = await self.ask("GET", path, kind, None)
        if answer.is_redirect:
            return await self.get(answer.headers["location"], kind)
        return answer.text

    async def post(self, path: str, form: dict[str, str], kind: str) -> int:
        return (await self.ask("POST", path, kind, form))[1]

    async def ask(
        self, method: str, path: str, kind: str, form: dict[str, str] | None
    ) -> tuple[httpx2.Response, int]:
        """(the answer, how many tries it took), through 429, 503 and a server that is away."""
        gone, tries = 0.0, 0
        while True:
            start, tries = time.perf_counter(), tries + 1
            try:
                headers = {"origin": self.site} if method == "POST" else {}
                answer = await self.http.request(
                    method, self.site + path, data=form, headers=headers
                )
            except AWAY:
                self.log.lost += 1
                gone = gone or time.monotonic()
                if time.monotonic() - gone > BACK:
                    raise
                await asyncio.sleep(self.draw.uniform(0.05, 0.2))
                continue
            gone = 0.0
            if answer.status_code in (429, 503):
                self.log.slowed += 1
                await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
                continue
            self.log.times.setdefault(kind, []).append(time.perf_counter() - start)
            if answer.status_code >= 400:
                status = answer.status_code
                self.log.refused[status] = self.log.refused.get(status, 0) + 1
                raise RuntimeError(f"{method} {path}: {status}")
            return answer, tries


def _fields(page: str) -> dict[str, str]:
    """The hidden fields of a page's first form, unescaped."""
    found: dict[str, str] = {}
    for name, value in FIELD.findall(page):
        found.setdefault(name, html.unescape(value))
    return found


async def all_at_work(
    site: str, names: list[str], items: int, think: float, seed: int, log: Log
) -> None:
    """Let everybody work at once, and wait for all of them."""
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
    all_in = asyncio.Barrier(len(names))
    people = [
        Annotator(
            name,
            site,
            log,
            think,
            random.Random(f"{seed} {name}"),
            httpx2.AsyncClient(timeout=60.0, limits=limits, follow_redirects=False),
            all_in,
        )
        for name in names
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for one in people:
                group.create_task(one.work(items))
    finally:
        await asyncio.gather(*(one.http.aclose() for one in people))
