"""What judges are shown: which answer first, whoever wrote it, and nothing that would tell."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.template import template_named
from cameleer.evals.judge.outputs import Pair
from cameleer.evals.judge.prompting import b_first, questions
from cameleer.evals.judge.spec import pairwise_judge

JUDGE, PUBLISHED = pairwise_judge("verdict"), pairwise_judge("alpaca_eval_gpt4")
PAIRS = [Pair(f"i/{n}", f"Ask {n}", f"first {n}", f"second {n}", "set") for n in range(400)]


def turned(pair: Pair) -> Pair:
    return Pair(pair.item, pair.instruction, pair.b, pair.a, pair.dataset)


@given(st.text(), st.text(), st.text())
def test_a_and_b_swapped_are_shown_alike(instruction: str, a: str, b: str) -> None:
    pair = Pair("i", instruction, a, b)
    if a == b:
        assert questions(JUDGE, [pair], None) == []
        return
    [one], [other] = questions(JUDGE, [pair], None), questions(JUDGE, [turned(pair)], None)
    assert one.request == other.request
    assert one.b_first != other.b_first


def test_neither_the_order_of_items_nor_their_keys_matter() -> None:
    known = {pair.instruction: b_first(JUDGE, pair) for pair in PAIRS}
    for pair in random.Random(0).sample(PAIRS, 50):
        again = Pair("other", pair.instruction, pair.a, pair.b)
        assert b_first(JUDGE, again) == known[pair.instruction]
    assert 150 < sum(known.values()) < 250
    others = [b_first(JUDGE, pair, seed=7) for pair in PAIRS]
    moved = sum(one != two for one, two in zip(others, known.values(), strict=True))
    assert 100 < moved < 300


def test_alpaca_evals_own_order() -> None:
    """Restated from its code: the instruction and seed 0 decide, whatever the answers are."""
    for pair in PAIRS[:100]:
        seed = "is_switched_outputs" + pair.instruction + "0"
        switched = random.Random(seed).choices([False, True], k=1)[0]
        assert b_first(PUBLISHED, pair) == b_first(PUBLISHED, turned(pair)) == switched


def test_both_orders() -> None:
    asked = questions(JUDGE, PAIRS[:5], None, both_orders=True)
    assert [one.pair for one in asked] == [pair for pair in PAIRS[:5] for _ in range(2)]
    assert len({one.request.key for one in asked}) == 10
    for one, other in zip(asked[::2], asked[1::2], strict=True):
        assert one.b_first != other.b_first
        assert one.b_first == b_first(JUDGE, one.pair)


def test_each_answer_stands_in_its_place() -> None:
    for one in questions(PUBLISHED, PAIRS[:20], None):
        shown = (one.pair.b, one.pair.a) if one.b_first else (one.pair.a, one.pair.b)
        parts = [one.pair.instruction, *shown]
        places = [one.request.text.index(f'"""{part}"""') for part in parts]
        assert places == sorted(places)
        assert one.request.system == PUBLISHED.messages.system
        assert "first" not in one.request.key


def test_names_of_places_in_answers_stay_as_they_are() -> None:
    pair = Pair("i", "Say {output_2}", "{instruction}", "{output_1}")
    [one] = questions(JUDGE, [pair], None)
    assert one.request.text.count("Say {output_2}") == 1
    assert one.request.text.count("{instruction}") == 1
    assert one.request.text.count("{output_1}") == 1


def test_labels_are_chosen_among() -> None:
    [one] = questions(pairwise_judge("weighted"), PAIRS[:1], None)
    assert one.request.choices == ("A", "B")
    [one] = questions(pairwise_judge("scale"), PAIRS[:1], None)
    assert one.request.choices == ("1", "2", "3", "4", "5")


def test_a_local_models_prompt() -> None:
    [one] = questions(JUDGE, PAIRS[:1], template_named("tulu"))
    user, system = one.request.text, one.request.system
    assert one.request.prompt == f"<|system|>\n{system}\n<|user|>\n{user}\n<|assistant|>\n"
