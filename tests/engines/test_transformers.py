"""The local engine: answers are those of each prompt alone, however they were put together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.engines import transformers as local
from cameleer.engines.engine import Engine, Request
from cameleer.engines.prefixes import SHARED
from cameleer.engines.transformers import TransformersEngine
from cameleer.evals.asking import EvalSpec
from cameleer.evals.runner import SCORES, eval_stage, evaluate
from cameleer.model.load import load_model
from cameleer.results.records import Answer

SHOTS = "Where does the camel live? In the desert. Is there water? There is little, of course. " * 2
SHORT = ["Where?", "Is there a camel in the desert, or is there none?", "?", "There is little."]
LONG = [SHOTS + text for text in ("Why?", "Where does it live? ", "Is it?", "In what desert? " * 3)]
CHOICES = (" A", " B", " C", " D")
WORDS = (" In the desert, of course.", " No", " There is little water", " camel?")

MakeEngine = Callable[..., TransformersEngine]


@pytest.fixture(scope="module")
def engine(tiny_model: Callable[[str], Path]) -> MakeEngine:
    """Makes a float32 engine over a tiny model."""

    def make(name: str = "llama", **settings: Any) -> TransformersEngine:
        return TransformersEngine(tiny_model(name), {"model": name}, precision="fp32", **settings)

    return make


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt_neox", "opt", "gpt2"])
def pair(
    request: pytest.FixtureRequest, engine: MakeEngine, tiny_model: Callable[[str], Path]
) -> tuple[TransformersEngine, Any]:
    """An engine, and the same model with transformers' own eager attention."""
    theirs = load_model(tiny_model(request.param), torch.float32, "eager")
    return engine(request.param, batch_size=3), theirs


def requests(texts: Sequence[str], **settings: Any) -> list[Request]:
    return [Request(f"item/{n}", text, **settings) for n, text in enumerate(texts)]


def answers(engine: Engine, asked: Sequence[Request]) -> dict[str, Answer]:
    found = [answer for batch in engine.batches(asked) for answer in engine.answer(batch)]
    assert sorted(answer.item for answer in found) == sorted(request.key for request in asked)
    return {answer.item: answer for answer in found}


def test_it_is_an_engine(engine: MakeEngine) -> None:
    made: Engine = engine()
    assert made.identity == {"model": "llama"}
    assert made.count_tokens("Where?") == len(engine().tokenizer("Where?")["input_ids"])


# ---- greedy


def generated(model: Any, tokenizer: Any, prompt: str, tokens: int) -> list[int]:
    """What transformers' own `generate` says to one prompt, token by token."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    whole = model.generate(ids, max_new_tokens=tokens, do_sample=False, pad_token_id=2)
    new: list[int] = whole[0, ids.shape[1] :].tolist()
    return new


@pytest.mark.parametrize("texts", [SHORT, LONG, SHORT + LONG], ids=["alone", "shared", "mixed"])
def test_greedy_is_generate_on_each_prompt_alone(
    pair: tuple[TransformersEngine, Any], texts: list[str]
) -> None:
    engine, theirs = pair
    found = answers(engine, requests(texts, max_new_tokens=24))
    assert len({answer.outputs[0] for answer in found.values()}) > 1
    for number, text in enumerate(texts):
        wanted = generated(theirs, engine.tokenizer, text, 24)
        answer = found[f"item/{number}"]
        ended = wanted[-1] == 1
        assert answer.outputs == [engine.tokenizer.decode(wanted, skip_special_tokens=True)]
        assert answer.finish == ["stop" if ended else "length"]
        assert answer.new_tokens == len(wanted) - ended
        assert answer.prompt_tokens == len(engine.tokenizer(text)["input_ids"])
        assert answer.logprobs == []


def test_it_says_how_far_it_is(engine: MakeEngine) -> None:
    made = engine()
    assert made.status() == ""
    answers(made, requests(SHORT, max_new_tokens=3, samples=2))
    ended, _, whole = made.status().split(" ")[:3]
    assert ended == whole == str(2 * len(SHORT))
    assert made.status().endswith(" tokens/s")


def test_the_prompts_of_one_family_share_a_pass(engine: MakeEngine) -> None:
    made = engine()
    ids = [made.tokenizer(text)["input_ids"] for text in LONG]
    common = next(n for n in range(999) if len({tuple(one[: n + 1]) for one in ids}) > 1)
    assert common > SHARED
    wanted = [common, sum(len(one) - common for one in ids)]
    assert passes(made, requests(LONG, max_new_tokens=1)) == wanted
    assert passes(made, requests(LONG, choices=CHOICES)) == wanted


def passes(engine: TransformersEngine, asked: Sequence[Request]) -> list[int]:
    """How many tokens each forward pass has."""
    lengths: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        forward = engine._forward

        def counted(ids: list[int], *rest: Any) -> Any:
            lengths.append(len(ids))
            return forward(ids, *rest)

        patch.setattr(engine, "_forward", counted)
        answers(engine, asked)
    return lengths


def test_an_end_token_ends_and_is_not_counted(
    tiny_model: Callable[[str], Path], tmp_path: Path, engine: MakeEngine
) -> None:
    """The end tokens of generation_config.json count, not the tokenizer's alone."""
    plain = engine()
    ids = generated(load_model(tiny_model("llama"), torch.float32), plain.tokenizer, SHORT[1], 24)
    end = next(token for place, token in enumerate(ids) if place > 3 and token not in ids[:place])
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    facts = json.dumps({"eos_token_id": [1, end], "bos_token_id": 0})
    (folder / "generation_config.json").write_text(facts)
    made = TransformersEngine(folder, {}, precision="fp32")
    answer = answers(made, requests([SHORT[1]], max_new_tokens=24))["item/0"]
    place = ids.index(end)
    assert answer.outputs == [plain.tokenizer.decode(ids[:place])]
    assert (answer.finish, answer.new_tokens) == (["stop"], place)


