"""Judging whole sets of answers: what is asked and paid once, what counts, what is written down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cameleer import cli
from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.engines.registry import Chosen, choose
from cameleer.evals.judge.outputs import read_annotations
from cameleer.evals.judge.prompting import questions
from cameleer.evals.judge.run import (
    JudgeSpec,
    Judging,
    answers_of,
    judge_pairs,
    plan,
    read_result,
    short,
    who,
)
from cameleer.evals.judge.spec import pairwise_judge
from cameleer.results.judgements import read_judgements, tally
from cameleer.results.records import Answer
from tests.engines.api_server import ApiServer, Body, api_server, chat, completion
from tests.killing import Killed
from tests.stand_in import StandIn

COUNT = 30


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A judge that finds the longer answer better, a tie where both are as long."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with api_server() as running:
        running.rule = longer
        yield running


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """Answers of two models: the second's are longer to 18, as long to 6, the same text to 2."""
    rows: dict[str, list[dict[str, str]]] = {"plain": [], "long": []}
    for n in range(COUNT):
        more = "x" * (3 if n < 18 else -1 if n < 22 else 0)
        texts = {"plain": f"answer {n:02} of one", "long": f"answer {n:02} of two{more}"}
        if n in (18, 19, 20, 21):
            texts["plain"] += "yyy"
        if n >= 28:
            texts["long"] = texts["plain"]
        for name, own in rows.items():
            about = {"instruction": f"Ask {n}", "generator": name, "dataset": f"set {n % 3}"}
            own.append({**about, "output": texts[name]})
    for name, own in rows.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    return tmp_path / "plain.json", tmp_path / "long.json"


def parts(text: str) -> list[str]:
    """What stands between the marks of both answers."""
    return [
        text.split(f"<answer_{name}>\n")[1].split(f"\n</answer_{name}>")[0] for name in ("A", "B")
    ]


def verdict(text: str) -> str:
    first, second = map(len, parts(text))
    return "tie" if first == second else "A" if first > second else "B"


def longer(_endpoint: str, body: Body) -> Body:
    return chat(f"By length.\nVerdict: {verdict(body['messages'][-1]['content'])}")


def judging(
    server: ApiServer,
    sets: tuple[Path, Path],
    cache: Path,
    judge: str = "verdict",
    spec: JudgeSpec | None = None,
    **options: Any,
) -> Judging:
    options = {"cache": cache, "wait": 0.01, "concurrency": 4, **options}
    chosen = choose(f"openai:camel@{server.url}", None, options)
    a, b = (answers_of(str(path)) for path in sets)
    return Judging(pairwise_judge(judge), judge, chosen, a, b, spec or JudgeSpec())


def run(one: Judging, to: Path) -> dict[str, Any]:
    return read_result(judge_pairs(one, one.stage(to)))


