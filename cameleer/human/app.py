"""The web app of human evaluation: which page answers what, and what is said of failures."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cameleer.human import admin, pages
from cameleer.human.campaign import Campaign
from cameleer.human.database import UnavailableError
from cameleer.human.ratings import NotYoursError
from cameleer.human.security import HEADERS, Address, Guard
from cameleer.human.serving import NOT_FOUND, static_route
from cameleer.human.visit import Page, Site, answer, failure

PAGES = [*pages.PAGES, *admin.PAGES]
"""Every page, with who may ask for it; beside them there are only the files of static/."""

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
        routes=[*routes, static_route()],
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
