"""How the pages look: contrast, nothing that jumps or runs over the edge, pictures to look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cameleer.human.campaign import Instance
from tests.browser.conftest import PHONE, Tab
from tests.human.site import instances

pytestmark = pytest.mark.browser

Open = Callable[..., Tab]

# For each text that is seen: its colour on the colour behind it, by WCAG 2.2 (1.4.3).
CONTRAST = """() => {
  const parse = (colour) => { const n = colour.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => [r, g, b].map((c) => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; })
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const behind = (one) => { for (; one; one = one.parentElement) { const c = parse(getComputedStyle(one).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const poor = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].filter((n) => n.nodeType === 3 && n.data.trim()).map((n) => n.data.trim()).join(' ');
    const style = getComputedStyle(one);
    if (!own || !one.checkVisibility({opacityProperty: true, visibilityProperty: true}) || one.closest('.unseen, .skip, option')) continue;
    const back = behind(one), colour = parse(style.color);
    colour[3] *= Number(style.opacity);
    const [a, b] = [light(over(colour, back)), light(back)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${own.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""  # noqa: E501


@pytest.mark.parametrize(
    ("wide", "dark"), [(True, False), (True, True), (False, True)], ids=["desk", "dark", "phone"]
)
def test_every_page_is_fit_to_be_read(
    open_tab: Open, screenshots: Path, wide: bool, dark: bool
) -> None:
    """Contrast, and nothing over the edge; the pictures are there to be looked at."""
    how: dict[str, Any] = {} if wide else {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    items = instances(12, practice=True)
    tab, admin = open_tab(items, dark=dark, **how), open_tab(role="admin", dark=dark, **how)
    stranger = open_tab(role=None, dark=dark, **how)
    poor, wider = {}, {}

    def look(of: Tab, name: str) -> None:
        kind = f"{'desk' if wide else 'phone'}-{'dark' if dark else 'light'}"
        of.page.screenshot(path=screenshots / f"{name}-{kind}.png", full_page=True)
        if found := of.page.evaluate(CONTRAST):
            poor[name] = found
        if (width := of.page.evaluate("document.scrollingElement.scrollWidth")) > (
            of.page.viewport_size["width"]
        ):
            wider[name] = width

    stranger.go("/login")
    stranger.page.fill("[name=name]", "nobody")
    stranger.page.fill("[name=password]", "wrong")
    stranger.press("Enter")
    stranger.page.wait_for_selector("[role=alert]")
    look(stranger, "login")
    tab.go("/guidelines")
    look(tab, "guidelines")
    tab.go("/rate")
    tab.press("w a 5 Enter")
    tab.page.wait_for_selector("a.main:focus")
    look(tab, "feedback")
    tab.press("Enter")
    tab.page.wait_for_url("**/rate")
    tab.press("q 1 Enter")
    look(tab, "rate")
    tab.press("?")
    look(tab, "keys")
    tab.press("Escape s")
    tab.rated("Enter")
    tab.go("/pause")
    look(tab, "pause")
    admin.go("/admin")
    look(admin, "dashboard")
    admin.go("/admin/accounts")
    admin.page.fill("[name=name]", "zoe")
    admin.page.click("text=Make account")
    admin.page.wait_for_selector(".link")
    look(admin, "accounts")
    admin.go("/nowhere")
    look(admin, "error")
    assert (poor, wider) == ({}, {})


def test_nothing_jumps(open_tab: Open) -> None:
    tab = open_tab()
    tab.page.add_init_script(
        "window.shifts = []; new PerformanceObserver((list) => {"
        " for (const one of list.getEntries()) window.shifts.push(one.value); })"
        ".observe({type: 'layout-shift', buffered: true});"
    )
    tab.go("/rate")
    tab.press("n")
    tab.page.keyboard.type("a comment")
    tab.press("Escape q s 1 Enter")
    tab.page.wait_for_selector("#said[data-kind=saved]")
    tab.page.wait_for_timeout(200)
    # Shifts within half a second of a key are not counted by browsers: sizes are compared too.
    assert sum(tab.page.evaluate("window.shifts")) < 0.01
    box = tab.page.locator("#rating").bounding_box()
    tab.press("q w a s 1 2 3 x c z")
    assert tab.page.locator("#rating").bounding_box() == box


def test_focus_is_seen(open_tab: Open) -> None:
    tab = open_tab()
    page = tab.go("/rate")
    for _ in range(10):
        tab.press("Tab")
        width = page.evaluate(
            "(() => { const one = document.activeElement, drawn = one.type === 'radio'"
            " ? one.nextElementSibling : one, style = getComputedStyle(drawn);"
            " return parseFloat(style.outlineWidth) * (style.outlineStyle !== 'none'); })()"
        )
        assert width >= 2


def real_instances(folder: Path, count: int) -> list[Instance]:
    """Of the paper's pairs: the longest, and those with code and tables."""
    file = folder / "eval" / "human_eval" / "eval_instances_tulu_1.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    made = []
    for row in rows:
        first, second = row["completions"]
        texts = first["completion"], second["completion"]
        models = first["model"], second["model"]
        made.append(Instance(0, row["id"], row["prompt"], *models, *texts))

    def worth(one: Instance) -> int:
        said = one.prompt + one.completion_a + one.completion_b
        return len(said) + 4000 * said.count("```") + 400 * said.count("|")

    chosen = sorted(made, key=worth, reverse=True)[: count // 2] + made[: count - count // 2]
    return [replace(one, index=index) for index, one in enumerate(chosen)]


@pytest.mark.real_data
@pytest.mark.parametrize("width", [360, 1280])
def test_real_answers_fit(open_tab: Open, real_data: Path, screenshots: Path, width: int) -> None:
    tab = open_tab(real_instances(real_data, 6), viewport={"width": width, "height": 900})
    tab.go("/rate")
    for number in range(6):
        assert tab.page.evaluate("document.scrollingElement.scrollWidth") <= width
        tab.page.screenshot(path=screenshots / f"real-{number}-{width}.png", full_page=True)
        tab.rated()
    assert tab.complaints == []
