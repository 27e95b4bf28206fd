"""Files: whole or not there, torn lines cut off, mistakes with their line, hashes of trees."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core import json_array, jsonl
from cameleer.core.errors import UserError
from cameleer.core.files import (
    JsonlLog,
    WriteError,
    read_json,
    read_text,
    replacing,
    require_outside,
    sha256_file,
    sha256_tree,
    write_json,
    write_jsonl,
)
from cameleer.core.json_array import read_json_array
from cameleer.core.jsonl import StrayTextError, read_jsonl, read_lines

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
@pytest.mark.usefixtures("no_collection")
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


def told(path: Path, read: Any = read_jsonl) -> tuple[list[Any], list[tuple[int | None, bool]]]:
    """What is read, and the line of each complaint with whether it is of a record."""
    bad: list[UserError] = []
    found = [value for _, value in read(path, bad.append)]
    return found, [(error.line, not isinstance(error, StrayTextError)) for error in bad]


A, B = {"a": "x }{ [", "b": 1}, {"a": "\u2028", "b": 2}
LINE_A, LINE_B = json.dumps(A).encode(), json.dumps(B, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("between", "complaints"),
    [
        (b"\n", []),
        (b"\r\n", []),
        (b"\r", []),  # as Python's text files
        (b"\n\xef\xbb\xbf", []),  # two files that were put together
        (b"\n \t\n\n", []),
        (b"", []),  # a line break that was lost
        (b"\n<<<<<<< HEAD\n", [(2, False)]),
        (b'\n{"a": \n', [(2, True)]),
        (b'\r{"a": \r', [(2, True)]),
        (b'\n{"a": "x\ny", "b": 1}\n', [(2, True), (3, False)]),  # one record in two lines
        (b'\n, "b": 1}\n', [(2, True)]),
        (b"\n\0\0\n", [(2, False)]),
        (b"\n\xff\n", [(2, True)]),
        (b"\nnull\n", [(2, True)]),
        (b"\n[]\n3\n", [(2, True), (3, True)]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_stands_between_lines(
    tmp_path: Path, between: bytes, complaints: list[tuple[int, bool]], packed: bool
) -> None:
    path = tmp_path / "a.jsonl"  # whose first bytes say whether it is packed
    data = LINE_A + between + LINE_B
    path.write_bytes(gzip.compress(data) if packed else data)
    assert told(path) == ([A, B], complaints)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("read", [read_jsonl, read_json_array, read_lines])
def test_utf16_is_named(tmp_path: Path, encoding: str, read: Any) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps([A]).encode(encoding))
    with pytest.raises(UserError, match="is UTF-16 text"):
        told(path, read)


def broken_gzip(data: bytes) -> dict[str, bytes]:
    """By what is wrong with it: of all but the cut ones every line can be had."""
    whole = gzip.compress(data)
    return {
        "checksum": whole[:-8] + bytes(8),
        "length": whole[:-4] + bytes(4),
        "no trailer": whole[:-8],
        "half a trailer": whole[:-3],
        "rubbish behind": whole + b"rubbish",
        "cut": whole[: len(whole) * 2 // 3],
    }


ROWS = [{"a": n, "b": hashlib.sha256(bytes([n % 251])).hexdigest()} for n in range(3000)]


@pytest.mark.parametrize("wrong", broken_gzip(b""))
def test_broken_gzip_files_give_what_can_be_had(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "a.gz"
    for read, text in ((read_jsonl, "\n".join(map(json.dumps, ROWS))),
                       (read_json_array, json.dumps(ROWS))):  # fmt: skip
        path.write_bytes(broken_gzip(text.encode())[wrong])
        found, complaints = told(path, read)
        assert found == ROWS[: len(found)]
        assert len(found) == len(ROWS) or (wrong == "cut" and len(found) > 500)
        assert 1 <= len(complaints) <= 2
        with pytest.raises(UserError):
            list(read(path))


@pytest.mark.parametrize(
    ("read", "start"),
    [(read_jsonl, b'{"a": 1}\n'), (read_json_array, b"["), (read_json_array, b'[{"a": "')],
)
def test_a_gibibyte_of_zeros_is_left_soon(tmp_path: Path, start: bytes, read: Any) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(start) + gzip.compress(bytes(1 << 26)) * 16)
    tracemalloc.start()
    try:
        found, complaints = told(path, read)
        assert tracemalloc.get_traced_memory()[1] < 400 << 20
    finally:
        tracemalloc.stop()
    assert found == [{"a": 1}][: start.count(b"}")]
    assert 1 <= len(complaints) <= 2


def test_a_record_of_50_megabytes_is_a_record(tmp_path: Path) -> None:
    path, large = tmp_path / "a", {"a": "x" * 50_000_000, "b": 0}
    for read, text in ((read_jsonl, "\n".join(map(json.dumps, [A, large, B]))),
                       (read_json_array, json.dumps([A, large, B]))):  # fmt: skip
        path.write_text(text)
        assert told(path, read) == ([A, large, B], [])
        path.write_bytes(gzip.compress(text.replace("x" * 9, "xéyz" * 2).encode(), 1))
        found, complaints = told(path, read)
        assert [len(found), found[0], found[-1], complaints] == [3, A, B, []]


def test_one_that_is_longer_still_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (json_array, jsonl):
        monkeypatch.setattr(module, "MOST_OF_ONE", 1 << 22)
    path, large = tmp_path / "a", {"a": "x" * 10_000_000}
    path.write_text("\n".join(map(json.dumps, [A, large, B])))
    assert told(path) == ([A, B], [(2, True)])
    path.write_text(json.dumps([A, large, B], indent=1))
    assert told(path, read_json_array) == ([A, B], [(6, True)])


@pytest.mark.parametrize("read", [read_jsonl, read_json_array, read_lines])
def test_files_that_cannot_be_opened(tmp_path: Path, read: Any) -> None:
    loop, closed = tmp_path / "loop", tmp_path / "closed"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match="cannot be read: Too many levels"):
        told(loop, read)
    closed.write_text("{}")
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user (root) may read any file")
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        told(closed, read)


@pytest.mark.usefixtures("no_collection")
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


@pytest.mark.parametrize("name", ["file/x.json", "file/deep/x.json", "x" * 300])
def test_a_refusal_names_the_file_that_was_asked_for(tmp_path: Path, name: str) -> None:
    """Neither the folder above it nor the temporary file beside it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError) as caught:
        write_json(tmp_path / name, 1)
    assert caught.value.filename == str(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_read_may_not_hold_what_is_written(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (tmp_path / "link").symlink_to(given)
    for out in (given / "x", given / "deep" / "x", tmp_path / "link" / "x"):
        with pytest.raises(UserError, match=r"lies in .*given, which is read"):
            require_outside(out, tmp_path / "other", given)
    for out in (tmp_path / "given.tar", tmp_path / "givenx", given / ".." / "x"):
        require_outside(out, given)


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
    plain = {"a.txt": "a", "b/c.txt": "c"}
    hashes = {
        sha256_tree(tree(tmp_path / str(number), changed))
        for number, changed in enumerate(
            [
                plain,
                plain | {"a.txt": "A"},
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
