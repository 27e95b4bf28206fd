"""Models on servers: what is sent, what is read, and what becomes of everything that goes wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.engine import Request, UnansweredError
from cameleer.engines.openai import OpenAIEngine
from cameleer.engines.registry import choose
from cameleer.evals.asking import EvalSpec
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.results.records import Answer
from tests.engines.api_server import (
    Act,
    ApiServer,
    Body,
    api_server,
    chat,
    completion,
    drip,
    refuse,
    reset,
    say,
    stall,
    truncated,
)

Make = Callable[..., OpenAIEngine]
LETTERS = (" A", " B", " C", " D")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with api_server() as running:
        yield running


@pytest.fixture
def make(server: ApiServer, tmp_path: Path) -> Iterator[Make]:
    """Makes an engine that asks the server, quick to try again."""
    made: list[OpenAIEngine] = []

    def engine(model: str = "camel", rule: Any = "fixed", **options: Any) -> OpenAIEngine:
        quick = {"wait": 0.01, "timeout": 0.5, "cache": tmp_path / "answers", **options}
        chosen = choose(f"openai:{model}@{server.url}", None, quick, (), rule)
        found = chosen.open(chosen.identity())
        assert isinstance(found, OpenAIEngine)
        made.append(found)
        return found

    yield engine
    for one in made:
        one.close()


def ask(engine: OpenAIEngine, requests: Sequence[Request]) -> list[Answer]:
    return [answer for batch in engine.batches(requests) for answer in engine.answer(batch)]


def plain(number: int, **settings: Any) -> list[Request]:
    return [Request(f"item/{n}", f"prompt {n}", **settings) for n in range(number)]


# ---- what is sent


def test_plain_prompts_go_to_completions(server: ApiServer, make: Make) -> None:
    engine = make()
    assert engine.identity == {
        "engine": "openai",
        "model": "camel",
        "api": None,
        "cue": "appended",
        "choices": "logprobs",
        "top": 20,
        "tokenizer": None,
        "empty": "fail",
        "extra": {},
    }
    answers = ask(engine, plain(2, max_new_tokens=7, stop=("\n",)))
    assert [answer.outputs for answer in answers] == [["heard prompt 0"], ["heard prompt 1"]]
    first = answers[0]
    assert (first.item, first.finish, first.logprobs) == ("item/0", ["stop"], [])
    assert (first.prompt_tokens, first.new_tokens) == (10, 3)
    _, path, body = min(server.asked, key=lambda one: one[2]["prompt"])
    assert path == "/v1/completions"
    assert body == {
        "model": "camel",
        "prompt": "prompt 0",
        "temperature": 0.0,
        "max_tokens": 7,
        "stop": ["\n"],
        "seed": 42,
    }


CHAT = Request("item", "<|user|>\nWhy?\n<|assistant|>\nAs", text="Why?", cue="As", format="chat")


@pytest.mark.parametrize(
    ("options", "request_", "expected"),
    [
        ({}, CHAT, {"messages": [{"role": "user", "content": "Why?\nAs"}]}),
        (
            {"cue": "prefix"},
            CHAT,
            {
                "messages": [
                    {"role": "user", "content": "Why?"},
                    {"role": "assistant", "content": "As"},
                ],
                "add_generation_prompt": False,
                "continue_final_message": True,
            },
        ),
        ({"api": "completions"}, CHAT, {"prompt": CHAT.prompt}),
        (
            {"api": "chat"},
            Request("item", "Q: Why?\nA:", text="Q: Why?\n", cue="A:"),
            {"messages": [{"role": "user", "content": "Q: Why?\nA:"}]},
        ),
        (
            {"extra": {"temperature": None, "reasoning_effort": "low", "seed": 1}},
            Request("item", "Why?", text="Why?", format="chat"),
            {"messages": [{"role": "user", "content": "Why?"}], "reasoning_effort": "low"},
        ),
    ],
    ids=["appended", "prefix", "our template", "as the paper", "extra"],
)
def test_chats(
    server: ApiServer, make: Make, options: Body, request_: Request, expected: Body
) -> None:
    ask(make(**options), [request_])
    [(_, path, body)] = server.asked
    assert path == ("/v1/completions" if "prompt" in expected else "/v1/chat/completions")
    common = {"model": "camel", "max_tokens": 512, "temperature": 0.0, "seed": 42}
    if "extra" in options:
        del common["temperature"]
        common["seed"] = 1
    assert body == common | expected


def test_the_key_is_sent_and_never_said(
    server: ApiServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    server.acts.append(refuse(401, "Incorrect API key provided: sk-very-secret."))
    engine = make()
    with pytest.raises(UserError, match="401 Unauthorized: Incorrect API key") as error:
        ask(engine, plain(1))
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "secret" not in str(error.value)
    assert "OPENAI_API_KEY" in str(error.value)
    assert "secret" not in json.dumps(engine.identity)


# ---- outputs


def test_samples_are_asked_for_until_there_are_enough(server: ApiServer, make: Make) -> None:
    """A server that knows no `n` is asked again, one that gives too many is cut short."""
    drawn = iter(range(100))
    server.rule = lambda _, body: completion(f"one {next(drawn)}")
    [answer] = ask(make(), plain(1, samples=3, temperature=0.8, top_p=0.95))
    assert answer.outputs == ["one 0", "one 1", "one 2"]
    assert answer.finish == ["stop"] * 3
    assert answer.new_tokens == 9
    assert [body.get("n") for body in server.bodies()] == [3, 2, None]
    assert len({body["seed"] for body in server.bodies()}) == 3
    assert all(body["top_p"] == 0.95 for body in server.bodies())
    server.rule = lambda _, body: completion("a", "b", "c", "d")
    [answer] = ask(make(), plain(1, samples=2, temperature=0.8))
    assert answer.outputs == ["a", "b"]


def test_seeds_differ_between_items_and_runs_are_alike(server: ApiServer, make: Make) -> None:
    ask(make(), plain(5, temperature=0.8))
    seeds = [body["seed"] for body in server.bodies()]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)
    ask(make(), plain(5, temperature=0.8))
    assert len(server.asked) == 5


def test_stop_texts_that_the_server_leaves_in_or_cannot_take(server: ApiServer, make: Make) -> None:
    server.rule = lambda _, body: completion("x = 1\nprint(x)\nclass", finish="length")
    stops = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    [answer] = ask(make(), plain(1, stop=stops))
    assert server.bodies()[0]["stop"] == list(stops[:4])
    assert (answer.outputs, answer.finish) == (["x = 1"], ["stop"])


def test_an_output_that_fills_its_tokens_is_said_to(server: ApiServer, make: Make) -> None:
    server.rule = lambda _, body: completion("and so on", finish="length")
    [answer] = ask(make(), plain(1))
    assert answer.finish == ["length"]


# ---- choices


def top(**likely: float) -> Body:
    return {"top_logprobs": [{name.replace("_", " "): value for name, value in likely.items()}]}


def test_letters_among_the_likeliest_tokens(server: ApiServer, make: Make) -> None:
    likely = top(**{"_A": -2.0, "A": -2.0, "_B": -1.5, "_The": -0.9, "C": -3.0})
    server.rule = lambda _, body: completion(" The", finish="length", logprobs=likely)
    [answer] = ask(make(), plain(1, choices=LETTERS))
    assert server.bodies()[0]["logprobs"] == 20
    assert server.bodies()[0]["max_tokens"] == 1
    assert (answer.outputs, answer.finish, answer.new_tokens) == ([" A"], ["choice"], 0)
    assert answer.logprobs == pytest.approx([math.log(2 * math.exp(-2)), -1.5, -3.0, -3.0])


def test_letters_of_a_chat(server: ApiServer, make: Make) -> None:
    said = chat("B", finish="length")
    tokens = [{"token": "B", "logprob": -0.1}, {"token": "A", "logprob": -3.0}]
    said["choices"][0]["logprobs"] = {"content": [{"token": "B", "top_logprobs": tokens}]}
    server.rule = lambda _, body: said
    [answer] = ask(make(), [Request("i", "P", choices=LETTERS, text="Q", format="chat")])
    body = server.bodies()[0]
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert (answer.outputs, answer.logprobs) == ([" B"], [-3.0, -0.1, -3.0, -3.0])


def test_no_letter_among_the_likeliest_is_no_choice(server: ApiServer, make: Make) -> None:
    server.rule = lambda _, body: completion(" The", finish="length", logprobs=top(_The=-0.1))
    [answer] = ask(make(), plain(1, choices=LETTERS))
    assert (answer.outputs, answer.logprobs, answer.finish) == ([" The"], [], ["length"])


def test_a_server_without_log_probabilities_is_told(server: ApiServer, make: Make) -> None:
    server.rule = lambda _, body: completion(" A", finish="length")
    with pytest.raises(UserError, match=r"no log-probabilities.*choices=logit_bias"):
        ask(make(), plain(1, choices=LETTERS))


def test_the_papers_way_to_choose(server: ApiServer, make: Make) -> None:
    """One token, +100 on the letters' tokens in cl100k (paper 5.1)."""
    server.rule = lambda _, body: chat("C", finish="length")
    engine = make("gpt-4-0314", rule="paper", api="chat")
    assert engine.identity["choices"] == "logit_bias"
    [answer] = ask(engine, [Request("i", "Q\nAnswer:", choices=LETTERS)])
    [body] = server.bodies()
    assert body["logit_bias"] == {"362": 100, "426": 100, "356": 100, "423": 100}
    assert (body["max_tokens"], body["temperature"]) == (1, 0.0)
    assert body["messages"] == [{"role": "user", "content": "Q\nAnswer:"}]
    assert (answer.outputs, answer.logprobs, answer.finish) == ([" C"], [], ["choice"])
    with pytest.raises(UserError, match="which tokens of camel the letters are"):
        ask(make(choices="logit_bias"), plain(1, choices=LETTERS))


