"""The page about training runs: every point in its place, finished or not, one or several."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cameleer.core.errors import UserError
from cameleer.core.files import write_json, write_jsonl
from cameleer.train.drawings import POINTS, losses, stretches
from cameleer.train.page import plain, read_run, training_page


def row(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 2.0 / max(1, step),
        "supervised_tokens": 10,
        "loss/a": 1.0,
        "supervised_tokens/a": 4,
        "loss/<b>": 3.0,
        "supervised_tokens/<b>": 6,
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
        "tokens_per_second": 100.0,
        "mfu": 0.4,
        "memory_gib": 1.5,
        "seconds_left": 120.0,
        **more,
    }


def tried(loss: float) -> dict[str, Any]:
    facts = {"loss": loss, "low": loss - 0.1, "high": loss + 0.1, "conversations": 4}
    return {**facts, "sources": {"a": facts, "<b>": facts}}


def write_run(folder: Path, rows: list[dict[str, Any]], **outcome: Any) -> Path:
    folder.mkdir()
    write_jsonl(folder / "metrics.jsonl", rows)
    if outcome:
        facts = {"finished": "2026", "environment": {"cameleer": "0"}, "config": {"seed": 42}}
        write_json(folder / "manifest.json", {**facts, "outcome": outcome})
    return folder


ROWS = [{"step": 0, "validation": tried(3.0)}, row(1), row(2), row(3, validation=tried(1.25))]


def test_points_of_a_line() -> None:
    points = losses(ROWS, "run", "")
    assert [(p["step"], p["loss"]) for p in points if "loss" in p] == [(1, 2), (2, 1), (3, 2 / 3)]
    assert [(p["step"], p["tried"], p["low"]) for p in points if "tried" in p] == [
        (0, 3.0, 2.9),
        (3, 1.25, 1.15),
    ]
    assert [p["loss"] for p in losses(ROWS, "run", "/<b>") if "loss" in p] == [3, 3, 3]


def test_long_runs_are_taken_together_by_tokens() -> None:
    rows = [row(n, loss=float(n % 2), supervised_tokens=1 + 2 * (n % 2)) for n in range(2 * POINTS)]
    points = losses(rows, "run", "")
    assert len(points) == POINTS
    assert {p["loss"] for p in points} == {0.75}
    assert [p["step"] for p in points[:2]] == [1, 3]
    assert sum(len(part) for part in stretches(rows[:-1])) == len(rows) - 1


def test_a_finished_run(tmp_path: Path) -> None:
    found = {"before": tried(3.0), "after": tried(1.25), "change": tried(-1.75)}
    folder = write_run(tmp_path / "dolly", ROWS, steps=3, final_loss=0.5, validation=found)
    (tmp_path / "dolly.stopped" / "step-2").mkdir(parents=True)
    page = training_page([folder])
    assert page.count("<svg") == 2 + 5
    assert "training from 2.000 to 0.667, validation from 3.000 to 1.250" in page
    assert "3 steps, finished 2026" in page
    assert "dolly.stopped/step-2" in page
    cells = re.search(r'<tr><th scope="row">&lt;b&gt;</th>(.*?)</tr>', page, re.DOTALL)
    assert cells
    text = " ".join(re.sub(r"<.*?>", " ", cells[1]).split())
    assert text == "4 3.000 2.900 to 3.100 1.250 1.150 to 1.350 -1.750 -1.850 to -1.650"
    assert "<b>:" not in page.replace("<b>dolly:", "")  # names are text, not markup
    assert 'scope="row">seed' in page
    assert "http://" not in page.replace("http://www.w3.org", "")  # needs nothing else


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    partial = write_run(tmp_path / ".dolly.partial", ROWS)
    with (partial / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 4, "lo')
    page = training_page([tmp_path / "dolly"])
    assert "Not finished:</span> 3 steps so far, 2 minutes left" in page
    assert "What the manifest" not in page


def test_runs_side_by_side(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", ROWS, steps=3, device="cpu")
    other = write_run(tmp_path / "other", [row(1), row(2)], steps=2, device="cpu")
    page = training_page([one, other])
    assert "one: training from" in page
    assert "other: training from" in page
    assert "<td><b>3</b></td><td><b>2</b></td>" in page  # they differ
    assert "<td>cpu</td><td>cpu</td>" in page


def test_an_old_run_without_sources_and_memory(tmp_path: Path) -> None:
    keys = ("step", "loss", "supervised_tokens", "learning_rate", "grad_norm", "tokens_per_second")
    folder = write_run(tmp_path / "old", [{key: row(n)[key] for key in keys} for n in (1, 2, 3)])
    assert training_page([folder]).count("<svg") == 1 + 3


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no training run"):
        read_run(tmp_path)
    write_run(tmp_path / "new", ROWS[:1])
    with pytest.raises(UserError, match="has taken no step yet"):
        read_run(tmp_path / "new")


def test_values_as_people_write_them() -> None:
    assert [plain(one) for one in (None, True, "cpu", 12345, 2e-5, 0.123456)] == [
        "–", "true", "cpu", "12,345", "2e-05", "0.1235"
    ]  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    from cameleer.cli.train import app

    folder = write_run(tmp_path / "dolly", ROWS, steps=3)
    ran = CliRunner().invoke(app, ["show", str(folder), "--json"])
    assert json.loads(ran.stdout) == {"page": str(folder / "training.html")}
    assert (folder / "training.html").read_text().startswith("<!doctype html>")
