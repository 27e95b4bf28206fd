"""Replies read as verdicts: what counts, and what is no verdict."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.engines.engine import TOO_LONG
from cameleer.evals.judge.spec import Parser, pairwise_judge
from cameleer.evals.judge.verdict import Verdict, read_verdict
from cameleer.results.records import Answer

RANKING = Parser(kind="ranking")
VERDICT = pairwise_judge("verdict").parser
LABEL = pairwise_judge("weighted").parser
SCALE = pairwise_judge("scale").parser


def shown(parser: Parser, reply: str, finish: str = "stop") -> float | None:
    return read_verdict(parser, Answer("i", [reply], [], [finish], 9, 9, 0.1)).shown


def ranks(one: object, two: object) -> str:
    return f"[{{'model': 'model_1', 'rank': {one}}}, {{'model': 'model_2', 'rank': {two}}}]"


@pytest.mark.parametrize(
    ("reply", "preference"),
    [
        (ranks(1, 2), 1),
        (ranks(2, 1), 2),
        (" " + ranks(2, 1), 2),
        ("[{'model': 'model_2', 'rank': 1}, {'model': 'model_1', 'rank': 2}]", 2),
        (ranks(1, 1), 1),  # as AlpacaEval: only the rank of model_1 is looked at
        (ranks(3, 1), None),
        (ranks("'1'", "'2'"), None),
        ("[{'model': 'model_2', 'rank': 1}]", None),
        ("Here it is: " + ranks(1, 2), None),
        ("model_1", None),
        ("", None),
        ("[" * 5000, None),
        ("-" * 15000 + "1", None),
        ("__import__('os').getcwd()", None),
        ("[{'model': 'model_1'}]", None),
        ("[1, 2]", None),
        ("{'model': 'model_1', 'rank': 1}", None),
        ("[{[]: 1}]", None),
        ("\0", None),
    ],
)
def test_rankings(reply: str, preference: float | None) -> None:
    assert shown(RANKING, reply) == preference


@pytest.mark.parametrize(
    ("reply", "preference"),
    [
        ("A is right.\nVerdict: A", 1),
        ("Verdict: B", 2),
        ("verdict: tie.", 1.5),
        ("**Verdict:** B\n", 2),
        ("**Verdict: A**", 1),
        ("Verdict: Answer B", 2),
        ("Verdict: A\nNo, wait.\nVerdict: B", 2),
        ("The verdict: A", None),
        ("Verdict: A or B", None),
        ("Verdict: C", None),
        ("Answer A is better.", None),
        ("", None),
    ],
)
def test_verdicts(reply: str, preference: float | None) -> None:
    assert shown(VERDICT, reply) == preference


@pytest.mark.parametrize(
    ("parser", "reply", "preference"),
    [
        (LABEL, "A", 1),
        (LABEL, " b.\n", 2),
        (LABEL, "**B**", 2),
        (LABEL, "A because", None),
        (LABEL, "AB", None),
        (SCALE, "4", 1.75),
        (SCALE, "(3)", 1.5),
        (SCALE, "6", None),
    ],
)
def test_labels_in_words(parser: Parser, reply: str, preference: float | None) -> None:
    assert shown(parser, reply) == preference


def test_labels_that_differ_in_capitals_alone() -> None:
    parser = Parser(kind="label", values={"m": 1, "M": 2})
    assert (shown(parser, "m"), shown(parser, "M")) == (1, 2)


def told(parser: Parser, *logprobs: float) -> float | None:
    answer = Answer("i", ["A"], list(logprobs), ["choice"], 9, 0, 0.1)
    return read_verdict(parser, answer).shown


def test_labels_weighed_by_probability() -> None:
    # AlpacaEval 2: 2 minus the first one's share of both.
    assert told(LABEL, math.log(0.6), math.log(0.2)) == pytest.approx(2 - 0.6 / 0.8)
    assert told(LABEL, -3.0, -3.0) == pytest.approx(1.5)
    assert told(LABEL, -0.1, -math.inf) == 1
    assert told(LABEL, -9000.0, -9001.0) == pytest.approx(1 + 1 / (1 + math.e))
    assert told(LABEL, -math.inf, -math.inf) is None
    tenths = [0.1, 0.2, 0.4, 0.2, 0.1]
    assert told(SCALE, *map(math.log, tenths)) == pytest.approx(1.5)
    assert told(SCALE, *map(math.log, (0.01, 0.01, 0.01, 0.47, 0.5))) == pytest.approx(1.86)


def test_why_there_is_no_verdict() -> None:
    def note(finish: str) -> str:
        return read_verdict(VERDICT, Answer("i", ["Well"], [], [finish], 9, 9, 0.1)).note

    assert note("stop") == "no verdict in the reply"
    assert "cut at its limit" in note("length")
    assert "too long" in note(TOO_LONG)


def test_the_answer_shown_first_may_be_either() -> None:
    assert [Verdict(1).preference(b_first) for b_first in (False, True)] == [1, 2]
    assert Verdict(1.75).preference(True) == 1.25
    assert Verdict(None).preference(True) is None


@given(st.text(), st.sampled_from([RANKING, VERDICT, LABEL, SCALE]))
def test_no_reply_is_too_strange(reply: str, parser: Parser) -> None:
    value = shown(parser, reply)
    assert value is None or 1 <= value <= 2
