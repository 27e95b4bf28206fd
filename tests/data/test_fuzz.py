"""Broken records in native files of every shape: each is told, and no other is touched."""

import gzip
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from tests.data import mutate

pytestmark = pytest.mark.usefixtures("no_collection")
WORDS = ("sand", "dune", "well", "date", "palm", "tent", "caravan", "oasis", "star", "wind")


MIXTURE = "tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"


class Shape(NamedTuple):
    """A native file: whose, its name, a list or lines of JSON or lines of text, real records."""

    source: str
    file: str
    layout: str
    real: str
    rule: Rule | None = None  # the one rule that reads it


SHAPES = (
    Shape("stanford_alpaca", "alpaca_data.json", "list", "stanford_alpaca/alpaca_data.json"),
    Shape("gpt4_alpaca", "alpaca_gpt4_data.json", "list", "gpt4_alpaca/alpaca_gpt4_data.json"),
    Shape("code_alpaca", "code_alpaca_20k.json", "list", "code_alpaca/code_alpaca_2k.json"),
    Shape("baize", "quora_chat_data.json", "list", "baize/deepbot_ko/quora_chat_data.json"),
    Shape(
        "sharegpt",
        "ShareGPT_V3_unfiltered_cleaned_split.json",
        "list",
        "sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json",
    ),
    Shape("alpaca", "mine.json", "list", "stanford_alpaca/alpaca_data.json"),
    Shape("alpaca", "mine.jsonl", "lines", "dolly/databricks-dolly-15k.jsonl"),
    Shape("jsonl", "mine.jsonl", "lines", MIXTURE),
    Shape("jsonl", "mine.json", "list", "oasst1/oasst1_converted_sample.jsonl"),
    Shape("dolly", "databricks-dolly-15k.jsonl", "lines", "dolly/databricks-dolly-15k.jsonl"),
    Shape("self_instruct", "seed_tasks.jsonl", "lines", "self_instruct/seed_tasks.jsonl", "fixed"),
    Shape(
        "unnatural_instructions", "core_data.jsonl", "lines",
        "unnatural_instructions/core_data.jsonl",
    ),
    Shape("oasst1", "en_100_tree.jsonl", "lines", "oasst1/en_100_tree.jsonl"),
    Shape(
        "flan_v2", "tulu_v2_resampled_flan_50k.jsonl", "lines",
        "flan_v2/tulu_v2_resampled_flan_50k.jsonl",
    ),
    Shape(
        "super_ni", "tasks/task1_a.json", "list",
        "super_ni/tasks/task843_financial_phrasebank_classification.json",
    ),
    Shape("cot", "cot_zsopt.jsonl", "lines", "cot/cot_zsopt.jsonl", "fixed"),
    Shape("cot", "gsm8k_train.tsv", "text", "cot/gsm8k_train.tsv", "fixed"),
)  # fmt: skip


def invented(shape: Shape, count: int) -> list[str]:
    """Records of a shape, of made-up words."""
    draw = Random(shape.file)

    def say(least: int = 1) -> str:
        text = " ".join(draw.choices(WORDS, k=draw.randrange(least, 9)))
        return text + draw.choice(["", ".", '"', "\n", "é", "🐪", "}, {", '{"a": "b"}', "\\", "[]"])

    def record() -> Any:
        instance = {"input": say(0), "constraints": "", "output": say()}
        answer = {"text": say(), "role": "assistant", "deleted": False, "replies": []}
        rounds = "".join(f"[|Human|] {say()} [|AI|] {say()} " for _ in range(3))
        turns = [{"from": who, "value": say()} for who in ("human", "gpt") * draw.randrange(1, 4)]
        return {
            "dolly": {"instruction": say(), "context": say(0), "response": say(), "category": "x"},
            "baize": {"topic": say(), "input": f"The conversation. {rounds}[|Human|] "},
            "sharegpt": {"id": say(), "conversations": turns},
            "jsonl": {"id": f"{say()} {draw.random()}", "messages": turns},
            "self_instruct": {"id": say(), "instruction": say(), "instances": [instance]},
            "unnatural_instructions": {"instruction": say(), "instances": [instance]},
            "oasst1": {
                "message_tree_id": say(),
                "prompt": {**answer, "role": "prompter", "replies": [answer, answer]},
            },
            "flan_v2": {"inputs": say(), "targets": say()},
            "cot": {"inputs": say(), "targets": say()},
            "super_ni": {"id": f"{say()} {draw.random()}", "input": say(), "output": [say()]},
        }.get(shape.source, {"instruction": say(), "input": say(0), "output": say()})

    if shape.layout == "text":
        return ["\t".join(say().replace("\n", "\\n") for _ in range(3)) for _ in range(count)]
    return [json.dumps(record(), ensure_ascii=draw.random() < 0.5) for _ in range(count)]


