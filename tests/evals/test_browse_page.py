"""The page of samples in a browser: filters, search, addresses; and how long they take."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.evals.browse import compare as compared
from cameleer.evals.browse import entries_of, read, twin_entries
from cameleer.results.items_page import write_page
from cameleer.results.store import Evaluation

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SUBJECTS = ("anatomy", "law", "virology")
SHOTS = "The following are questions.\n\n" + "Question: one and one?\nAnswer: 2\n\n" * 20
CHUNK = 40
Show = Callable[..., dict[str, Any]]

# Appended to a page: does what a user would, and leaves what is seen then as JSON. Each step waits
# for what it set going, such as the pause after a letter typed.
DRIVER = """<script>
const seen = () => ({
  count: document.getElementById("count").textContent,
  items: [...document.querySelectorAll("article")].map(one => one.id.slice(5)),
  heads: [...document.querySelectorAll("article > .head")].map(one => one.textContent),
  marks: [...document.querySelectorAll("article > .head .mark")].map(one => one.textContent),
  search: document.getElementById("search").value,
  hash: location.hash,
  hidden: [...document.querySelectorAll("form label")].filter(one => one.hidden).length,
  more: !document.getElementById("more").hidden,
  top: scrollY,
});
const wait = ms => new Promise(done => setTimeout(done, ms));
const set = async (id, value) => {
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  await wait(300);
};
(async () => {
  const told = {};
  try { STEPS } catch (error) { told.error = String(error); }
  const out = document.createElement("pre");
  out.id = "told";
  out.textContent = JSON.stringify(told);
  document.body.append(out);
})();
</script>"""


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Opens a page in a browser without a window, does the steps, returns what they told."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is here: one of {', '.join(BROWSERS)}")

    def run(page: Path, fragment: str = "", steps: str = "") -> dict[str, Any]:
        driven = page.with_name("driven.html")
        text = page.read_text()
        assert text.count("</body>") == 1
        driver = DRIVER.replace("STEPS", steps or "told.at = seen();")
        driven.write_text(text.replace("</body>", f"{driver}</body>"))
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path / 'profile'}"]
        if "await" in steps:  # the clock runs ahead while nothing happens, and stands otherwise
            command += ["--virtual-time-budget=20000"]
        done = subprocess.run(
            [*command, f"{driven.as_uri()}{fragment}"], capture_output=True, text=True, timeout=120
        )
        found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr[-2000:]
        told: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&amp;", "&"))
        assert "error" not in told, told
        return told

    return run


def row(number: int, score: float, **more: Any) -> dict[str, Any]:
    group = SUBJECTS[number % 3]
    plain: dict[str, Any] = {
        "item": f"mmlu/{group}/{number}",
        "group": group,
        "score": score,
        "extracted": ["A"],
        "target": "B",
        "outputs": [f"it is word{number % 7} <b>bold</b>"],
        "logprobs": [-1.0, -2.0, -3.0, -4.0],
        "finish": ["length" if number % 10 == 0 else "stop"],
        "prompt_tokens": 900,
        "new_tokens": 3,
        "note": "",
        "prompt": f"{SHOTS}Question: number {number}, is it 100% sure?\nAnswer:",
    }
    return plain | more


def evaluation(path: Path, rows: list[dict[str, Any]]) -> Any:
    path.mkdir()
    facts = {"benchmark": "mmlu", "setting": "0-shot", "rule": "fixed", "n": len(rows)}
    value = sum(one["score"] for one in rows) / len(rows)
    (path / "scores.json").write_text(
        json.dumps({**facts, "value": value, "low": 0.0, "high": 1.0})
    )
    (path / "manifest.json").write_text("{}")
    (path / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return read(Evaluation(path))


def page_of(tmp_path: Path, rows: list[dict[str, Any]], *more: list[dict[str, Any]]) -> Path:
    """A page of one evaluation, or of several, told apart by a label."""
    entries: list[Any] = []
    for number, some in enumerate([rows, *more]):
        run = evaluation(tmp_path / f"run{number}", some)
        entries += entries_of(run, list(run.rows), f"mmlu run{number}" if more else "")
    path = tmp_path / "page.html"
    write_page(path, "samples", ["facts"], ["A"], entries)
    return path


def test_what_is_chosen_is_shown_and_stands_in_the_address(show: Show, tmp_path: Path) -> None:
    rows = [row(n, float(n % 4 == 0)) for n in range(120)]
    page = page_of(tmp_path, rows)
    steps = """
      told.first = seen();
      document.getElementById("more").click();
      told.more = seen();
      await set("g", "law");
      told.group = seen();
      await set("w", "right");
      told.right = seen();
      await set("search", "WORD3  bold");
      told.words = seen();
      await set("search", "no such words");
      told.nothing = seen();
      document.querySelector("form button").click();
      await wait(300);
      told.all = seen();
    """
    told = show(page, "", steps)
    keys = [one["item"] for one in rows]
    assert told["first"]["items"] == keys[:CHUNK]
    assert told["first"]["marks"][:2] == ["✓ right", "✗ wrong"]
    assert told["first"]["count"] == "120 of 120 items: 30 right, 90 wrong"
    assert told["first"]["hidden"] == 5  # one model (twice), one benchmark, no notes
    assert told["more"]["items"] == keys[: 2 * CHUNK]
    law = [one for one in rows if one["group"] == "law"]
    assert told["group"]["items"] == [one["item"] for one in law]
    right = [one for one in law if one["score"]]
    assert told["right"]["count"] == f"{len(right)} of 120 items: {len(right)} right"
    some = [one["item"] for one in right if "word3" in one["outputs"][0]]
    assert told["words"]["items"] == some != []
    assert told["words"]["hash"] == "#search=WORD3++bold&group=law&score=right"
    assert told["nothing"]["count"] == "0 of 120 items"
    assert not told["nothing"]["more"]
    assert told["all"] == told["first"] | {"top": told["all"]["top"]}
    # Sent to somebody, the address shows the same; what the page does not have is passed over.
    again = show(page, told["words"]["hash"])["at"]
    assert again == told["words"] | {"top": again["top"]}
    again = show(page, "#score=upside-down&ended=length&x=y")["at"]
    assert again["count"].startswith("12 of 120 items")


def test_an_item_has_an_address_wherever_it_stands(show: Show, tmp_path: Path) -> None:
    rows = [row(n, float(n % 4 == 0)) for n in range(300)]
    page = page_of(tmp_path, rows)
    near = show(page, "#mmlu/law/19")["at"]
    assert near["items"] == [one["item"] for one in rows[:CHUNK]]
    assert near["top"] > 0
    far = show(page, "#mmlu/virology/200")["at"]
    assert far["items"] == ["mmlu/virology/200"]
    steps = """
      const links = [...document.querySelectorAll("a.key")];
      links.find(one => one.textContent.endsWith("/38")).click();
      await wait(300);
      told.clicked = seen();
      location.hash = "#score=right";
      await wait(300);
      told.chosen = seen();
      location.hash = "#mmlu/anatomy/297";
      await wait(300);
      told.far = seen();
      location.hash = "#100%";
      await wait(300);
      told.odd = seen();
    """
    told = show(page, "", steps)
    assert told["clicked"]["hash"] == "#mmlu%2Fvirology%2F38"
    assert told["clicked"]["top"] > 0
    assert told["chosen"]["count"] == "75 of 300 items: 75 right"
    assert told["far"]["items"] == ["mmlu/anatomy/297"]
    assert told["odd"]["count"] == "300 of 300 items: 75 right, 225 wrong"


def test_an_item_that_several_evaluations_have_is_told_apart(show: Show, tmp_path: Path) -> None:
    first = [row(n, 0.0) for n in range(50)]
    page = page_of(tmp_path, first, [row(n, 1.0) for n in range(50)])
    near = show(page, "#mmlu/law/1@mmlu run1")["at"]
    assert near["top"] > 0
    assert len(set(near["items"])) == 2 * CHUNK
    far = show(page, "#mmlu/law/49@mmlu run1")["at"]
    assert far["search"] == "mmlu/law/49"
    assert far["items"] == ["mmlu/law/49", "mmlu/law/49@mmlu run1"]
    assert far["heads"] == ["mmlu/law/49✗ wrongmmlu run0law", "mmlu/law/49✓ rightmmlu run1law"]


def test_flips_of_a_comparison(show: Show, tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [row(n, float(n % 2)) for n in range(60)])
    b = evaluation(
        tmp_path / "b",
        [row(n, float(n % 3 == 0), prompt="Q" * 20 if n == 3 else row(n, 0)["prompt"])
         for n in range(60)],
    )  # fmt: skip
    page = tmp_path / "page.html"
    write_page(page, "A against B", [], ["A", "B"], twin_entries(compared(a, b)))
    steps = """
      told.first = seen();
      const names = [...document.querySelectorAll(".side b")];
      told.names = names.slice(0, 2).map(one => one.textContent);
      told.asked = [...document.querySelectorAll("article")].slice(0, 2)
        .map(one => one.querySelectorAll(".ask").length);
      told.bold = document.querySelectorAll("article b").length
        === 2 * document.querySelectorAll("article").length;
      await set("w", "better");
      told.better = seen();
      await set("w", "flipped");
      await set("y", "prompt differs");
      told.prompt = seen();
    """
    told = show(page, "#score=flipped", steps)
    flips = [n for n in range(60) if (n % 2 == 1) != (n % 3 == 0)]
    better = [n for n in flips if n % 3 == 0]
    worse = len(flips) - len(better)
    counts = f"{len(better)} better, {worse} worse"
    assert told["first"]["count"] == f"{len(flips)} of 60 items: {counts}"
    assert told["names"] == ["A ", "B "]
    assert told["asked"] == [1, 1]
    assert told["bold"]  # a model's "<b>" is text
    assert [int(key.rpartition("/")[2]) for key in told["better"]["items"]] == better
    assert set(told["better"]["marks"]) == {"▲ better"}
    assert told["prompt"]["count"] == "0 of 60 items"  # item 3 was right in both
    steps = "told.at = seen(); told.asked = document.querySelectorAll('.ask').length;"
    told = show(page, "#differs=prompt differs", steps)
    assert told["at"]["items"] == ["mmlu/anatomy/3"]
    assert told["asked"] == 2


def test_all_of_mmlu_is_there_in_a_moment(show: Show, tmp_path: Path) -> None:
    long = "What is the best answer to a question of some length? " * 12
    rows = [row(n, float(n % 4 == 0), prompt=f"{SHOTS}{long}{n}") for n in range(14_042)]
    page = page_of(tmp_path, rows)
    steps = """
      const timed = (name, id, value) => {
        document.getElementById(id).value = value;
        const begun = performance.now();
        chosen();
        told[name] = performance.now() - begun;
        return seen();
      };
      told.group = timed("filtered", "g", "law").count;
      timed("all", "g", "");
      told.found = timed("searched", "search", "word6 14006").items;
      timed("searched again", "search", "word6 1400");
    """
    told = show(page, "", steps)
    assert told["group"] == "4,681 of 14,042 items: 1,170 right, 3,511 wrong"
    assert told["found"] == ["mmlu/virology/14006"]
    times = {name: told[name] for name in ("filtered", "all", "searched", "searched again")}
    assert max(times.values()) < 3000, times  # milliseconds, on a busy machine
