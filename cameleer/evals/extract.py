"""Reading an answer out of what a model said: numbers, letters, code; and comparing texts."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from decimal import Decimal

from cameleer.results.records import NO_ANSWER as NO_ANSWER  # graders take it from here

_GROUPED = re.compile(r"(\d),(\d)")
_PAPER_NUMBER = re.compile(r"[-+]?\d*\.\d+|\d+")
_SIGN = "[-+\N{MINUS SIGN}]"
_NUMBER = re.compile(
    # A sign counts if it does not stand between two terms, as in 16-3; $ may be on either side.
    rf"(?:(?<![\w.)\]])(?P<sign>{_SIGN}))?[$€£]?(?P<sign2>(?<=[$€£]){_SIGN})?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
)
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_LONG_STRING = re.compile("\"\"\"|'''")  # its lines may begin anywhere
_TALK = re.compile(
    r"(?<=\n)(?!(?:async|class|def|from|import)\b|[#@)\]}]|\w+(?:\s*:[^=\n]*)?\s*=(?!=))\S"
)
_CODE_LINE = re.compile(r"^(?:def|class|from|import|async|@)", re.MULTILINE)


def join_digits(text: str) -> str:
    """A text without the commas between digits, as the paper's code drops them."""
    return _GROUPED.sub(r"\1\2", text)


def last_number_paper(text: str) -> str | None:
    """The last number as the paper's code reads it (open-instruct, `eval/gsm/run_eval.py`).

    Whole numbers lose their sign; a comma between any two digits is dropped.
    """
    numbers = _PAPER_NUMBER.findall(join_digits(text))
    return numbers[-1] if numbers else None


def last_number(text: str) -> str | None:
    """The last number in plain decimal writing: sign kept, thousands joined, no trailing zeros."""
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    last = numbers[-1]
    value = Decimal(last["digits"].replace(",", ""))
    if (last["sign"] or last["sign2"] or "+") != "+":
        value = -value
    return plain_number(value)


def plain_number(value: Decimal) -> str:
    """A number as digits without exponent, trailing zeros or a sign on zero."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def exact_match(prediction: str, target: str) -> bool:
    """Whether two texts are equal but for case and punctuation, as the paper's code compares them.

    It has `exact_match` of Hugging Face's evaluate ignore both. Punctuation is the 32 ASCII
    characters of `string.punctuation`, signs and points among them.
    """
    one, other = (text.lower().translate(_PUNCTUATION) for text in (prediction, target))
    return one == other


def letter(text: str, letters: Sequence[str]) -> str | None:
    """The option that an answer names: the last "answer is X", else a letter that opens it."""
    one_of = "".join(letters)
    named = re.findall(
        rf"(?i:answer(?:\s+is)?(?:\s+option)?)\s*:?\s*[*(\[]*([{one_of}])(?!\w)", text
    )
    if named:
        return str(named[-1])
    opening = re.match(rf"[\s*(\[]*([{one_of}])(?:[\s*)\].:,]*$|[*)\].:,]|\n)", text)
    return opening[1] if opening else None


def program(prompt: str, output: str, entry_point: str) -> str:
    """The whole program that a completion of a function means (HumanEval, rule `fixed`).

    Code is taken out of a Markdown fence if one is there. Where it defines the function anew, only
    what stands before the function in the prompt (imports, helpers) is put before it, and talk
    before its first line of code is left out; else it goes on from the prompt, up to what is talk.
    """
    code = _unfenced(output, entry_point)
    definition = re.compile(rf"^(?:async )?def {re.escape(entry_point)}\b", re.MULTILINE)
    if _is_body(code) or not definition.search(code):
        return prompt + _without_talk(code)
    first, start = _CODE_LINE.search(code), definition.search(prompt)
    assert first is not None  # the definition is such a line
    return (prompt[: start.start()] if start else "") + code[first.start() :]


def _unfenced(output: str, entry_point: str) -> str:
    """The code of an answer: before a fence that closes it, or in the block with the function."""
    head, fence, _ = output.partition("```")
    if not fence or _is_body(head):
        return head
    blocks: list[str] = _FENCED.findall(output)
    defining = [block for block in blocks if f"def {entry_point}" in block]
    return (defining or blocks or [output])[0]


def _without_talk(code: str) -> str:
    """A body and helpers after it, up to the first line that is none of either."""
    after = None if _LONG_STRING.search(code) else _TALK.search(code)
    return code[: after.start()] if after else code


def _is_body(code: str) -> bool:
    """Whether code goes on inside a function: its first line that is not blank is indented."""
    return re.match(r"(?:[ \t]*\n)*[ \t]+\S", code) is not None
