"""TyDi QA, gold passage: questions that people asked in nine languages, with one example.

origin    https://github.com/google-research-datasets/tydiqa (tydiqa-goldp-v1.1-{train,dev}.json)
licence   Apache-2.0
citation  Clark et al., TyDi QA: A Benchmark for Information-Seeking Question Answering, TACL 2020
size      5,077 questions (dev); 113 in Bengali to 921 in Arabic; examples from train
score     F1 of the words of an answer, the best over the gold answers; the mean over languages.
          Exact match is told beside it. (The task's authors leave English out of their mean.)

Prompts are in the question's language; `gold` shows the passage, cut to 512 tokens, `closed` does
not. Answers have at most 50 tokens, which is little where a tokenizer takes several for a letter:
see the count of outputs ended by length. A language without training questions is asked without an
example, which is told and counted.
Settings `…-100` ask the paper's sample by either rule. API models were asked the same in chats, and
of their answers the first line was compared (settings `api-…`, by either rule; those with 20 have
20 questions of each language, as GPT-4 was asked in June 2023). In the chat format outputs are not
ended at a line break.
Rule `paper`: as the paper's code of November 2023. It asks 100 questions of each language; one
stream of random numbers (seed 42) draws them and then the examples, language by language in
alphabetical order. (The code of June 2023 took the languages in an order that changed from run to
run, and ended all answers at a line break.) The whole output is compared, by the SQuAD 1.1 metric:
English articles are dropped in all languages, and only ASCII punctuation is.
Rule `fixed`: all questions; each language draws its example by itself. The first line that is not
empty is compared, without the cue if it is said again. Punctuation and invisible marks of all
scripts are dropped, articles in English only, and letters of two encodings are one (NFC). Words are
what stands between white space, as in the task's own metric: Thai and Japanese, which have none,
are no part of it.
"""

from __future__ import annotations

import random
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.evals.benchmark import Ask, Setting
from cameleer.evals.extract import NO_ANSWER
from cameleer.results.records import Format, Item, Score

STOP: dict[Format, tuple[str, ...]] = {"plain": ("\n",)}
PAPER_SAMPLE = 100
GOLD, CLOSED = (
    Setting(about, "F1", max_new_tokens=50, stop=STOP, macro=True, sample=PAPER_SAMPLE)
    for about in ("the passage is shown", "without the passage")
)
SETTINGS = {
    "gold": GOLD,
    "closed": CLOSED,
    "gold-100": GOLD.subset(PAPER_SAMPLE, " of each language"),
    "closed-100": CLOSED.subset(PAPER_SAMPLE, " of each language"),
    "api-gold": GOLD.subset(PAPER_SAMPLE, " of each language, as API models were asked"),
    "api-closed": CLOSED.subset(PAPER_SAMPLE, " of each language, as API models were asked"),
    "api-gold-20": GOLD.subset(20, " of each language, as GPT-4 was asked in June 2023"),
    "api-closed-20": CLOSED.subset(20, " of each language, as GPT-4 was asked in June 2023"),
}
API = "api-"
GROUPS = 9
DEV, TRAIN = "tydiqa-goldp-v1.1-dev.json", "tydiqa-goldp-v1.1-train.json"
NATIVE = (DEV, TRAIN)
PASSAGE_TOKENS = 512
CUT, ANSWER_CUT = "passage cut", "passage cut, no gold answer left"


class Words(NamedTuple):
    """What prompts of a language say: instructions with and without passage, and the three cues."""

    gold: str
    closed: str
    passage: str
    question: str
    answer: str


