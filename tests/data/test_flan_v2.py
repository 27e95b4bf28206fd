"""Flan V2: the paper's sample as it is, and one drawn of the submixes in its proportions."""

import gzip
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.sources import flan_v2


def read(
    root: Path, rule: Rule = "fixed", seed: int = 42
) -> tuple[list[Conversation], Counter[str], list[UserError]]:
    bad: list[UserError] = []
    stream, counts = convert("flan_v2", root, rule, seed, on_bad=bad.append)
    return list(stream), counts, bad


def texts(conversation: Conversation) -> list[str]:
    return [turn.content for turn in conversation.messages]


def write(path: Path, rows: list[Any]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def rows(submix: str, count: int) -> list[dict[str, str]]:
    return [{"inputs": f"{submix} {n}?", "targets": f"{n}"} for n in range(count)]


def test_golden(tmp_path: Path) -> None:
    sample = [
        {"inputs": "Is a camel a bird?\nOPTIONS:\n- yes\n- no", "targets": "no", "task": "flan"},
        {"inputs": "Translate: camel.\nFrench: ", "targets": "chameau"},
        {"inputs": "Name two deserts.\n", "targets": " Gobi\nNamib"},
        {"inputs": "And a third?", "targets": " "},
    ]
    write(tmp_path / "flan_v2_resampled_100k.jsonl", sample)
    paper, counts, _ = read(tmp_path, "paper")
    assert {one.id: texts(one) for one in paper} == {
        "flan_v2_0": ["Is a camel a bird?\nOPTIONS:\n- yes\n- no\n", "no"],
        "flan_v2_1": ["Translate: camel.\nFrench: ", "chameau"],
        "flan_v2_2": ["Name two deserts.\n", " Gobi\nNamib"],
        "flan_v2_3": ["And a third?\n", " "],
    }
    assert counts == {"read": 4, "kept": 4}
    fixed, counts, _ = read(tmp_path)
    assert {one.id: texts(one) for one in fixed} == {
        "flan_v2_0": ["Is a camel a bird?\nOPTIONS:\n- yes\n- no", "no"],
        "flan_v2_1": ["Translate: camel.\nFrench:", "chameau"],
        "flan_v2_2": ["Name two deserts.", "Gobi\nNamib"],
    }
    assert counts == {"read": 4, "kept": 3, "dropped: empty answer": 1}


def test_which_file_is_read(tmp_path: Path) -> None:
    write(tmp_path / "flan_zsopt/flan_zsopt.jsonl", rows("submix", 1))
    for name in reversed(flan_v2.SAMPLES):
        assert name not in texts(read(tmp_path)[0][0])[0]
        write(tmp_path / name, rows(name, 1))
        assert name in texts(read(tmp_path)[0][0])[0]


def test_proportions_are_those_of_flan() -> None:
    """Weight of a collection, shared evenly by its submixes (FLAN's run_example.py)."""
    weights = {"flan": 0.4, "t0": 0.32, "niv2": 0.2, "cot": 0.05, "dialog": 0.03}
    styles = Counter(name.split("_")[0] for name in flan_v2.PORTIONS)
    assert styles == {"flan": 4, "t0": 4, "niv2": 2, "cot": 2, "dialog": 2}
    for name, portion in flan_v2.PORTIONS.items():
        collection = name.split("_")[0]
        assert portion == pytest.approx(weights[collection] / styles[collection])
    assert sum(int(part * flan_v2.SIZE) for part in flan_v2.PORTIONS.values()) == 100_000


@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_drawn_of_the_submixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    monkeypatch.setattr(flan_v2, "SIZE", 100)
    write(tmp_path / "flan_zsopt/flan_zsopt.jsonl", rows("flan", 30))
    write(tmp_path / "cot_fsopt/cot_fsopt.jsonl", rows("cot", 2))
    write(tmp_path / "t0_fsopt/t0_fsopt.jsonl.gz", rows("t0", 20))
    draws = random.Random(5)
    expected = [
        f"{submix} {n}?"
        for submix, sample in (
            ("flan", sorted(draws.sample(range(30), 10))),
            ("t0", sorted(draws.sample(range(20), 8))),
            ("cot", [0, 1]),
        )
        for n in sample
    ]
    found, counts, _ = read(tmp_path, rule, seed=5)
    assert [texts(one)[0].strip() for one in found] == expected
    assert len({one.id for one in found}) == 20
    assert (counts["read"], counts["dropped: not in the sample"]) == (52, 32)
    missing = {key: n for key, n in counts.items() if key.startswith("missing")}
    assert sum(missing.values()) == 98 - 20  # int() cuts 2.5, 2.5, 1.5 and 1.5
    assert missing["missing: rows of dialog_fsopt to 1"] == 1


def test_broken_lines_change_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flan_v2, "SIZE", 50)
    path = tmp_path / "flan_zsopt/flan_zsopt.jsonl"
    write(path, rows("flan", 30))
    write(tmp_path / "t0_zsopt/t0_zsopt.jsonl", rows("t0", 30))
    whole = {one.id: texts(one) for one in read(tmp_path)[0]}
    lines = path.read_text().split("\n")
    lines[7:9] = ['{"inputs": "cut off', '{"inputs": "flan 8?"}']
    path.write_text("\n".join(lines))
    found, counts, bad = read(tmp_path)
    left = {key: pair for key, pair in whole.items() if key not in ("flan_v2_7", "flan_v2_8")}
    assert {one.id: texts(one) for one in found} == left
    assert counts["read"] == 60
    assert bad[0].line == 8


