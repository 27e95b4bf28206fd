"""Votes: who stands first, what is appended, and what taking one back leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.results.judgements import read_judgements
from cameleer.results.records import Judgement
from cameleer.talk.votes import Votes


def votes(folder: Path) -> Votes:
    return Votes(folder / "v.jsonl", "left", "right", "me", 1)


def add(
    kept: Votes, word: str, place: str = "1.1", b_first: bool = False, **more: Any
) -> Judgement:
    said = {"a": {"answer": "Ja – \u2028"}}
    return kept.add(place, word, b_first=b_first, seconds=1.234, said=said, **more)


def test_a_file_that_holds_no_votes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"item": "a"}\n')
    with pytest.raises(UserError, match="missing"):
        Votes(path, "a", "b", "me", 1)
    with pytest.raises(UserError, match="between two models"):
        Votes(tmp_path / "new.jsonl", "a", "a", "me", 1)
    assert path.read_text() == '{"item": "a"}\n'


def test_who_stands_first_is_drawn_for_each_chat(tmp_path: Path) -> None:
    kept = votes(tmp_path)
    drawn = [kept.b_first(chat) for chat in range(200)]
    assert drawn == [kept.b_first(chat) for chat in range(200)]
    assert 60 < sum(drawn) < 140


def test_votes_are_appended(tmp_path: Path) -> None:
    kept = votes(tmp_path)
    assert kept.tally() == "no votes"
    first = add(kept, "a", b_first=True)
    assert (first.preference, first.seconds) == (2.0, 1.2)
    add(votes(tmp_path), "b", b_first=True)
    assert [one.preference for one in read_judgements(kept.path)] == [2.0, 1.0]


def test_a_vote_taken_back_leaves_nothing(tmp_path: Path) -> None:
    kept = votes(tmp_path)
    add(kept, "a")
    before = kept.path.read_bytes(), kept.chats.read_bytes()
    add(kept, "bad", "1.2")
    kept.undo()
    assert (kept.path.read_bytes(), kept.chats.read_bytes()) == before
    assert kept.tally().startswith("votes for left 1, right 0, ties 0, both bad 0, skipped 0")
    with pytest.raises(UserError, match="no vote to take back"):
        kept.undo()
    add(kept, "tie", "1.2", note="names seen")
    assert [(one.preference, one.note) for one in read_judgements(kept.path)] == [
        (1.0, ""),
        (1.5, "names seen"),
    ]


def test_a_vote_that_another_followed_stays(tmp_path: Path) -> None:
    one, other = votes(tmp_path), votes(tmp_path)
    add(one, "a")
    add(other, "b")
    before = one.path.read_bytes()
    with pytest.raises(UserError, match="another vote has followed"):
        one.undo()
    assert one.path.read_bytes() == before
    other.undo()
    one.undo()
    assert one.path.read_bytes() == b""


def test_a_last_line_that_has_no_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a vote is none; a whole one counts, and what is no vote is left alone."""
    kept = votes(tmp_path)
    add(kept, "a")
    whole = kept.path.read_text()
    kept.path.write_text(whole + '{"item": "chat/')
    add(votes(tmp_path), "b")
    assert "half a vote" in capsys.readouterr().err
    assert [one.preference for one in read_judgements(kept.path)] == [1.0, 2.0]
    kept.path.write_text(whole.rstrip())
    add(votes(tmp_path), "b")
    assert [one.preference for one in read_judgements(kept.path)] == [1.0, 2.0]
    kept.path.write_text("my notes")
    with pytest.raises(UserError):
        votes(tmp_path)
    assert kept.path.read_text() == "my notes"


@pytest.mark.parametrize("name", ["votes", "votes.chats.jsonl"])
def test_a_folder_takes_no_votes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: field '--votes': is a folder, a file is needed"):
        Votes(tmp_path / "votes", "a", "b", "me", 1)
