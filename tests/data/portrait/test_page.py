"""The page about a file: all numbers there, whole, offline, and nothing in the data is obeyed."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.template import template_named
from cameleer.cli import app
from cameleer.core.files import write_jsonl
from cameleer.data.portrait.drawings import histogram
from cameleer.data.portrait.page import facts, portrait_page, short_names, table_row
from cameleer.data.portrait.survey import Survey, survey

HOSTILE = "</style><script>alert(1)</script>{{ 7 * 7 }}\x1b\u202e"


class Page(HTMLParser):
    """Tags that open, checked to close in order."""

    void = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.seen: Counter[str] = Counter()
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.void:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def surveyed(folder: Path, tokenizer: Any, name: str, count: int, source: str = "own") -> Survey:
    rows = [
        Conversation(
            str(n), source, (Message("user", f"Write {HOSTILE}"), Message("assistant", f"No {n}"))
        ).to_row()
        for n in range(count)
    ]
    path = folder / f"{name}.jsonl"
    write_jsonl(path, rows)
    return survey(path, tokenizer, template_named("tulu"))


@pytest.mark.parametrize("files", [1, 6])
def test_the_page_is_whole_and_obeys_nothing(
    tmp_path: Path, tiny_tokenizer: Any, files: int
) -> None:
    surveys = [
        surveyed(tmp_path, tiny_tokenizer, f"f{n}", 3, HOSTILE if n else "dolly")
        for n in range(files)
    ]
    text = portrait_page(surveys, "<b>tokenizer")
    page = Page(text)
    assert not page.stack
    assert not page.seen["script"]
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?://(?!www\.w3\.org)|src=|@import|[\x1b\u202e]", text)
    assert "{{ 7 * 7 }}" in text
    assert "default-src 'none'" in text
    assert page.seen["svg"] == 2
    assert text.count('role="img" aria-label=') == 2
    assert "&lt;b&gt;tokenizer" in text
    assert re.search(r"3 <span class=\"paper\">/ 15,011</span>", text)
    assert "prefers-color-scheme: dark" in text


def test_facts_are_json_and_agree_with_table_1(tmp_path: Path, tiny_tokenizer: Any) -> None:
    found = surveyed(tmp_path, tiny_tokenizer, "f", 4)
    values = json.loads(json.dumps(facts(found)))
    assert {key: values[key] for key in ("instances", "rounds")} == {"instances": 4, "rounds": 1.0}
    assert values["prompt_tokens"] == table_row(found)["prompt_tokens"]
    assert values["repeats"]["prompt"] == 3
    assert values["quantiles"]["learned"]["1.0"] == max(found.lengths["learned"])


@given(st.dictionaries(st.integers(0, 100_000), st.integers(1, 9), min_size=1))
def test_the_area_of_a_histogram_is_one(counts: dict[int, int]) -> None:
    rows = histogram(Counter(counts))
    area = sum(row["share"] * log2(row["high"] / row["low"]) for row in rows)
    assert area == pytest.approx(1)
    assert rows[0]["low"] <= max(1, min(counts)) < rows[0]["high"]
    assert rows[-1]["low"] <= max(1, max(counts)) < rows[-1]["high"]
    assert all(one["high"] == two["low"] for one, two in pairwise(rows))


def test_messages_are_grouped_in_order(tmp_path: Path, tiny_tokenizer: Any) -> None:
    found = surveyed(tmp_path, tiny_tokenizer, "f", 2)
    found.messages = Counter({2: 5, 9: 2, 7: 1, 60: 2})
    text = portrait_page([found], "t")
    part = text[text.index("Messages per") : text.index("Share of a conv")]
    rows = re.findall(r'<th scope="row">(.*?)</th>.*?</td><td>(\d+)</td>', part)
    said = [("1", 0), ("2", 5), ("3", 0), ("4", 0), ("5–6", 0), ("7–10", 3), ("11–20", 0)]
    assert rows == [(name, str(n)) for name, n in [*said, ("21–50", 0), ("51–", 2)]]


def test_files_of_one_name_are_told_apart() -> None:
    assert short_names([Path("a/x.jsonl"), Path("a/y.jsonl")]) == ["x", "y"]
    assert len(set(short_names([Path("a/x.jsonl"), Path("b/x.jsonl")]))) == 2


@pytest.mark.embedded
def test_the_command(tmp_path: Path, embedded_model: Path, tiny_tokenizer: Any) -> None:
    file = surveyed(tmp_path, tiny_tokenizer, "f", 3, "dolly").file
    page = tmp_path / "page.html"
    command = ["data", "stats", str(file), "-t", str(embedded_model), "--html", str(page)]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)["files"]
    assert row["paper"]["instances"] == 15011
    assert page.read_text().startswith("<!doctype html>")
    plain = CliRunner().invoke(app, ["data", "stats", str(file), "-t", str(embedded_model)])
    assert "3 / 15,011" in plain.stdout
