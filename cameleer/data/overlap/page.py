"""One page to read matches on: test item and training text side by side, shared words marked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from cameleer.data.overlap.probes import KINDS, ItemText
from cameleer.data.overlap.search import Match
from cameleer.data.overlap.shingles import spans, words

RUN = 3  # words in a row that both texts have are marked


class Shown(NamedTuple):
    """A match, and the item that it is of."""

    match: Match
    item: ItemText


def page(facts: dict[str, Any], shown: Sequence[Shown]) -> str:
    """A self-contained page; texts are escaped, nothing is loaded from elsewhere.

    facts: what `summary.json` holds, duplicates only if they were looked for; shown: the matches
    to read, in any order.
    """
    ordered = sorted(shown, key=lambda one: one.match.strength, reverse=True)
    benchmarks = [name for name, fact in facts["benchmarks"].items() if fact["touched"]]
    options = {
        "benchmark": "".join(f"<option>{escape(name)}" for name in benchmarks),
        "kind": "".join(f"<option>{kind}" for kind in KINDS),
    }
    many = f"{len(shown)} of {facts['matches']} matches"
    return (
        PAGE.replace("{{benchmarks}}", options["benchmark"])
        .replace("{{kinds}}", options["kind"])
        .replace("{{many}}", many)
        .replace("{{tables}}", _tables(facts))
        .replace("{{matches}}", "\n".join(_article(n, one) for n, one in enumerate(ordered, 1)))
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    top = "".join(f'<th scope="col">{escape(str(cell))}' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}'
        + "".join(f"<td>{_number(cell)}" for cell in row[1:])
        for row in rows
    )
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}<tbody>{body}</table></div>\n"
    )


def _tables(facts: dict[str, Any]) -> str:
    found = _by_kind(facts) + _by_source(facts) + _limits(facts)
    return found + (_repeats(facts["duplicates"]) if "duplicates" in facts else "")


def _number(cell: Any) -> str:
    if isinstance(cell, int):
        return f"{cell:,}" if cell else '<span class="none">0</span>'
    return escape(str(cell))


def _by_kind(facts: dict[str, Any]) -> str:
    rows = [
        [name, fact["items"], fact["touched"], f"{fact['touched'] / max(1, fact['items']):.2%}",
         fact["answer_seen"], *fact["kinds"].values()]
        for name, fact in facts["benchmarks"].items()
    ]  # fmt: skip
    head = ["benchmark", "items", "touched", "share", "answer seen too", *KINDS]
    return _table("Test items found in the data, by their strongest match", head, rows)


def _by_source(facts: dict[str, Any]) -> str:
    benchmarks = facts["benchmarks"]
    sources = sorted({source for fact in benchmarks.values() for source in fact["sources"]})
    if not sources:
        return "<p>No test item was found.</p>\n"
    rows = [
        [name, *(fact["sources"].get(source, 0) for source in sources)]
        for name, fact in benchmarks.items()
    ]
    return _table("Items touched, by the source they were found in", ["benchmark", *sources], rows)


def _limits(facts: dict[str, Any]) -> str:
    """What of each benchmark can be searched for only in part."""
    names = {
        "under_5_words": "under 5 words: whole lines only",
        "under_8_words": "under 8: only exact",
        "under_13_words": "under 13: no 13-gram",
        "with_context": "asked with context",
        "told_by_signs": "told apart by signs: only exact",
        "without_words": "without words: not searched",
        "13-gram_common": "13-grams left out as common",
        "8-gram_common": "8-grams",
    }
    rows = []
    for name, fact in facts["benchmarks"].items():
        limits = fact["limits"]
        cells: list[Any] = [limits[key] for key in list(names)[:-2]]
        for kind in ("13-gram", "8-gram"):
            left = f"{limits[f'{kind}_common'] / max(1, limits[f'{kind}_runs']):.0%}"
            cells.append(f"{limits[f'{kind}_common']:,} ({left})")
        rows.append([name, *cells])
    return _table("How far items can be searched for", ["benchmark", *names.values()], rows)


def _repeats(facts: dict[str, Any]) -> str:
    rows = [
        [f"{pair['kept']} → {pair['repeats']}", pair["kind"], pair["conversations"]]
        for pair in facts["pairs"]
    ]
    if not rows:
        return "<p>No conversation repeats another.</p>\n"
    caption = f"Conversations of the second source that repeat one of the first ({facts['by']})"
    return _table(caption, ["sources", "kind", "conversations"], rows)


def _article(number: int, shown: Shown) -> str:
    match, item = shown
    begin = match.start - match.text_start
    end = begin + match.end - match.start
    before, found, after = match.text[:begin], match.text[begin:end], match.text[end:]
    left, right = marked(item.question, found)
    answer = {True: "answer seen too", False: "answer not seen", None: "no answer to look for"}
    tags = [match.kind, f"{match.share:.0%}", match.source, answer[match.answer_seen]]
    where = f"{match.conversation} · message {match.message} ({match.role}) · from {match.start}"
    beside = "".join(
        f'<p class="beside"><b>{name}</b> <span dir="auto">{escape(_cut(text))}</span>'
        for name, text in (("context", item.context), ("answer", " | ".join(item.answers)))
        if text
    )
    return (
        f'<article id="m{number}" tabindex="-1" data-benchmark="{escape(match.benchmark)}" '
        f'data-kind="{escape(match.kind)}"><h3><a href="#m{number}">{number}</a> '
        f"{escape(match.item)} "
        + "".join(f'<span class="tag">{escape(tag)}</span> ' for tag in tags)
        + '</h3>\n<div class="two"><section><h4>test item</h4>'
        f'<pre dir="auto">{left}</pre>{beside}</section>\n'
        f"<section><h4>{escape(where)}</h4>"
        f'<pre dir="auto"><span class="around">{"…" if match.text_start else ""}{escape(before)}'
        f'</span>{right}<span class="around">{escape(after)}</span></pre></section></div></article>'
    )


def _cut(text: str, most: int = 600) -> str:
    return text if len(text) <= most else text[:most] + " …"


def marked(one: str, other: str) -> tuple[str, str]:
    """Two texts as HTML, the words that stand in both in the same short runs marked."""
    first, second = words(one), words(other)
    n = min(RUN, max(1, len(first)), max(1, len(second)))
    runs = [{tuple(text[i : i + n]) for i in range(len(text) - n + 1)} for text in (first, second)]
    shared = runs[0] & runs[1]
    return _marked(one, first, shared, n), _marked(other, second, shared, n)


def _marked(text: str, listed: list[str], shared: set[tuple[str, ...]], n: int) -> str:
    """The text with <mark> around the words that a shared run covers."""
    covered = [False] * len(listed)
    for index in range(len(listed) - n + 1):
        if tuple(listed[index : index + n]) in shared:
            covered[index : index + n] = [True] * n
    places, html, at, index = spans(text), "", 0, 0
    while index < len(listed):
        last = index
        while last + 1 < len(listed) and covered[last + 1] == covered[index]:
            last += 1
        if covered[index]:
            start, end = places[index][0], places[last][1]
            html += f"{escape(text[at:start])}<mark>{escape(text[start:end])}</mark>"
            at = end
        index = last + 1
    return html + escape(text[at:])


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Overlap of training data and test items</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #5f6670; --line: #d5d9df;
  --mark: #ffe08a; --panel: #f6f7f9; --link: #1f5a8f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --faint: #9aa3ad;
  --line: #343a42; --mark: #6b4e00; --panel: #1b1f24; --link: #8fbfe8; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 84rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
h3 { font-size: .95rem; margin: 0 0 .5rem; font-weight: 600; overflow-wrap: anywhere; }
h4 { font-size: .8rem; margin: 0 0 .3rem; font-weight: 400; color: var(--faint);
  overflow-wrap: anywhere; }
a { color: var(--link); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th[scope=row], th:first-child { text-align: left; }
th { font-weight: 600; } .none { color: var(--faint); }
form { position: sticky; top: 0; background: var(--paper); padding: .6rem 0; display: flex;
  flex-wrap: wrap; gap: .8rem; align-items: center; border-bottom: 1px solid var(--line);
  font-size: .9rem; z-index: 1; }
select, input { font: inherit; color: inherit; background: var(--panel);
  border: 1px solid var(--line); border-radius: 4px; padding: .2rem .4rem; }
kbd { border: 1px solid var(--line); border-radius: 3px; padding: 0 .3rem; font-size: .8rem; }
article { border-bottom: 1px solid var(--line); padding: 1rem .5rem; scroll-margin-top: 3.5rem; }
article[hidden] { display: none; }
article:focus { outline: 2px solid var(--link); outline-offset: -2px; }
.tag { border: 1px solid var(--line); border-radius: 9px; padding: 0 .5rem; font-weight: 400;
  font-size: .8rem; white-space: nowrap; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
@media (max-width: 50rem) { .two { grid-template-columns: 1fr; } }
section { min-width: 0; }
pre { margin: 0; padding: .6rem .8rem; background: var(--panel); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; font: .9rem/1.5 system-ui, sans-serif;
  max-height: 30rem; overflow-y: auto; }
mark { background: var(--mark); color: inherit; border-radius: 2px; }
.around { color: var(--faint); }
.beside { font-size: .85rem; margin: .3rem 0 0; color: var(--faint); white-space: pre-wrap;
  overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Overlap of training data and test items</h1>
{{tables}}
<form>
<label>benchmark <select id="benchmark"><option value="">all{{benchmarks}}</select></label>
<label>kind <select id="kind"><option value="">all{{kinds}}</select></label>
<label>text <input id="text" type="search" size="16"></label>
<output id="count">{{many}}</output>
<span><kbd>j</kbd> next <kbd>k</kbd> previous</span>
</form>
<p>Strongest first. Marked: words that both texts have, three or more in a row. Grey: what stands
around in the training text.</p>
<main>
{{matches}}
</main>
<script>
const all = [...document.querySelectorAll("article")], by = id => document.getElementById(id);
const filters = ["benchmark", "kind", "text"].map(by), many = by("count").textContent;
function choose() {
  const [benchmark, kind, text] = filters.map(f => f.value.toLowerCase());
  for (const a of all)
    a.hidden = (benchmark && a.dataset.benchmark !== benchmark) || (kind && a.dataset.kind !== kind)
      || (text && !a.textContent.toLowerCase().includes(text));
  const left = all.filter(a => !a.hidden).length;
  by("count").textContent = left === all.length ? many : left + " shown of " + many;
}
filters.forEach(f => f.addEventListener("input", choose));
document.forms[0].addEventListener("submit", e => e.preventDefault());
document.addEventListener("keydown", e => {
  if (e.target.matches("input, select") || e.ctrlKey || e.metaKey || e.altKey) return;
  const step = { j: 1, k: -1 }[e.key];
  if (!step) return;
  const seen = all.filter(a => !a.hidden), at = seen.indexOf(document.activeElement);
  const next = seen[at < 0 ? 0 : Math.min(Math.max(at + step, 0), seen.length - 1)];
  if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "start" }); }
});
choose();
</script>
</body>
</html>
"""
