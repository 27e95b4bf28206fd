"""The pages of annotators: log in, guidelines, practice, rate, undo, pause, done."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any, get_args

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from cameleer.core.errors import UserError
from cameleer.human.accounts import (
    LEAST_PASSWORD,
    LoginError,
    check_password,
    close_session,
    invited,
    open_session,
    redeem,
)
from cameleer.human.assignment import next_task
from cameleer.human.campaign import Practice
from cameleer.human.ratings import (
    MOST_COMMENT,
    SUBMISSION,
    InvalidRatingError,
    Quality,
    Rating,
    Task,
    progress,
    rating_of,
    submit,
    task_of,
    undo,
)
from cameleer.human.security import client_of
from cameleer.human.text import shown
from cameleer.human.visit import Page, Visit, sentence

PREFERENCES = {
    -2: "first, clearly",
    -1: "first, slightly",
    0: "about equal",
    1: "second, slightly",
    2: "second, clearly",
}
MISSING = {
    "first_acceptable": "Say whether the first answer is acceptable.",
    "second_acceptable": "Say whether the second answer is acceptable.",
    "preference": "Say which answer is better.",
}
NOT_VALID = "This link was used already, or has expired. Ask for a new one."


def home(visit: Visit) -> Response:
    """Where somebody belongs: log in, the dashboard, guidelines the first time, or rating."""
    if visit.session is None:
        return visit.go("/login")
    if visit.is_admin:
        return visit.go("/admin")
    return visit.go("/rate" if _begun(visit) else "/guidelines")


def login_form(visit: Visit) -> Response:
    """The form to log in by; who is logged in needs none."""
    if visit.session is not None:
        return visit.go("/")
    return visit.page("login", error="", name="")


def login(visit: Visit) -> Response:
    """Log in by name and password; which of the two is wrong is not told."""
    name = visit.form.get("name", "")
    password = visit.form.get("password", "")
    try:
        rater = check_password(visit.engine, name, password, client_of(visit.request))
    except LoginError as error:
        response = visit.page("login", 429 if error.wait else 401, error=sentence(error), name=name)
        if error.wait:
            response.headers["Retry-After"] = str(math.ceil(error.wait))
        return response
    return _enter(visit, rater.id)


def _enter(visit: Visit, rater: int) -> Response:
    """Begin a session under a new token; one that the browser came with ends."""
    response = visit.go("/")
    token = open_session(visit.engine, rater, before=visit.cookie)
    visit.set_cookie(response, visit.site.address.cookie, token)
    return response


def logout(visit: Visit) -> Response:
    """End the session, on the server too."""
    if visit.cookie is not None:
        close_session(visit.engine, visit.cookie)
    response = visit.go("/login")
    address = visit.site.address
    response.delete_cookie(
        address.cookie, path="/", secure=address.secure, httponly=True, samesite="strict"
    )
    return response


def invite_form(visit: Visit) -> Response:
    """Where an invite link leads: to choose a password. Looking at it does not use it up."""
    return _invite_page(visit, "")


def accept_invite(visit: Visit) -> Response:
    """Set the password, use the link up, and log in."""
    password = visit.form.get("password", "")
    if invited(visit.engine, visit.token) is None:
        raise HTTPException(404, NOT_VALID)
    if password != visit.form.get("again", ""):
        return _invite_page(visit, "The two passwords differ.")
    try:
        rater = redeem(visit.engine, visit.token, password)
    except LoginError:  # used between the two lines above
        raise HTTPException(404, NOT_VALID) from None
    except UserError as error:
        return _invite_page(visit, sentence(error))
    return _enter(visit, rater.id)


def _invite_page(visit: Visit, error: str) -> Response:
    rater = invited(visit.engine, visit.token)
    if rater is None:
        raise HTTPException(404, NOT_VALID)
    status = 422 if error else 200
    return visit.page("invite", status, invited=rater, least=LEAST_PASSWORD, error=error)


def guidelines(visit: Visit) -> Response:
    """What raters are told."""
    text = visit.campaign.settings.guidelines
    begun = not visit.is_admin and _begun(visit)
    practice = len(visit.campaign.practice)
    html = shown(text, breaks=False)
    return visit.page("guidelines", guidelines=html, raw=text, begun=begun, practice=practice)


def rate_form(visit: Visit) -> Response:
    """What is to be rated now: always the current item, so going back shows no old one."""
    task = next_task(visit.engine, visit.campaign, visit.rater.id)
    if task is None:
        return visit.go("/done")
    return _rate_page(visit, task)


def _rate_page(visit: Visit, task: Task, error: str = "") -> Response:
    given = visit.form.get("submission", "")
    return visit.task_page(
        "rate",
        task,
        status=422 if error else 200,
        error=error,
        given=visit.form,
        progress=progress(visit.engine, visit.rater.id),
        practice=len(visit.campaign.practice),
        submission=given if SUBMISSION.fullmatch(given) else secrets.token_urlsafe(16),
        most_comment=MOST_COMMENT,
    )


def rate(visit: Visit) -> Response:
    """Keep a rating; the same submission sent again is one rating."""
    task = task_of(visit.engine, visit.rater.id, visit.token)
    try:
        rating = _rating(visit.form)
        submission = visit.form.get("submission", "")
        submit(visit.engine, visit.rater.id, task.token, rating, submission)
    except InvalidRatingError as error:
        said = _what_is_missing(error) or sentence(error)
        if visit.wants_json:
            return JSONResponse({"error": said}, 422)
        return _rate_page(visit, task, said)
    to = f"/practice/{task.token}" if task.kind == "practice" else "/rate"
    return JSONResponse({"next": to}) if visit.wants_json else visit.go(to)


def _rating(form: dict[str, str]) -> Rating:
    """The rating that a form tells; InvalidRatingError where it tells none."""
    quality = form.get("quality", "good")
    if quality not in get_args(Quality):
        raise InvalidRatingError("is not known", field="quality")
    known: Any = quality
    return Rating(
        first_acceptable=_acceptable(form, "first_acceptable"),
        second_acceptable=_acceptable(form, "second_acceptable"),
        preference=_preference(form.get("preference", "")),
        quality=known,
        comment=form.get("comment", ""),
        seconds=_seconds(form.get("seconds", "")),
    )


def _acceptable(form: dict[str, str], name: str) -> bool | None:
    known = {"yes": True, "no": False, "": None}
    told = form.get(name, "")
    if told not in known:
        raise InvalidRatingError("is neither yes nor no", field=name)
    return known[told]


def _preference(told: str) -> int | None:
    known = {str(value): value for value in PREFERENCES}
    if told and told not in known:
        raise InvalidRatingError("is not one of -2, -1, 0, 1, 2", field="preference")
    return known.get(told)


def _seconds(told: str) -> float:
    """NaN where a page without scripts tells none: the server's own count is then taken."""
    try:
        return float(told)
    except ValueError:
        return math.nan


