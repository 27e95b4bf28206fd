"""What guards every request: headers, Host and Origin, the body's size, rates, tokens of forms."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import anyio
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cameleer.core.errors import UserError

BODY_BYTES = 64 * 1024  # the longest form that is read; a comment fits many times over
BODY_SECONDS = 20.0  # how long a form may take to arrive
FIELDS = 40  # of a form

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with that a browser says `Origin: null` when it posts a form.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
}
"""Of every response; one that may be kept says so itself in Cache-Control."""


@dataclass(frozen=True)
class Address:
    """How browsers reach the app.

    host: the address that it is bound to; public_url: what people type, where a proxy stands
    before it; folder: the campaign's, so that two campaigns of one machine have two cookies.
    """

    host: str
    public_url: str | None
    folder: str

    @property
    def secure(self) -> bool:
        """Whether browsers come by https, so that cookies are sent by that way only."""
        return (self.public_url or "").startswith("https:")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie: cookies know hosts, but not ports."""
        name = "cameleer_" + hashlib.sha256(self.folder.encode()).hexdigest()[:8]
        return f"__Host-{name}" if self.secure else name

    def hosts(self) -> set[str]:
        """The names that a request may ask for, besides IP addresses."""
        names = {"localhost", socket.gethostname(), self.host}
        if self.public_url:
            names.add(urlsplit(self.public_url).hostname or "")
        return {name.lower() for name in names if name}

    def origin(self, host: str) -> str:
        """Where a form that is posted to `host` (with its port) must come from."""
        return (self.public_url or f"http://{host}").lower()


def read_public_url(text: str) -> str:
    """The address that people type, checked; raises UserError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        hint = "write it as https://rate.example.org, without a path"
        raise UserError(f"'{text}' is no address of a site", field="public-url", hint=hint)
    return text.rstrip("/")


class Guard:
    """Puts HEADERS on every response, and turns away requests that ask for another host.

    A name that an attacker points at this machine would otherwise make his page one of ours
    ("DNS rebinding"). An IP address cannot be pointed elsewhere, so any is taken.
    """

    def __init__(self, app: ASGIApp, address: Address) -> None:
        self.app, self.hosts = app, address.hosts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self.known(Request(scope).headers.get("host", "")):
            await self.app(scope, receive, with_headers)
        else:
            said = "This server does not answer to that name (see --public-url)."
            answer = PlainTextResponse(said, 400)
            await answer(scope, receive, with_headers)

    def known(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.hosts
        return True


def check_origin(request: Request, address: Address) -> None:
    """Raise 403 unless the browser says that the form it posts is one of ours.

    Every browser tells the Origin of what it posts; a client that does not is not a browser.
    """
    origin = request.headers.get("origin", "").lower()
    site = request.headers.get("sec-fetch-site", "same-origin")
    host = request.headers.get("host", "")
    if origin != address.origin(host) or site not in ("same-origin", "none"):
        raise HTTPException(403, "This form was not sent from a page of this site.")


def check_token(given: str, wanted: str) -> None:
    """Raise 403 unless a form brings the token that its page was given."""
    if not wanted or not secrets.compare_digest(given.encode(), wanted.encode()):
        raise HTTPException(403, "This page is out of date. Load it again, then send it.")


async def form_of(request: Request, most: int = BODY_BYTES) -> dict[str, str]:
    """The fields of a posted form; raises 413, 415, 408 or 400.

    Read by hand, not to take files or any other kind of body, nor more bytes than `most`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Only forms are taken here.")
    told = request.headers.get("content-length", "0")
    if told.isdigit() and int(told) > most:
        raise HTTPException(413, "That is too much text.")
    body = bytearray()
    with anyio.move_on_after(BODY_SECONDS) as scope:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise HTTPException(413, "That is too much text.")
    if scope.cancelled_caught:
        raise HTTPException(408, "The form took too long to arrive.")
    try:
        text = body.decode("utf-8")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError:
        raise HTTPException(400, "The form cannot be read.") from None
    return dict(pairs)


@dataclass
class Rates:
    """How often each key may do something: `burst` times at once, then `per_second`.

    Token buckets, timed by a clock that is never set. A key that has not been seen for long has a
    full bucket, so it need not be kept.
    """

    burst: int
    per_second: float
    clock: Callable[[], float] = time.monotonic
    keys: int = 10_000  # that are kept
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)  # level, when
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, key: str) -> float:
        """Seconds until `key` may do it again; 0 if it may now."""
        with self._lock:
            return self._wait(self._level(key))

    def take(self, key: str) -> float:
        """Count that `key` does it now; seconds that it has to wait, 0 if it need not."""
        with self._lock:
            level = self._level(key)
            if wait := self._wait(level):
                return wait
            if key not in self._buckets and len(self._buckets) >= self.keys:
                self._forget()
            self._buckets[key] = (level - 1, self.clock())
            return 0.0

    def _wait(self, level: float) -> float:
        return 0.0 if level >= 1 else (1 - level) / self.per_second

    def _level(self, key: str) -> float:
        level, then = self._buckets.get(key, (float(self.burst), 0.0))
        return min(self.burst, level + (self.clock() - then) * self.per_second)

    def _forget(self) -> None:
        """Drop the buckets that are full, or the older half where hardly any is."""
        full = [key for key in self._buckets if self._level(key) >= self.burst]
        if len(full) < self.keys // 10:
            by_age = sorted(self._buckets, key=lambda key: self._buckets[key][1])
            full = by_age[: self.keys // 2]
        for key in full:
            del self._buckets[key]


def slow_down(seconds: float) -> None:
    """Raise 429, with the whole seconds to wait, unless there are none."""
    if seconds > 0:
        after = str(math.ceil(seconds))
        raise HTTPException(
            429, f"Too many requests. Try again in {after} s.", {"Retry-After": after}
        )


def client_of(request: Request) -> str:
    """Whom to count requests against: the address, of IPv6 the network of one household."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