WORDS = {
    "arabic": Words(
        "أجب على السؤال التالي بناءً على المعلومات في المقطع المعطى.",
        "أجب على السؤال التالي.",
        "المقطع:",
        "السؤال:",
        "الإجابة:",
    ),
    "bengali": Words(
        "প্রদত্ত অধ্যায়ের তথ্যের উপর ভিত্তি করে নিম্নলিখিত প্রশ্নের উত্তর দিন।",
        "নিম্নলিখিত প্রশ্নের উত্তর দিন।",
        "অধ্যায়:",
        "প্রশ্ন:",
        "উত্তর:",
    ),
    "english": Words(
        "Answer the following question based on the information in the given passage.",
        "Answer the following question.",
        "Passage:",
        "Question:",
        "Answer:",
    ),
    "finnish": Words(
        "Vastaa seuraavaan kysymykseen annetun kappaleen tiedon perusteella.",
        "Vastaa seuraavaan kysymykseen.",
        "Kappale:",
        "Kysymys:",
        "Vastaus:",
    ),
    "indonesian": Words(
        "Jawab pertanyaan berikut berdasarkan informasi di bagian yang diberikan.",
        "Jawab pertanyaan berikut.",
        "Bagian:",
        "Pertanyaan:",
        "Jawaban:",
    ),
    "korean": Words(
        "주어진 문단의 정보에 기반하여 다음 질문에 답하십시오.",
        "다음 질문에 답하십시오.",
        "문단:",
        "질문:",
        "답변:",
    ),
    "russian": Words(
        "Ответьте на следующий вопрос на основе информации в данном отрывке.",
        "Ответьте на следующий вопрос.",
        "Отрывок:",
        "Вопрос:",
        "Ответ:",
    ),
    "swahili": Words(
        "Jibu swali lifuatalo kulingana na habari kwenye kifungu kilichotolewa.",
        "Jibu swali lifuatalo.",
        "Kifungu:",
        "Swali:",
        "Jibu:",
    ),
    "telugu": Words(
        "ఇచ్చిన పేరాలోని సమాచారం ఆధారంగా కింది ప్రశ్నకు సమాధానం ఇవ్వండి.",
        "క్రింది ప్రశ్నకు సమాధానం ఇవ్వండి.",
        "పేరా:",
        "ప్రశ్న:",
        "సమాధానం:",
    ),
}


class Question(NamedTuple):
    """A question of the native files; answers are different from each other."""

    key: str
    language: str
    article: str
    passage: str
    question: str
    answers: tuple[str, ...]


def items(ask: Ask) -> list[Item]:
    """The questions, language by language: all, or the paper's 100 of each language."""
    asked = _by_language(rows(ask.data / DEV))
    if ask.grading:
        return [_item(one, "", {}) for questions in asked.values() for one in questions]
    shots = _by_language(rows(ask.data / TRAIN))
    stream = random.Random(42)
    if (size := SETTINGS[ask.setting].drawn(ask)) is not None:
        for language, questions in asked.items():
            if len(questions) > size:
                asked[language] = stream.sample(questions, size)
    found, bare = [], []
    for language, questions in asked.items():
        draw = stream if ask.rule == "paper" else random.Random(f"42 {language}")
        shot = draw.sample(shots[language], 1)[0] if shots.get(language) else None
        bare += [language] if shot is None else []
        found += _asked(questions, shot, ask)
    if bare:
        warn(f"no training questions in {', '.join(bare)}: asked without an example")
    return found


def grade(item: Item, outputs: list[str], ask: Ask) -> Score:
    """F1 and exact match of the answers, each the best over the gold answers."""
    language, gold = language_of(item.key), _gold(item.target)
    if ask.rule == "paper":
        said = [output.strip() for output in outputs]
        if ask.setting.startswith(API):
            said = [one.split("\n")[0].strip() for one in said]
        words = squad_words
    else:
        said = [_first_line(output, language) for output in outputs]

        def words(text: str) -> list[str]:
            return fixed_words(text, language)

    wanted = [words(answer) for answer in gold]
    given = [words(one) for one in said]
    scores = [max(f1(one, answer) for answer in wanted) for one in given]
    equal = [any(one == answer for answer in wanted) for one in given]
    return Score(
        sum(scores) / len(scores),
        list(said),
        {"exact match": sum(equal) / len(equal)},
        note=item.meta.get("cut", "") if any(said) else NO_ANSWER,
    )


def squad_words(text: str) -> list[str]:
    """An answer's words as the SQuAD 1.1 metric compares them."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def fixed_words(text: str, language: str) -> list[str]:
    """An answer's words by rule `fixed`; those of an answer of nothing but marks are its marks."""
    text = unicodedata.normalize("NFC", text).lower()
    words = "".join(sign for sign in text if not _is_mark(sign)).split()
    if language == "english":
        words = [word for word in words if word not in ("a", "an", "the")]
    return words or text.split()


