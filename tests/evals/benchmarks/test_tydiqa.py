"""TyDi QA's prompts against the paper's algorithm told again, its samples, and the two metrics."""

from __future__ import annotations

import copy
import json
import random
import re
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.engines.lengths import Lengths
from cameleer.evals.asking import prompts
from cameleer.evals.benchmark import Ask
from cameleer.evals.benchmarks import tydiqa
from cameleer.evals.recorded import grade as grade_file
from cameleer.model.load import load_tokenizer
from cameleer.results.records import Format, Item, Rule


def article(key: str, question: str, passage: str, *answers: str, **more: Any) -> dict[str, Any]:
    found = [{"text": answer, "answer_start": passage.find(answer)} for answer in answers]
    row = {"id": key, "question": question, "answers": found}
    return {"paragraphs": [{"context": passage, "qas": [row]}]} | more


def write(folder: Path, dev: Sequence[Any], train: Sequence[Any]) -> None:
    for name, rows in ((tydiqa.DEV, dev), (tydiqa.TRAIN, train)):
        (folder / name).write_text(json.dumps({"data": rows, "version": "x"}), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    dev = [
        article("russian-9-0", "Кто?", "Это был Иван.", "Иван", "Иван"),
        article("english-7-1", "Who?", "It was Ann\nof York.", "Ann", title="York"),
        article("english-8-0", "Where?", "In the tower of York.", "the tower", title="York"),
    ]
    write(tmp_path, dev, [article("english-1-0", "When?", "In 1066 or so.", "1066", "1066 or so")])
    return tmp_path


def found(data: Path, setting: str, rule: Rule, form: Format, cut: Any = None) -> dict[str, str]:
    rows = prompts(f"tydiqa:{setting}", data, rule, form, cut=cut)
    return {row["item"]: row["prompt"] for row in rows}


@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_prompts(data: Path, rule: Rule, capsys: pytest.CaptureFixture[str]) -> None:
    gold = (
        "Answer the following question based on the information in the given passage.\n\n"
        "Passage: In 1066 or so.\nQuestion: When?\nAnswer: 1066\n\n"
        "Passage: It was Ann\nof York.\nQuestion: Who?\n"
    )
    got = found(data, "gold", rule, "plain")
    assert list(got) == ["tydiqa/english-7-1", "tydiqa/english-8-0", "tydiqa/russian-9-0"]
    assert got["tydiqa/english-7-1"] == f"{gold}Answer:"
    assert got["tydiqa/russian-9-0"] == (
        "Ответьте на следующий вопрос на основе информации в данном отрывке.\n\n"
        "Отрывок: Это был Иван.\nВопрос: Кто?\nОтвет:"
    )
    assert "no training questions in russian" in " ".join(capsys.readouterr().err.split())
    chat = found(data, "gold", rule, "chat")["tydiqa/english-7-1"]
    assert chat == f"<|user|>\n{gold}\n<|assistant|>\nAnswer:"
    closed = found(data, "closed", rule, "plain")["tydiqa/english-7-1"]
    assert closed == (
        "Answer the following question.\n\nQuestion: When?\nAnswer: 1066\n\nQuestion: Who?\nAnswer:"
    )


def test_items(data: Path) -> None:
    for rule in ("paper", "fixed"):
        one, two, other = tydiqa.items(Ask(data, "closed", rule))
        assert (one.group, one.cue, one.target, one.meta) == ("english", "Answer:", ["Ann"], {})
        assert one.cluster == two.cluster != other.cluster
        assert (other.target, other.meta) == (["Иван"], {"dropped_shots": 1})
    graded = tydiqa.items(Ask(data, "gold", grading=True))
    assert [item.key for item in graded] == [one.key, two.key, other.key]


def test_passages_are_cut(data: Path) -> None:
    def cut(text: str, tokens: int) -> str:
        assert tokens == 512
        return text[:10]

    one, two, other = tydiqa.items(Ask(data, "gold", cut=cut))
    assert "Passage: In 1066 or\n" in one.text  # the example's passage, too
    assert one.text.endswith("Passage: It was Ann\nQuestion: Who?\n")
    ask = Ask(data, "gold")
    assert tydiqa.grade(one, ["Ann"], ask).note == "passage cut"
    assert tydiqa.grade(two, ["Ann"], ask).note == "passage cut, no gold answer left"
    assert tydiqa.grade(two, [" "], ask).note == "no answer found"
    assert "Отрывок: Это был Ив\n" in other.text
    closed = tydiqa.items(Ask(data, "closed", cut=cut))
    assert not any("cut" in item.meta for item in closed)


def many(languages: dict[str, int], rows: int) -> list[Any]:
    return [
        article(f"{name}-{n}-0", f"{name} {n}?", f"p {n}", f"p {n}")
        for n in range(rows)
        for name, count in languages.items()
        if n < count
    ]


def test_samples_and_examples(tmp_path: Path) -> None:
    counts = {"swahili": 120, "english": 130, "korean": 100}
    write(tmp_path, many(counts, 130), many({"korean": 20, "english": 30, "swahili": 40}, 40))
    draw = random.Random(42)
    english, swahili = draw.sample(range(130), 100), draw.sample(range(120), 100)
    shots = {name: draw.sample(range(n), 1)[0] for name, n in (("english", 30), ("korean", 20))}
    shots["swahili"] = draw.sample(range(40), 1)[0]
    items = tydiqa.items(Ask(tmp_path, "gold", "paper"))
    assert [item.key for item in items] == [
        *(f"tydiqa/english-{n}-0" for n in english),
        *(f"tydiqa/korean-{n}-0" for n in range(100)),
        *(f"tydiqa/swahili-{n}-0" for n in swahili),
    ]
    assert all(f" {item.group} {shots[item.group]}?\n" in item.text for item in items)

    whole = {item.key: item.text for item in tydiqa.items(Ask(tmp_path, "gold"))}
    assert len(whole) == 350
    write(tmp_path, many({"english": 130}, 130), many({"english": 30}, 30))
    alone = tydiqa.items(Ask(tmp_path, "gold"))  # other languages change nothing
    assert all(whole[item.key] == item.text for item in alone)


def squad(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of the SQuAD 1.1 metric, told again."""

    def normal(text: str) -> str:
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    def overlap(answer: str) -> float:
        one, two = normal(prediction).split(), normal(answer).split()
        same = sum((Counter(one) & Counter(two)).values())
        if same == 0:
            return 0
        precision, recall = same / len(one), same / len(two)
        return 2 * precision * recall / (precision + recall)

    equal = any(normal(prediction) == normal(answer) for answer in answers)
    return float(equal), max(map(overlap, answers))


def score(
    rule: Rule, output: str, target: object, language: str = "english"
) -> tuple[float, float]:
    item = Item(f"tydiqa/{language}-1-0", language, "", "", target)
    graded = tydiqa.grade(item, [output], Ask(Path(), "gold", rule))
    return graded.values["exact match"], graded.value


WORD = st.sampled_from(["the", "a", "Cat", "cat,", "of", "—", "1066", "अंक", "a-b", "\n", "."])
TEXT = st.lists(WORD, max_size=6).map(" ".join)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_the_paper_compares_as_squad_does(output: str, answers: list[str]) -> None:
    wanted = squad(output.strip(), answers)
    assert score("paper", output, answers) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("language", "target", "output", "paper", "fixed"),
    [
        ("english", ["the tower"], "Tower.", 1, 1),
        ("english", ["Ann", "Ann of York"], "Ann of York", 1, 1),
        ("english", ["Ann of York"], "York", 0.5, 0.5),
        ("english", ["Ann"], " Answer: Ann\nPassage: more", 0.4, 1),
        ("english", ["Ann"], "", 0, 0),
        ("english", ["The The"], "The The", 0, 1),
        ("swahili", ["a b"], "b", 1, 2 / 3),
        ("arabic", ["1066"], "1066؟", 0, 1),
        ("korean", ["서울"], "“서울”", 0, 1),
        ("bengali", ["অধ্যা\u09df"], "অধ্যা\u09af\u09bc।", 0, 1),
        ("telugu", ["పేరా"], "పే\u200cరా", 0, 1),
        ("finnish", ["1918–1920"], "1918-1920", 0, 1),
    ],
)
def test_f1(language: str, target: list[str], output: str, paper: float, fixed: float) -> None:
    assert score("paper", output, target, language)[1] == pytest.approx(paper)
    assert score("fixed", output, target, language)[1] == pytest.approx(fixed)


def test_of_api_models_the_first_line_is_compared(data: Path) -> None:
    item = Item("tydiqa/english-1-0", "english", "", "", ["Ann"])
    for rule in ("paper", "fixed"):
        for setting, value in (("gold", 2 / 3 if rule == "paper" else 1), ("api-gold", 1)):
            graded = tydiqa.grade(item, ["\n Ann \nthen"], Ask(data, setting, rule))
            assert graded.value == pytest.approx(value)
    plain = tydiqa.items(Ask(data, "closed", "paper"))
    assert tydiqa.items(Ask(data, "api-closed-20", "paper")) == plain


def test_recorded_outputs(data: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    rows = [
        {"item": "tydiqa/english-8-0", "output": "a tower\nof"},
        {"item": "tydiqa/swahili-8-0", "output": "b", "target": "b"},
        {"item": "tydiqa/swahili-8-0", "output": "b", "target": [{"text": "c"}, {"text": "b"}]},
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    graded = list(grade_file("tydiqa", answers, data))
    assert [(row["extracted"], row["score"]) for row in graded] == [("a tower", 1), *[("b", 1)] * 2]
    paper = list(grade_file("tydiqa:closed", answers, data, "paper"))
    assert paper[0]["score"] == pytest.approx(2 / 3)
    answers.write_text('{"item": "tydiqa/english-8-0", "output": "x", "target": []}\n')
    with pytest.raises(UserError, match=r"answers\.jsonl:1: .*list of texts"):
        list(grade_file("tydiqa", answers, data))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (article("english-1-0", "Q?", "p"), "field 'answers'.*empty in record 1"),
        (article("klingon-1-0", "Q?", "p", "p"), "field 'id'.*klingon-1-0"),
        ({"paragraphs": [{"qas": []}]}, "field 'context'.*record 1"),
        ({}, "field 'paragraphs'.*not a list in record 1"),
    ],
)
def test_broken_rows_are_named(row: dict[str, Any], said: str, data: Path) -> None:
    write(data, [article("english-1-0", "Q?", "p", "p"), row], [])
    with pytest.raises(UserError, match=rf"dev\.json.*{said}"):
        tydiqa.items(Ask(data, "gold"))
    (data / tydiqa.TRAIN).unlink()
    write_dev = json.dumps({"data": []})
    (data / tydiqa.DEV).write_text(write_dev)
    with pytest.raises(UserError, match=r"train\.json: no such file"):
        tydiqa.items(Ask(data, "gold"))


def native(path: Path) -> list[dict[str, Any]]:
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [
        row | {"lang": row["id"].split("-")[0], "context": paragraph["context"]}
        for one in data
        for paragraph in one["paragraphs"]
        for row in paragraph["qas"]
    ]


def paper_prompts(
    folder: Path, closed: bool, chat: bool, tokenizer: Any = None, most: int = 100
) -> tuple[dict[str, str], int]:
    """The paper's algorithm told again, and how many contexts it cuts, examples' among them.

    A language without training rows has no example. Without a tokenizer nothing is cut.
    """
    rows, train = native(folder / tydiqa.DEV), native(folder / tydiqa.TRAIN)
    cut = 0
    languages = sorted({row["lang"] for row in rows})
    random.seed(42)
    asked = {}
    for name in languages:
        own = [row for row in rows if row["lang"] == name]
        asked[name] = random.sample(own, most) if len(own) > most else own
    texts = {}
    for name in languages:
        own = [row for row in train if row["lang"] == name]
        shots = random.sample(own, 1) if own else []
        for row in [*asked[name], *shots] if tokenizer and not closed else []:
            tokens = tokenizer.encode(row["context"])
            if len(tokens) > 512:
                cut += 1
                row["context"] = tokenizer.decode(tokens[:512])
        words = tydiqa.WORDS[name]
        p, q, a = words.passage, words.question, words.answer

        def one(row: dict[str, Any], p: str = p, q: str = q) -> str:
            shown = "" if closed else p + " " + row["context"] + "\n"
            return f"{shown}{q} {row['question']}\n"

        head = (words.closed if closed else words.gold) + "\n\n"
        for shot in shots:
            head += one(shot) + a + " " + shot["answers"][0]["text"] + "\n\n"
        for row in asked[name]:
            text = head + one(row)
            text = "<|user|>\n" + text + "\n<|assistant|>\n" if chat else text
            texts["tydiqa/" + row["id"]] = text + a
    return texts, cut


@pytest.fixture(scope="session")
def opening_tokenizer(tiny_tokenizer: Any) -> Any:
    """A tokenizer that puts <s> before every text, as LLaMA's does; most passages are too long."""
    from tokenizers.processors import TemplateProcessing

    opening = copy.deepcopy(tiny_tokenizer)
    opening.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return opening


@pytest.mark.real_data
@pytest.mark.parametrize("form", ["chat", "plain"])
@pytest.mark.parametrize("setting", ["gold", "closed"])
def test_real_prompts_are_the_papers(real_data: Path, setting: str, form: Format) -> None:
    home = real_data / "eval" / "tydiqa"
    wanted, _ = paper_prompts(home, setting == "closed", form == "chat")
    assert len(wanted) == 900
    assert list(found(real_data, setting, "paper", form).items()) == list(wanted.items())
    wanted, _ = paper_prompts(home, setting == "closed", form == "chat", most=20)
    assert len(wanted) == 180
    got = found(real_data, f"api-{setting}-20", "paper", form)
    assert list(got.items()) == list(wanted.items())


@pytest.mark.real_data
@pytest.mark.embedded
@pytest.mark.parametrize("form", ["chat", "plain"])
@pytest.mark.parametrize("setting", ["gold", "closed"])
@pytest.mark.parametrize("kind", ["embedded", "opening"])
def test_real_passages_are_cut_as_the_paper_cut_them(
    real_data: Path, setting: str, form: Format, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "embedded":
        tokenizer = load_tokenizer(str(request.getfixturevalue("embedded_model")))
    else:
        tokenizer = request.getfixturevalue("opening_tokenizer")
    home = real_data / "eval" / "tydiqa"
    wanted, cut = paper_prompts(home, setting == "closed", form == "chat", tokenizer)
    lengths = Lengths(tokenizer)
    got = found(real_data, setting, "paper", form, lengths.cut)
    assert list(got.items()) == list(wanted.items())
    assert len(wanted) == 900
    stray = sum("<s>" in prompt for prompt in got.values())
    told = {("embedded", "gold"): (277, 0), ("opening", "gold"): (539, 586)}
    assert (cut, stray) == told.get((kind, setting), (0, 0))


@pytest.mark.real_data
def test_the_mended_cut_has_no_stray_token(real_data: Path, opening_tokenizer: Any) -> None:
    lengths = Lengths(opening_tokenizer)
    ask = Ask(
        real_data / "eval" / "tydiqa",
        "gold-100",
        cut=lambda text, tokens: lengths.cut(text, tokens, "fixed"),
    )
    passages = {one.key: one.passage for one in tydiqa.rows(ask.data / tydiqa.DEV)}
    items = tydiqa.items(ask)
    assert len(items) == 900
    for item in items:
        assert "<s>" not in item.text
        words = tydiqa.WORDS[item.group]
        question = item.text.rpartition(f"\n{words.question} ")[0]
        shown = question.rpartition(f"{words.passage} ")[2]
        assert passages[item.key].startswith(shown)
        assert lengths.count(shown) <= 512
        assert shown == passages[item.key] or lengths.count(shown) > 500
        assert ("cut" in item.meta) == (shown != passages[item.key])


@pytest.mark.real_data
def test_real_items(real_data: Path) -> None:
    items = tydiqa.items(Ask(real_data / "eval" / "tydiqa", "gold"))
    assert len({item.key for item in items}) == 5077
    assert Counter(item.group for item in items)["bengali"] == 113
    assert {item.group for item in items if item.meta} == {
        "arabic", "bengali", "indonesian", "russian", "telugu"
    }  # fmt: skip
    sizes = Counter(item.cluster for item in items)
    assert 3999 <= len(sizes) < len(items)


@pytest.mark.real_data
def test_real_gold_answers_grade_themselves(real_data: Path) -> None:
    """Every gold answer, in both rules; other punctuation of the script costs by rule `paper`."""
    ask = {
        rule: Ask(real_data / "eval" / "tydiqa", "gold", rule, grading=True)
        for rule in ("paper", "fixed")
    }
    lost: Counter[str] = Counter()
    for item in tydiqa.items(ask["fixed"]):
        for answer in item.target:
            for rule in ask:
                graded = tydiqa.grade(item, [f" {answer}"], ask[rule])
                assert (graded.value, graded.values["exact match"]) == (1, 1), (rule, answer)
            quoted = f"«{answer}»"
            assert tydiqa.grade(item, [quoted], ask["fixed"]).value == 1
            lost[item.group] += tydiqa.grade(item, [quoted], ask["paper"]).value < 1
    assert all(lost[name] > 100 for name in tydiqa.WORDS)