def test_a_stop_text_ends_an_output_and_is_cut_off(
    engine: MakeEngine, tiny_model: Callable[[str], Path]
) -> None:
    made, theirs = engine(), load_model(tiny_model("llama"), torch.float32, "eager")
    for text in SHORT:
        ids = generated(theirs, made.tokenizer, text, 40)
        begun = [made.tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1)]
        full = begun[-1]
        for stop in ((full[9:12],), (full[15:16], full[12:17]), ("not in it", full[6:7])):
            place = next(n for n, said in enumerate(begun) if any(one in said for one in stop))
            cut = min(begun[place].find(one) for one in stop if one in begun[place])
            asked = Request("k", text, max_new_tokens=40, stop=stop)
            answer = answers(made, [asked])["k"]
            assert answer.outputs == [begun[place][:cut]]
            assert answer.finish == ["stop"]
            assert answer.new_tokens == place + 1


def test_outputs_of_different_lengths_in_one_batch(engine: MakeEngine) -> None:
    """Some end early and leave; those that stay are not disturbed."""
    texts = (SHORT + LONG) * 2
    lengths = [1, 30, 2, 25, 7, 3, 30, 12, 9, 1, 1, 28, 4, 5, 6, 30]
    asked = [
        replace(request, max_new_tokens=length)
        for request, length in zip(requests(texts), lengths, strict=True)
    ]
    together, alone = engine(batch_size=16), engine(batch_size=1)
    found = answers(together, asked)
    for request in asked:
        wanted = answers(alone, [request])[request.key]
        assert found[request.key].outputs == wanted.outputs
        assert found[request.key].new_tokens == wanted.new_tokens == request.max_new_tokens


@pytest.mark.parametrize("name", ["opt", "llama"])
def test_who_has_ended_does_not_run_out_of_room(engine: MakeEngine, name: str) -> None:
    """An output that has ended stays in its batch for a while; its place must not go on."""
    made = engine(name, batch_size=16)
    full = Request("full", "Is it? " * 33, max_new_tokens=20)
    others = requests([text + "?" for text in SHORT * 2], max_new_tokens=150)
    found = answers(made, [full, *others])
    assert found["full"].prompt_tokens + 20 > 200
    assert found["full"].new_tokens == 20
    assert answers(made, [full])["full"].outputs == found["full"].outputs


def test_a_prompt_without_room_is_said_and_the_others_are_answered(engine: MakeEngine) -> None:
    made = engine()
    asked = [
        Request("long/w", "b " * 300, samples=2, temperature=1.0),
        Request("long/c", "b " * 300, choices=CHOICES),
        *requests(SHORT[:2], max_new_tokens=4),
    ]
    found = answers(made, asked)
    for key, outputs in (("long/w", 2), ("long/c", 1)):
        assert found[key].outputs == [""] * outputs
        assert found[key].finish == ["too long"] * outputs
        assert (found[key].logprobs, found[key].new_tokens) == ([], 0)
        assert found[key].prompt_tokens == len(made.tokenizer("b " * 300)["input_ids"])
    assert [found[f"item/{n}"].new_tokens for n in range(2)] == [4, 4]


