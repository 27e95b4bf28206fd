"""A page about files of conversations: Table 1, what stands out, pictures; needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.drawing import STYLE
from cameleer.core.page import page_template
from cameleer.core.text import visible
from cameleer.data.describe import paper_beside
from cameleer.data.portrait.drawings import cut_drawing, length_drawing, lost_shares
from cameleer.data.portrait.findings import NAMED, findings, share
from cameleer.data.portrait.signs import ABOUT
from cameleer.data.portrait.survey import LIMITS, Survey, mean, quantiles

VERBS, OBJECTS, ROWS, SOURCES = 18, 5, 8, 40  # so many are shown
OTHER = "others"
LONG = 1 << 62
TURNS = (1, 2, 3, 4, 5, 7, 11, 21, 51, LONG)  # messages; groups begin here


def portrait_page(surveys: Sequence[Survey], tokenizer: str) -> str:
    """One self-contained HTML page about the files. tokenizer: its name, to be shown."""
    file = Path(__file__).with_name("page.html.jinja")
    page = page_template(file, visible=visible, share=lambda pair: share(*pair))
    names = short_names([survey.file for survey in surveys])
    return page.render(  # type: ignore[no-any-return]
        version=cameleer.__version__,
        tokenizer=tokenizer,
        style=STYLE,
        table=[table_row(survey) for survey in surveys],
        names=names,
        title=f"{len(names)} files" if len(names) > 3 else ", ".join(names),
        drawings=[length_drawing(surveys, names), cut_drawing(surveys, names)],
        limits=LIMITS,
        named=NAMED,
        files=[_file(survey) for survey in surveys],
        first=surveys[0],
    )


def short_names(files: Sequence[Path]) -> list[str]:
    """A name for each file, as short as tells them apart."""
    stems = [file.stem for file in files]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{number} {file}" for number, file in enumerate(files, 1)]


def table_row(survey: Survey) -> dict[str, Any]:
    """Table 1 of one file from what was counted, as `describe` has it."""
    return {
        "instances": survey.conversations,
        "rounds": mean(survey.messages) / 2,
        "prompt_tokens": mean(survey.lengths["prompt"]),
        "completion_tokens": mean(survey.lengths["completion"]),
        **paper_beside(survey.sources),
    }


def facts(survey: Survey) -> dict[str, Any]:
    """What was counted of one file, as JSON values: what the page says, for scripts."""
    shares = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
    return {
        **table_row(survey),
        "template": survey.template,
        "rule": survey.rule,
        "findings": [{"text": one.text, "look": one.look} for one in findings(survey)],
        "sources": dict(survey.sources.most_common()),
        "learned_of": dict(survey.learned_of.most_common()),
        "quantiles": {
            kind: dict(zip(map(str, shares), quantiles(survey.lengths[kind], shares), strict=True))
            for kind in ("prompt", "completion", "conversation", "learned")
        },
        "lost": {
            kind: dict(zip(map(str, LIMITS), lost_shares(survey, kind), strict=True))
            for kind in ("conversations", "emptied", "tokens", "learned")
        },
        "shape": dict(survey.shape),
        "languages": {kind: dict(found.most_common()) for kind, found in survey.languages.items()},
        "answered_in_another_language": survey.crossed,
        "signs": dict(survey.signs.most_common()),
        "repeats": {kind: found.counts()[0] for kind, found in survey.repeats.items()},
        "asked": [[verb, thing, n] for (verb, thing), n in survey.asked.most_common(100)],
        "asked_of": dict(survey.asked_of),
    }


def _file(survey: Survey) -> dict[str, Any]:
    """What the page shows of one file."""
    return {
        "survey": survey,
        "findings": findings(survey),
        "sources": [
            (name, n, (n, survey.conversations), (learned, survey.learned_of.total()))
            for name, n in survey.sources.most_common(SOURCES)
            for learned in [survey.learned_of[name]]
        ],
        "turns": _turn_bars(survey.messages),
        "shares": _share_bars(survey.shares),
        "languages": {kind: _bars(found, ROWS) for kind, found in survey.languages.items()},
        "asked": _asked_rows(survey),
        "asked_of": [(survey.asked_of[name], name) for name in ("told", "not told")],
        "signs": [
            (name, count, (count, survey.answers), ABOUT[name], survey.sign_examples[name])
            for name, count in survey.signs.most_common()
        ],
        "prompts": survey.repeats["prompt"].most_common(ROWS),
        "openings": survey.repeats["opening"].most_common(ROWS),
        "repeats": [
            (kind, *survey.repeats[kind].counts())
            for kind in ("conversation", "prompt", "answer")
            if kind in survey.repeats
        ],
        "lost": {
            kind: lost_shares(survey, kind)
            for kind in ("conversations", "emptied", "tokens", "learned")
        },
    }


def _bars(counts: Counter[str], most: int) -> list[tuple[str, int, float]]:
    """(name, count, share) of the most frequent, the rest together."""
    rows = counts.most_common(most)
    if rest := counts.total() - sum(n for _, n in rows):
        rows.append((OTHER, rest))
    return [(name, n, n / counts.total()) for name, n in rows]


def _turn_bars(messages: Counter[int]) -> list[tuple[str, int, float]]:
    """How many conversations have so many messages, the rare long ones in groups."""
    rows = []
    for low, high in pairwise(TURNS):
        name = str(low) if high == low + 1 else f"{low}–{high - 1}" if high < LONG else f"{low}–"
        count = sum(times for n, times in messages.items() if low <= n < high)
        rows.append((name, count, count / messages.total()))
    while rows[-1][1] == 0:
        rows.pop()
    return rows


def _share_bars(shares: Counter[int]) -> list[tuple[str, int, float]]:
    """How many conversations have so many per cent of their tokens learned, in tenths."""
    tenths = Counter[int]()
    for per_cent, times in shares.items():
        tenths[min(9, per_cent // 10)] += times
    whole = max(1, tenths.total())
    return [(f"{10 * n}–{10 * n + 10} %", tenths[n], tenths[n] / whole) for n in range(10)]


def _asked_rows(survey: Survey) -> list[dict[str, Any]]:
    """The most frequent verbs, each with its objects and some prompts."""
    verbs = Counter[str]()
    objects: dict[str, Counter[str]] = {}
    for (verb, thing), times in survey.asked.items():
        verbs[verb] += times
        objects.setdefault(verb, Counter())[thing] += times
    top = verbs.most_common(VERBS)
    widest = top[0][1] if top else 1
    return [
        {
            "verb": verb,
            "count": count,
            "share": (count, verbs.total()),
            "width": 100 * count / widest,
            "objects": [(thing, n, n / count) for thing, n in _named(objects[verb])],
            "rest": 1 - sum(n for _, n in _named(objects[verb])) / count,
            "distinct": len(objects[verb]),
            "examples": survey.asked_examples[verb],
        }
        for verb, count in top
    ]


def _named(things: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent objects that have a name."""
    return [(thing, n) for thing, n in things.most_common(OBJECTS + 1) if thing][:OBJECTS]
