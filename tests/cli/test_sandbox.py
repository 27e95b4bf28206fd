"""Model-written code on the command line: refused, asked or warned of before anything is asked."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cameleer.cli import main
from cameleer.evals import attacks, consent, sandbox

ROW = {
    "task_id": "HumanEval/0",
    "prompt": 'def twice(x):\n    """Two times x."""\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`cameleer eval …` where one problem of HumanEval and its solution lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAMELEER_ALLOW_CODE", raising=False)
    folder = tmp_path / "data/eval/codex_humaneval"
    folder.mkdir(parents=True)
    with gzip.open(folder / "HumanEval.jsonl.gz", "wt") as handle:
        handle.write(json.dumps(ROW))
    solved = {"item": "codex_humaneval/0", "output": ROW["canonical_solution"]}
    (tmp_path / "answers.jsonl").write_text(json.dumps(solved))

    def one(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["eval", *arguments])
        code = ended.value.code
        return code if isinstance(code, int) else 1, *capsys.readouterr()

    return one


RUN = ("run", "replay:answers.jsonl", "codex_humaneval:pass@1", "--samples", "1", "--data", "data",
       "-o", "out", "--json")  # fmt: skip
GRADE = ("grade", "codex_humaneval:pass@1", "--answers", "answers.jsonl", "--data", "data")


def test_with_nobody_to_ask_an_open_cage_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "level", lambda: "process+rlimits")
    code, out, err = run(*RUN)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "leaves it files and the network and other processes" in err
    assert not list(tmp_path.glob("out/*/*"))
    code, out, err = run(*GRADE)
    assert code == 0
    assert json.loads(out)["score"] == 1
    assert err.count("warning: ") == 1


def test_allowed_by_option_and_forbidden_by_it(run: Run) -> None:
    for verb in (RUN, GRADE):
        code, out, err = run(*verb, "--no-code-execution")
        assert (code, out) == (2, "")
        assert "which is not allowed here" in err
    code, out, err = run(*RUN, "--allow-code-execution")
    assert code == 0, err
    assert json.loads(out)["scores"][0]["value"] == 1
    # All is done: nothing is to be run any more, so nothing is to be allowed.
    assert run(*RUN, "--no-code-execution")[0] == 0


def test_a_user_at_a_terminal_is_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def no(question: str) -> bool:
        said.append(question)
        return False

    monkeypatch.setattr("cameleer.cli.evals.asked_here", lambda: no)
    code, _, err = run(*RUN)
    assert code == 2
    assert "was not allowed to run code" in err
    assert len(said) == 1
    monkeypatch.setattr("cameleer.cli.evals.asked_here", lambda: lambda _question: True)
    assert run(*RUN)[0] == 0


def test_layers_and_attacks_are_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "ESCAPES", {"nothing at all": "pass"})
    monkeypatch.setattr(attacks, "FAKES", {"giving up": "def answer(a, b): return 0"})
    code, out, err = run("sandbox")
    assert code == 2  # an "attack" that does nothing gets through
    assert "error: 1 attacks got through: nothing at all" in err
    assert all(name in out for name in sandbox.LAYERS)
    assert "GOT THROUGH" in out
    code, out, _ = run("sandbox", "--no-attacks", "--json", "--without", "seccomp")
    facts = json.loads(out)
    assert code == 0
    assert facts["attacks"] == []
    assert "seccomp" not in facts["level"]
    assert run("sandbox", "--without", "walls")[0] == 2
