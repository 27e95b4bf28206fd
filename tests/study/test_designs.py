"""Designs: which mixtures they stand for, what these hold, and what is refused where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cameleer.core.config import load_config
from cameleer.core.errors import UserError
from cameleer.data.mix.build import build, mix_stage
from cameleer.data.mix.config import MixConfig
from cameleer.study.designs import Design

SOURCES = [
    {"source": "cot", "count": 100},
    {"source": "dolly", "count": 80},
    {"source": "sharegpt", "count": 20},
]


def design(tmp_path: Path, mixtures: Any, **fields: Any) -> Design:
    file = tmp_path / "design.yaml"
    said = {"mixtures": mixtures, "sources": SOURCES, **fields}
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    return load_config(file, Design)


def amounts(mixture: MixConfig) -> dict[str, int | None]:
    return {part.name: part.count for part in mixture.parts}


def expanded(found: Design) -> dict[str, dict[str, int | None]]:
    return {mixture.name: amounts(mixture) for mixture in found.expand()}


CELLS: list[tuple[str, dict[str, Any], dict[str, dict[str, int]]]] = [
    ("single", {}, {"cot": {"cot": 100}, "dolly": {"dolly": 80}, "sharegpt": {"sharegpt": 20}}),
    (
        "leave-one-out",
        {},
        {
            "all": {"cot": 100, "dolly": 80, "sharegpt": 20},
            "all-but-cot": {"dolly": 80, "sharegpt": 20},
            "all-but-dolly": {"cot": 100, "sharegpt": 20},
            "all-but-sharegpt": {"cot": 100, "dolly": 80},
        },
    ),
    (
        "add-one-in",
        {"core": ["dolly"]},
        {
            "core": {"dolly": 80},
            "core+cot": {"cot": 100, "dolly": 80},
            "core+sharegpt": {"dolly": 80, "sharegpt": 20},
        },
    ),
    (
        "pairs",
        {},
        {
            "cot+dolly": {"cot": 100, "dolly": 80},
            "cot+sharegpt": {"cot": 100, "sharegpt": 20},
            "dolly+sharegpt": {"dolly": 80, "sharegpt": 20},
        },
    ),
    (
        "ratios",
        {"ratios": [{"cot": 3, "sharegpt": 1}, {"dolly": 0.5, "sharegpt": 0.5}]},
        {"3xcot+1xsharegpt": {"cot": 60, "sharegpt": 20}}
        | {"0.5xdolly+0.5xsharegpt": {"dolly": 20, "sharegpt": 20}},
    ),
    (
        "ratios",
        {"ratios": [{"cot": 3, "sharegpt": 1}], "total": 40},
        {"3xcot+1xsharegpt": {"cot": 30, "sharegpt": 10}},
    ),
    (
        "sizes",
        {"sizes": [0.05, 1]},
        {
            "all-x0.05": {"cot": 5, "dolly": 4, "sharegpt": 1},
            "all": {"cot": 100, "dolly": 80, "sharegpt": 20},
        },
    ),
]


@pytest.mark.parametrize(("kind", "fields", "cells"), CELLS)
def test_what_each_kind_holds(
    kind: str, fields: dict[str, Any], cells: dict[str, Any], tmp_path: Path
) -> None:
    assert expanded(design(tmp_path, kind, **fields)) == cells


def test_random_controls_are_as_large_as_the_other_mixtures(tmp_path: Path) -> None:
    found = design(tmp_path, ["random", "single", "leave-one-out"]).expand()
    controls = [one for one in found if one.name.startswith("random")]
    assert [one.name for one in controls] == [
        f"random-{size}" for size in (20, 80, 100, 120, 180)
    ]  # 100: cot alone, and all but cot; all itself, 200, is no subset
    inner = controls[0].parts[0].mix
    assert isinstance(inner, MixConfig)
    assert amounts(inner) == {"cot": 100, "dolly": 80, "sharegpt": 20}
    tokens = {"tokens": [5000], "tokenizer": "embedded:smollm2-135m-instruct"}
    (control,) = design(tmp_path, "random", **tokens).expand()
    assert (control.name, control.tokenizer) == ("random-5000-tokens", tokens["tokenizer"])
    assert control.parts[0].max_tokens == 5000


def test_a_mixture_that_two_kinds_ask_for_is_there_once(tmp_path: Path) -> None:
    two = design(tmp_path, ["single", "leave-one-out", "pairs"], sources=SOURCES[:2])
    assert list(expanded(two)) == ["cot", "dolly", "all"]
    core = design(tmp_path, ["single", "add-one-in"], core=["dolly"])
    assert list(expanded(core)) == ["cot", "dolly", "sharegpt", "core+cot", "core+sharegpt"]


def test_mixtures_differ_in_nothing_but_what_they_hold(tmp_path: Path) -> None:
    """Built: a source's draw is the same in every mixture, and the control is of the whole's."""
    sources = []
    for name in ("a", "b"):
        file = tmp_path / f"{name}.jsonl"
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
        rows = [{"id": str(n), "source": name, "messages": turns} for n in range(40)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append({"file": str(file), "count": 12})
    found = design(tmp_path, ["single", "leave-one-out", "random"], sources=sources)
    held = {}
    for mixture in found.expand():
        folder = build(mixture, None, mix_stage(mixture, None, tmp_path / mixture.name))
        lines = (folder / "conversations.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        held[mixture.name] = {(row["source"], row["id"]) for row in rows}
    assert {name: len(ids) for name, ids in held.items()} == {
        "a": 12,
        "b": 12,
        "all": 24,
        "random-12": 12,
    }
    assert held["all"] == held["a"] | held["b"]
    assert held["random-12"] < held["all"]
    assert len({source for source, _ in held["random-12"]}) == 2
    assert {one for _, one in held["a"]} != {one for _, one in held["b"]}


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ("singel", {}, "1: field 'mixtures.0': input should be 'single', 'leave-one-out'"),
    ([], {}, "1: field 'mixtures'"),
    (["single", "single"], {}, "1: field 'mixtures': 'single' stands twice"),
    ("add-one-in", {}, "1: field 'mixtures': 'add-one-in' needs 'core'"),
    ("add-one-in", {"core": ["dollly"]}, "unknown source 'dollly' (did you mean 'dolly'?"),
    ("add-one-in", {"core": ["cot", "dolly", "sharegpt"]}, "'core': names every source"),
    ("add-one-in", {"core": ["cot", "cot"]}, "'core': names a source twice"),
    ("single", {"core": ["cot"]}, "9: field 'core': goes with 'add-one-in'"),
    ("ratios", {"ratios": [{"cott": 1}]}, "10: field 'ratios.0': unknown source 'cott'"),
    ("ratios", {"ratios": [{"cot": -1}]}, "10: field 'ratios.0.cot': input should be greater"),
    ("ratios", {"ratios": [{"cot": 1, "sharegpt": 1}], "total": 90}, "asks for 45 of 'sharegpt'"),
    ("single", {"total": 5}, "9: field 'total': goes with 'ratios'"),
    ("sizes", {"sizes": [0.5, 1.5]}, "11: field 'sizes.1': is no share above 0"),
    ("sizes", {"sizes": [0.01]}, "10: field 'sizes.0': leaves nothing of 'sharegpt'"),
    ("random", {}, "1: field 'mixtures': 'random' needs others to equal"),
    ("single", {"tokens": [9]}, "9: field 'tokens': goes with 'random'"),
    ("random", {"tokens": [9]}, "9: field 'tokens': needs a 'tokenizer'"),
    (["sizes", "random"], {"sizes": [1]}, "every other mixture is all there is"),
    ("pairs", {"sources": SOURCES[:1]}, "1: field 'mixtures': 'pairs' needs two sources"),
    (
        "single",
        {"sources": [{"source": "cot"}]},
        "3: field 'sources.0': a source of a design needs",
    ),
    (
        "single",
        {"sources": [*SOURCES, dict(SOURCES[0])]},
        "9: field 'sources.3': 'cot' stands twice",
    ),
    (
        "single",
        {"sources": [{"source": "cot", "count": 2, "repeat": 2}]},
        "3: field 'sources.0': 'repeat' does not go with a design",
    ),
    ("single", {"kinds": 1}, "9: field 'kinds': is not known"),
]


@pytest.mark.parametrize(("mixtures", "fields", "said"), WRONG)
def test_contradictions_are_told_with_their_line(
    mixtures: Any, fields: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        design(tmp_path, mixtures, **fields)
    assert said in str(error.value)
    assert "design.yaml:" in str(error.value)
