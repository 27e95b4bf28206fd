"""Every benchmark that is found keeps the contract of cameleer.evals.benchmark, in all settings."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.core.plugins import plugins
from cameleer.engines.engine import TOO_LONG, Request
from cameleer.evals import review as reviewing
from cameleer.evals.asking import EvalSpec, limited, prompts
from cameleer.evals.benchmark import (
    GROUP,
    HOME,
    Ask,
    Benchmark,
    all_benchmarks,
    benchmark_named,
)
from cameleer.evals.extract import exact_match
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.results.records import Answer, Format, Item, Rule, Score
from tests.benchmark_files import NATIVE, native_files
from tests.stand_in import StandIn

MODULES = plugins(HOME, GROUP)
OWN = [one for one in all_benchmarks() if not hasattr(one.module, "run")]
LABELS = [one.label for one in OWN if one.name in NATIVE]
SCORED = [label for label in LABELS if benchmark_named(label).setting.scored]
RULES: tuple[Rule, ...] = ("paper", "fixed")
FORMATS: tuple[Format, ...] = ("chat", "plain")
RUBBISH = ("", " \n", "qwxz", "¿…?\n\n* qwxz *")


def test_every_benchmark_of_ours_has_files_here() -> None:
    ours = {name for name, module in MODULES.items() if module.__name__.startswith(HOME)}
    assert ours - {"lm_eval"} == set(NATIVE)


@pytest.mark.parametrize("name", MODULES)
def test_card_is_complete(name: str) -> None:
    card = MODULES[name].__doc__ or ""
    assert card.partition("\n")[0].endswith((".", "?"))
    if MODULES[name].__name__.startswith(HOME) and name in NATIVE:
        for line in ("origin", "licence", "citation", "size", "score", "Rule `paper`", "`fixed`"):
            assert line in card, line


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for name in NATIVE:
        native_files(tmp_path, name)
    return tmp_path


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("label", LABELS)
def test_items(label: str, rule: Rule, world: Path) -> None:
    one = benchmark_named(label)
    for form in FORMATS:
        ask = Ask(one.folder(world), one.setting_name, rule, form)
        items: list[Item] = one.module.items(ask)
        assert items == one.module.items(ask)
        assert len({item.key for item in items}) == len(items) > 0
        assert all(item.key.startswith(f"{one.name}/") for item in items)
        assert all(item.text.strip() for item in items)
        assert all(item.choices for item in items) == (one.setting.scoring == "sum")
        shown = [row["prompt"] for row in prompts(label, world, rule, form)]
        assert all(cue in prompt for cue, prompt in zip((i.cue for i in items), shown, strict=True))
        assert all(prompt.startswith("<|user|>\n") == (form == "chat") for prompt in shown)
        graded = one.module.items(Ask(ask.data, one.setting_name, rule, form, grading=True))
        assert {item.key for item in items} <= {item.key for item in graded}


def gold(one: Benchmark, item: Item) -> tuple[Item, str]:
    """The output that is right, with what the model would give of each choice."""
    if item.choices:
        best = item.choices.index(f" {item.target['best']}")
        given = [0.0 if n == best else -50.0 for n in range(len(item.choices))]
        return with_logprobs(item, given), item.choices[best]
    target = item.target[0] if isinstance(item.target, list) else str(item.target)
    if one.name == "codex_humaneval":
        return item, solutions()[item.meta["prompt"]]
    if one.setting.choices:
        return item, f" {target}"
    if "cot" in one.setting_name:
        return item, f" It takes 2 steps. So the answer is {target}."
    return item, f" {target}"


def with_logprobs(item: Item, given: list[float]) -> Item:
    return Item(
        item.key, item.group, item.text, item.cue, item.target,
        item.meta | {"logprobs": given}, item.choices,
    )  # fmt: skip


@cache
def solutions() -> dict[str, str]:
    found = [json.loads(line) for line in gzip.decompress(HUMANEVAL[0]).splitlines()]
    return {row["prompt"]: row["canonical_solution"] for row in found}


HUMANEVAL = [NATIVE["codex_humaneval"]["HumanEval.jsonl.gz"]]


def graded(one: Benchmark, item: Item, output: str, rule: Rule, good: bool) -> Score:
    """The grade of an output, said as often as the metric needs, that reviewers find good."""
    outputs = [output] * (10 if one.setting.metric == "pass@10" else 1)
    ask = Ask(Path(), one.setting_name, rule)
    if not one.setting.reviewers:
        score: Score = one.module.grade(item, outputs, ask)
    else:
        said = float(good != one.setting.lower_is_better)
        for name in one.setting.reviewers:
            one.module.review(item, output, name, ask)
        reviews = {name: [said] * len(outputs) for name in one.setting.reviewers}
        score = one.module.grade(item, outputs, ask, reviews)
    assert len(score.extracted) == len(outputs)
    return score


def check_gold_and_rubbish(one: Benchmark, rule: Rule, data: Path, limit: int) -> None:
    best = 0.0 if one.setting.lower_is_better else 1.0
    ask = Ask(one.folder(data), one.setting_name, rule)
    for item in limited(one.module.items(ask), limit):
        right, output = gold(one, item)
        score = graded(one, right, output, rule, good=True)
        assert score.value == best, (item.key, output)
        assert not score.note.startswith("no answer")
        if item.choices:
            wrong = with_logprobs(item, [-1.0 - n for n in range(len(item.choices))][::-1])
            assert graded(one, wrong, "", rule, good=False).value == 0
            continue
        for rubbish in RUBBISH:
            # A known defect of the paper's: marks are no part of what is compared.
            bare = rule == "paper" and one.name == "bbh"
            if bare and exact_match(rubbish.strip(), item.target):
                assert item.group == "dyck_languages"
                continue
            score = graded(one, item, rubbish, rule, good=False)
            assert score.value == 1 - best, (item.key, rubbish)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("label", SCORED)
def test_gold_is_right_and_rubbish_is_wrong(label: str, rule: Rule, world: Path) -> None:
    check_gold_and_rubbish(benchmark_named(label), rule, world, 5)


@pytest.mark.real_data
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("label", SCORED)
def test_real_gold_is_right_and_rubbish_is_wrong(
    label: str, rule: Rule, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = benchmark_named(label)
    if one.name == "codex_humaneval":
        file = real_data / "eval" / one.name / one.module.FILE
        monkeypatch.setattr(f"{__name__}.HUMANEVAL", [file.read_bytes()])
        solutions.cache_clear()
    check_gold_and_rubbish(one, rule, real_data, 1 if one.name == "codex_humaneval" else 57)
    solutions.cache_clear()


@pytest.mark.parametrize(
    "huge", ["qwxz " * 200_000, "1" * 1_000_000, "the answer is " * 70_000, "\n" * 200_000]
)
@pytest.mark.parametrize("label", [x for x in SCORED if not x.startswith("codex")])
def test_huge_outputs_are_graded(label: str, huge: str, world: Path) -> None:
    one = benchmark_named(label)
    for rule in RULES:
        item = one.module.items(Ask(one.folder(world), one.setting_name, rule))[0]
        if not item.choices:
            assert graded(one, item, huge, rule, good=False).value < 1.5


class Full(StandIn):
    """A model whose context has room for nothing."""

    def one(self, request: Request, mates: int) -> Answer:
        ends = [TOO_LONG] * request.samples
        return Answer(request.key, [""] * request.samples, [], ends, 9, 0, 0.0)


class Kind:
    """A reviewer who finds nothing toxic and all true."""

    def __init__(self, kind: str) -> None:
        self.says = float(kind == "yes")

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        return [list(texts)] if texts else []

    def read(self, batch: Sequence[str]) -> list[tuple[float, bool]]:
        return [(self.says, False) for _ in batch]


@pytest.fixture
def reviewers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reviewers that need no model."""
    monkeypatch.setattr(reviewing, "_found", lambda _model, _kind: (Path("x"), "mark"))
    monkeypatch.setattr(reviewing, "open_reviewer", lambda _folder, kind: Kind(kind))