def real(shape: Shape, root: Path) -> list[str]:
    """The real records of a shape that are not too long to be mutated by the hundred."""
    text = (root / "instruct" / shape.real).read_text(encoding="utf-8")
    if shape.layout == "text":
        return text.strip().split("\n")
    rows = (
        json.loads(text)
        if shape.real.endswith(".json")
        else map(json.loads, text.strip().split("\n"))
    )
    records = [
        json.dumps(row, ensure_ascii=False)
        for row in (rows["Instances"] if isinstance(rows, dict) else rows)
    ]
    return [record for record in records if len(record) < 12_000]


class Layout(NamedTuple):
    """What stands around records."""

    before: bytes
    between: bytes
    after: bytes
    packed: bool

    def file(self, records: list[bytes], betweens: dict[int, bytes] | None = None) -> bytes:
        """The file's bytes; betweens: what stands behind some records instead."""
        data = self.before + b"".join(self.pieces(records, betweens or {})) + self.after
        return gzip.compress(data, 1) if self.packed else data

    def pieces(self, records: list[bytes], betweens: dict[int, bytes]) -> Iterator[bytes]:
        for index, record in enumerate(records):
            last = index == len(records) - 1
            yield record + (b"" if last else betweens.get(index, self.between))

    def lines(self, records: list[bytes], betweens: dict[int, bytes]) -> list[tuple[int, int]]:
        """First and last line of each record with what stands behind it."""
        ends = rb"\n" if self.before else rb"\r\n|\r|\n"
        found, line = [], 1 + len(re.findall(ends, self.before))
        for piece in self.pieces(records, betweens):
            begin, line = line, line + len(re.findall(ends, piece))
            found.append((begin, line))
        found[-1] = (begin, line + len(re.findall(ends, self.after)))
        return found


TASK = b'{"Definition": ["Do."], "Positive Examples": [],\n"Instances": ['


def layout(draw: Random, shape: Shape) -> Layout:
    packed = draw.random() < 0.1
    if shape.layout != "list":
        return Layout(b"", b"\n", draw.choice([b"", b"\n"]), packed)
    between = draw.choice([b", ", b",\n", b",\n  ", b",", b"\n,\r\n\t"])
    before, after = (TASK, b'\n], "x": ["y"]}') if shape.source == "super_ni" else (b"[", b"\n]")
    return Layout(before + between.replace(b",", b""), between, after, packed)


class Read(NamedTuple):
    found: list[Conversation]
    counts: Counter[str]
    bad: list[UserError]


def write(shape: Shape, folder: Path, data: bytes) -> None:
    file = folder / shape.file
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    if shape.source == "super_ni":
        tasks = folder / "splits/default/train_tasks.txt"
        tasks.parent.mkdir(parents=True, exist_ok=True)
        tasks.write_text(f"{file.stem}\n")


def read(shape: Shape, folder: Path, data: bytes, rule: Rule) -> Read:
    write(shape, folder, data)
    bad: list[UserError] = []
    stream, counts = convert(shape.source, folder, rule, on_bad=bad.append)
    return Read(list(stream), counts, bad)


SHIFTING = {
    # What is mutated so holds one record more; those behind it get other numbers.
    "twice",
    "null between",
    "several records in a list",
    # In lines of text nobody can tell how many records they were.
    "line break inside",
    "carriage return inside",
}


