"""The tree of common beginnings: every row is what its nodes and its own tokens say."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.engines import prefixes
from cameleer.engines.prefixes import Node, tree

Rows = list[list[int]]


def depth_first(rows: Rows, most: list[int], shared: int, shortest: int) -> list[int]:
    """Checks a tree against its rows; returns how many tokens each node saves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "SHARED", shared)
        patch.setattr(prefixes, "SHORTEST", shortest)
        found = tree(rows, most)
    assert sorted(index for index, _ in found) == list(range(len(rows)))
    counts: dict[Node, int] = {}
    for index, node in found:
        chain = node.chain() if node else []
        begun = [token for one in chain for token in one.ids]
        assert begun == rows[index][: len(begun)]
        assert len(begun) <= most[index]
        assert [one.end for one in chain] == [
            sum(len(o.ids) for o in chain[: n + 1]) for n in range(len(chain))
        ]
        for one in chain:
            counts[one] = counts.get(one, 0) + 1
    assert all(len(node.ids) >= shortest for node in counts)
    return [(count - 1) * len(node.ids) for node, count in counts.items()]


@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), max_size=25),
    shared=st.integers(1, 9),
    shortest=st.integers(1, 3),
)
def test_nodes_are_what_rows_begin_with(rows: Rows, shared: int, shortest: int) -> None:
    saved = depth_first(rows, [len(row) - 1 for row in rows], shared, shortest)
    assert all(tokens >= shared for tokens in saved)


@given(rows=st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=9), max_size=25))
def test_without_a_threshold_no_token_is_computed_twice(rows: Rows) -> None:
    """Then as many tokens are left as there are different beginnings, and one for each row."""
    saved = depth_first(rows, [len(row) - 1 for row in rows], 1, 1)
    begun = {tuple(row[:end]) for row in rows for end in range(1, len(row))}
    assert sum(map(len, rows)) - sum(saved) == len(begun) + len(rows)


def test_examples_stems_and_passages() -> None:
    draw = random.Random(0)

    def some(count: int) -> list[int]:
        return [draw.randrange(1000, 49000) for _ in range(count)]

    stem, examples, passages = some(10), [some(300), some(200)], [some(60) for _ in range(4)]
    rows = [
        stem + examples[which % 2] + passages[which] + some(20) for which in range(4) for _ in "abc"
    ]
    rows += [stem + some(30) for _ in range(5)] + [some(9) for _ in range(4)]
    found = tree(rows, [len(row) - 1 for row in rows])
    chains = {index: [len(n.ids) for n in node.chain()] if node else [] for index, node in found}
    assert chains[0] == chains[6] == [10, 300, 60]
    assert chains[3] == [10, 200, 60]
    assert all(chains[n] == [10] for n in range(12, 17))
    assert all(chains[n] == [] for n in range(17, 21))
    assert len({node for _, node in found if node}) == 1 + 4  # the stem's, and one of each passage
    keys = [tuple(n.ids[0] for n in node.chain()) for index, node in found if node and index < 12]
    assert keys == sorted(keys)  # depth first: who has a node comes together


def test_many_beginnings_inside_one_another_do_not_exhaust_the_stack() -> None:
    rows = [[7] * length for length in range(1, 3000)]
    assert len(tree(rows, [len(row) - 1 for row in rows])) == len(rows)


def test_nothing_makes_an_empty_tree() -> None:
    assert tree([], []) == []
    assert tree([[1, 2]], [1]) == [(0, None)]
