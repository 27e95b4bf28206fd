"""The page of a chat: what it answers, and to whom, namely to this machine's browser alone."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cameleer.core.errors import UserError
from cameleer.core.files import to_json
from cameleer.human.security import HEADERS, Address, Guard, check_origin, form_of
from cameleer.human.serving import filled, static_route
from cameleer.talk.shared import LOST, SharedChat

ADDRESS = Address("127.0.0.1", None, "")
MOST = 1024 * 1024  # bytes of a form: a message may be long
PAUSE = 0.1  # seconds between two looks at what has changed

Form = dict[str, str]
ASKED: dict[str, Callable[[SharedChat, Form], None]] = {
    "send": lambda chat, form: chat.send(form.get("text", "")),
    "stop": lambda chat, _: chat.stop(),
    "new": lambda chat, _: chat.new(),
    "set": lambda chat, form: chat.set(form.get("system", ""), form.get("temperature", "")),
    "vote": lambda chat, form: chat.vote(
        _number(form.get("turn", "")), form.get("vote", ""), form.get("comment", "")
    ),
    "undo": lambda chat, _: chat.undo_vote(),
}
"""What can be posted, by its path."""


def new_token() -> str:
    """What an address must hold: other people of this machine reach its port, too."""
    return secrets.token_urlsafe(24)


def page_app(chat: SharedChat, token: str) -> Starlette:
    """The app of a chat's page, at `/TOKEN/`."""

    async def page(request: Request) -> Response:
        _check(request, token)
        sides = len(chat.chat.sides)
        given = {"title": "Cameleer", "rater": None, "csrf": "", "path": "", "sides": sides}
        return HTMLResponse(filled("chat", **given, votes=chat.chat.votes is not None))

    async def events(request: Request) -> Response:
        _check(request, token)
        return StreamingResponse(_events(chat), media_type="text/event-stream")

    async def saved(request: Request) -> Response:
        _check(request, token)
        lines = [to_json(row) + "\n" for row in chat.rows()]
        named = {"Content-Disposition": 'attachment; filename="chat.jsonl"'}
        return Response("".join(lines), media_type="application/jsonl", headers=named)

    async def asked(request: Request) -> Response:
        _check(request, token)
        do = ASKED.get(request.path_params["what"])
        if do is None:
            raise HTTPException(404, "There is no such page.")
        check_origin(request, ADDRESS)
        await run_in_threadpool(do, chat, await form_of(request, MOST))
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/{token}/", page, methods=["GET"]),
            Route("/{token}/events", events, methods=["GET"]),
            Route("/{token}/chat.jsonl", saved, methods=["GET"]),
            Route("/{token}/{what}", asked, methods=["POST"]),
            static_route(),
        ],
        middleware=[Middleware(Guard, address=ADDRESS)],
        exception_handlers={HTTPException: _failed, UserError: _refused, Exception: _broken},
    )


def _check(request: Request, token: str) -> None:
    """Raise 404 unless the address holds the token."""
    given = request.path_params["token"]
    if not secrets.compare_digest(given.encode(), token.encode()):
        raise HTTPException(404, "This is not the chat's address: it is told where it was started.")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


async def _events(chat: SharedChat) -> AsyncIterator[str]:
    """What there is to see, each time that it has changed, until the chat ends."""
    known, version = (-1, 0), -1
    while not chat.ended:
        if chat.version != version:
            version = chat.version
            view = chat.view(known)
            known = view["sheet"], max(0, view["first"] + len(view["turns"]) - 1)
            yield f"data: {json.dumps(view)}\n\n"
        await asyncio.sleep(PAUSE)


async def _failed(_: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, dict(error.headers or {}))


async def _refused(_: Request, error: Any) -> Response:
    return JSONResponse({"error": f"{error}."}, 409)


async def _broken(_: Request, _error: Any) -> Response:
    """A bug of ours, or a full disk; it is answered outside of Guard, and the log has it."""
    return JSONResponse({"error": LOST}, 500, dict(HEADERS))