def check(shape: Shape, folder: Path, draw: Random, records: list[str], kind: str) -> str:
    """One file with a mutation, at times with more of them; what became of the first."""
    rules: tuple[Rule, ...] = (shape.rule,) if shape.rule else ("paper", "fixed")
    rule = draw.choice(rules)
    chosen = [text.encode() for text in draw.sample(records, 6)]
    # Of a user's file the first character says whether it is a list or lines.
    least = shape.layout == "lines" and shape.file.startswith("mine")
    around, places = layout(draw, shape), [draw.randrange(least, 6)]
    touched, whole, betweens = list(chosen), list(chosen), {}
    if kind in mutate.BETWEEN_JSON:
        betweens[min(places[0], 4)] = mutate.BETWEEN_JSON[kind][shape.layout == "lines"]
        places.append(min(places[0], 4))
    else:
        if kind not in SHIFTING and draw.random() < 0.3:
            places += [place for place in (places[0] - 2, places[0] + 2) if least <= place < 6]
        for place, name in zip(places, [kind, "cut", "lost quote"], strict=False):
            mutation = (mutate.IN_JSON | mutate.IN_TEXT)[name]
            touched[place] = mutation(draw, chosen[place].decode())
            whole[place] = b"{}" if shape.layout != "text" else b"x"
    got = read(shape, folder, around.file(touched, betweens), rule)
    dropped = sum(n for reason, n in got.counts.items() if reason.startswith("dropped: "))
    assert got.counts["read"] == got.counts["kept"] + dropped
    assert got.counts["kept"] == len(got.found)
    assert len({one.id for one in got.found}) == len(got.found)
    lines = around.lines(touched, betweens)
    for error in got.bad:
        assert error.file == folder / shape.file
        assert any(lines[place][0] <= (error.line or 0) <= lines[place][1] for place in places)
    expected = read(shape, folder, around.file(whole), rule)
    there = {one.id: one for one in got.found}
    if kind in SHIFTING:
        answers = {one.messages[-1].content.strip() for one in got.found}
        assert all(one.messages[-1].content.strip() in answers for one in expected.found)
    else:
        lost = [one for one in expected.found if there.get(one.id) != one]
        assert lost == [], (kind, got.counts, [str(error) for error in got.bad])
    strict(shape, folder, around.file(touched, betweens), rule, got.bad)
    return outcome(expected, got, whole == chosen)


def strict(shape: Shape, folder: Path, data: bytes, rule: Rule, bad: list[UserError]) -> None:
    """The first bad record ends it, in one line with file and line."""
    write(shape, folder, data)
    stream, _ = convert(shape.source, folder, rule, strict=True)
    if not bad:
        list(stream)
        return
    with pytest.raises(UserError) as caught:
        list(stream)
    assert str(caught.value) == str(bad[0])
    assert f"{shape.file}:{bad[0].line}: " in str(bad[0])
    assert "\n" not in str(bad[0])


def outcome(expected: Read, got: Read, nothing_broken: bool) -> str:
    bad = "dropped: bad record"
    if got.counts["passed over: text between records"]:
        return "text passed over"
    if got.counts[bad] > (0 if nothing_broken else expected.counts[bad] - 1):
        return "bad record"
    if nothing_broken and got.counts["kept"] == expected.counts["kept"]:
        return "kept"
    return "kept" if got.counts["kept"] > expected.counts["kept"] else "dropped by rule"


def kinds(shape: Shape) -> list[str]:
    json_kinds = [*mutate.IN_JSON, *mutate.BETWEEN_JSON] if shape.layout != "text" else []
    return [*json_kinds, *mutate.IN_TEXT]


def run(
    shape: Shape, folder: Path, records: list[str], rounds: int, seed: int = 1
) -> dict[str, Counter[str]]:
    table: dict[str, Counter[str]] = {}
    for kind, number in itertools.product(kinds(shape), range(rounds)):
        draw = Random(f"{shape.file} {kind} {number} {seed}")
        table.setdefault(kind, Counter())[check(shape, folder, draw, records, kind)] += 1
    return table


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.source}-{shape.layout}")
def test_invented_records(shape: Shape, tmp_path: Path) -> None:
    run(shape, tmp_path, invented(shape, 20), 1)


@pytest.mark.real_data
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.source}-{shape.layout}")
def test_real_records(shape: Shape, tmp_path: Path, real_data: Path) -> None:
    run(shape, tmp_path, real(shape, real_data), 3)
