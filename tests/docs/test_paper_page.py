"""The page on the paper's tables says of the published numbers what they are."""

import re
from collections import Counter
from pathlib import Path

import yaml

from cameleer.data.source import all_sources
from cameleer.results.published.rows import TABLES, published

PAGE = (Path(__file__).resolve().parents[2] / "docs/paper.md").read_text(encoding="utf-8")


def test_numbers_of_verified_scores() -> None:
    said = {name: int(count) for name, count in re.findall(r"^\| `(\S+)` \| (\d+) \|", PAGE, re.M)}
    assert said == Counter(row.table for row in published())


def test_every_table_is_shown_and_spelled_right() -> None:
    lines = re.findall(r"^cameleer eval published (.+)$", PAGE, re.MULTILINE)
    shown = {name for line in lines for name in line.split()}
    assert shown <= set(TABLES)
    assert set(TABLES) - shown == {"tulu-2"}


def test_the_study_of_table_3_has_the_papers_rows_in_its_order() -> None:
    study = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0])
    tuned = [row.data for row in published("table-3") if row.data]
    mixtures = [mixture["name"] for mixture in study["mixtures"]]
    assert mixtures == list(dict.fromkeys(tuned))
    assert set(mixtures) == set(all_sources()) - {"jsonl", "alpaca"} | {"human", "tulu"}
    assert {row.benchmark for row in published("table-3")} - {"average"} == set(study["benchmarks"])


def test_every_table_and_figure_is_in_the_overview() -> None:
    overview = PAGE.split("## What is published")[0]
    assert set(re.findall(r"^\| \[Table (\d)\]", overview, re.MULTILINE)) == set("12345678")
    figures = re.findall(r"^\| \[Figure ([\d, ]+)\]", overview, re.MULTILINE)
    assert sorted(", ".join(figures).split(", ")) == ["2", "3", "4", "6"]
    for line in overview.splitlines():
        for anchor in re.findall(r"\]\(#([^)]+)\)", line):
            headings = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
            assert anchor in [
                re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings
            ]
