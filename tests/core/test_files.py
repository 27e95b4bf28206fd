"""Files: whole or not there, torn lines cut off, mistakes with their line, hashes of trees."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.core.files import (
    JsonlLog,
    read_json,
    read_jsonl,
    read_text,
    replacing,
    sha256_file,
    sha256_tree,
    write_json,
    write_jsonl,
)

rows = st.lists(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none(), max_size=3),
    max_size=5,
)


@given(rows=rows)
def test_jsonl_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    assert write_jsonl(path, rows) == len(rows)
    assert [row for _, row in read_jsonl(path)] == rows
    assert [number for number, _ in read_jsonl(path)] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"a": }', "broken JSON: .* at column 7"),
        (b'{"a": 1', "broken JSON"),
        (b"[1]", "is not a JSON object"),
        (b"7", "is not a JSON object"),
        (b'{"a": "\xe9"}', "is not UTF-8 text"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b"[" * 200_000 + b"]" * 200_000, "recursion"),
    ],
)
def test_mistakes_in_jsonl_name_their_line(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "\xc3\xa9"}\n\n' * 20 + line + b'\n{"a": 3}\n')
    read = read_jsonl(path)
    for _ in range(20):
        next(read)
    with pytest.raises(UserError, match=says) as caught:
        next(read)
    assert (caught.value.file, caught.value.line) == (path, 41)


def test_line_ends_of_other_systems_and_strange_ones_inside_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"a": "x\u2028y\x85"}\r\n{"a": 2}'.encode())
    assert list(read_jsonl(path)) == [(1, {"a": "x\u2028y\x85"}), (2, {"a": 2})]


def test_mistakes_in_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1,\n "b": }')
    with pytest.raises(UserError, match="broken JSON") as caught:
        read_json(path)
    assert caught.value.line == 2
    path.write_bytes(b'{"a":\n "\xe9"}')
    with pytest.raises(UserError, match="is not UTF-8 text") as caught:
        read_json(path)
    assert caught.value.line == 2
    path.write_text("[" * 200_000)
    with pytest.raises(UserError, match="recursion"):
        read_json(path)


@pytest.mark.parametrize("read", [read_text, read_json, lambda path: list(read_jsonl(path))])
def test_no_file_and_a_folder(tmp_path: Path, read: Any) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path)


def test_replacing_leaves_the_old_file_on_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as handle:
            handle.write("new")
            handle.flush()
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_replacing_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.json"
    write_json(path, {"é": [1, 2]})
    assert path.read_text(encoding="utf-8") == '{\n  "é": [\n    1,\n    2\n  ]\n}\n'
    with replacing(path, "wb") as handle:
        handle.write(b"\xff")
    assert path.read_bytes() == b"\xff"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_rows_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "a.jsonl", [{"a": 1}, {"a": object()}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("torn", range(1, 9))
def test_a_torn_line_is_cut_off(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "a.jsonl"
    log = JsonlLog(path)
    log.append([{"a": 1}, {"a": 2}])
    log.close()
    os.truncate(path, path.stat().st_size - torn)
    log = JsonlLog(path)
    log.append([{"a": 3}])
    log.close()
    assert [row["a"] for _, row in read_jsonl(path)] == [1, 3]


def test_a_log_whose_only_line_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1')
    JsonlLog(path).close()
    assert path.read_text() == ""


def test_what_was_appended_is_there_at_once(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "a.jsonl")
    log.append([{"a": "é"}])
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == '{"a": "é"}\n'
    log.close()


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_sha256_tree(tmp_path: Path) -> None:
    files = {"a.txt": "a", "b/c.txt": "c"}
    hashes = {
        sha256_tree(tree(tmp_path / str(number), changed))
        for number, changed in enumerate(
            [
                files,
                files | {"a.txt": "A"},
                {"a.txt": "a", "b/d.txt": "c"},
                {"a.txt": "a", "c.txt": "c"},
                {"a.txt": "c", "b/c.txt": "a"},
                {"a.txt": "a"},
            ]
        )
    }
    assert len(hashes) == 6
    same = tree(tmp_path / "same", {"b/c.txt": "c", ".lock": "x", ".git/x": "", "a.txt": "a"})
    assert sha256_tree(same) in hashes
    assert sha256_tree(same / "a.txt") == hashlib.sha256(b"a").hexdigest()
    assert sha256_file(same / "a.txt") == hashlib.sha256(b"a").hexdigest()
    with pytest.raises(UserError, match="no such file or folder"):
        sha256_tree(tmp_path / "none")