def test_letters_tokens_by_a_tokenizer(
    server: ApiServer, make: Make, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "config.json").write_text("{}")
    engine = make(choices="logit_bias", tokenizer=str(tmp_path / "tokenizer"))
    server.rule = lambda _, body: completion(" B", finish="length")
    ask(engine, plain(1, choices=LETTERS))
    ids = [tiny_tokenizer(letter)["input_ids"][-1] for letter in LETTERS]
    assert server.bodies()[0]["logit_bias"] == {str(token): 100 for token in ids}
    text = "Where does the camel live?"
    assert engine.count_tokens(text) == len(tiny_tokenizer(text)["input_ids"])
    assert make().count_tokens(text) == 0
    assert make().cut(text, 2, "paper") == text


def test_choices_in_words(server: ApiServer, make: Make) -> None:
    server.rule = lambda _, body: completion("The answer is B.")
    [answer] = ask(make(choices="text"), plain(1, choices=LETTERS, max_new_tokens=20))
    assert (answer.outputs, answer.logprobs, answer.finish) == (["The answer is B."], [], ["stop"])
    assert server.bodies()[0]["max_tokens"] == 20


def echoed(endpoint: str, body: Body) -> Body:
    """The prompt's words as tokens with log-probabilities of -1, -2, …, then one more token."""
    words = [f" {word}" for word in body["prompt"].split()]
    words[0] = words[0].strip()
    values = [None, *(-float(n) for n in range(1, len(words)))]
    logprobs = {"tokens": [*words, " x"], "token_logprobs": [*values, -9.0]}
    return completion(body["prompt"] + " x", finish="length", logprobs=logprobs)


