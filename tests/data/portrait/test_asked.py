"""Verb and object of prompts, on sentences written for this test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.data.encode import WITH_INPUT, WITHOUT_INPUT
from cameleer.data.portrait.asked import asked


@pytest.mark.parametrize(
    ("prompt", "root"),
    [
        ("Write a short story about a camel.", ("write", "story")),
        ("Please write three short stories revolving around the desert", ("write", "story")),
        ("Can you summarize the following article in two lines?", ("summarize", "article")),
        ("Given a list of numbers, sort the numbers.", ("sort", "number")),
        ("You will be given a text. Your task is to classify its tone.", ("classify", "tone")),
        ("Explain how a camel stores water.", ("explain", "how")),
        ("What is the capital of Kenya?", ("what", "capital")),
        ("What's the height of a camel?", ("what", "height")),
        ("How many humps has it?", ("how many", "hump")),
        ("Is it true that camels spit?", ("yes or no", "")),
        ("A long passage about trade. Its second sentence.\nWho led it?", ("who", "")),
        ("When I look at it, list two reasons to go.", ("list", "reason")),
        ("List the species of camels", ("list", "species")),
        ("Name 5 boxes", ("name", "box")),
    ],
)
def test_roots(prompt: str, root: tuple[str, str]) -> None:
    assert asked(prompt) == root


@pytest.mark.parametrize("prompt", ["", "?!", "Camels. Deserts and oases.", "Ein Kamel, bitte"])
def test_what_cannot_be_told_is_not_guessed(prompt: str) -> None:
    assert asked(prompt) is None


@pytest.mark.parametrize("template", [prompt for prompt, _, _ in WITH_INPUT + WITHOUT_INPUT])
def test_the_papers_templates_are_looked_through(template: str) -> None:
    text = template.format(instruction="Describe the nomad's tent in detail.", input="A tent.")
    assert asked(text) == ("describe", "tent")


@given(st.text(max_size=300))
def test_any_text_has_an_answer(prompt: str) -> None:
    root = asked(prompt)
    assert root is None or (root[0] and root[0] == root[0].lower())
