"""Whole files: blocks lose no line, many processes give what one gives, bad lines are named."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.chat.render import Renderer, render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.data import rendering
from cameleer.data.loader import tokenise
from cameleer.data.rendering import blocks, read_block, render_file

TULU = template_named("tulu")


def chats(count: int) -> list[Conversation]:
    return [
        Conversation(
            f"c\u00e9{number}",
            "ab"[number % 2],
            (Message("user", "Where? " * (number % 40)), Message("assistant", f"There: {number}.")),
        )
        for number in range(count)
    ]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of any size are large, and go to two processes in blocks of some lines."""
    monkeypatch.setattr(rendering, "SMALL", 0)
    monkeypatch.setattr(rendering.blocks, "__defaults__", (8000,))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@given(
    lines=st.lists(st.text("ab ", max_size=30), max_size=12),
    size=st.integers(1, 40),
    whole=st.booleans(),
)
def test_blocks_are_whole_lines_and_make_up_the_file(
    lines: list[str], size: int, whole: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("b") / "f"
    text = "\n".join(lines).encode() + (b"\n" if whole else b"")
    path.write_bytes(text)
    found = list(blocks(path, size))
    assert b"".join(text[one.begin : one.end] for one in found) == text
    for one in found:
        assert one.begin < one.end
        assert one.lines == text[: one.begin].count(b"\n")
        assert text[one.end - 1 : one.end] == b"\n" or one.end == len(text)
    assert len(found) <= 2 + len(text) // size


def test_blocks_hold_the_conversations_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    rows = [json.dumps({"messages": one.to_row()["messages"]}) for one in chats(50)]
    path.write_bytes(b"\xef\xbb\xbf" + "\n\n".join(rows).encode())
    found = [one for block in blocks(path, 700) for one in read_block(block)]
    assert found == list(read_conversations(path))
    assert found[-1].id == "98"  # the line serves where there is no id


@pytest.mark.usefixtures("small_blocks")
def test_many_processes_give_what_one_gives(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "read_conversations", None)  # what one process would do
    wanted = chats(900)
    data, out = tmp_path / "c.jsonl", tmp_path / "ids.jsonl"
    write_jsonl(data, (one.to_row() for one in wanted))
    counts: Counter[str] = Counter()
    ours = list(render(wanted, tiny_tokenizer, TULU, max_tokens=100, counts=counts))
    assert render_file(data, out, Renderer(tiny_tokenizer, TULU, max_tokens=100)) == counts
    assert [row for _, row in read_jsonl(out)] == [
        {"id": one.id, "input_ids": one.ids, "supervised": one.supervised} for one in ours
    ]
    facts: dict[str, Any] = {"max_tokens": 100, "on_long": "cut", "rule": "fixed"}
    tokens = tokenise(data, tiny_tokenizer, TULU, folder=tmp_path / "tokens", **facts)
    assert tokens.ids.tolist() == [token for one in ours for token in one.ids]
    assert tokens.starts.tolist() == np.cumsum([0, *(len(one.ids) for one in ours)]).tolist()
    assert tokens.counts["cut"] == counts["cut"] > 0
    assert tokens.counts["supervised: a"] == sum(
        sum(one.supervised) for one in ours if one.source == "a"
    )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "broken JSON"),
        ("[]", "not a JSON object"),
        ('{"messages": [{"role": "bot", "content": ""}]}', "unknown role"),
        ('{"messages": [{"role": "user", "content": "\\ud83d"}]}', "surrogate"),
    ],
)
def test_a_bad_line_is_named_as_ever(
    line: str, says: str, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    data = tmp_path / "c.jsonl"
    write_jsonl(data, (one.to_row() for one in chats(300)))
    text = data.read_text(encoding="utf-8").splitlines()
    text[170] = line
    data.write_text("\n".join(text), encoding="utf-8")
    with pytest.raises(UserError, match=says) as caught:
        render_file(data, tmp_path / "ids.jsonl", Renderer(tiny_tokenizer, TULU))
    assert (caught.value.file, caught.value.line) == (data, 171)
    assert not (tmp_path / "ids.jsonl").exists()


@pytest.mark.usefixtures("small_blocks")
def test_packed_files_are_read_too(tmp_path: Path, tiny_tokenizer: Any) -> None:
    plain, packed = tmp_path / "c.jsonl", tmp_path / "c.jsonl.gz"
    write_jsonl(plain, (one.to_row() for one in chats(9)))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    counts = render_file(packed, tmp_path / "ids.jsonl", Renderer(tiny_tokenizer, TULU))
    assert counts["kept"] == 9


KILLED = """
import os, sys, time
from pathlib import Path
from transformers import PreTrainedTokenizerFast
from cameleer.chat.render import Renderer
from cameleer.chat.template import template_named
from cameleer.data import rendering

def linger(renderer, conversations):
    Path(sys.argv[2], str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    rendering.SMALL = 0
    rendering.os.sched_getaffinity = lambda _: {0, 1}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[3], eos_token="</s>")
    renderer = Renderer(tokenizer, template_named("tulu"))
    list(rendering.by_all_cores(Path(sys.argv[1]), renderer, linger))
"""


def test_no_process_outlives_one_that_is_killed(tmp_path: Path, tiny_tokenizer: Any) -> None:
    data, seen, script = tmp_path / "c.jsonl", tmp_path / "seen", tmp_path / "killed.py"
    seen.mkdir()
    script.write_text(KILLED, encoding="utf-8")
    write_jsonl(data, (one.to_row() for one in chats(9)))
    tiny_tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    files = [str(data), str(seen), str(tmp_path / "tokenizer.json")]
    process = subprocess.Popen([sys.executable, str(script), *files])
    until = time.monotonic() + 60
    while not (workers := [int(one.name) for one in seen.iterdir()]):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except FileNotFoundError:
        return False
    return state.split()[0] != "Z"
