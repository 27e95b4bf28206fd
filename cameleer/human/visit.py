"""One request of a browser: who sends it, what it may do, and how a page answers it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from cameleer.core.errors import UserError
from cameleer.human.accounts import Rater, Session, session_of
from cameleer.human.campaign import Campaign
from cameleer.human.ratings import Task
from cameleer.human.security import (
    Address,
    Rates,
    check_origin,
    check_token,
    client_of,
    form_of,
    slow_down,
)
from cameleer.human.serving import filled

Who = Literal["anyone", "annotator", "admin", "any account"]
UNNAMED = "Human evaluation"
POSTS = 60, 2.0  # that an account may send at once, and a second from then on
STRANGERS = 250, 1.0  # and an address without one: a whole class may come in by one


@dataclass(frozen=True)
class Site:
    """What all requests share. posts, strangers: how often an account, an address may post."""

    campaign: Campaign
    engine: Engine
    address: Address
    posts: Rates = field(default_factory=lambda: Rates(*POSTS))
    strangers: Rates = field(default_factory=lambda: Rates(*STRANGERS))

    @cached_property
    def models(self) -> set[str]:
        """The names that no annotator may read."""
        return {name for one in self.campaign.rated for name in (one.a, one.b)}

    @cached_property
    def title(self) -> str:
        """The campaign's name, unless it names a model."""
        name = self.campaign.settings.name
        told = any(model.casefold() in name.casefold() for model in self.models)
        return UNNAMED if told else name


@dataclass(frozen=True)
class Page:
    """A path that is answered. who: may ask for it; handler: answers, in a thread of its own."""

    method: Literal["GET", "POST"]
    path: str
    who: Who
    handler: Callable[[Visit], Response]


@dataclass(frozen=True)
class Visit:
    """One request; session: whose, if anybody is logged in; form: what was posted."""

    site: Site
    request: Request
    session: Session | None
    form: dict[str, str]

    @property
    def engine(self) -> Engine:
        return self.site.engine

    @property
    def campaign(self) -> Campaign:
        return self.site.campaign

    @property
    def rater(self) -> Rater:
        """Who is logged in; only for pages that ask for an account."""
        assert self.session is not None
        return self.session.rater

    @property
    def token(self) -> str:
        """The token in the path."""
        return str(self.request.path_params["token"])

    @property
    def cookie(self) -> str | None:
        """The session's token that the browser came with."""
        return self.request.cookies.get(self.site.address.cookie)

    @property
    def wants_json(self) -> bool:
        """Whether a script of ours asks, not a person."""
        return wants_json(self.request)

    @cached_property
    def csrf(self) -> str:
        """What each form of this browser must carry: the session's token, or that of a cookie."""
        if self.session is not None:
            return self.session.csrf
        return self.request.cookies.get(self._stranger) or secrets.token_urlsafe(24)

    @property
    def _stranger(self) -> str:
        return self.site.address.cookie + "_form"

    def task_page(self, template: str, task: Task, **values: Any) -> Response:
        """A page that shows a task: the prompt and the answers in the order of this annotator.

        The models' names are not among what the template is given.
        """
        instance = self.campaign.instances[task.instance]
        first, second = instance.completion_a, instance.completion_b
        if task.b_first:
            first, second = second, first
        texts = {"prompt": instance.prompt, "first": first, "second": second}
        return self.page(template, task=task, texts=texts, **values)

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page of templates/, with what its frame needs."""
        given = {
            "title": self.site.campaign.settings.name if self.is_admin else self.site.title,
            "rater": self.session.rater if self.session else None,
            "csrf": self.csrf,
            "path": self.request.url.path,
            **values,
        }
        response = HTMLResponse(filled(template, **given), status)
        if self.session is None:
            self.set_cookie(response, self._stranger, self.csrf)
        return response

    @property
    def is_admin(self) -> bool:
        """Whether an admin is logged in."""
        return self.session is not None and self.session.rater.role == "admin"

    def go(self, path: str) -> Response:
        """On to another page; a form that was posted is not posted again by going back."""
        return RedirectResponse(path, 303)

    def set_cookie(self, response: Response, name: str, value: str) -> None:
        """A cookie that no script reads, no other site sends, and that ends with the browser."""
        secure = self.site.address.secure
        response.set_cookie(name, value, path="/", secure=secure, httponly=True, samesite="strict")


def wants_json(request: Request) -> bool:
    """Whether a script of ours asks, not a person."""
    return "application/json" in request.headers.get("accept", "")


async def answer(site: Site, page: Page, request: Request) -> Response:
    """Check a request, then let its page answer it; errors are HTTPException."""
    form: dict[str, str] = {}
    if page.method == "POST":
        check_origin(request, site.address)
        form = await form_of(request)
    return await run_in_threadpool(_answer, site, page, request, form)


def _answer(site: Site, page: Page, request: Request, form: dict[str, str]) -> Response:
    token = request.cookies.get(site.address.cookie)
    session = session_of(site.engine, token) if token else None
    visit = Visit(site, request, session, form)
    if page.method == "POST":
        whose = f"account {session.rater.id}" if session else client_of(request)
        slow_down((site.posts if session else site.strangers).take(whose))
    if page.who != "anyone" and session is None:
        if visit.wants_json or page.path == "/admin/numbers":
            raise HTTPException(401, "You were signed out.")
        return visit.go("/login")
    if session and page.who in ("annotator", "admin") and session.rater.role != page.who:
        raise HTTPException(403, _WRONG_ROLE[page.who])
    if page.method == "POST":
        check_token(form.get("csrf", ""), visit.csrf)
    return page.handler(visit)


_WRONG_ROLE = {
    "admin": "This page is for admins.",
    "annotator": "Admins see which model is which, so they do not rate. "
    "Make yourself an annotator's account for it.",
}


def failure(request: Request, status: int, said: str, headers: dict[str, str]) -> Response:
    """What is told of a request that failed: to a script as JSON, to a person as a page."""
    if wants_json(request):
        return JSONResponse({"error": said}, status, headers)
    values = {"title": UNNAMED, "rater": None, "csrf": "", "path": "", "status": status}
    return HTMLResponse(filled("error", **values, said=said), status, headers)


def sentence(error: UserError) -> str:
    """An error as a sentence."""
    field = f"{error.field.replace('_', ' ')} " if error.field else ""
    text = f"{field}{error.message}"
    hint = f" ({error.hint})" if error.hint else ""
    return f"{text[:1].upper()}{text[1:]}{hint}."