@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"inputs": "q"}, "targets"),
        ({"inputs": None, "targets": "a"}, "inputs"),
        ({"inputs": ["q"], "targets": "a"}, "inputs"),
    ],
)
def test_broken_rows(tmp_path: Path, rule: Rule, row: Any, field: str) -> None:
    path = tmp_path / "flan_v2_resampled_100k.jsonl"
    write(path, [*rows("flan", 1), row, *rows("flan", 1)])
    found, counts, [error] = read(tmp_path, rule)
    assert [one.id for one in found] == ["flan_v2_0", "flan_v2_2"]
    assert counts["read"] == 3
    assert (error.file, error.line, error.field) == (path, 2, field)


@pytest.mark.real_data
def test_as_the_papers_authors_converted_it(real_data: Path) -> None:
    """The sample's rows in a mixture that the authors published, word for word."""
    path = real_data / "instruct/tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"
    published = [
        [turn["content"] for turn in row["messages"]]
        for row in map(json.loads, path.read_text().strip().split("\n"))
        if row["dataset"] == "flan_v2"
    ]
    found, counts, _ = read(real_data, "paper")
    assert sorted(map(texts, found)) == sorted(published)
    assert counts == {"read": 28, "kept": 28}


@pytest.mark.real_data
@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_real_submixes(tmp_path: Path, real_data: Path, rule: Rule) -> None:
    sizes = {"flan_fsopt": 5, "flan_fsnoopt": 8, "t0_zsopt": 320, "t0_zsnoopt": 460,
             "t0_fsopt": 4, "t0_fsnoopt": 5, "niv2_fsopt": 2, "cot_fsopt": 4}  # fmt: skip
    for name in sizes:
        shutil.copytree(real_data / "instruct/flan_v2" / name, tmp_path / name)
    found, counts, bad = read(tmp_path, rule)
    assert not bad
    assert counts["read"] == sum(sizes.values())
    assert {name: counts[f"of {name}"] for name in sizes} == sizes
    missing = sum(n for key, n in counts.items() if key.startswith("missing"))
    assert missing == 100_000 - sum(sizes.values())
    assert len(found) == counts["read"] - counts["dropped: empty answer"]
