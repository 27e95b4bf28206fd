"""Reading answers out of outputs, and the traps of the paper's way of it."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.evals.extract import exact_match, last_number, last_number_paper, letter, program


@pytest.mark.parametrize(
    ("text", "number", "paper"),
    [
        ("So the answer is 18.", "18", "18"),
        ("#### -3", "-3", "3"),  # the paper's code loses the sign of whole numbers …
        ("it fell to -3.5 degrees", "-3.5", "-3.5"),  # … but not of decimals
        ("18.0", "18", "18.0"),
        ("$1,234.50.", "1234.5", "1234.50"),
        ("-$1,000", "-1000", "1000"),
        ("$-7", "-7", "7"),
        ("16 - 3 - 4 = 9", "9", "9"),
        ("so 16-3", "3", "3"),
        ("(4)-2", "2", "2"),
        ("one of 1,2,3", "3", "3"),
        ("a list 5,10", "10", "510"),  # a comma between any digits is dropped
        ("12,345,678 camels", "12345678", "12345678"),
        ("1,2345", "2345", "12345"),
        ("about .50", "0.5", ".50"),
        ("\N{MINUS SIGN}12", "-12", "12"),
        ("0.00", "0", "0.00"),
        ("-0", "0", "0"),
        ("1000", "1000", "1000"),
        ("50% of 20%", "20", "20"),
        ("no number", None, None),
        ("", None, None),
    ],
)
def test_last_number(text: str, number: str | None, paper: str | None) -> None:
    assert last_number(text) == number
    assert last_number_paper(text) == paper


@given(st.integers(-(10**9), 10**9), st.text("abc .$", max_size=5))
def test_any_whole_number_is_read_as_it_is_written(number: int, after: str) -> None:
    assert last_number(f"the answer is {number:,} {after}") == str(number)


@given(st.text(max_size=60))
def test_numbers_are_read_from_any_text(text: str) -> None:
    number = last_number(text)
    assert number is None or re.fullmatch(r"-?\d+(\.\d*[1-9])?", number)


def test_exact_match_is_that_of_evaluate() -> None:
    assert exact_match("-18", "18")
    assert exact_match("18.0", "180")
    assert not exact_match("18.0", "18")
    assert exact_match("Yes!", "yes")
    assert exact_match(string.punctuation, "")
    assert not exact_match("]) ", "])")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" B", "B"),
        ("(C)", "C"),
        ("D. Because it is so", "D"),
        ("The answer is (B).", "B"),
        ("A is wrong, so the correct answer is: **C**", "C"),
        ("Answer: A\nNo: the answer is D", "D"),
        ("A camel is an animal", None),
        ("a", None),
        ("E", None),
        ("", None),
    ],
)
def test_letter(text: str, expected: str | None) -> None:
    assert letter(text, "ABCD") == expected


HEAD = "from math import pi\n\n\ndef helper(x):\n    return x\n\n\n"
PROMPT = f'{HEAD}def area(r):\n    """Area of a circle."""\n'
BODY = "    return pi * helper(r) ** 2\n"
ANEW = f"def area(r):\n{BODY}"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (BODY, PROMPT + BODY),
        (f"\n{BODY}", f"{PROMPT}\n{BODY}"),
        (f"{BODY}```\n\nIt works so:\n```python\ndef area(r): no\n```", PROMPT + BODY),
        (f"```python\n{BODY}```", PROMPT + BODY),
        (f"```python\n{ANEW}```\nExplained.", HEAD + ANEW),
        (f"Sure, here it is:\n\n```\nimport os\n{ANEW}", f"{HEAD}import os\n{ANEW}"),
        (f"Use:\n```\narea(2)\n```\n```python\n{ANEW}```", HEAD + ANEW),
        (f"Here is the function:\n\n{ANEW}", HEAD + ANEW),
        (f"{BODY}\n\n{ANEW}", f"{PROMPT}{BODY}\n\n{ANEW}"),
        (f"def area_of(r):\n{BODY}", f"{PROMPT}def area_of(r):\n{BODY}"),
        ("", PROMPT),
    ],
)
def test_program(output: str, expected: str) -> None:
    assert program(PROMPT, output, "area") == expected
