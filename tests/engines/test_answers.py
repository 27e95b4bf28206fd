"""Answers on the disk: whole lines whoever is killed, one line for a request, many writers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.answers import Answers, key_of

WRITER = """
import sys
from pathlib import Path
from cameleer.engines.answers import Answers
answers = Answers(Path(sys.argv[1]), "camel")
for n in range(200):
    answers.put(f"{sys.argv[2]}/{n}", {"text": "é" * (n % 50)})
"""


def test_keys_are_of_all_that_is_sent() -> None:
    body = {"model": "m", "prompt": "p", "n": 2}
    assert key_of("completions", body) == key_of("completions", dict(reversed(body.items())))
    others = [{**body, "model": "n"}, {**body, "n": 3}, {**body, "seed": 1}]
    keys = {key_of("completions", one) for one in (body, *others)} | {key_of("chat", body)}
    assert len(keys) == 5


def test_models_have_files_of_their_own(tmp_path: Path) -> None:
    names = ("org/camel", "org-camel", "../../etc/passwd", "x" * 300, "كاميل")
    paths = {Answers(tmp_path, name).path for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path for path in paths)


@pytest.mark.parametrize("torn", range(1, 40, 7))
def test_a_torn_line_is_cut_off(tmp_path: Path, torn: int) -> None:
    answers = Answers(tmp_path, "camel")
    answers.put("a", {"text": "one"})
    answers.put("b", {"text": "two"})
    answers.close()
    whole = answers.path.read_bytes()
    end = whole.index(b"\n") + 1
    answers.path.write_bytes(whole[: min(end + torn, len(whole) - 1)])
    again = Answers(tmp_path, "camel")
    assert again.get("a") == {"key": "a", "text": "one"}
    assert again.get("b") is None
    again.put("b", {"text": "three"})
    again.put("a", {"text": "a second answer to one request does not count"})
    again.close()
    last = Answers(tmp_path, "camel")
    assert [last.get(key)["text"] for key in "ab"] == ["one", "three"]  # type: ignore[index]


def test_two_processes_write_into_one_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    for process in [subprocess.Popen([*command, name]) for name in "ab"]:
        assert process.wait() == 0
    answers = Answers(tmp_path, "camel")
    rows = [json.loads(line) for line in answers.path.open()]
    assert len(rows) == len(answers.at) == 400
    assert answers.get("b/49") == {"key": "b/49", "text": "é" * 49}


def test_a_line_that_is_no_answer_is_named(tmp_path: Path) -> None:
    answers = Answers(tmp_path, "camel")
    answers.put("a", {"text": "one"})
    answers.close()
    with answers.path.open("a") as handle:
        handle.write("oh\n")
    with pytest.raises(UserError, match=r"camel-.*\.jsonl:2: is no answer"):
        Answers(tmp_path, "camel")
