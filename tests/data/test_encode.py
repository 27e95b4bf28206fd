"""Instruction templates: their weights, their draws, what each rule makes of them."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.render import Rule
from cameleer.data.encode import (
    WITH_INPUT,
    WITHOUT_INPUT,
    Templates,
    exchange,
    instruct,
    question_lines,
)
from cameleer.data.source import Convert, Dropped


def job(rule: Rule = "paper", seed: int = 42) -> Convert:
    return Convert(Path(), rule, seed)


@pytest.mark.parametrize(("templates", "inputs"), [(WITH_INPUT, 1), (WITHOUT_INPUT, 0)])
def test_fourteen_templates_whose_weights_are_one(templates: Templates, inputs: int) -> None:
    assert len({prompt for prompt, _, _ in templates}) == 14
    assert Counter(weight for _, _, weight in templates) == {0.2: 1, 0.1: 3, 0.05: 10}
    for prompt, completion, _ in templates:
        assert prompt.count("{instruction}") == completion.count("{output}") == 1
        assert prompt.count("{input}") == inputs


def test_draws_are_those_of_random_choices() -> None:
    """The paper draws with random.choices(templates, weights) once a record."""
    source, mine = random.Random(7), job(seed=7)
    for number in range(200):
        context = "c" if number % 3 else " "
        table = WITH_INPUT if context == "c" else WITHOUT_INPUT
        prompt, completion, _ = source.choices(table, weights=[row[2] for row in table])[0]
        expected = (prompt.format(instruction="i", input="c"), completion.format(output="o"))
        assert instruct(mine, mine.draws.at(number), " i\n", context, "o ") == expected


def test_shares_of_the_draws() -> None:
    mine = job()
    drawn = Counter(instruct(mine, mine.draws.at(n), "i", "", "o") for n in range(20_000))
    assert len(drawn) == 14
    assert drawn[("i\n\n", "o")] / 20_000 == pytest.approx(0.2, abs=0.012)
    assert drawn[("i", "\no")] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_the_typing_error_is_the_papers_alone() -> None:
    paper, fixed = job("paper"), job("fixed")
    pairs = [
        (instruct(paper, n / 400, "i", "", "o"), instruct(fixed, n / 400, "i", "", "o"))
        for n in range(400)
    ]
    different = {(one[0], two[0]) for one, two in pairs if one != two}
    assert different == {
        (
            "Plase answer the following request: i\nAnswer:",
            "Please answer the following request: i\nAnswer:",
        )
    }


def test_the_typing_error_in_a_users_text_stays() -> None:
    assert all(
        "Plase i" in instruct(job("fixed"), n / 20, "Plase i", "", "o")[0] for n in range(20)
    )


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.floats(0, 0.999))
def test_texts_go_in_stripped_and_whole(
    instruction: str, context: str, output: str, draw: float
) -> None:
    prompt, completion = instruct(job(), draw, instruction, context, output)
    assert instruction.strip() in prompt
    assert context.strip() in prompt
    assert completion in (output.strip(), "\n" + output.strip())


def test_fixed_strips_and_drops_what_is_empty() -> None:
    mine = job("fixed")
    kept = Conversation("a_b_1", "a_b", (Message("user", "q"), Message("assistant", "a")))
    assert exchange(mine, "a_b_1", " q\n", "\na ") == kept
    assert exchange(mine, "a_2", "q", " \n") == Dropped("empty answer")
    assert exchange(mine, "a_3", "\t", "a") == Dropped("empty question")


def test_paper_keeps_what_is_empty() -> None:
    kept = Conversation("a_1", "a", (Message("user", "q\n"), Message("assistant", "")))
    assert exchange(job("paper"), "a_1", "q\n", "") == kept


@pytest.mark.parametrize(
    ("prompt", "ends"),
    [("a", "a\n"), ("a\n", "a\n"), ("a:", "a:"), ("a: ", "a: "), ("a ", "a \n"), ("", "\n")],
)
def test_line_break_rule(prompt: str, ends: str) -> None:
    assert question_lines(prompt) == ends
