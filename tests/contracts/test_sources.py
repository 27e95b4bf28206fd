"""Every source that is found keeps the contract of cameleer.data.source."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import ROLES
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.source import Card, all_sources

SOURCES = all_sources()
GENERIC = ("jsonl", "alpaca")  # sources of a user's own files
FOLDERS = {  # of real records, where the name alone does not lead to them
    "baize": "instruct/baize/deepbot_ko",
    "jsonl": "instruct/tulu_v2_converted_sample",
    "alpaca": "instruct/stanford_alpaca",
}


@pytest.mark.parametrize("name", SOURCES)
def test_card_is_complete(name: str) -> None:
    module = SOURCES[name]
    card = module.CARD
    assert isinstance(card, Card)
    assert (module.__doc__ or "").count("\n") >= 2
    assert "Licence" in (module.__doc__ or "")
    assert card.title
    assert card.native
    assert set(card.derived_from) <= set(SOURCES) - {name}
    table = (card.instances, card.rounds, card.prompt_tokens, card.completion_tokens)
    if card.instances is None:
        assert table == (None, None, None, None)
    else:
        assert all(number is not None and number >= 1 for number in table)
    if name in GENERIC:
        assert card.any_file
        return
    assert card.licence
    assert card.citation
    assert card.origin.startswith("https://")


def test_the_twelve_of_the_paper_are_there() -> None:
    """Table 1 of the paper has twelve sets, of 1,000,837 instances together."""
    instances = [module.CARD.instances for module in SOURCES.values() if module.CARD.instances]
    assert len(instances) == 12
    assert sum(instances) == 1_000_837


@pytest.mark.parametrize("name", SOURCES)
def test_a_folder_without_its_files_is_the_users_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file of"):
        convert(name, tmp_path)


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_in_place_of_a_folder(name: str, tmp_path: Path) -> None:
    file = tmp_path / "any.name"
    file.write_text("")
    if SOURCES[name].CARD.any_file:
        convert(name, file)
    else:
        with pytest.raises(UserError, match="is read from a folder"):
            convert(name, file)


def read(name: str, root: Path, rule: Rule, seed: int = 42) -> tuple[list[Any], dict[str, int]]:
    try:
        stream, counts = convert(name, root / FOLDERS.get(name, ""), rule, seed)
    except UserError as error:
        if SOURCES[name].CARD.instances is None and name not in FOLDERS:
            pytest.skip(f"no real records of a source that the paper has not: {error}")
        raise
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
        assert name in GENERIC or (one.source == name and one.id.startswith(f"{name}_"))
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