@pytest.mark.parametrize(("clip", "finish"), [(False, "context"), (True, "length")])
def test_an_output_may_be_as_long_as_the_context_has_room(
    engine: MakeEngine, tiny_model: Callable[[str], Path], clip: bool, finish: str
) -> None:
    made = engine("opt")
    theirs = load_model(tiny_model("opt"), torch.float32, "eager")
    text = "Is it? " * 35
    room = 256 - len(made.tokenizer(text)["input_ids"])
    assert 5 < room < 20
    answer = answers(made, [Request("k", text, max_new_tokens=300, clip=clip)])["k"]
    wanted = generated(theirs, made.tokenizer, text, room)
    assert answer.outputs == [made.tokenizer.decode(wanted, skip_special_tokens=True)]
    assert (answer.finish, answer.new_tokens) == ([finish], room)


def test_an_empty_prompt_begins_with_the_token_that_texts_begin_with(
    engine: MakeEngine, tiny_model: Callable[[str], Path]
) -> None:
    made = engine()
    theirs = load_model(tiny_model("llama"), torch.float32, "eager")
    asked = [Request("w", "", max_new_tokens=6), Request("s", "", choices=WORDS, scoring="sum")]
    found = answers(made, asked)
    start = torch.tensor([[made.tokenizer.bos_token_id]])
    whole = theirs.generate(start, max_new_tokens=6, do_sample=False, pad_token_id=2)
    assert found["w"].outputs == [made.tokenizer.decode(whole[0, 1:], skip_special_tokens=True)]
    ids = made.tokenizer(WORDS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        every = theirs(input_ids=torch.cat([start, ids], 1)).logits[0, :-1].log_softmax(-1)
    wanted = float(every.gather(1, ids[0, :, None]).sum())
    assert found["s"].logprobs[0] == pytest.approx(wanted, abs=1e-4)


def test_what_the_context_has_no_room_for_is_counted_and_told(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole evaluation of one question that fits and one that does not."""
    shot = {"question": "1?", "cot_answer": "1.", "short_answer": "1"}
    asked = [{"question": text, "answer": "#### 1"} for text in ("Is it?", "b " * 300)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (tmp_path / "exemplars.jsonl").write_text(json.dumps(shot) + "\n")
    made = TransformersEngine(tiny_model("llama"), {"model": "llama"}, precision="fp32")
    spec = EvalSpec(benchmark="gsm", format="plain", max_new_tokens=250)
    stage = eval_stage(spec, made.identity, tmp_path, tmp_path / "out")
    folder = evaluate(spec, lambda: made, tmp_path, stage)
    scores = json.loads((folder / SCORES).read_text())
    assert scores["n"] == 2
    assert scores["too_long"] == scores["finish"]["too long"] == scores["notes"]["too long"] == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "gsm:cot: 1 prompts are too long for the model's context" in told


def test_exactly_one_token_of_room(engine: MakeEngine) -> None:
    made = engine()
    counts = {n: len(made.tokenizer("?" * n)["input_ids"]) for n in range(254, 258)}
    assert sorted(counts.values()) == [254, 255, 256, 257]
    asked = [Request(f"{n}", "?" * n, max_new_tokens=1) for n in counts]
    asked += [Request(f"c{n}", "?" * n, choices=CHOICES) for n in counts]
    found = answers(made, asked)
    long = {key for key, answer in found.items() if answer.finish == ["too long"]}
    assert long == {"256", "257", "c257"}


# ---- choices


@pytest.mark.parametrize("texts", [SHORT, LONG, SHORT + LONG], ids=["alone", "shared", "mixed"])
def test_choices_are_a_plain_forward_pass(
    pair: tuple[TransformersEngine, Any], texts: list[str]
) -> None:
    engine, theirs = pair
    tokens = [engine.tokenizer(choice)["input_ids"][-1] for choice in CHOICES]
    found = answers(engine, requests(texts, choices=CHOICES))
    for number, text in enumerate(texts):
        ids = engine.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            wanted = theirs(input_ids=ids).logits[0, -1].log_softmax(-1)[tokens].tolist()
        answer = found[f"item/{number}"]
        assert answer.logprobs == pytest.approx(wanted, abs=1e-4)
        assert answer.outputs == [CHOICES[wanted.index(max(wanted))]]
        assert (answer.finish, answer.new_tokens) == (["choice"], 0)


@pytest.mark.parametrize("texts", [SHORT, LONG, SHORT + LONG], ids=["alone", "shared", "mixed"])
def test_whole_choices_are_the_sum_of_a_plain_forward_pass(
    pair: tuple[TransformersEngine, Any], texts: list[str]
) -> None:
    engine, theirs = pair
    found = answers(engine, requests(texts, choices=WORDS, scoring="sum"))
    for number, text in enumerate(texts):
        wanted, greedy = [], []
        for choice in WORDS:
            begin = len(engine.tokenizer(text)["input_ids"])
            ids = engine.tokenizer(text + choice, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                every = theirs(input_ids=ids).logits[0].double().log_softmax(-1)
            places = range(begin, ids.shape[1])
            greedy.append(all(int(every[n - 1].argmax()) == ids[0, n] for n in places))
            wanted.append(sum(float(every[place - 1, ids[0, place]]) for place in places))
        answer = found[f"item/{number}"]
        assert answer.logprobs == pytest.approx(wanted, abs=1e-4)
        assert answer.outputs == [WORDS[wanted.index(max(wanted))]]
        assert answer.greedy == greedy


def test_whole_choices_share_their_prompt(engine: MakeEngine) -> None:
    made = engine()
    prompt, text = len(made.tokenizer(LONG[0])["input_ids"]), LONG[0]
    own = [len(made.tokenizer(text + choice)["input_ids"]) - prompt for choice in WORDS]
    asked = [Request("k", text, choices=WORDS, scoring="sum")]
    # The last token of the prompt is there for each choice, that of a choice for none.
    assert passes(made, asked) == [prompt - 1, sum(own)]
    letters = [Request("k", text, choices=CHOICES, scoring="sum")]
    assert passes(made, letters) == [prompt + 1]  # the space is a token of its own: one row for all


def test_choices_that_the_tokenizer_cannot_tell_apart(engine: MakeEngine) -> None:
    with pytest.raises(UserError, match="does not tell the choices"):
        answers(engine(), requests(SHORT, choices=(" yes", " bes")))


def test_choices_and_outputs_in_one_list(engine: MakeEngine) -> None:
    made = engine()
    asked = [
        Request(f"{kind}/{n}", text, choices=choices, max_new_tokens=5)
        for n, text in enumerate(LONG)
        for kind, choices in (("c", CHOICES), ("g", ()))
    ]
    found = answers(made, asked)
    assert all(len(found[f"c/{n}"].logprobs) == 4 for n in range(4))
    assert all(found[f"g/{n}"].new_tokens == 5 for n in range(4))


# ---- batches


@settings(deadline=None, max_examples=30)
@given(
    chosen=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4)), min_size=1, max_size=20),
    size=st.integers(1, 6),
    long=st.booleans(),
)
def test_every_request_is_in_one_batch(
    shared_engine: TransformersEngine, chosen: list[tuple[int, int]], size: int, long: bool
) -> None:
    shared_engine.batch_size = size
    texts = SHORT + LONG
    asked = [
        Request(f"{n}", texts[which], samples=samples, max_new_tokens=2048 if long else 9)
        for n, (which, samples) in enumerate(chosen)
    ]
    batches = shared_engine.batches(asked)
    assert sorted(r.key for batch in batches for r in batch) == sorted(r.key for r in asked)
    assert batches == shared_engine.batches(asked)
    for batch in batches:
        most = size if long else 2 * size
        assert len(batch) == 1 or sum(request.samples for request in batch) <= most


@pytest.fixture(scope="module")
def shared_engine(engine: MakeEngine) -> TransformersEngine:
    return engine()


KINDS: dict[str, dict[str, Any]] = {
    "choices": {"choices": CHOICES},
    "greedy": {"max_new_tokens": 12},
    "sampled": {"samples": 3, "temperature": 0.8, "max_new_tokens": 12},
}


NESTED = [
    f"{SHOTS}{passage}{question}"
    for passage in ("The camel lives in the desert, where there is little water. " * 2, "No. " * 20)
    for question in ("Where?", "Is there water? ", "Why?")
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_run_goes_on_with_is_the_same_to_the_bit(
    engine: MakeEngine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "ROW", 50)
    monkeypatch.setattr(local, "WORTH", 60)
    asked = requests((SHORT + LONG + NESTED) * 2, **KINDS[kind])
    whole, again = engine(batch_size=3), engine(batch_size=3)
    unbroken = [whole.answer(batch) for batch in whole.batches(asked)]
    batches = again.batches(asked)
    assert len(batches) >= 4
    for number in reversed(range(len(batches))):  # any order, as if each came after a kill
        for found, wanted in zip(again.answer(batches[number]), unbroken[number], strict=True):
            assert replace(found, seconds=0.0) == replace(wanted, seconds=0.0)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
@pytest.mark.parametrize("worth", [60, 1 << 20], ids=["shared while written", "copied"])
def test_answers_do_not_depend_on_how_requests_were_put_together(
    engine: MakeEngine, name: str, worth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch size, limit and order: equal outputs; log-probabilities within 1e-5."""
    monkeypatch.setattr(local, "WORTH", worth)
    texts = SHORT + LONG + NESTED
    asked = [
        *requests(texts, max_new_tokens=8),
        *(Request(f"c/{n}", text, choices=CHOICES) for n, text in enumerate(texts)),
        *(Request(f"s/{n}", text, choices=WORDS, scoring="sum") for n, text in enumerate(texts)),
    ]
    alone = engine(name, batch_size=1)
    wanted = {request.key: answers(alone, [request])[request.key] for request in asked}
    for size, chosen in ((4, asked[::-1]), (64, asked), (5, asked[::3])):
        for key, answer in answers(engine(name, batch_size=size), chosen).items():
            assert answer.outputs == wanted[key].outputs
            assert answer.finish == wanted[key].finish
            assert answer.logprobs == pytest.approx(wanted[key].logprobs, abs=1e-5)


def test_every_common_beginning_is_computed_once(engine: MakeEngine) -> None:
    made = engine()

    def count(text: str) -> int:
        return len(made.tokenizer(text)["input_ids"])

    shots, whole = count(SHOTS), [count(text) for text in NESTED]
    ids = [made.tokenizer(text)["input_ids"] for text in NESTED]
    trunk = [
        next(n for n in range(999) if len({tuple(one[: n + 1]) for one in part}) > 1)
        for part in (ids[:3], ids[3:])
    ]
    least = shots + sum(end - shots for end in trunk)
    least += sum(size - trunk[n // 3] for n, size in enumerate(whole))
    for asked in (requests(NESTED, choices=CHOICES), requests(NESTED, max_new_tokens=1)):
        assert sum(passes(made, asked)) == least < 0.5 * sum(whole)


# ---- sampling


def sampled(engine: TransformersEngine, *asked: Request) -> dict[str, list[str]]:
    return {key: answer.outputs for key, answer in answers(engine, asked).items()}


def test_a_sample_is_told_by_seed_key_and_number(shared_engine: TransformersEngine) -> None:
    shared_engine.batch_size = 32
    one = Request("a", LONG[0], temperature=1.0, top_p=0.95, samples=3, max_new_tokens=15)
    first = sampled(shared_engine, one)["a"]
    assert len(set(first)) == 3
    assert sampled(shared_engine, one)["a"] == first
    assert sampled(shared_engine, replace(one, samples=1))["a"] == first[:1]
    others = [replace(one, key=f"b{n}", prompt=text) for n, text in enumerate(SHORT + LONG)]
    together = sampled(shared_engine, *others, one)
    assert together["a"] == first
    assert together["b4"] != first  # the same prompt by another key
    assert sampled(shared_engine, replace(one, seed=43))["a"] != first


def test_greedy_beside_sampled(shared_engine: TransformersEngine) -> None:
    shared_engine.batch_size = 32
    greedy = Request("g", LONG[1], max_new_tokens=15)
    drawn = replace(greedy, key="s", temperature=1.0)
    nearly = replace(greedy, key="n", temperature=1.0, top_p=1e-6)
    alone = sampled(shared_engine, greedy)["g"]
    together = sampled(shared_engine, greedy, drawn, nearly)
    assert together["g"] == together["n"] == alone
    assert together["s"] != alone
