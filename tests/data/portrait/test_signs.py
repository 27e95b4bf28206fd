"""Signs of trouble in answers, each on an answer that shows it and one that does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.data.portrait.signs import ABOUT, looks_like_code, signs

LONG = "The camel walks on over one dune and then over the next one"
SHOWN = {
    "empty": " \n",
    "placeholder": "<No output>",
    "one word": "Positive",
    "apology or refusal": "I'm sorry, but I cannot help with that.",
    "speaks as a model": "Well. As an AI language model, I have no camel.",
    "no full stop": LONG,
    "open code block": "Run this:\n```python\nprint(1)",
    "template text": "It is blue.\n\n### Instruction:\nName another.",
    "repeats a line": "A line that comes again.\n" * 4,
    "repeats the prompt": "You asked: Where do camels live in Asia? In the Gobi.",
    "web remains": "Camels&nbsp;live here.<br>Yes.",
    "damaged letters": "Itâ€™s a camel.",
}


def test_every_sign_has_an_example_here() -> None:
    assert set(SHOWN) == set(ABOUT)


@pytest.mark.parametrize("name", SHOWN)
def test_each_sign_is_seen_alone(name: str) -> None:
    assert signs("Where do camels live in Asia?", SHOWN[name]) == {name}


@pytest.mark.parametrize(
    "answer",
    [
        "In the Gobi desert.",
        f"{LONG}.",
        f"{LONG}:\n- a short last item",
        f"{LONG} #camel",
        f"{LONG}: https://example.org/camel",
        "我喜欢骆驼",
        "I am a camel driver. I can carry salt.",
        "```html\n<div>&nbsp;</div>\n```",
        "None of the dunes is blue, sorry to say.",
    ],
)
def test_sound_answers_show_none(answer: str) -> None:
    assert not signs("Where do camels live in Asia?", answer)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def hump(n):\n    return n + 1", True),
        ("SELECT name FROM camels WHERE humps = 2;", True),
        ("<button>Ride</button>", True),
        ("Here you are:\n```\nx\n```", True),
        ("Define a hump; return to it later.", False),
        ("x = (3 + 4) / 2 = 3.5", False),
        ("For each camel, walk on.\nWhile it rains: wait.\nThen go.\nOn.", False),
    ],
)
def test_code_is_told_from_prose(text: str, code: bool) -> None:
    assert looks_like_code(text) is code


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_answer_can_be_looked_at(prompt: str, answer: str) -> None:
    assert signs(prompt, answer) <= set(ABOUT)
