"""The data benchmark measures the same work for all, and says where results differ."""

from __future__ import annotations

import ast
import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench import data, data_cameleer, data_paper
from bench.compare import Ran
from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.files import write_jsonl

CHATS = [
    Conversation(
        str(number),
        "t",
        (
            Message("user", f"Where does camel {number} live? " * 4),
            Message("assistant", "In the desert. " * number),
            Message("user", "And then?"),
            Message("assistant", "There."),
        ),
    )
    for number in range(1, 40)
]


def test_made_records_are_many_and_mostly_different() -> None:
    made = list(islice(data_cameleer.records(CHATS), 400))
    assert len({json.dumps(one) for one in made}) > 350
    words = {word for one in made for word in one["instruction"].split()}
    assert len(words) > 100
    assert made == list(islice(data_cameleer.records(CHATS), 400))


def test_changed_words() -> None:
    text = "a b c d e f g h i j"
    changed = data_cameleer.changed(text, 3, ["X"], random.Random(0)).split(" ")
    assert 1 <= sum(a != b for a, b in zip(text.split(" "), changed, strict=True)) <= 3


def test_the_papers_way_gives_what_our_rule_of_its_name_gives(tiny_tokenizer: Any) -> None:
    rendered = render(CHATS, tiny_tokenizer, template_named("tulu"), max_tokens=300, rule="paper")
    for chat, ours in zip(CHATS, rendered, strict=True):
        ids, labels = data_paper.encode(chat.to_row()["messages"], tiny_tokenizer, 300)
        assert ids.tolist() == ours.ids
        assert [int(label != data_paper.IGNORED) for label in labels] == ours.supervised


@pytest.mark.parametrize("way", ["whole", "pieces", "known", "paper"])
def test_every_way_of_ours_writes_what_it_gives(
    way: str, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    write_jsonl(tmp_path / "c", (one.to_row() for one in CHATS))
    job = {"base": str(tmp_path), "limit": 2048, "sample": tmp_path / "c"}
    said = data_cameleer.rate(job | {"way": way, "digests": tmp_path / way})
    assert said["conversations"] == len(CHATS)
    lines = (tmp_path / way).read_text().splitlines()
    assert len(set(lines)) == len(CHATS)


def test_what_differs_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("TRL", "whole", "pieces", "known", "paper", "papers way"):
        (tmp_path / f"{name}.digests").write_text("a\nb\nc\n")
    assert not any(data.agreement(tmp_path, 3).values())
    (tmp_path / "TRL.digests").write_text("a\nx\n")
    assert data.agreement(tmp_path, 3)["TRL = whole"] == 2
    assert "TRL and whole gave 2 and 3 of 3" in capsys.readouterr().err


def test_figures_of_a_step() -> None:
    said = {"wall": 2.0, "peak": 3 << 30, "conversations": 100, "full": 0.99}

    def once(*_: Any, **__: Any) -> Ran:
        return Ran(said, 4.0, 6.0, 1 << 30)

    one = data.scale(once, "pack", 2)
    assert (one["per_second"], one["peak_gib"], one["cores"], one["full"]) == (50, 3.0, 1.5, 0.99)


def test_memory_of_this_process_is_seen() -> None:
    memory = data_cameleer.Memory()
    memory.start()
    held = bytearray(b"x") * (50 << 20)
    memory.ended.wait(3 * data_cameleer.EVERY)
    memory.ended.set()
    memory.join()
    assert memory.peak > len(held)


def test_the_peers_script_imports_nothing_of_ours() -> None:
    tree = ast.parse((Path(data.__file__).parent / "data_trl.py").read_text())
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not {name.partition(".")[0] for name in names} & {"cameleer", "bench"}
