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
from tests.human.site import PASSWORD, instances

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


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_enough_on_every_page(open_tab: Open, dark: bool) -> None:
    tab = open_tab(instances(12, practice=True), dark=dark)
    admin = open_tab(role="admin", dark=dark)
    stranger = open_tab(role=None, dark=dark)
    stranger.go("/login")
    stranger.page.fill("[name=name]", "nobody")
    stranger.page.fill("[name=password]", "wrong")
    stranger.press("Enter")
    stranger.page.wait_for_selector("[role=alert]")
    poor = {"login": stranger.page.evaluate(CONTRAST)}
    tab.go("/guidelines")
    poor["guidelines"] = tab.page.evaluate(CONTRAST)
    tab.go("/rate")
    tab.press("q s 1 Enter")
    tab.page.wait_for_url("**/practice/*")
    poor["practice"] = tab.page.evaluate(CONTRAST)
    tab.press("Enter")
    tab.page.wait_for_url("**/rate")
    poor["rate"] = tab.page.evaluate(CONTRAST)
    tab.press("q 1 Enter")
    poor["missing"] = tab.page.evaluate(CONTRAST)
    tab.press("?")
    poor["help"] = tab.page.evaluate(CONTRAST)
    tab.press("Escape")
    for _ in range(2):
        tab.rated()
    poor["saved"] = tab.page.evaluate(CONTRAST)
    admin.go("/admin")
    poor["dashboard"] = admin.page.evaluate(CONTRAST)
    admin.go("/admin/accounts")
    poor["accounts"] = admin.page.evaluate(CONTRAST)
    admin.page.goto(admin.address + "/nowhere")
    poor["error"] = admin.page.evaluate(CONTRAST)
    assert {name: found for name, found in poor.items() if found} == {}


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
def test_real_answers_fit(open_tab: Open, real_data: Path, screenshots: Path) -> None:
    items = real_instances(real_data, 8)
    tabs = [open_tab(items), open_tab(items, viewport={**PHONE, "width": 360})]
    for tab in tabs:
        width = tab.page.viewport_size["width"]
        tab.go("/rate")
        for number in range(8):
            assert tab.page.evaluate("document.scrollingElement.scrollWidth") <= width
            if number < 2:
                picture = screenshots / f"real-{number}-{width}.png"
                tab.page.screenshot(path=picture, full_page=width < 500)
            tab.press("q s 1 Enter")
            tab.page.wait_for_selector("#said[data-kind=saved]") if number < 2 else (
                tab.page.wait_for_load_state()
            )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("wide", [True, False], ids=["desk", "phone"])
def test_pictures_to_be_looked_at(
    open_tab: Open, screenshots: Path, dark: bool, wide: bool
) -> None:
    how: dict[str, Any] = {} if wide else {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    tab = open_tab(instances(40, practice=True), dark=dark, **how)
    admin = open_tab(role="admin", dark=dark, **how)
    stranger = open_tab(role=None, dark=dark, **how)
    made = []

    def picture(of: Tab, name: str) -> None:
        file = (
            screenshots / f"{name}-{'desk' if wide else 'phone'}-{'dark' if dark else 'light'}.png"
        )
        of.page.screenshot(path=file, full_page=True)
        made.append(file)

    stranger.go("/login")
    picture(stranger, "login")
    tab.go("/guidelines")
    picture(tab, "guidelines")
    tab.go("/rate")
    picture(tab, "practice")
    tab.press("q s 1 Enter")
    tab.page.wait_for_url("**/practice/*")
    picture(tab, "feedback")
    tab.press("Enter")
    tab.page.wait_for_url("**/rate")
    tab.press("q s 4")
    picture(tab, "rate")
    tab.press("?")
    picture(tab, "keys")
    tab.press("Escape")
    tab.rated("Enter")
    admin.go("/admin")
    picture(admin, "dashboard")
    admin.go("/admin/accounts")
    admin.page.fill("[name=name]", f"zoe-{PASSWORD.split()[0]}")
    admin.page.click("text=Make account")
    admin.page.wait_for_selector(".link")
    picture(admin, "accounts")
    assert all(file.stat().st_size > 5_000 for file in made)
