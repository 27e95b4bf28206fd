"""The verbs of `cameleer annotate`: people compare answers, and how far they agree."""

from __future__ import annotations

import typer

from cameleer.cli import agreement, campaigns, exporting, serving

app = typer.Typer(
    help="Human evaluation: people compare two models' answers, blinded.", no_args_is_help=True
)
app.command("new")(campaigns.new)
app.command("account")(campaigns.account)
app.command("serve")(serving.serve)
app.command("export")(exporting.export)
app.command("agreement")(agreement.agreement)