def test_whole_answers_are_scored_where_prompts_are_echoed(server: ApiServer, make: Make) -> None:
    server.rule = echoed
    choices = (" a long one", " short")
    request = Request("i", "Q: why? A:", choices=choices, scoring="sum")
    [answer] = ask(make(), [request])
    assert answer.logprobs == [-3.0 - 4.0 - 5.0, -3.0]
    assert answer.outputs == [" short"]
    assert sorted(body["prompt"] for body in server.bodies()) == [
        "Q: why? A: a long one",
        "Q: why? A: short",
    ]
    server.rule = lambda _, body: completion(" x", finish="length")
    with pytest.raises(UserError, match="does not echo"):
        ask(make("other"), [request])
    with pytest.raises(UserError, match="api=completions"):
        ask(make(api="chat"), [request])


# ---- faults

EMPTY: Body = {"choices": [], "usage": {}}
NO_ACCOUNT: Body = {"choices": [{"text": "", "finish_reason": "stop"}]}
THOUGHT = completion("", finish="length")
FAULTS: dict[str, tuple[Act, str]] = {
    "429": (refuse(429, "slow down"), "429 Too Many Requests: slow down"),
    "500": (refuse(500, "oh"), "500 Internal Server Error: oh"),
    "503 with a page": (lambda handler, _: handler.send("<html>", 503), "503 .*<html>"),
    "stall": (stall(1.0), "no answer within 0.5 s"),
    "drip": (drip, "no answer within 0.5 s"),
    "broken JSON": (say('{"choices": ['), "broken JSON"),
    "a list": (say("[1]"), "no JSON object"),
    "an error of status 200": (say({"error": {"message": "busy"}}), "the server says: busy"),
    "no choices": (say(EMPTY), "holds no text"),
    "odd choices": (say({"choices": [3]}), "not as the API has it"),
    "reset": (reset, "item/0"),
    "truncated": (truncated, "item/0"),
    "empty": (say(NO_ACCOUNT), "answer is empty"),
    "all thought": (say(THOUGHT), "allow more new tokens"),
    "no end": (say(completion("And then", finish=None)), "cut off"),
    "another end": (say(completion("And", finish="tool_calls")), "ends by 'tool_calls'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_and_one_that_stays(
    server: ApiServer, make: Make, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    act, said = FAULTS[fault]
    server.acts.append(act)
    engine = make(tries=2)
    assert [answer.outputs for answer in ask(engine, plain(1))] == [["heard prompt 0"]]
    assert len(server.asked) == 2
    assert engine.status() == "2 requests, 1 tried again"
    assert "asking again" in capsys.readouterr().err
    server.acts.extend([act, act])
    engine = make("another", tries=2)
    with pytest.raises(UnansweredError, match=said):
        ask(engine, plain(1))
    assert len(server.asked) == 4


def test_an_empty_answer_that_the_model_gave_counts(server: ApiServer, make: Make) -> None:
    server.rule = lambda _, body: completion("")
    [answer] = ask(make(), plain(1))
    assert (answer.outputs, answer.finish) == ([""], ["stop"])
    server.rule = lambda _, body: NO_ACCOUNT
    [answer] = ask(make("other", empty="keep"), plain(1))
    assert answer.outputs == [""]


@pytest.mark.parametrize("text", ["", "It begins"])
def test_what_a_filter_cut_or_withheld_is_an_answer(
    server: ApiServer, make: Make, text: str
) -> None:
    """Asked again it would end so again, and the run could never be finished."""
    filtered = completion(text, finish="content_filter")
    filtered["usage"] = {"prompt_tokens": 10, "completion_tokens": 0}
    server.rule = lambda _, body: filtered
    [answer] = ask(make(), plain(1))
    assert (answer.outputs, answer.finish) == ([text], ["filtered"])
    assert len(server.asked) == 1


def test_retry_after_is_for_all(server: ApiServer, make: Make) -> None:
    server.acts.append(refuse(429, Retry_After="1"))
    ask(make(concurrency=2), plain(6))
    times = [at for at, _, _ in server.asked]
    first_two = sum(at < times[0] + 0.9 for at in times)
    assert len(times) == 7
    assert first_two <= 3  # what was on its way when the word came


def test_a_wait_that_is_too_long_ends_the_run(server: ApiServer, make: Make) -> None:
    server.acts.append(refuse(429, "tomorrow", Retry_After="86400"))
    with pytest.raises(UserError, match="to wait 86400 s") as error:
        ask(make(), plain(3))
    assert not isinstance(error.value, UnansweredError)


def test_a_quota_that_is_used_up_ends_the_run(server: ApiServer, make: Make) -> None:
    payload = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    server.acts.append(lambda handler, _: handler.send(payload, 429))
    with pytest.raises(UserError, match=r"429 .*quota"):
        ask(make(concurrency=1), plain(3))
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "hint"), [(403, "key"), (404, "URL and model"), (307, "URL")])
def test_what_no_other_request_could_mend(
    server: ApiServer, make: Make, status: int, hint: str
) -> None:
    server.acts.append(refuse(status, "no"))
    with pytest.raises(UserError, match=hint) as error:
        ask(make(concurrency=1), plain(5))
    assert not isinstance(error.value, UnansweredError)
    assert len(server.asked) == 1


