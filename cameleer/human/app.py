"""The web app of human evaluation: which page answers what, and how it is served."""

from __future__ import annotations

import signal
import socket
from typing import Any

from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cameleer.core.errors import UserError
from cameleer.human import admin, pages
from cameleer.human.campaign import Campaign
from cameleer.human.database import UnavailableError
from cameleer.human.ratings import NotYoursError
from cameleer.human.security import HEADERS, Address, Guard
from cameleer.human.visit import Page, Site, answer, failure, static_files

PAGES = [*pages.PAGES, *admin.PAGES]
"""Every page, with who may ask for it; beside them there are only the files of static/."""

YEAR = 365 * 86400
STOP_SECONDS = 10  # that requests under way get when the server is stopped
KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
NOT_FOUND = "There is no such page."
SAID = {404: NOT_FOUND, 405: "That cannot be done with this page."}


def make_app(
    campaign: Campaign, engine: Engine, *, host: str = "127.0.0.1", public_url: str | None = None
) -> Starlette:
    """The app of a campaign, whose database is `engine`; any ASGI server can serve it, in one
    process (rates are counted in its memory).

    host: the address that it is bound to; public_url: what people type where a proxy stands before
    it, `https://rate.example.org`. It answers to these, to this machine's name and IP addresses.
    """
    address = Address(host, public_url, str(campaign.folder.resolve()))
    site = Site(campaign, engine, address)
    routes = [_route(site, page) for page in PAGES]
    return Starlette(
        routes=[*routes, Route("/static/{name}", _static, methods=["GET"])],
        middleware=[Middleware(Guard, address=address)],
        exception_handlers={
            HTTPException: _failed,
            NotYoursError: _not_yours,
            UnavailableError: _unavailable,
            Exception: _broken,
        },
    )


def _route(site: Site, page: Page) -> Route:
    async def endpoint(request: Request) -> Response:
        return await answer(site, page, request)

    return Route(page.path, endpoint, methods=[page.method])


async def _static(request: Request) -> Response:
    """A file of static/; kept by browsers for as long as it is of the version asked for."""
    name = request.path_params["name"]
    if name not in static_files():
        raise HTTPException(404, NOT_FOUND)
    data, version = static_files()[name]
    same = request.query_params.get("v") == version
    kept = f"public, max-age={YEAR}, immutable" if same else "no-cache"
    kind = KINDS[name.rpartition(".")[2]]
    return Response(data, media_type=kind, headers={"Cache-Control": kept})


async def _failed(request: Request, error: Any) -> Response:
    plain = error.status_code in SAID and error.detail in ("Not Found", "Method Not Allowed")
    said = SAID[error.status_code] if plain else error.detail
    return failure(request, error.status_code, said, dict(error.headers or {}))


async def _not_yours(request: Request, _error: Any) -> Response:
    return failure(request, 404, "There is no such item of yours.", {})


async def _unavailable(request: Request, _error: Any) -> Response:
    said = "The server is too busy to save this. Try again in a moment."
    return failure(request, 503, said, {"Retry-After": "2"})


async def _broken(request: Request, _error: Any) -> Response:
    """A bug of ours: nothing of it is told; the log has it. It is answered outside of Guard."""
    said = "Something went wrong on the server. It was noted there."
    return failure(request, 500, said, dict(HEADERS))


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any that is free. UserError where none can be."""
    hint = "give another --host or --port"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
        # Of sockets made so asyncio does not know that they are TCP, and each page waits 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot listen at {host}:{port}: {reason}", hint=hint) from None


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until the process is interrupted or told to end; what is under way is finished."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # its paths would hold invite links
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=STOP_SECONDS,
    )

    def told_to_end(*_: Any) -> None:
        raise KeyboardInterrupt

    # The server repeats a signal for its caller once it has stopped: SIGTERM is then no death.
    before = signal.signal(signal.SIGTERM, told_to_end)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
