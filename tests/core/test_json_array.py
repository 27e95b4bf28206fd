"""Streaming a JSON array: the same values as json reads, and every mistake with its line."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.core import json_array
from cameleer.core.errors import UserError
from cameleer.core.json_array import read_json_array
from cameleer.core.jsonl import StrayTextError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(values, max_size=8),
    indent=st.sampled_from([None, 0, 4]),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_values_and_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: Any, ascii_only: bool,
    chunk: int,
) -> None:  # fmt: skip
    text = "\n" + json.dumps(rows, indent=indent, ensure_ascii=ascii_only) + "\r\n"
    path = write(tmp_path_factory.mktemp("a"), text)
    before, json_array.CHUNK = json_array.CHUNK, chunk
    try:
        read = list(read_json_array(path))
    finally:
        json_array.CHUNK = before
    assert [value for _, value in read] == rows
    if indent is None:
        assert [line for line, _ in read] == [2] * len(rows)


def test_lines_of_indented_records(tmp_path: Path) -> None:
    rows = [{"text": f"é{number}" * number} for number in range(3000)]
    text = json.dumps(rows, indent=2, ensure_ascii=False)
    starts = [number for number, line in enumerate(text.split("\n"), 1) if line == "  {"]
    read = list(read_json_array(write(tmp_path, text)))
    assert [line for line, _ in read] == starts
    assert [value for _, value in read] == rows


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "not a JSON array"),
        ('\n\n{"a": 1}', 3, "not a JSON array"),
        ("[\n1,\n2\n3]", 4, "expecting ',' or ']'"),
        ("[\n1,\n]", 3, "broken JSON"),
        ("[\n1,", 2, "broken JSON"),
        ("[\n1\n", 3, "expecting ',' or ']'"),
        ("[1]\n[2]", 2, "after the end"),
        ('[\n{"a": 1},\n{"a": }\n]', 3, "broken JSON"),
        ('[\n{"a":\n "b}\n]', 2, "control character at line 3"),
        ('[\n"b', 2, "Unterminated"),
        ("[\n1,\n\x00]", 3, "broken JSON"),
        ("[1,\n" + "9" * 5000 + " ]", 2, "digits"),
        ("[1,\n" + "[" * 200_000 + "]" * 200_000 + "]", 2, "recursion"),
    ],
)
@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_mistakes_name_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, says: str, chunk: int
) -> None:
    monkeypatch.setattr(json_array, "CHUNK", chunk)
    with pytest.raises(UserError, match=says) as caught:
        list(read_json_array(write(tmp_path, text)))
    assert caught.value.line == line


@pytest.mark.parametrize("chunk", [1, 4, 1 << 20])
def test_text_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_array, "CHUNK", chunk)
    path = write(tmp_path, b'["\xc3\xa9",\n"\xc3\xa9",\n"\xe9"]')
    with pytest.raises(UserError, match="not UTF-8") as caught:
        list(read_json_array(path))
    assert caught.value.line == 3


def test_a_mistake_early_in_a_large_file_is_found_early(tmp_path: Path) -> None:
    path = write(tmp_path, '[{"a": 1}, {"a" 1}, ' + '{"b": "' + "x" * (20 << 20) + '"}]')
    with json_array._Window(path) as window:
        window.next_character()
        window.at = 11
        with pytest.raises(UserError, match="broken JSON"):
            window.value()
        assert len(window.text) <= json_array.CHUNK


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(read_json_array(tmp_path / "none.json"))
    with pytest.raises(UserError, match="is a folder"):
        list(read_json_array(tmp_path))


def told(path: Path) -> tuple[list[Any], list[str]]:
    bad: list[UserError] = []
    return [value for _, value in read_json_array(path, bad.append)], [str(e.line) for e in bad]


RECORDS = [{"id": n, "turns": [{"from": "a"}, {"from": "b"}]} for n in range(5)]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"id": 2', '"id": '),  # a value is gone
        ('"id": 2', 'id": 2'),  # a quote is gone
        ('"id": 2', '"id": 2}'),  # closed too early
    ],
)
def test_what_is_broken_is_stepped_over(
    tmp_path: Path, old: str, new: str, indent: int | None
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(RECORDS, indent=indent).replace(old, new))
    found, bad = told(path)
    assert [one for one in found if one in RECORDS] == [*RECORDS[:2], *RECORDS[3:]]
    assert len(bad) == 1


def test_a_file_that_ends_early_gives_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(RECORDS, indent=1)
    path.write_text(text[: text.index('"id": 3')])
    found, bad = told(path)
    assert found == RECORDS[:3]
    assert len(bad) == 1


def test_bytes_that_are_not_utf8_cost_their_record_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf[\n{"id": 0},\n{"id": "\xff"},\r\n{"id": 2}]')
    found, bad = told(path)
    assert found == [{"id": 0}, {"id": 2}]
    assert bad == ["3"]


def test_a_gzip_file_that_ends_early_or_swells(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    whole = gzip.compress(json.dumps(RECORDS * 5000).encode())
    path.write_bytes(whole[:-3000])
    found, bad = told(path)
    assert found == (RECORDS * 5000)[: len(found)]
    assert found
    assert len(bad) == 1
    path.write_bytes(gzip.compress(b"[1" + b" " * (1 << 28)))
    assert len(told(path)[1]) == 1


def lost_and_stray(path: Path) -> tuple[list[Any], list[bool]]:
    """What is read, and of each complaint whether it is of a record."""
    bad: list[UserError] = []
    found = [value for _, value in read_json_array(path, bad.append)]
    return found, [not isinstance(error, StrayTextError) for error in bad]


A, B, C = ({"id": n, "said": [{"by": "x"}, {"by": "}, {"}]} for n in range(3))
TEXT_B = json.dumps(B)
LOST = [True]
STRAY = [False]


@pytest.mark.parametrize("chunk", [30, 1 << 18])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        (TEXT_B.replace('"id": 1', 'id": 1'), LOST),
        (TEXT_B.replace('"said', "said"), LOST),
        (TEXT_B.replace("]}", "}"), LOST),  # a bracket
        (TEXT_B[:-1], LOST),  # its last brace
        (TEXT_B[1:], LOST),  # its first brace
        (TEXT_B[:-2] + "\\" + TEXT_B[-2:], LOST),
        (TEXT_B[:20], LOST),
        (TEXT_B[22:], LOST),
        (TEXT_B.replace(", ", "}, ", 1), LOST),  # closed too early
        (TEXT_B.replace('"id": 1', '"id": 1' + "0" * 5000), LOST),
        (TEXT_B.replace("[", "[" * 100_000), LOST),
        ("null", []),
        ("~garbage~", LOST),
        ('"id": 1}', LOST),
    ],
)
def test_a_broken_record_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaints: list[bool], place: int,
    chunk: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(json_array, "CHUNK", chunk)
    records = [json.dumps(A), json.dumps(C)]
    records.insert(place, text)
    path = write(tmp_path, f"[\n{','.join(records)}]\n")
    found, told_of = lost_and_stray(path)
    assert [one for one in found if one is not None] == [A, C]
    if place < 2 or text != TEXT_B[22:]:  # what is last may be the rest of the one before it
        assert told_of == complaints or (place == 2 and told_of == STRAY)


@pytest.mark.parametrize("chunk", [30, 1 << 18])
@pytest.mark.parametrize(
    "between",
    ["", " ", ",,", ",\n,", "}, ", "], ", "], [", ", [", ", {", "~garbage~", ", ~", "[,"],
)
def test_text_between_records_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str, chunk: int
) -> None:
    monkeypatch.setattr(json_array, "CHUNK", chunk)
    path = write(tmp_path, f"[{json.dumps(A)}{between}{json.dumps(C)}]")
    found, told_of = lost_and_stray(path)
    assert found == [A, C]
    assert set(told_of) == {False}


@pytest.mark.parametrize(
    "text",
    [
        "[" + '{"a": ' * 50_000,
        "[" + '{"a": [' * 50_000,
        "[" + "[" * 500_000,
        "[" + "{" * 500_000,
        "[" + '"' * 500_001,
        "[[" + '{"a": 1}, ' * 30_000,
        "[" + '{"a": 1, ' * 30_000,
        "[" + '{"a": "1}, ' * 30_000,
        "[" + '{"},{":1,' * 10_000,
        '[{"a": "' + "x" * 3_000_000,
        "[" + ", ".join(json.dumps({f"{n}": 1})[:-1] for n in range(5000)),
    ],
    ids=range(11),
)
def test_time_grows_with_the_size_alone(tmp_path: Path, text: str) -> None:
    """Each of these took minutes where one more look at the whole chunk was had by record."""
    path = write(tmp_path, text)
    start = time.process_time()
    assert lost_and_stray(path)[1]
    assert time.process_time() - start < 5


RECORDS_ABC = [{"first": n, "b": "}, {", "c": [{"b": "é"}]} for n in range(4)]
JUNK = [
    "[1, ",
    *'{}[],:"\\19 ~\0',
    '"b"',
    '"first"',
    '{"b": 1}',
    "null",
    '": ',
    "\\u12",
    "é",
    "\udcff",
    "\n",
]


@settings(deadline=None, max_examples=300)
@given(junk=st.lists(st.sampled_from(JUNK), max_size=12), chunk=st.sampled_from([8, 40, 1 << 18]))
def test_any_junk_between_records_costs_none(
    tmp_path_factory: pytest.TempPathFactory, junk: list[str], chunk: int
) -> None:
    *before, last = map(json.dumps, RECORDS_ABC)
    text = f"[{', '.join(before)}, {''.join(junk)}, {last}]"
    path = write(tmp_path_factory.mktemp("a"), text.encode(errors="surrogateescape"))
    size, json_array.CHUNK = json_array.CHUNK, chunk
    try:
        found, _ = lost_and_stray(path)
    finally:
        json_array.CHUNK = size
    assert [one for one in found if one in RECORDS_ABC] == RECORDS_ABC
