"""Streaming a JSON array: the same values as json reads, and every mistake with its line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.core import files
from cameleer.core.errors import UserError
from cameleer.core.files import read_json_array

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
    before, files.CHUNK = files.CHUNK, chunk
    try:
        read = list(read_json_array(path))
    finally:
        files.CHUNK = before
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
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_mistakes_name_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, says: str, chunk: int
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    with pytest.raises(UserError, match=says) as caught:
        list(read_json_array(write(tmp_path, text)))
    assert caught.value.line == line


@pytest.mark.parametrize("chunk", [1, 4, 1 << 20])
def test_text_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    path = write(tmp_path, b'["\xc3\xa9",\n"\xc3\xa9",\n"\xe9"]')
    with pytest.raises(UserError, match="not UTF-8") as caught:
        list(read_json_array(path))
    assert caught.value.line == 3


def test_a_mistake_early_in_a_large_file_is_found_early(tmp_path: Path) -> None:
    path = write(tmp_path, '[{"a": 1}, {"a" 1}, ' + '{"b": "' + "x" * (20 << 20) + '"}]')
    with files._Window(path) as window:
        window.next_character()
        window.at = 11
        with pytest.raises(UserError, match="broken JSON"):
            window.value()
        assert len(window.text) <= files.CHUNK


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
