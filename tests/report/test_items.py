"""The pages of items beside the report: every item, all models, what flips between two and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.report.items import write_items
from cameleer.results.items_page import REASONS, why
from cameleer.results.store import read_study

Make = Callable[..., Path]


def embedded(page: Path, name: str) -> Any:
    """What a page holds as JSON."""
    text = page.read_text()
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text)
    assert found
    return json.loads(found[1])


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    return {row["item"]: row for row in map(json.loads, lines)}


def test_every_item_stands_there_with_all_models(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan", "code"), n=30)
    pages = write_items(read_study(study), tmp_path / "report")
    assert [page.benchmark for page in pages] == ["mmlu:0-shot", "gsm:cot", "tydiqa:gold"]
    for page in pages:
        assert page.models == {name: [name] for name in ("base, untuned", "flan", "code")}
        path = tmp_path / "report" / page.address
        held = {one["k"]: one for one in embedded(path, "entries")}
        where = page.benchmark.replace(":", "-")
        runs = [rows_of(tmp_path / f"cells/smollm2-135m/{name}/{where}")
                for name in ("untuned", "flan-1", "code-1")]  # fmt: skip
        assert held.keys() == runs[0].keys()
        for key, one in held.items():
            assert [side["s"] for side in one["sides"]] == [run[key]["score"] for run in runs]
            assert [side["o"] for side in one["sides"]] == [run[key]["outputs"] for run in runs]
            pairs = [(0, 1), (0, 2), (1, 2)]
            for (sign, bits), (a, b) in zip(one["pairs"], pairs, strict=True):
                first, second = runs[a][key], runs[b][key]
                assert sign == (second["score"] > first["score"]) - (
                    second["score"] < first["score"]
                )
                told = [said for at, said in enumerate(REASONS) if bits >> at & 1]
                assert told == why(first, second)
            assert [side["p"] for side in one["sides"]][1:] == [0, 0]  # the same prompt, kept once


def test_a_report_leads_to_what_flips(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan", "code"), n=20)
    page = write_items(read_study(study), tmp_path / "report")[0]
    assert page.flips("base, untuned", "flan") == (
        "items/mmlu-0-shot.html#first=base%2C+untuned&second=flan&score=flipped"
    )
    assert page.flips("base, untuned", "nobody") == ""


def test_of_several_bases_and_seeds_it_says_which(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan",), bases=("a", "b"), seeds=(1, 2), n=10)
    pages = write_items(read_study(study), tmp_path / "report")
    assert len({page.address for page in pages}) == len(pages) == 2 * 3
    seeds = ["flan, seed 1", "flan, seed 2"]
    assert pages[0].models == {"base, untuned": ["base, untuned"], "flan": seeds}
    assert (
        pages[0]
        .flips("base, untuned", "flan")
        .endswith("#first=base%2C+untuned&second=flan%2C+seed+1&score=flipped")
    )
    page = tmp_path / "report" / pages[0].address
    assert "camels &lt;small&gt;: mmlu:0-shot, a" in page.read_text()
    assert "too many models" not in page.read_text()
    cells = [rows_of(tmp_path / f"cells/a/{name}/mmlu-0-shot")
             for name in ("untuned", "flan-1", "flan-2")]  # fmt: skip
    for one in embedded(page, "entries"):
        assert [side["o"] for side in one["sides"]] == [cell[one["k"]]["outputs"] for cell in cells]


def test_of_very_many_models_it_has_the_first_seeds_and_says_so(
    make_study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.report.items.MOST", 4)
    study = make_study(tmp_path, mixtures=("flan", "code"), seeds=(1, 2), n=10)
    page = write_items(read_study(study), tmp_path / "report")[0]
    names = ["base, untuned", "flan, seed 1", "code, seed 1"]
    assert [name for named in page.models.values() for name in named] == names
    text = (tmp_path / "report" / page.address).read_text()
    assert "of the training seeds it has the first" in text


def test_an_item_that_one_model_lacks_is_kept(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan", "code"), benchmarks=("gsm:cot",), n=6)
    path = tmp_path / "cells/smollm2-135m/flan-1/gsm-cot/samples.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    (page,) = write_items(read_study(study), tmp_path / "report")
    held = embedded(tmp_path / "report" / page.address, "entries")
    (lacking,) = [one for one in held if one["sides"][1] is None]
    assert [sign is None for sign, _ in lacking["pairs"]] == [True, False, True]


def test_answers_without_scores_are_there_to_read(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan",), benchmarks=("gsm:cot",), n=6)
    for folder in tmp_path.glob("cells/**/gsm-cot"):
        scores = json.loads((folder / "scores.json").read_text())
        del scores["value"]
        (folder / "scores.json").write_text(json.dumps(scores))
        path = folder / "samples.jsonl"
        rows = [json.loads(line) | {"score": None} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (page,) = write_items(read_study(study), tmp_path / "report")
    text = (tmp_path / "report" / page.address).read_text()
    assert "flan: no score" in text
    held = embedded(tmp_path / "report" / page.address, "entries")
    assert {sign for one in held for sign, _ in one["pairs"]} == {None}


@pytest.mark.parametrize("name", ["a/b", "a b", ".."])
def test_names_of_bases_are_no_paths(name: str, make_study: Make, tmp_path: Path) -> None:
    make_study(tmp_path, mixtures=("flan",), benchmarks=("gsm:cot",), bases=("x", "y"), n=5)
    index = tmp_path / "study.json"
    index.write_text(index.read_text().replace('"x"', json.dumps(name)))
    pages = write_items(read_study(tmp_path), tmp_path / "report")
    there = {path.name for path in (tmp_path / "report/items").iterdir()}
    assert len(there) == len(pages) == 2
    assert {path.name for path in tmp_path.glob("report/*")} == {"items"}