def test_what_is_counted(server: ApiServer, sets: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(judging(server, sets, tmp_path), tmp_path / "out")
    # 18 longer, 4 shorter, 6 as long and 2 of the same text, which nobody is asked about.
    assert (result["wins"], result["ties"], result["losses"]) == (18, 8, 4)
    assert result["win_rate"]["value"] == pytest.approx((18 + 8 / 2) / 30)
    assert result["win_rate"]["low"] < result["win_rate"]["value"] < result["win_rate"]["high"]
    assert (result["pairs"], result["requests"], result["same_text"]) == (30, 28, 2)
    assert (result["no_verdict"], result["dollars"], result["both_orders"]) == (0, None, None)
    assert (result["a"], result["b"], result["judge"]) == ("plain", "long", "verdict")
    assert result["first_preferred"]["n"] == 28
    assert len(server.asked) == 28
    for body in server.bodies():
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert body["max_tokens"] == 200


def test_what_is_written(server: ApiServer, sets: tuple[Path, Path], tmp_path: Path) -> None:
    priced: dict[str, Any] = {"price_in": 1.0, "price_out": 10.0}
    result = run(judging(server, sets, tmp_path, **priced), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "annotations.json",
        "judgements.jsonl",
        "manifest.json",
        "result.json",
    ]
    judgements = read_judgements(tmp_path / "out")
    assert [one.item for one in judgements] == [f"alpaca_eval/{n}" for n in range(COUNT)]
    assert tally(judgements).win_rate.value == pytest.approx(result["win_rate"]["value"])
    assert judgements[0].said.startswith("By length.")
    assert {one.kind for one in judgements} == {"judge"}
    assert judgements[28].note == "the answers are the same text"
    # 10 tokens in and 3 out, by the server's count.
    assert judgements[0].price == pytest.approx((10 * 1 + 3 * 10) / 1e6)
    assert result["dollars"] == pytest.approx(28 * 40 / 1e6)
    released = read_annotations(tmp_path / "out/annotations.json")
    assert (released.a, released.b, released.judge) == ("plain", "long", "verdict")
    assert [row.preference for row in released.rows] == [one.preference for one in judgements]
    [first, *_] = json.loads((tmp_path / "out/annotations.json").read_text())
    assert (first["instruction"], first["dataset"]) == ("Ask 0", "set 0")
    assert (first["output_1"], first["output_2"]) == ("answer 00 of one", "answer 00 of twoxxx")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["config"]["judge"]["fingerprint"] == pairwise_judge("verdict").fingerprint


def test_a_judge_that_always_takes_the_first(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    server.rule = lambda _, body: chat("Verdict: A")
    result = run(judging(server, sets, tmp_path, spec=JudgeSpec(both_orders=True)), tmp_path / "o")
    assert result["both_orders"]["items"] == 28
    assert result["both_orders"]["flips"]["value"] == 1
    assert result["both_orders"]["same"]["value"] == 0
    assert result["first_preferred"]["value"] == 1
    assert result["win_rate"]["value"] == 0.5
    assert (result["wins"], result["ties"], result["losses"]) == (0, 30, 0)
    assert len(read_judgements(tmp_path / "o")) == 2 * 28 + 2
    rows = json.loads((tmp_path / "o/annotations.json").read_text())
    assert len(rows) == 30
    assert rows[0]["raw_completion"] == ["Verdict: A", "Verdict: A"]


def test_a_judge_that_looks_at_the_answers_does_not_flip(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    both = run(judging(server, sets, tmp_path, spec=JudgeSpec(both_orders=True)), tmp_path / "two")
    assert (both["both_orders"]["flips"]["value"], both["both_orders"]["same"]["value"]) == (0, 1)
    assert both["first_preferred"]["value"] == 0.5
    asked = len(server.asked)
    once = run(judging(server, sets, tmp_path), tmp_path / "one")
    assert len(server.asked) == asked  # one of the orders is all that was asked before
    assert once["win_rate"]["value"] == both["win_rate"]["value"]


def test_what_cannot_be_read_is_no_win(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    def mumbling(_: str, body: Body) -> Body:
        text = body["messages"][-1]["content"]
        return chat("I like both." if "Ask 1\n" in text or "Ask 2\n" in text else "Verdict: tie")

    server.rule = mumbling
    result = run(judging(server, sets, tmp_path), tmp_path / "out")
    assert (result["n"], result["no_verdict"], result["wins"]) == (28, 2, 0)
    assert result["unread"]["reasons"] == {"no verdict in the reply": 2}
    assert result["unread"]["examples"][0] == {"item": "alpaca_eval/1", "said": "I like both."}
    judgements = read_judgements(tmp_path / "out")
    assert [one.preference for one in judgements[:4]] == [1.5, None, None, 1.5]
    assert tally(judgements).unknown == 2


def test_no_verdict_at_all_is_a_result_of_none(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    server.rule = lambda _, body: chat("Well.")
    plain, long = (json.loads(path.read_text())[-5:] for path in sets)
    files = tmp_path / "a.json", tmp_path / "b.json"
    for path, rows in zip(files, (plain, long), strict=True):
        path.write_text(json.dumps(rows))
    result = run(judging(server, files, tmp_path), tmp_path / "out")
    assert (result["same_text"], result["n"], result["no_verdict"]) == (2, 0, 3)
    assert result["win_rate"] is None  # two ties that nobody was asked about are no half


def test_probabilities_of_letters(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    def sure(_: str, body: Body) -> Body:
        first = verdict(body["messages"][-1]["content"]) == "A"
        said = chat("A" if first else "B", finish="length")
        likely = {"A": -0.25, "B": -1.5} if first else {"A": -1.5, "B": -0.25}
        top = [{"token": token, "logprob": value} for token, value in likely.items()]
        said["choices"][0]["logprobs"] = {"content": [{"token": "A", "top_logprobs": top}]}
        return said

    server.rule = sure
    result = run(judging(server, sets, tmp_path, "weighted"), tmp_path / "out")
    share = 1 / (1 + 2.718281828459045**-1.25)
    first, shorter = (read_judgements(tmp_path / "out")[n].preference for n in (0, 18))
    assert first == pytest.approx(1 + share)
    assert shorter == pytest.approx(2 - share)
    assert result["discrete_win_rate"]["value"] != result["win_rate"]["value"]
    assert server.bodies()[0]["top_logprobs"] == 20
    assert (result["requests"], result["new_tokens"]) == (28, 0)


def test_a_server_that_is_given_whole_prompts(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    server.rule = lambda _, body: completion("Verdict: A")
    bare = judging(server, sets, tmp_path, api="completions")
    with pytest.raises(UserError, match="give --template"):
        run(bare, tmp_path / "bare")
    spec = JudgeSpec(template="tulu", limit=3)
    run(judging(server, sets, tmp_path, spec=spec, api="completions"), tmp_path / "out")
    for body in server.bodies():
        assert body["prompt"].startswith("<|system|>\nYou compare two answers")
        assert body["prompt"].endswith("\n<|assistant|>\n")


# ---- asked once, paid once


def test_a_second_study_asks_nothing(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    first = run(judging(server, sets, tmp_path), tmp_path / "first")
    assert len(server.asked) == 28
    assert run(judging(server, sets, tmp_path), tmp_path / "second") == first
    turned = run(judging(server, (sets[1], sets[0]), tmp_path), tmp_path / "turned")
    assert len(server.asked) == 28
    assert turned["win_rate"]["value"] == pytest.approx(1 - first["win_rate"]["value"])
    assert turned["first_preferred"] == first["first_preferred"]
    run(judging(server, sets, tmp_path, spec=JudgeSpec(limit=7)), tmp_path / "few")
    assert len(server.asked) == 28
    assert run(judging(server, sets, tmp_path), tmp_path / "first") == first  # is there already


SCRIPT = """
import sys
from cameleer import cli
cli.main(sys.argv[1:])
"""


def test_kill_9_and_the_same_command(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    def command(to: str, cache: str) -> list[str]:
        options = {"cache": tmp_path / cache, "concurrency": 2}
        given = [f"--engine-option={name}={value}" for name, value in options.items()]
        asked = ["judge", "run", str(sets[1]), "--against", str(sets[0]), "-j", "verdict"]
        asked += ["--model", f"openai:camel@{server.url}", "-o", str(tmp_path / to), *given]
        return [sys.executable, "-c", SCRIPT, *asked]

    with pytest.raises(SystemExit, match="0"):
        cli.main(command("whole", "cache 1")[3:])
    assert len(server.asked) == 28
    server.delay = 0.03
    process = subprocess.Popen(command("again", "cache 2"), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while len(server.asked) < 28 + 10 and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    before = len(server.asked) - 28
    assert 10 <= before < 28
    assert not (tmp_path / "again").exists()
    with pytest.raises(SystemExit, match="0"):
        cli.main(command("again", "cache 2")[3:])
    # Only what was on its way when the kill came is asked twice: two at a time.
    assert len(server.asked) <= 28 + 28 + 2
    told = [
        [one | {"seconds": 0} for one in map(json.loads, path.read_text().splitlines())]
        for path in (tmp_path / "whole/judgements.jsonl", tmp_path / "again/judgements.jsonl")
    ]
    assert told[0] == told[1]


def test_a_budget_of_requests_is_held(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    limited = judging(server, sets, tmp_path, max_requests=10, concurrency=1)
    for done in (10, 20):
        with pytest.raises(UserError, match="max_requests"):
            run(limited, tmp_path / "out")
        assert len(server.asked) == done
    assert run(limited, tmp_path / "out")["n"] == 30
    assert len(server.asked) == 28


def test_a_budget_of_dollars_is_held(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    # A reply costs $0.004, and at the most $0.2: that much must be left before one is asked for.
    one = judging(server, sets, tmp_path, price_out=1000.0, price_in=100.0, max_dollars=0.35)
    told = plan(one, one.stage(tmp_path / "out"))
    assert told.dollars is not None
    assert told.dollars[0] == told.dollars[1] > 28 * 0.2  # at the most: nothing is known yet
    assert "max_dollars stops at $0.35" in told.short_of()
    with pytest.raises(UserError, match="max_dollars"):
        run(one, tmp_path / "out")
    spent = len(server.asked) * 0.004
    assert 0 < spent <= 0.35
    told = plan(one, one.stage(tmp_path / "out"))
    assert told.kept == len(server.asked)
    assert told.dollars is not None
    assert told.dollars[0] < told.dollars[1] / 10


def test_a_plan_asks_nothing(server: ApiServer, sets: tuple[Path, Path], tmp_path: Path) -> None:
    priced: dict[str, Any] = {"price_in": 2.0, "price_out": 8.0, "max_requests": 5}
    one = judging(server, sets, tmp_path, spec=JudgeSpec(both_orders=True), **priced)
    told = plan(one, one.stage(tmp_path / "out"))
    assert server.asked == []
    assert (told.pairs, told.same, told.requests, told.kept, told.left) == (30, 2, 56, 0, 56)
    assert told.new_tokens == 56 * 200
    size = sum(len(q.request.prompt.encode()) // 4 for q in one.questions(None))
    assert told.prompt_tokens == size
    assert told.dollars == pytest.approx(((size * 2 + 56 * 200 * 8) / 1e6,) * 2)
    assert told.seconds is None
    assert "max_requests stops at 5" in told.short_of()
    run(judging(server, sets, tmp_path), tmp_path / "once")
    told = plan(one, one.stage(tmp_path / "out"))
    assert (told.kept, told.left) == (28, 28)
    assert told.dollars is not None
    half = told.prompt_tokens
    assert told.dollars[0] == pytest.approx((half * 2 + 28 * 3 * 8) / 1e6)  # 3 tokens a reply
    assert told.dollars[1] == pytest.approx((half * 2 + 28 * 200 * 8) / 1e6)
    assert told.seconds is not None
    assert 0 < told.seconds < 28
    assert "28 of them answered already" in told.told()
    assert len(server.asked) == 28


# ---- engines without a cache of their own


class Local(StandIn):
    """A judge on this machine, with a chat template: the longer answer, told by its letter."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__(killed_at)
        self.prompts: list[str] = []

    def one(self, request: Request, mates: int) -> Answer:
        self.prompts.append(request.prompt)
        return Answer(request.key, [f"Verdict: {verdict(request.text)}"], [], ["stop"], 50, 5, 0.5)


class Opening:
    """Stands for a chosen engine."""

    def __init__(self, engine: Local) -> None:
        self.engine, self.options, self.opened = engine, Config(), 0

    def identity(self) -> dict[str, Any]:
        return self.engine.identity

    def open(self, identity: dict[str, Any]) -> Local:
        self.opened += 1
        return self.engine


def local(sets: tuple[Path, Path], engine: Local, **spec: Any) -> Judging:
    a, b = (answers_of(str(path)) for path in sets)
    chosen = cast(Chosen, Opening(engine))
    return Judging(pairwise_judge("verdict"), "verdict", chosen, a, b, JudgeSpec(**spec))


def files(folder: Path) -> dict[str, bytes]:
    names = ("judgements.jsonl", "annotations.json", "result.json")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("killed_at", [0, 1, 6])
@pytest.mark.parametrize("torn", [0, 1, 90])
def test_a_killed_run_goes_on_to_the_same_files(
    sets: tuple[Path, Path], tmp_path: Path, killed_at: int, torn: int
) -> None:
    run(local(sets, Local()), tmp_path / "whole")
    with pytest.raises(Killed):
        run(local(sets, Local(killed_at)), tmp_path / "again")
    log = tmp_path / ".again.partial/scratch/answers.jsonl"
    log.write_bytes(log.read_bytes()[: max(0, log.stat().st_size - torn)])
    there = log.read_bytes().count(b"\n")
    one = local(sets, Local())
    assert plan(one, one.stage(tmp_path / "again")).kept == there
    run(one, tmp_path / "again")
    assert len(one.chosen.engine.prompts) == 28 - there // 4 * 4  # type: ignore[attr-defined]
    assert files(tmp_path / "again") == files(tmp_path / "whole")


def test_replies_of_another_judging_are_not_cleared_away(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(local(sets, Local(3)), tmp_path / "out")
    with pytest.raises(UserError, match="holds 12 replies of an unfinished judging"):
        run(local(sets, Local(), both_orders=True), tmp_path / "out")
    run(local(sets, Local()), tmp_path / "out")
    with pytest.raises(UserError, match="holds another run"):
        run(local(sets, Local(), both_orders=True), tmp_path / "out")


def test_a_finished_judging_opens_no_engine(sets: tuple[Path, Path], tmp_path: Path) -> None:
    run(local(sets, Local()), tmp_path / "out")
    again = local(sets, Local())
    run(again, tmp_path / "out")
    assert again.chosen.opened == 0  # type: ignore[attr-defined]


def test_texts_with_half_a_character(sets: tuple[Path, Path], tmp_path: Path) -> None:
    rows = json.loads(sets[1].read_text())
    rows[0]["output"] += "\ud83d"
    sets[1].write_text(json.dumps(rows))
    run(local(sets, Local()), tmp_path / "out")
    written = read_annotations(tmp_path / "out/annotations.json")
    assert written.rows[0].b == "answer 00 of twoxxx\ufffd"


# ---- which answers, and whose verdicts


def test_names_of_judges() -> None:
    judge = pairwise_judge("weighted")
    assert judge.model is not None
    assert who("weighted", judge, judge.model) == "weighted"
    assert who("weighted", judge, "openai:org/camel-7b@http://127.0.0.1/v1") == "weighted/camel-7b"
    assert short("embedded:smollm2-135m-instruct") == "smollm2-135m-instruct"
    assert short("models/mine/") == "mine"
    assert short("openai:gpt-4o") == "gpt-4o"


def test_published_answers_go_by_name(real_data: Path) -> None:
    assert answers_of("gpt4", real_data).generator == "gpt4"
    assert len(answers_of("text_davinci_003", real_data / "eval/alpaca_eval").rows) == 805
    with pytest.raises(UserError, match=r"neither a file nor a published model.*vicuna-7b"):
        answers_of("gpt5", real_data)
    for absent in ("gpt4", "gpt4.json"):
        with pytest.raises(UserError, match="no such file"):
            answers_of(absent, real_data / "instruct")


def test_the_command(
    server: ApiServer, sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*more: str) -> tuple[int, str, str]:
        asked = ["judge", "run", str(sets[1]), "--against", str(sets[0]), "-j", "verdict"]
        asked += ["--model", f"openai:camel@{server.url}", "-o", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as ended:
            cli.main([*asked, f"--engine-option=cache={tmp_path}", *more])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    code, out, _ = call("--plan", "--json")
    assert (code, json.loads(out)["plan"]["requests"], server.asked) == (0, 28, [])
    code, out, err = call()
    assert code == 0, err
    assert "28 requests" in err
    assert "long wins against plain" in out
    assert "18, 8, 4" in out
    code, out, _ = call("--json")
    assert out.count("\n") == 1
    assert json.loads(out)["judge"] == "verdict/camel"
    code, out, err = call("--against", str(sets[1]))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "both files are answers of 'long'" in err
    code, out, err = call("--judge", "toxigen_roberta")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_gpt4s_published_verdicts_give_the_leaderboards_win_rate(
    real_data: Path, tmp_path: Path
) -> None:
    """A judge that says what GPT-4 said, in the words of the protocol: 95.28, as is published."""
    released = real_data / "eval/alpaca_eval/results/gpt4/alpaca_eval_gpt4/annotations.json"
    rows = json.loads(released.read_text())
    a, b = answers_of(str(released)), answers_of(str(released), second=True)
    assert (a.generator, b.generator) == ("text_davinci_003", "gpt4")

    class Oracle(Local):
        size = 64

        def one(self, request: Request, mates: int) -> Answer:
            better = said[request.key]
            reply = [{"model": f"model_{n}", "rank": 1 + (n != better)} for n in (1, 2)]
            return Answer(request.key, [str(reply)], [], ["stop"], 50, 5, 0.5)

    judge, chosen = pairwise_judge("alpaca_eval_gpt4"), cast(Chosen, Opening(Oracle()))
    one = Judging(judge, "alpaca_eval_gpt4", chosen, a, b)
    preferred = {row["instruction"]: row["preference"] for row in rows}
    said = {}
    for question in questions(judge, one.pairs, None):
        found = preferred[question.pair.instruction]
        said[question.request.key] = 3 - found if question.b_first else found
    result = run(one, tmp_path / "out")
    assert (result["wins"], result["ties"], result["losses"]) == (761, 12, 32)
    assert (result["same_text"], result["requests"]) == (12, 793)
    assert round(100 * result["win_rate"]["value"], 2) == 95.28
    assert round(100 * result["standard_error"], 2) == 0.72
