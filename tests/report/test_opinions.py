"""What the page of benchmarks, judges and people says, on its own and within a study's report."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cameleer.report.opinions import answer
from cameleer.report.opinions_page import write_opinions
from cameleer.report.opinions_shown import unique_tokens
from cameleer.report.page import write_report
from cameleer.results.judged import Judged
from cameleer.results.opinions import Opinions, join
from cameleer.results.records import Judgement
from cameleer.results.stats import Items, Run
from tests.report.parsed import Page, require_alone, require_well_formed

EVIL = (
    '<script>alert("x")</script> </pre>&amp; {{ 7 * 7 }} \x1b[31m <img src=http://evil.example/x>'
)
JUDGE = {"flan": 0.3, "dolly": 0.45, "code": 0.7}
PEOPLE = {"flan": 0.75, "dolly": 0.5, "code": 0.3}
TESTS = {"flan": 0.7, "dolly": 0.55, "code": 0.35}


def drawn(name: str, model: str, share: float, n: int) -> list[bool]:
    rng = random.Random(f"{name} {model}")
    return [rng.random() < share for _ in range(n)]


def ratings(n: int = 200, comment: str = "") -> Judged:
    """Simulated: a judge that likes `code`, and two people who like `flan`."""
    judged = Judged()
    for model in JUDGE:
        for item, won in enumerate(drawn("judge", model, JUDGE[model], n)):
            key = f"alpaca_eval/{item}"
            judged.judgements.append(Judgement(key, "ref", model, 1.0 + won, "gpt", "judge"))
            judged.hear("ref", [(key, f"Question {item}?", f"ref says {item}")])
            judged.hear(model, [(key, "", f"{model} says {item} {EVIL}")])
        for who in ("ann", "bob"):
            for item, won in enumerate(drawn(f"people {who}", model, PEOPLE[model], n)):
                key = f"alpaca_eval/{item}"
                said = Judgement(
                    key, "ref", model, 1.25 + won / 2, who, "human",
                    acceptable=(True, won), comment=comment, b_first=bool(item % 2),
                )  # fmt: skip
                judged.judgements.append(said)
    return judged


def benchmarks(n: int = 300) -> dict[str, list[Run]]:
    def items(model: str, share: float) -> Items:
        return Items({f"gsm/{i}": float(x) for i, x in enumerate(drawn("gsm", model, share, n))})

    return {model: [{"gsm": items(model, share)}] for model, share in TESTS.items()}


@pytest.fixture(scope="module")
def judged() -> Judged:
    return ratings(comment=f"B is longer {EVIL}")


@pytest.fixture(scope="module")
def opinions(judged: Judged) -> Opinions:
    return join(benchmarks(), judged.judgements, None, judged.outputs)


@pytest.fixture(scope="module")
def html(opinions: Opinions, judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> str:
    page = tmp_path_factory.mktemp("page") / "opinions.html"
    return write_opinions(opinions, judged, page).read_text(encoding="utf-8")


def test_the_answer_says_who_is_first_and_who_contradicts_whom(opinions: Opinions) -> None:
    first, contrary, *others = answer(opinions)
    assert first.startswith(
        "Benchmarks and people rank flan first; the judge gpt ranks code first."
    )
    assert "by gpt, code is detectably ahead of" in first
    assert "detectably contradict each other" in contrary
    assert re.search(r"flan above code by benchmarks \(\+\d\d\.\d\) and people \(\+\d\d\.\d\), "
                     r"but code above flan by gpt", contrary)  # fmt: skip
    assert (
        "Too few models to say whether they rank alike: benchmarks and the judge gpt" in others[0]
    )
    assert "over 3 models, which come in the very same order by chance once in 6" in others[0]
    assert (
        "On 600 comparisons that both judged, gpt and people prefer the same answer on"
        in others[-1]
    )


def test_the_page_shows_the_numbers_of_the_table(html: str, opinions: Opinions) -> None:
    shown = re.findall(r'<span class="value">([^<]+)</span>', html)
    expected = []
    for model in opinions.models:
        for measure in opinions.measures:
            value = measure.value(model)
            expected.append("–" if value is None else f"{100 * value:.1f}")
            if measure.adjusted:
                own = measure.adjusted.get(model)
                expected.append(f"{100 * own.value:.1f}" if own else "50.0")
        accepted = opinions.accepted[model]
        expected.append(f"{100 * accepted.value:.1f}")
    assert shown == expected


def test_disputes_are_shown_with_both_answers_and_what_was_said(html: str) -> None:
    disputes = re.findall(r'<details class="dispute">.*?</details>', html, re.DOTALL)
    assert len(disputes) == 20
    one = Page(disputes[0]).text
    assert re.search(r"Question \d+\?", one)
    assert re.search(r"ref says \d+", one)
    assert "slightly prefers" in one
    assert "acceptable" in one
    assert "B is longer" in one
    assert "stood first" in one
    assert "ann" in one
    assert "bob" in one


def test_the_page_stands_alone_and_obeys_no_text(html: str) -> None:
    require_alone(html)
    require_well_formed(html)
    assert "<script" not in html.lower()
    assert "{{ 7 * 7 }}" in Page(html).text
    assert "\x1b" not in html
    assert "⟨ESC⟩" in html


def test_texts_that_are_not_at_hand_are_said_to_be_missing(
    opinions: Opinions, tmp_path: Path
) -> None:
    page = write_opinions(opinions, Judged(), tmp_path / "bare.html").read_text()
    assert page.count("The text is not at hand.") == 20 * 3


def test_a_judge_alone_has_a_page(tmp_path: Path) -> None:
    judged = ratings()
    judged.judgements = [one for one in judged.judgements if one.kind == "judge"]
    found = join({}, judged.judgements)
    page = Page(write_opinions(found, judged, tmp_path / "judge.html").read_text())
    assert "The judge gpt ranks code first." in page.text
    assert "Where judges and people differ" not in page.text
    assert answer(join({}, [])) == ["Nothing here was judged, and nothing has a score."]


def test_win_rates_stand_against_unique_tokens(opinions: Opinions) -> None:
    judged = Judged(outputs={(item, model): " ".join(f"w{n}" for n in range(size))
                             for model, size in (("flan", 5), ("dolly", 20), ("code", 40))
                             for item in ("a", "b")})  # fmt: skip
    drawings = unique_tokens(opinions, judged)
    assert list(drawings) == ["unique-tokens-gpt", "unique-tokens-people"]
    gpt = drawings["unique-tokens-gpt"]
    rate = 100 * opinions.measure("gpt").estimates["dolly"].value
    assert f"dolly 20 and {rate:.1f} %" in gpt.alternative
    assert "ref" not in gpt.alternative  # one half by definition, and nothing to learn from
    assert "of the leaderboard" not in gpt.svg
    assert gpt.caption.startswith("By the judge gpt. ")
    assert unique_tokens(opinions, Judged(outputs={("a", "flan"): "one"})) == {}


def test_judge_and_people_who_share_no_item_are_said_to() -> None:
    judged = ratings()
    told = [
        one if one.kind == "judge" else replace(one, item=f"human/{one.item}")
        for one in judged.judgements
    ]
    text = " ".join(answer(join({}, told)))
    assert "No comparison was judged by a judge and by people" in text


def test_a_studys_report_has_the_section_where_there_are_judgements(
    make_study: Callable[..., Path], tmp_path: Path
) -> None:
    study = make_study(tmp_path, mixtures=("flan", "dolly", "code"), n=60)
    judged = ratings(60)
    html = write_report(study, tmp_path / "report", judged).read_text()
    require_alone(html)
    require_well_formed(html)
    text = Page(html).text
    assert "Benchmarks, judges and people" in text
    assert 'href="#opinions"' in html
    assert "the judge gpt ranks code first" in text
    assert "Win rates and unique tokens" in text
    files = {path.name for path in (tmp_path / "report/figures").iterdir()}
    assert {f"unique-tokens-{name}.{form}" for name in ("gpt", "people")
            for form in ("svg", "png")} <= files  # fmt: skip
    assert "is no model of this study" not in text  # `ref` is what all stood against
    assert (
        "opinions" not in write_report(study, tmp_path / "plain").read_text().split("</style>")[1]
    )


def test_other_names_are_joined_if_told_and_said_if_not(
    make_study: Callable[..., Path], tmp_path: Path
) -> None:
    study = make_study(tmp_path, mixtures=("flan", "dolly"), n=40)
    judged = ratings(40)
    text = Page(write_report(study, tmp_path / "report", judged).read_text()).text
    assert "code was judged, and is no model of this study" in text
    assert "--same 'code=NAME'" in text
    joined = write_report(study, tmp_path / "joined", judged, {"code": "base, untuned"})
    text = Page(joined.read_text()).text
    assert "is no model of this study" not in text


def test_importing_the_page_loads_nothing_heavy() -> None:
    code = "import sys, cameleer.report.opinions_page; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"altair", "scipy", "torch", "vl_convert", "jinja2", "cameleer.human", "cameleer.evals"}
    assert not heavy & set(done.stdout.split())