def f1(given: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of the shares of words in common, as the SQuAD metric counts them."""
    common = sum((Counter(given) & Counter(gold)).values())
    return 2 * common / (len(given) + len(gold)) if common else 0.0


def rows(path: Path) -> list[Question]:
    """The questions of a file in SQuAD shape."""
    found = []
    for number, article in enumerate(_list(read_json(path), "data", path)):
        for paragraph in _list(article, "paragraphs", path, number):
            passage = _text(paragraph, "context", path, number)
            # Questions about one article share its facts; training files may lack the title.
            name = article.get("title") or passage[:80]
            for row in _list(paragraph, "qas", path, number):
                key = _text(row, "id", path, number)
                question = _text(row, "question", path, number)
                answers = [
                    _text(one, "text", path, number) for one in _list(row, "answers", path, number)
                ]
                if not answers:
                    raise UserError(f"is empty in record {number}", file=path, field="answers")
                language = key.partition("-")[0]
                if language not in WORDS:
                    hint = f"ids start with one of {', '.join(WORDS)} and a dash"
                    wrong = f"'{key}' names no language in record {number}"
                    raise UserError(wrong, file=path, field="id", hint=hint)
                distinct = tuple(dict.fromkeys(answers))
                found.append(
                    Question(f"tydiqa/{key}", language, str(name), passage, question, distinct)
                )
    return found


def language_of(key: str) -> str:
    """The language that an item's key names."""
    return key.removeprefix("tydiqa/").partition("-")[0]


def _by_language(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Questions in their order, by language in alphabetical order."""
    languages = sorted({one.language for one in questions})
    return {name: [one for one in questions if one.language == name] for name in languages}


def _asked(questions: Sequence[Question], shot: Question | None, ask: Ask) -> list[Item]:
    """One language's questions as they are asked."""
    words = WORDS[questions[0].language]
    head = (words.gold if _shows_passage(ask) else words.closed) + "\n\n"
    if shot is not None:
        passage = ask.cut(shot.passage, PASSAGE_TOKENS) if _shows_passage(ask) else ""
        head += f"{_question(shot, passage, words, ask)}{words.answer} {shot.answers[0]}\n\n"
    found = []
    for one in questions:
        meta: dict[str, Any] = {"dropped_shots": 1} if shot is None else {}
        passage = ask.cut(one.passage, PASSAGE_TOKENS) if _shows_passage(ask) else ""
        if _shows_passage(ask) and passage != one.passage:
            left = any(answer in passage for answer in one.answers)
            meta["cut"] = CUT if left else ANSWER_CUT
        found.append(_item(one, head + _question(one, passage, words, ask), meta))
    return found


def _shows_passage(ask: Ask) -> bool:
    return "gold" in ask.setting


def _question(one: Question, passage: str, words: Words, ask: Ask) -> str:
    """What stands before an answer's cue."""
    shown = f"{words.passage} {passage}\n" if _shows_passage(ask) else ""
    return f"{shown}{words.question} {one.question}\n"


def _item(one: Question, text: str, meta: dict[str, Any]) -> Item:
    cue = WORDS[one.language].answer
    cluster = f"{one.language}/{one.article}"
    return Item(one.key, one.language, text, cue, list(one.answers), meta, cluster=cluster)


def _first_line(output: str, language: str) -> str:
    """The first line that says something, without the cue that opened the answer already."""
    words = WORDS.get(language)
    answer = output.strip().removeprefix(words.answer if words else "").strip()
    return answer.splitlines()[0].strip() if answer else ""


def _is_mark(sign: str) -> bool:
    """Whether a character is punctuation of any script, or none that is seen (joiners, marks)."""
    kind = unicodedata.category(sign)
    return sign in string.punctuation or kind[0] == "P" or kind == "Cf"


def _gold(target: Any) -> list[str]:
    """The gold answers: a text, texts, or the native list of {"text"}."""
    given = target if isinstance(target, list) else [target]
    texts = [one.get("text") if isinstance(one, dict) else one for one in given]
    answers = [one for one in texts if isinstance(one, str)]
    if not answers or len(answers) < len(texts):
        raise UserError("the target is not a text or a list of texts")
    return answers


def _list(value: Any, field: str, path: Path, record: int | None = None) -> list[Any]:
    found = value.get(field) if isinstance(value, dict) else None
    if not isinstance(found, list):
        where = "" if record is None else f" in record {record}"
        raise UserError(f"is missing or not a list{where}", file=path, field=field)
    return found


def _text(row: Any, field: str, path: Path, record: int) -> str:
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise UserError(f"is missing or not text in record {record}", file=path, field=field)
    return value