def _what_is_missing(error: InvalidRatingError) -> str | None:
    return MISSING.get(error.field or "") if error.message == "is missing" else None


def feedback(visit: Visit) -> Response:
    """What a good rating of a practice item is, beside the one that was given."""
    task = task_of(visit.engine, visit.rater.id, visit.token)
    practice = visit.campaign.instances[task.instance].practice
    if task.kind != "practice" or practice is None:
        raise HTTPException(404, "There is no such page.")
    rating = rating_of(visit.engine, visit.rater.id, task.token)
    if rating is None:
        return visit.go("/rate")
    compared = compare(rating, practice, task.b_first)
    right = all(one.right for one in compared)
    told = shown(practice.told)
    return visit.task_page("feedback", task, compared=compared, right=right, told=told)


@dataclass(frozen=True)
class Compared:
    """A question of a practice item: what was said, and what a good rating says."""

    asked: str
    said: str
    wanted: str
    right: bool


def compare(rating: Rating, practice: Practice, b_first: bool) -> list[Compared]:
    """A rating beside a good one, question by question, as the answers were shown."""
    first, second = practice.a_acceptable, practice.b_acceptable
    if b_first:
        first, second = second, first
    good = sorted(-one if b_first else one for one in practice.preferences)
    preferred = " or ".join(PREFERENCES[one] for one in good)
    said = "–" if rating.preference is None else PREFERENCES[rating.preference]
    return [
        _acceptability("First answer acceptable", rating.first_acceptable, first),
        Compared("Which is better", said, preferred, rating.preference in good),
        _acceptability("Second answer acceptable", rating.second_acceptable, second),
    ]


def _acceptability(asked: str, said: bool | None, wanted: bool) -> Compared:
    words = {True: "yes", False: "no", None: "–"}
    return Compared(asked, words[said], words[wanted], said is wanted)


def take_back(visit: Visit) -> Response:
    """Undo the latest rating: it is open again, and shown."""
    undo(visit.engine, visit.rater.id)
    return visit.go("/rate")


def pause(visit: Visit) -> Response:
    """A page on which no time counts."""
    return visit.page("done", paused=True, progress=progress(visit.engine, visit.rater.id))


def done(visit: Visit) -> Response:
    """Nothing is left to rate."""
    if next_task(visit.engine, visit.campaign, visit.rater.id) is not None:
        return visit.go("/rate")
    return visit.page("done", paused=False, progress=progress(visit.engine, visit.rater.id))


def _begun(visit: Visit) -> bool:
    so_far = progress(visit.engine, visit.rater.id)
    return bool(so_far.done or so_far.practised)


PAGES: list[Page] = [
    Page("GET", "/", "anyone", home),
    Page("GET", "/login", "anyone", login_form),
    Page("POST", "/login", "anyone", login),
    Page("POST", "/logout", "any account", logout),
    Page("GET", "/invite/{token}", "anyone", invite_form),
    Page("POST", "/invite/{token}", "anyone", accept_invite),
    Page("GET", "/guidelines", "any account", guidelines),
    Page("GET", "/rate", "annotator", rate_form),
    Page("POST", "/rate/{token}", "annotator", rate),
    Page("GET", "/practice/{token}", "annotator", feedback),
    Page("POST", "/undo", "annotator", take_back),
    Page("GET", "/pause", "annotator", pause),
    Page("GET", "/done", "annotator", done),
]
