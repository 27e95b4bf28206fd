"""The pages of admins: the dashboard, the export, the accounts."""

from __future__ import annotations

import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from cameleer.core.errors import UserError
from cameleer.core.files import to_json
from cameleer.human.accounts import Rater, accounts, add_rater, disable, invite
from cameleer.human.dashboard import summary
from cameleer.human.export import judgements
from cameleer.human.visit import Page, Visit, sentence
from cameleer.results.judgements import to_row

ROLES = ("annotator", "admin")


def dashboard(visit: Visit) -> Response:
    """How the campaign stands; its script fetches the numbers again and again."""
    return visit.page("admin", summary=summary(visit.engine, visit.campaign))


def numbers(visit: Visit) -> Response:
    """The dashboard's numbers alone."""
    return visit.page("numbers", summary=summary(visit.engine, visit.campaign))


def export(visit: Visit) -> Response:
    """All judgements so far as JSON lines, as `cameleer annotate export` writes them."""
    rows = "".join(to_json(to_row(one)) + "\n" for one in judgements(visit.engine, visit.campaign))
    stem = re.sub(r"[^\w.-]+", "-", visit.campaign.settings.name, flags=re.ASCII).strip("-.")
    named = f'attachment; filename="{stem or "campaign"}.judgements.jsonl"'
    return Response(rows, media_type="application/jsonl", headers={"Content-Disposition": named})


def accounts_page(visit: Visit) -> Response:
    """Who may come in."""
    return _accounts(visit)


def _accounts(visit: Visit, status: int = 200, **values: Any) -> Response:
    given = {"error": "", "link": "", "whose": "", "name": "", **values}
    return visit.page("accounts", status, accounts=accounts(visit.engine), **given)


def make_account(visit: Visit) -> Response:
    """A new account, and the link by which it is entered."""
    name, role = visit.form.get("name", "").strip(), visit.form.get("role", "annotator")
    if role not in ROLES:
        raise HTTPException(422, "There is no such role.")
    known: Any = role
    try:
        rater = add_rater(visit.engine, name, known)
    except UserError as error:
        return _accounts(visit, 422, error=sentence(error), name=name)
    return _with_link(visit, rater)


def new_link(visit: Visit) -> Response:
    """Another invite link for an account; one that was given before ends."""
    return _with_link(visit, _rater(visit))


def _with_link(visit: Visit, rater: Rater) -> Response:
    """The accounts with a link: its token is kept nowhere, so it is shown in this answer only."""
    token = invite(visit.engine, rater.id)
    site = visit.site.address.origin(visit.request.headers.get("host", ""))
    return _accounts(visit, link=f"{site}/invite/{token}", whose=rater.name)


def disable_account(visit: Visit) -> Response:
    """Let somebody in no more, from now on; not oneself, or nobody could undo it."""
    rater = _rater(visit)
    if rater.id == visit.rater.id:
        return _accounts(visit, 422, error="You cannot disable yourself.")
    disable(visit.engine, rater.id)
    return visit.go("/admin/accounts")


def _rater(visit: Visit) -> Rater:
    """The account in the path; 404 where there is none."""
    wanted = visit.request.path_params["rater"]
    found = [one.rater for one in accounts(visit.engine) if one.rater.id == wanted]
    if not found:
        raise HTTPException(404, "There is no such account.")
    return found[0]


PAGES: list[Page] = [
    Page("GET", "/admin", "admin", dashboard),
    Page("GET", "/admin/numbers", "admin", numbers),
    Page("GET", "/admin/export", "admin", export),
    Page("GET", "/admin/accounts", "admin", accounts_page),
    Page("POST", "/admin/accounts", "admin", make_account),
    Page("POST", "/admin/accounts/{rater:int}/invite", "admin", new_link),
    Page("POST", "/admin/accounts/{rater:int}/disable", "admin", disable_account),
]
