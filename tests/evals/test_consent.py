"""Who may let a model's code run: an option, a variable, a file, a user, or a whole cage."""

from __future__ import annotations

import pytest

from cameleer.core.errors import UserError
from cameleer.evals import consent
from cameleer.evals.consent import allow_code, told

WHOLE, OPEN = "process+rlimits+netns+pidns+mountns", "process+rlimits"
CODE = ["gsm:cot", "codex_humaneval:pass@1"]


@pytest.fixture(params=[WHOLE, OPEN])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(consent, "level", lambda: request.param)
    return str(request.param)


def refused(question: str) -> bool:
    raise AssertionError(f"asked, though it was said: {question}")


def test_benchmarks_that_run_no_code_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "level", lambda: refused("probed"))
    allow_code(["gsm:cot", "mmlu:0-shot"], None, refused)
    allow_code([], False, None)


def test_what_was_said_counts(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    allow_code(CODE, True, refused)
    assert ("leaves it files" in capsys.readouterr().err) == (level == OPEN)
    for recorded in (True, False):
        with pytest.raises(UserError, match="codex_humaneval runs code that a model wrote, which"):
            allow_code(CODE, False, refused, recorded=recorded)


def test_a_user_at_a_terminal_is_asked_once_and_told_the_level(level: str) -> None:
    questions: list[str] = []

    def yes(question: str) -> bool:
        questions.append(question)
        return True

    allow_code([*CODE, "codex_humaneval:pass@10"], None, yes)
    (question,) = questions
    assert level in question
    assert question.endswith("Run it?")
    with pytest.raises(UserError, match="codex_humaneval was not allowed to run code"):
        allow_code(CODE, None, lambda _question: False)


def test_where_nobody_can_be_asked(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    if level == OPEN:
        with pytest.raises(UserError, match=r"process\+rlimits"):
            allow_code(CODE, None, None)
    else:
        allow_code(CODE, None, None)
        assert level in capsys.readouterr().err
    allow_code(CODE, None, None, recorded=True)
    assert level in capsys.readouterr().err


def test_option_before_variable_before_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMELEER_ALLOW_CODE", raising=False)
    assert told(None) is None
    assert told(None, True) is True
    monkeypatch.setenv("CAMELEER_ALLOW_CODE", "0")
    assert told(None, True) is False
    assert told(True, False) is True
    monkeypatch.setenv("CAMELEER_ALLOW_CODE", "yes")
    assert told(None, False) is True
    assert told(False) is False
    monkeypatch.setenv("CAMELEER_ALLOW_CODE", "perhaps")
    with pytest.raises(UserError, match="CAMELEER_ALLOW_CODE is 'perhaps'"):
        told(None)
