"""`cameleer annotate serve`: the pages on which people rate."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cameleer.cli.campaigns import Database, Folder, need_extra
from cameleer.cli.options import Json
from cameleer.core.console import emit_json, note, warn

if TYPE_CHECKING:
    from sqlalchemy import Engine

ANYWHERE = ("0.0.0.0", "::")  # addresses that stand for all of a machine's


def serve(
    folder: Folder,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines come.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes one that is free.")
    ] = 8765,
    database: Database = None,
    public_url: Annotated[
        str | None,
        typer.Option(help="What people type, where a proxy stands before it, such as "
                     "https://rate.example.org."),
    ] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Serve a campaign's pages until Ctrl-C: annotators rate, admins watch.

    Without `--host` only this machine reaches them. For others put a proxy with TLS before it, and
    say `--public-url`.

    Example: `cameleer annotate serve camels`
    """
    need_extra()

    from cameleer.human import serving
    from cameleer.human.app import make_app
    from cameleer.human.campaign import Campaign
    from cameleer.human.database import open_database
    from cameleer.human.security import read_public_url

    url = read_public_url(public_url) if public_url else None
    campaign = Campaign.open(folder)
    engine = open_database(campaign, database)
    try:
        listening = serving.bind(host, port)
        address = url or _address(host, listening.getsockname()[1])
        if json:
            emit_json({"address": address, "accounts": _accounts(engine)})
            sys.stdout.flush()  # whoever reads it waits for it
        note(f"{campaign.settings.name}: {address} (Ctrl-C stops it)")
        _advise(folder, host, url, _accounts(engine))
        serving.serve(make_app(campaign, engine, host=host, public_url=url), listening)
    finally:
        engine.dispose()
    note("stopped; all that was confirmed is saved, and the same command goes on")


def _accounts(engine: Engine) -> int:
    from cameleer.human.accounts import accounts

    return len(accounts(engine))


def _advise(folder: object, host: str, public_url: str | None, accounts: int) -> None:
    """What somebody who serves it the first time should know."""
    if not accounts:
        note(f"nobody can log in yet: cameleer annotate account {folder} add NAME --admin")
    if not _loopback(host) and not (public_url or "").startswith("https:"):
        warn(
            "other machines come without encryption, so passwords can be read on the way: put a "
            "proxy with TLS before it, and give --public-url https://..."
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(host: str, port: int) -> str:
    """The address to open, as far as it can be told."""
    name = socket.gethostname() if host in ANYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
