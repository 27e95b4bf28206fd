"""The verbs of `cameleer judge`: a judge model says which of two answers is better."""

from __future__ import annotations

from cameleer.cli import auditing, compare, judging, replay
from cameleer.cli.options import group

app = group("Judge models: which of two answers is better, and is the judge to be trusted?")

app.command("ls")(judging.ls)
app.command("run")(judging.run)
app.command("replay")(replay.replay)
app.command("audit")(auditing.audit)
app.command("correct")(auditing.correct)
app.command("compare")(compare.compare)
