"""From conversations to rows: tokens kept on disk, long ones counted, every epoch packed anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.data.loader import (
    Tokens,
    epoch_rows,
    epoch_steps,
    micro_batches,
    say_what_was_left_out,
    share,
    tokenise,
)

TULU = template_named("tulu")


def chat(number: int, *turns: tuple[str, str], source: str = "a") -> Conversation:
    return Conversation(f"c{number}", source, tuple(Message(role, text) for role, text in turns))


def question(number: int, answer: str, source: str = "a") -> Conversation:
    return chat(number, ("user", "Where?"), ("assistant", answer), source=source)


SHORT = question(0, "In the desert.")
OTHER = question(1, "There.", source="b")
LONG = question(2, "There is little water. " * 20)
LATE = chat(3, ("user", "Where? " * 60), ("assistant", "There."))  # its answer is beyond the limit
MUTE = chat(4, ("user", "Where?"))
LIMIT = 100


def load(folder: Path, tokenizer: Any, *rows: Conversation, **settings: Any) -> Tokens:
    data = folder / "data.jsonl"
    write_jsonl(data, [row.to_row() for row in rows])
    facts: dict[str, Any] = {"max_tokens": LIMIT, "on_long": "cut", "rule": "fixed"}
    facts |= {"folder": folder / "tokens", **settings}
    return tokenise(data, tokenizer, TULU, **facts)


def test_what_is_on_disk_is_what_was_rendered(tmp_path: Path, tiny_tokenizer: Any) -> None:
    tokens = load(tmp_path, tiny_tokenizer, SHORT, OTHER)
    wanted = list(render([SHORT, OTHER], tiny_tokenizer, TULU))
    assert tokens.ids.tolist() == wanted[0].ids + wanted[1].ids
    assert tokens.supervised.astype(int).tolist() == wanted[0].supervised + wanted[1].supervised
    assert tokens.lengths.tolist() == [len(one.ids) for one in wanted]
    assert tokens.counts["tokens"] == len(tokens.ids)
    assert tokens.counts["supervised"] == tokens.supervised.sum()
    assert tokens.counts["supervised: a"] == sum(wanted[0].supervised)
    assert tokens.counts["supervised: b"] == sum(wanted[1].supervised)


def test_each_is_known_by_its_source_and_its_place_in_the_file(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.data.rendering.CONVERSATIONS", 2)  # places go on over stretches
    rows = [MUTE, SHORT, LONG, OTHER, MUTE, OTHER]
    tokens = load(tmp_path, tiny_tokenizer, *rows, on_long="drop")
    assert tokens.places.tolist() == [1, 3, 5]
    assert [tokens.names[number] for number in tokens.sources] == ["a", "b", "b"]


def test_a_folder_of_an_older_form_is_made_anew(tmp_path: Path, tiny_tokenizer: Any) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "counts.json").write_text('{"tokens": 7}')
    assert load(tmp_path, tiny_tokenizer, SHORT).counts["kept"] == 1
    assert not (tmp_path / "tokens" / "counts.json").exists()


@pytest.mark.parametrize(
    ("on_long", "kept", "counted"),
    [
        ("cut", 3, {"cut": 2, "dropped_long": 0, "dropped_no_supervised": 2}),
        ("drop", 2, {"cut": 0, "cut_tokens": 0, "dropped_long": 2, "dropped_no_supervised": 1}),
    ],
)
def test_long_ones_are_counted_for_what_became_of_them(
    tmp_path: Path, tiny_tokenizer: Any, on_long: str, kept: int, counted: dict[str, int]
) -> None:
    tokens = load(tmp_path, tiny_tokenizer, SHORT, LONG, OTHER, LATE, MUTE, on_long=on_long)
    assert tokens.counts["read"] == 5
    assert tokens.counts["kept"] == len(tokens.lengths) == kept
    assert {key: tokens.counts[key] for key in counted} == counted
    assert max(tokens.lengths) <= LIMIT
    assert (max(tokens.lengths) == LIMIT) == (on_long == "cut")


@pytest.mark.parametrize("long", [LONG, LATE])
def test_a_long_one_can_be_an_error(
    tmp_path: Path, tiny_tokenizer: Any, long: Conversation
) -> None:
    length = len(next(render([long], tiny_tokenizer, TULU)).ids)
    says = f"conversation '{long.id}' has {length} tokens, over the limit of {LIMIT}"
    with pytest.raises(UserError, match=says) as caught:
        load(tmp_path, tiny_tokenizer, SHORT, long, on_long="error")
    assert caught.value.field == "max_seq_length"
    with pytest.raises(UserError, match=says):  # half a folder of tokens is not taken for whole
        load(tmp_path, tiny_tokenizer, SHORT, long, on_long="error")


def test_said_in_words(
    tmp_path: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = len(next(render([LONG], tiny_tokenizer, TULU)).ids) - LIMIT
    tokens = load(tmp_path, tiny_tokenizer, SHORT, LONG, MUTE)
    say_what_was_left_out(tokens.counts, LIMIT)
    assert capsys.readouterr().err.splitlines() == [
        f"1 of 3 conversations cut at {LIMIT} tokens ({lost} tokens lost)",
        "1 of 3 conversations dropped, nothing in them is to be learned",
    ]
    dropped = load(tmp_path / "b", tiny_tokenizer, SHORT, LONG, on_long="drop")
    say_what_was_left_out(dropped.counts, LIMIT)
    said = capsys.readouterr().err
    assert said == f"1 of 2 conversations dropped, longer than {LIMIT} tokens\n"


def test_nothing_to_learn_from(tmp_path: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(UserError, match="holds no conversation that can be learned from"):
        load(tmp_path, tiny_tokenizer, MUTE)


@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_the_first_token_is_never_supervised(
    tmp_path: Path, tiny_tokenizer: Any, rule: str
) -> None:
    """Nothing predicts it; in a packed row the document before would (paper's mask has it)."""
    opening = chat(5, ("assistant", "In the desert."), ("user", "Where?"), ("assistant", "There."))
    tokens = load(tmp_path, tiny_tokenizer, SHORT, opening, SHORT, rule=rule)
    assert not tokens.supervised[tokens.starts[:-1]].any()
    assert tokens.counts["supervised"] == tokens.supervised.sum()
    if rule == "paper":
        assert tokens.supervised[tokens.starts[1] + 1]


def test_tokens_of_an_earlier_call_are_taken_up(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(tmp_path, tiny_tokenizer, SHORT, OTHER)
    monkeypatch.setattr("cameleer.data.loader.by_all_cores", None)
    after = load(tmp_path, tiny_tokenizer, SHORT, OTHER)
    assert np.array_equal(before.ids, after.ids)
    assert before.counts == after.counts


@pytest.mark.parametrize("name", ["ids.u32", "supervised.u8", "starts.i64", "places.i64"])
def test_tokens_that_were_cut_are_made_anew(tmp_path: Path, tiny_tokenizer: Any, name: str) -> None:
    """As a power cut may leave them, or a hand."""
    before = load(tmp_path, tiny_tokenizer, SHORT, OTHER)
    ids, file = before.ids.tolist(), tmp_path / "tokens" / name
    file.write_bytes(file.read_bytes()[:-8])
    after = load(tmp_path, tiny_tokenizer, SHORT, OTHER)
    assert (after.ids.tolist(), after.counts) == (ids, before.counts)
    file.unlink()
    assert load(tmp_path, tiny_tokenizer, SHORT, OTHER).ids.tolist() == ids


lengths = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(lengths=lengths, seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_every_conversation_once_an_epoch(lengths: list[int], seed: int, epoch: int) -> None:
    rows = epoch_rows(lengths, 50, seed, epoch)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 50 for row in rows)
    assert rows == epoch_rows(lengths, 50, seed, epoch)
    assert len(rows) == len(epoch_rows(lengths, 50, seed, epoch + 1))


def test_epochs_and_seeds_are_shuffled() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 50, 300).tolist()
    orders = [epoch_rows(lengths, 100, seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    for index, one in enumerate(orders):
        assert all(one != other for other in orders[index + 1 :])
    shared = {tuple(sorted(row)) for row in orders[0]} & {tuple(sorted(row)) for row in orders[1]}
    assert len(shared) < len(orders[0]) / 2  # who lies with whom changes, not the order alone
    means = [np.mean([lengths[index] for index in row]) for row in orders[0]]
    half = len(means) // 2
    assert abs(np.mean(means[:half]) - np.mean(means[half:])) < np.std(means)  # no long ones first


@given(st.integers(1, 40), st.integers(1, 20))
def test_steps_take_the_rows_in_turn(count: int, size: int) -> None:
    rows = [[index] for index in range(count)]
    steps = list(epoch_steps(rows, size))
    assert [row for step in steps for row in step] == rows
    assert [len(step) for step in steps[:-1]] == [size] * (len(steps) - 1)
    assert 1 <= len(steps[-1]) <= size


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 6))
def test_every_rank_has_as_many_micro_batches(count: int, size: int, ranks: int) -> None:
    """And each row is in one of them, in its rank's order; some are smaller or empty."""
    rows = [[index] for index in range(count)]
    lengths = [7 + index * 5 % 11 for index in range(count)]
    batches = micro_batches(rows, lengths, size, ranks)
    assert len(batches) == ranks
    most = -(-count // ranks)
    assert {len(own) for own in batches} == {-(-most // size)}
    assert all(len(batch) <= size for own in batches for batch in own)
    dealt = [[row for batch in own for row in batch] for own in batches]
    assert dealt == share(rows, lengths, ranks)


def test_one_rank_has_the_rows_in_their_order() -> None:
    rows = [[3, 1], [0], [4, 2]]
    assert micro_batches(rows, [5, 9, 1, 2, 2], 2, 1) == [[[[3, 1], [0]], [[4, 2]]]]


@given(st.lists(st.integers(1, 2048), max_size=60), st.integers(1, 9))
def test_every_row_goes_to_one_rank(tokens: list[int], ranks: int) -> None:
    rows = [[number] for number in range(len(tokens))]
    dealt = share(rows, tokens, ranks)
    assert len(dealt) == ranks
    assert sorted(row for own in dealt for row in own) == rows
    assert all(own == sorted(own) for own in dealt)  # in their order
    counts = [len(own) for own in dealt]
    assert max(counts) - min(counts) <= 1
    costs = [sum(tokens[number] for (number,) in own) for own in dealt]
    assert max(costs) - min(costs) <= max(tokens, default=0)


def test_ranks_are_as_equal_as_can_be() -> None:
    rows = [[number] for number in range(6)]
    assert share(rows, [9, 1, 8, 2, 7, 3], 2) == [[[0], [3], [5]], [[1], [2], [4]]]
    assert share(rows[:2], [5, 6], 4) == [[[1]], [[0]], [], []]
    assert share([], [], 2) == [[], []]
