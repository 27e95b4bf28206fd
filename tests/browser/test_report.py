"""A study's report in a browser: alone, fit to be read at any width, by keyboard and in print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cameleer.report.page import write_report
from cameleer.results.items_page import REASONS
from tests.browser.test_looks import CONTRAST
from tests.report.conftest import build_study
from tests.report.test_opinions import ratings

pytestmark = pytest.mark.browser

Open = Callable[..., Any]
LOOKS: dict[str, dict[str, Any]] = {
    "desk": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
}
WIDTH = "document.scrollingElement.scrollWidth"
PAPER = 680  # CSS pixels between the margins of A4


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with all that a report can have, names that are long included."""
    folder = tmp_path_factory.mktemp("study")
    build_study(folder, mixtures=("flan", "human-mix", "code"), n=40)
    index = json.loads((folder / "study.json").read_text())
    index["declared"] = {"name": "camels", "data": f"/{'a-long-path/' * 20}"}
    base = {"name": "smollm2-135m", "kind": "base", "licence": "Apache-2.0", "asks": "attribution"}
    (folder / "study.json").write_text(json.dumps(index | {"licences": [base]}))
    return write_report(folder, folder / "report", ratings(30))


@pytest.fixture
def opened(chromium: Any) -> Iterator[Open]:
    """Opens a page; what it asked for and complained of stands in its `asked` and `complaints`."""
    contexts = []

    def open_one(address: str, **look: Any) -> Any:
        contexts.append(chromium.new_context(**look))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
        page.goto(address)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        return page

    yield open_one
    for context in contexts:
        context.close()


def poor(page: Any) -> list[str]:
    """Texts with too little contrast; drawings have a white ground of their own."""
    found: list[str] = page.evaluate(CONTRAST.replace("option')", "option, svg')"))
    return found


@pytest.mark.parametrize("look", LOOKS)
def test_the_report_is_fit_to_be_read(
    look: str, report: Path, opened: Open, screenshots: Path
) -> None:
    page = opened(report.as_uri(), **LOOKS[look])
    page.screenshot(path=screenshots / f"report-{look}.png", full_page=True)
    assert page.asked == [report.as_uri()]
    assert page.complaints == []
    assert page.evaluate(WIDTH) == LOOKS[look]["viewport"]["width"]
    assert poor(page) == []


def test_the_first_tab_leads_to_the_answer_and_focus_is_seen(report: Path, opened: Open) -> None:
    page = opened(report.as_uri(), **LOOKS["desk"])
    for number in range(12):
        page.keyboard.press("Tab")
        style = "getComputedStyle(document.activeElement)"
        assert page.evaluate(f"{style}.outlineStyle") != "none"
        assert page.evaluate(f"parseFloat({style}.outlineWidth)") >= 2
        box = page.evaluate("document.activeElement.getBoundingClientRect().left")
        assert box >= 0
        if number == 0:
            assert page.evaluate("document.activeElement.getAttribute('href')") == "#answer"


def test_nothing_is_cut_in_print(report: Path, opened: Open) -> None:
    page = opened(report.as_uri(), viewport={"width": PAPER, "height": 900})
    page.emulate_media(media="print")
    assert page.evaluate(WIDTH) <= PAPER
    wide = """(most) => [...document.querySelectorAll('table, pre, svg')]
        .filter(one => one.checkVisibility() && one.getBoundingClientRect().right > most + 1)
        .map(one => one.textContent.slice(0, 60))"""
    assert page.evaluate(wide, PAPER) == []
    assert not page.is_visible("nav")


@pytest.mark.parametrize("look", LOOKS)
def test_a_difference_leads_to_the_items_that_flip(
    look: str, report: Path, opened: Open, screenshots: Path
) -> None:
    start = opened(report.as_uri(), **LOOKS[look])
    start.click('a[href*="second=code"][href*="mmlu"]')
    start.wait_for_url("**/items/**")
    address = start.url
    page = opened(address, **LOOKS[look])
    page.screenshot(path=screenshots / f"items-{look}.png", full_page=True)
    assert page.complaints == []
    assert {url.partition("#")[0] for url in page.asked} == {address.partition("#")[0]}
    assert page.evaluate(WIDTH) == LOOKS[look]["viewport"]["width"]
    assert poor(page) == []
    entries = page.evaluate("JSON.parse(document.getElementById('entries').textContent)")
    at = 2  # of the pairs of four models, base and code
    flipped = [one["pairs"][at] for one in entries if one["pairs"][at][0]]
    better = sum(sign > 0 for sign, _ in flipped)
    said = page.inner_text("#count")
    assert said.startswith(f"{len(flipped)} of 40 items: {better} better")
    bit = REASONS.index("output differs")
    differ = sum(one["pairs"][at][1] >> bit & 1 for one in entries)
    assert f"output differs ({differ})" in page.inner_text("#y")


def test_an_answer_leads_to_its_item(report: Path, opened: Open) -> None:
    page = opened(report.as_uri(), **LOOKS["desk"])
    link = page.locator("#items h4 a").last
    key = link.inner_text()
    link.click()
    page.wait_for_url("**/items/**")
    box = page.locator(f'article:has(a:text-is("{key}"))').bounding_box()
    assert 0 <= box["y"] < 900


def test_models_are_exchanged_and_the_reasons_with_them(report: Path, opened: Open) -> None:
    address = (report.parent / "items/gsm-cot.html").as_uri()
    page = opened(f"{address}#first=flan&second=code", **LOOKS["desk"])
    there = page.inner_text("#count"), page.inner_text("#y")
    page.select_option("#first", label="code")  # which is the second: the two change places
    back = page.inner_text("#count"), page.inner_text("#y")
    assert (page.input_value("#first"), page.input_value("#second")) == ("3", "1")
    assert "first=code&second=flan" in page.url

    def counts(text: str) -> dict[str, str]:
        return {part.split()[1]: part.split()[0] for part in text.split(": ")[1].split(", ")}

    one, other = counts(there[0]), counts(back[0])
    assert (one.get("better"), one.get("worse")) == (other.get("worse"), other.get("better"))
    assert one["same"] == other["same"]
    assert sorted(there[1].splitlines()) == sorted(
        back[1].splitlines()
    )  # by name, whoever is first
    page.click("text=show all")
    page.wait_for_function("!location.hash.includes('score=')")
    assert page.input_value("#first") == "3"
