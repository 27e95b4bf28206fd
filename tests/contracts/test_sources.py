"""Every source that is found keeps the contract of cameleer.data.source."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import ROLES
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.source import Card, all_sources, convert

SOURCES = all_sources()
FOLDERS = {"baize": "instruct/baize/deepbot_ko"}  # where the name alone does not lead to the files


@pytest.mark.parametrize("name", SOURCES)
def test_card_is_complete(name: str) -> None:
    module = SOURCES[name]
    card = module.CARD
    assert isinstance(card, Card)
    assert (module.__doc__ or "").count("\n") >= 2
    assert "Licence" in (module.__doc__ or "")
    assert all([card.title, card.licence, card.citation, card.native])
    assert card.origin.startswith("https://")
    assert card.instances > 10_000
    assert card.rounds >= 1
    assert min(card.prompt_tokens, card.completion_tokens) > 10


@pytest.mark.parametrize("name", SOURCES)
def test_a_folder_without_its_files_is_the_users_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file of"):
        convert(name, tmp_path)


def read(name: str, root: Path, rule: Rule, seed: int = 42) -> tuple[list[Any], dict[str, int]]:
    stream, counts = convert(name, root / FOLDERS.get(name, ""), rule, seed)
    try:
        return list(itertools.islice(stream, 3000)), counts
    except UserError as error:
        # A slice may lack a file that the paper's rule needs; that much must then be said.
        if rule == "paper" and error.file is not None:
            pytest.skip(f"the slice cannot serve the paper's rule: {error}")
        raise


@pytest.mark.real_data
@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize("name", SOURCES)
def test_conversations(name: str, rule: Rule, real_data: Path) -> None:
    conversations, counts = read(name, real_data, rule)
    assert conversations
    assert len({one.id for one in conversations}) == len(conversations)
    for one in conversations:
        assert one.source == name
        assert one.id.startswith(f"{name}_")
        assert one.messages
        assert {turn.role for turn in one.messages} <= set(ROLES)
        assert all(isinstance(turn.content, str) for turn in one.messages)
        "".join(turn.content for turn in one.messages).encode()
        if rule == "fixed":
            assert one.messages[-1].role == "assistant"
            assert all(turn.content.strip() for turn in one.messages)
    if len(conversations) < 3000:
        dropped = sum(n for reason, n in counts.items() if reason.startswith("dropped: "))
        assert counts["kept"] == len(conversations)
        assert counts["read"] == counts["kept"] + dropped


@pytest.mark.real_data
@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize("name", SOURCES)
def test_a_seed_decides_everything(name: str, rule: Rule, real_data: Path) -> None:
    assert read(name, real_data, rule, 7) == read(name, real_data, rule, 7)
