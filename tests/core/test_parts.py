"""Files of records in parts: nothing is lost or read twice, and lines are counted right."""

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.json_array import read_json_array
from cameleer.core.jsonl import Part, Reading, read_jsonl
from cameleer.core.parts import array_parts, line_parts

RECORDS = [
    {"id": number, "text": "x" * (number % 7) + "}, {\n", "turns": [{"who": 1}, {"who": 2}]}
    for number in range(40)
]


def check(parts: list[Part], data: bytes, ends: bytes) -> None:
    """Parts are the file, in order, with the lines before each."""
    assert b"".join(part.data for part in parts) == data
    before = b""
    for index, part in enumerate(parts):
        assert part.lines == len(re.findall(ends, before)), index
        assert (part.first, part.last) == (index == 0, index == len(parts) - 1)
        before += part.data


@pytest.mark.parametrize("size", [1, 50, 1000, 10_000])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_an_array_is_cut_before_records(
    tmp_path: Path, size: int, indent: int | None, packed: bool
) -> None:
    file, data = tmp_path / "a.json", json.dumps(RECORDS, indent=indent).encode()
    file.write_bytes(gzip.compress(data) if packed else data)
    parts = list(array_parts(file, size))
    check(parts, data, rb"\n")
    assert len(parts) > 1 or size > len(data)
    if size >= 50:  # of a record's size, so that no object within one is taken for one
        assert sum(part.records for part in parts) == len(RECORDS)
        values = [
            row
            for part in parts
            for row in read_json_array(file, reading=Reading(part))
        ]  # fmt: skip
        assert values == list(read_json_array(file))


@given(
    st.lists(st.sampled_from(["{}", '{"a": 1}', "", " ", "[", "\ufeff{}"]), max_size=9),
    st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"]),
    st.integers(1, 30),
)
def test_lines_are_cut_at_their_ends(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, size: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "lines.jsonl"
    data = "".join(line + end for line in lines).encode()
    file.write_bytes(data)
    parts = list(line_parts(file, size))
    assert b"".join(part.data for part in parts) == data
    found, bad = list[int](), list[int | None]()
    for part in parts:
        rows = read_jsonl(file, lambda error: bad.append(error.line), Reading(part))
        found += [line for line, _ in rows]
    whole = [line for line, _ in read_jsonl(file, lambda error: None)]
    assert found == whole
    expected = list[int | None]()
    list(read_jsonl(file, lambda error: expected.append(error.line)))
    assert bad == expected


def test_a_reader_goes_on_into_the_next_part(tmp_path: Path) -> None:
    """What is cut within a record is read to the next place between two."""
    file = tmp_path / "a.json"
    pieces = [b'[{"a": 1}, {"a"', b': 2}, {"a": 3, "b": "and so on"},\n', b'{"a": 4}]']
    parts = [
        Part(file, data, 0, 0, first=index == 0, last=index == 2)
        for index, data in enumerate(pieces)
    ]
    rest = iter(parts[1:])
    reading = Reading(parts[0], more=lambda: next(rest))
    assert [value["a"] for _, value in read_json_array(file, reading=reading)] == [1, 2, 3]
    assert next(rest) is parts[2]
    assert [value["a"] for _, value in read_json_array(file, reading=Reading(parts[2]))] == [4]


def test_a_packed_file_that_ends_early_says_so_in_its_last_part(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"a": 1}\n' * 99)[:-9])
    *others, last = line_parts(file)
    assert "ends early" in last.broken
    assert not any(part.broken for part in others)