def test_nobody_there(make: Make, tmp_path: Path) -> None:
    options = {"wait": 0.01, "tries": 2, "concurrency": 2, "cache": tmp_path}
    chosen = choose("openai:camel@http://127.0.0.1:9/v1", None, options)
    engine = chosen.open({})
    said = []
    for batch in engine.batches(plain(50)):
        with pytest.raises(UserError) as error:
            engine.answer(batch)
        said.append(str(error.value))
        if not isinstance(error.value, UnansweredError):
            break
    assert "2 requests in a row failed: 127.0.0.1 cannot be reached" in said[-1]
    assert len(said) <= 3


def test_a_refused_item_is_not_tried_again_and_does_not_stop_others(
    server: ApiServer, make: Make
) -> None:
    def rule(_: str, body: Body) -> Body:
        return completion(f"heard {body['prompt']}")

    def too_long(handler: Any, body: Body) -> None:
        if body["prompt"] == "prompt 1":
            handler.send({"error": {"message": "that is no text"}}, 400)
        else:
            handler.send(rule("", body))

    server.acts.extend([too_long] * 4)
    engine = make()
    answered, refused = [], []
    for batch in engine.batches(plain(4)):
        try:
            answered += engine.answer(batch)
        except UnansweredError as error:
            refused.append(str(error))
    assert [answer.item for answer in answered] == ["item/0", "item/2", "item/3"]
    [said] = refused
    assert said.startswith("item item/1: the server answers 400 Bad Request: that is no")
    assert len(server.asked) == 4