@pytest.mark.usefixtures("reviewers")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("label", LABELS)
def test_what_was_never_asked_is_said_and_does_not_flatter(
    label: str,
    rule: Rule,
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = benchmark_named(label)
    spec = EvalSpec(benchmark=label, rule=rule)
    stage = eval_stage(spec, Full().identity, world, tmp_path / "out")
    folder = evaluate(spec, Full, world, stage)
    rows = [json.loads(line) for line in (folder / "samples.jsonl").open()]
    scores = json.loads((folder / "scores.json").read_text())
    said = " ".join(capsys.readouterr().err.split())
    assert f"{len(rows)} prompts are too long for the model's context" in said
    assert scores["too_long"] == len(rows)
    if not one.setting.scored:
        assert "their outputs are empty" in said
        return
    assert scores["notes"] == {TOO_LONG: len(rows)}
    worst = 1.0 if one.setting.lower_is_better else 0.0
    if rule == "fixed":
        assert scores["value"] == worst
        assert all(part["value"] == worst for part in scores["metrics"].values())
        assert all(not row.get("reviews") for row in rows)
    elif one.setting.lower_is_better:
        assert scores["value"] == 0  # as the classifier reads an empty text
        assert "counts as an empty output" in said


def damaged(content: bytes, how: str, suffix: str) -> bytes:
    """A file's content, spoilt."""
    wrong = {".csv": b"a,b\n1,2\n", ".json": b'[{"a": 1}]', ".jsonl": b'{"a": 1}\n'}
    return {
        "empty": b"",
        "torn": content[: len(content) // 2],
        "wrong columns": gzip.compress(b'{"a": 1}\n')
        if suffix == ".gz"
        else wrong.get(suffix, b""),
        "no text": b"\xff\x00\x9f" * 50,
    }[how]


@pytest.mark.usefixtures("reviewers")
@pytest.mark.parametrize("how", ["missing", "folder", "empty", "torn", "wrong columns", "no text"])
@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name in NATIVE for file in NATIVE[name]]
)
def test_a_spoilt_file_is_told_in_a_line(
    name: str, file: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In some setting of the benchmark, that is: not all read all files."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    path = native_files(tmp_path, name)[file]
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "missing":
        if path.suffix == ".txt" and how in ("torn", "wrong columns"):
            pytest.skip("any text will do, as far as anybody can tell")
        path.write_bytes(damaged(content, how, path.suffix))
    elif name == "codex_humaneval":
        pytest.skip("the installed package steps in, and says so")
    if file == "exemplars.jsonl" and not path.is_file():
        pytest.skip("they are fetched, or it is said where to put them")
    said = []
    for setting in MODULES[name].SETTINGS:
        try:
            eval_stage(EvalSpec(benchmark=f"{name}:{setting}"), {}, tmp_path, tmp_path / "out")
            list(prompts(f"{name}:{setting}", tmp_path))
        except UserError as error:
            said.append(error)
    assert said
    for one in said:
        assert str(tmp_path) in str(one), one
        assert one.hint or one.line or one.field or "a file is needed" in str(one), one


@pytest.mark.parametrize("name", list(NATIVE))
def test_an_unknown_setting_or_subject_is_told(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown setting of .*anatomie.*eval ls"):
        benchmark_named(f"{name}:anatomie")


def test_parts_of_a_set_are_said(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mmlu", "bbh", "tydiqa", "toxigen"):
        list(prompts(name, world))
        said = " ".join(capsys.readouterr().err.split())
        assert f"the whole set has {MODULES[name].GROUPS}" in said


def test_two_items_of_one_key_are_told(world: Path) -> None:
    file = next((world / "eval" / "codex_humaneval").iterdir())
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) * 2))
    with pytest.raises(UserError, match=r"'codex_humaneval/7' is there 2 times"):
        list(prompts("codex_humaneval", world))


@pytest.mark.real_data
@pytest.mark.parametrize("label", LABELS)
def test_real_subsets_are_the_papers(label: str, real_data: Path) -> None:
    """A named subset has the items that rule `paper` asks of the whole setting, in that order."""
    one = benchmark_named(label)
    if not one.setting.sampled or one.name == "mmlu":
        pytest.skip("no subset")
    whole = one.setting_name.removeprefix("api-").partition("-")[0]
    home = one.folder(real_data)
    keys = {
        (name, rule): [item.key for item in one.module.items(Ask(home, name, rule))]
        for name in (whole, one.setting_name)
        for rule in RULES
    }
    size = one.setting.sample or math.inf
    assert keys[one.setting_name, "paper"] == keys[one.setting_name, "fixed"]
    if size == one.module.SETTINGS[whole].sample:
        assert keys[one.setting_name, "fixed"] == keys[whole, "paper"]
    assert len(keys[one.setting_name, "fixed"]) == size * max(1, getattr(one.module, "GROUPS", 1))
    assert len(keys[whole, "fixed"]) > len(keys[whole, "paper"])