VLLM = (
    "'max_tokens' or 'max_completion_tokens' is too large: {new}. This model's maximum context "
    "length is 100 tokens and your request has {prompt} input tokens ({new} > 100 - {prompt})."
)
OPENAI = (
    "This model's maximum context length is 100 tokens. However, you requested {all} tokens "
    "({prompt} in the messages, {new} in the completion)."
)


@pytest.mark.parametrize("words", [VLLM, OPENAI])
@pytest.mark.parametrize(("prompt", "clip"), [(60, False), (60, True), (100, False), (130, True)])
def test_a_context_without_room(
    server: ApiServer, make: Make, words: str, prompt: int, clip: bool
) -> None:
    """What fits is asked for, and how it ends is said; what does not fit at all is not asked."""

    def no_room(handler: Any, body: Body) -> None:
        said = words.format(new=512, prompt=prompt, all=512 + prompt)
        handler.send({"error": {"message": said}}, 400)

    server.acts.append(no_room)
    server.rule = lambda _, body: completion("and so on", finish="length")
    [answer] = ask(make(), plain(1, clip=clip))
    if prompt < 100:
        assert server.bodies()[1]["max_tokens"] == 40
        assert answer.finish == ["length" if clip else "context"]
        assert answer.outputs == ["and so on"]
    else:
        assert (answer.outputs, answer.finish) == ([""], ["too long"])
        assert len(server.asked) == 1


# ---- how many at a time, and how much


def test_as_many_at_a_time_as_allowed(server: ApiServer, make: Make) -> None:
    server.delay = 0.03
    answers = ask(make(concurrency=5, timeout=5), plain(30))
    assert [answer.item for answer in answers] == [f"item/{n}" for n in range(30)]
    assert server.most == 5


def test_a_budget_of_requests(server: ApiServer, make: Make) -> None:
    for sent in (7, 14, 20):
        engine = make(max_requests=7, concurrency=3)
        if sent < 20:
            with pytest.raises(UserError, match=r"max_requests.*answers are kept"):
                ask(engine, plain(20))
        else:
            assert len(ask(engine, plain(20))) == 20
        assert len(server.asked) == sent


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_budget_of_dollars_is_never_passed(
    server: ApiServer, make: Make, concurrency: int
) -> None:
    """10 tokens in and 3 out are $0.016; by the bytes of its prompt a request may cost more."""
    options = {"price_in": 1000, "price_out": 2000, "concurrency": concurrency}
    engine = make(max_dollars=0.2, **options)
    with pytest.raises(UserError, match=r"of \$0.2 \(max_dollars\)"):
        ask(engine, plain(20, max_new_tokens=3))
    sent = len(server.asked)
    worst = ((8 + 64) * 1000 + 3 * 2000) / 1e6
    assert 0.2 - worst < 0.016 * sent <= 0.2
    assert f"${0.016 * sent:.2f}" in engine.status()
    assert len(ask(make(max_dollars=10, **options), plain(20, max_new_tokens=3))) == 20
    assert len(server.asked) == 20


def test_a_budget_of_dollars_needs_prices_and_counts(server: ApiServer, make: Make) -> None:
    with pytest.raises(UserError, match="needs price_in"):
        make(max_dollars=1)
    server.rule = lambda _, body: {"choices": [{"text": "Yes", "finish_reason": "stop"}]}
    with pytest.raises(UserError, match="how many tokens"):
        ask(make(max_dollars=1, price_out=1), plain(1))


# ---- nothing is lost

SCRIPT = """
import sys
from pathlib import Path
from cameleer.engines.engine import Request
from cameleer.engines.registry import choose
engine = choose(sys.argv[1], None, {"cache": Path(sys.argv[2]), "concurrency": 4}).open({})
for batch in engine.batches([Request(f"item/{n}", f"prompt {n}") for n in range(40)]):
    engine.answer(batch)
"""


def test_kill_9_loses_no_answer(server: ApiServer, make: Make, tmp_path: Path) -> None:
    server.delay = 0.02
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        f"openai:camel@{server.url}",
        str(tmp_path / "answers"),
    ]
    process = subprocess.Popen(command)
    until = time.monotonic() + 30
    while len(server.asked) < 12 and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    before = len(server.asked)
    assert 12 <= before < 40
    answers = ask(make(), plain(40))
    assert [answer.outputs for answer in answers] == [[f"heard prompt {n}"] for n in range(40)]
    # Only what was on its way when the kill came is asked twice.
    assert len(server.asked) <= 40 + 4
    ask(make(), plain(40))
    assert len(server.asked) <= 40 + 4


def test_a_run_goes_on_past_items_without_an_answer(
    server: ApiServer, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "eval" / "gsm"
    folder.mkdir(parents=True)
    shown = {"question": "Q?", "cot_answer": "So the answer is 2.", "short_answer": "2"}
    (folder / "exemplars.jsonl").write_text(json.dumps(shown) + "\n")
    rows = [{"question": f"Say {n}?", "answer": f"#### {n}"} for n in range(12)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    broken = True

    def rule(_: str, body: Body) -> Body:
        number = body["messages"][0]["content"].split("Say ")[1].split("?")[0]
        if broken and number in ("3", "7"):
            return NO_ACCOUNT
        return chat(f"The answer is {number}.")

    server.rule = rule

    def run() -> Path:
        engine = make(tries=2)
        spec = EvalSpec(benchmark="gsm:cot")
        stage = eval_stage(spec, engine.identity, tmp_path, tmp_path / "out")
        return evaluate(spec, lambda: engine, tmp_path, stage)

    with pytest.raises(UserError, match=r"gsm:cot: 2 of 12 items got no answer \(gsm/3, gsm/7\)"):
        run()
    assert "item gsm/7: the server's answer" in capsys.readouterr().err
    asked, broken = len(server.asked), False
    scores = json.loads((run() / "scores.json").read_text())
    assert (scores["n"], scores["value"]) == (12, 1.0)
    assert len(server.asked) == asked + 2
