"""Numbers as people read them, and the study's answer in words, made from its statistics."""

from __future__ import annotations

from collections.abc import Sequence

from cameleer.report.analysis import (
    AVERAGE,
    BETTER,
    LEVEL,
    WORSE,
    Analysis,
    Difference,
    Matrix,
    Row,
    contest,
    unbeaten,
)
from cameleer.results.effects import Effect
from cameleer.results.stats import Estimate, Paired

MISSING = "–"
MARKS = {BETTER: "▲ ", WORSE: "▼ "}  # of differences that are detectable


def points(value: float) -> str:
    """A share in 0..1 as points of 100 with one decimal."""
    return f"{100 * value:.1f}".replace("-", "−")


def signed(value: float) -> str:
    """A difference in points with its sign; one that rounds to zero has none."""
    text = f"{100 * value:+.1f}".replace("-", "−")
    return text if text[1:] != "0.0" else "0.0"


def interval(of: Estimate | Paired | Effect) -> str:
    """The limits of an interval, in points; of a difference or an effect with their signs."""
    if isinstance(of, Estimate):
        return f"{points(of.low)}–{points(of.high)}"
    return f"{signed(of.low)} to {signed(of.high)}"


def p_value(p: float) -> str:
    """A p value with as many digits as carry meaning."""
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_is(p: float) -> str:
    """A p value in a sentence."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: `a`, `a and b`, `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def counted(number: int, noun: str) -> str:
    """`1 item`, `2 items`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headlines(analysis: Analysis) -> list[str]:
    """For each base how sure it is that any mixture helped: what the answer begins with."""
    found = [(matrix, _headline(analysis, matrix)) for matrix in analysis.matrices]
    several = len(analysis.matrices) > 1
    return [f"{matrix.base}: {text}" if several else text for matrix, text in found if text]


def _headline(analysis: Analysis, matrix: Matrix) -> str:
    column = matrix.columns[-1] if matrix.columns else ""
    every = [*analysis.averages, *analysis.differences]
    found = [one for one in every if (one.base, one.benchmark) == (matrix.base, column)]
    if not found:
        return ""
    where = "on average" if column == AVERAGE else f"on {column}"
    better = [one.mixture for one in found if one.verdict == BETTER]
    worse = [one.mixture for one in found if one.verdict == WORSE]
    fell = f" {_are(worse)} detectably worse." if worse else ""
    if not better:
        alone = f"{found[0].mixture} is not" if len(found) == 1 else "No mixture is"
        return f"{alone} detectably better than the untuned base {where}.{fell}"
    pair = contest(matrix)
    sure = "" if pair is None else " Which is best is not sure."
    if pair is not None and pair.p < LEVEL:
        sure = f" {pair.first.label} is detectably the best."
    return f"{_are(better)} detectably better than the untuned base {where}.{sure}{fell}"


def _are(names: Sequence[str]) -> str:
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'}"


def answer(analysis: Analysis) -> list[str]:
    """The answer to the study's question, paragraph by paragraph, for one base after the other."""
    return [
        " ".join(sentences)
        for matrix in analysis.matrices
        for sentences in _answer(analysis, matrix)
        if sentences
    ]


def _answer(analysis: Analysis, matrix: Matrix) -> list[list[str]]:
    return [
        [*_leader(matrix), *_next(matrix)],
        [
            *_everywhere(matrix),
            *_helped(matrix, [one for one in analysis.differences if one.base == matrix.base]),
        ],
        _missing(matrix),
    ]


def _leader(matrix: Matrix) -> list[str]:
    if not matrix.columns:
        return [f"Nothing that was asked of {matrix.base} has a score."]
    column = matrix.columns[-1]
    leader = matrix.leader(column)
    if leader is None:
        return [f"No mixture on {matrix.base} has been evaluated on every benchmark yet."]
    score = leader.scores[column]
    assert score is not None
    over = f" over {len(matrix.benchmarks)} benchmarks" if column == AVERAGE else f" on {column}"
    what = "average" if column == AVERAGE else "score"
    text = (
        f"On {matrix.base}, {leader.label} has the best {what}{over}: "
        f"{points(score.estimate.value)} (95 % interval {interval(score.estimate)})"
    )
    difference, base = score.difference, matrix.rows[0].scores[column]
    if difference is None or base is None:
        return [text + "."]
    how = {
        BETTER: "detectably better than",
        WORSE: "detectably worse than",
    }.get(difference.verdict, "not detectably different from")
    return [
        f"{text}, {how} the untuned base's {points(base.estimate.value)} "
        f"({signed(difference.paired.difference)} points, {interval(difference.paired)}; "
        f"adjusted {p_is(difference.p_holm)})."
    ]


def _next(matrix: Matrix) -> list[str]:
    found = contest(matrix)
    if found is None:
        return []
    paired = found.paired
    better = "It is" if found.p < LEVEL else "It is not"
    return [
        f"{better} detectably better than the next best, {found.second.label} "
        f"({signed(paired.difference)}, {interval(paired)}; {p_is(found.p)} after correction for "
        "having picked the two)."
    ]


def _everywhere(matrix: Matrix) -> list[str]:
    """Whether one mixture is best at everything."""
    alike = [name for name in matrix.benchmarks if _alike(matrix, name)]
    leaders = [(name, matrix.leader(name)) for name in matrix.benchmarks if name not in alike]
    if len(matrix.tuned) < 2 or len(leaders) < 2 or any(row is None for _, row in leaders):
        return []
    return [*_won(matrix, leaders), *([f"On {listed(alike)} all score alike."] if alike else [])]


def _alike(matrix: Matrix, name: str) -> bool:
    """Whether all mixtures have one score, as where nobody solves anything."""
    scores = [row.scores[name] for row in matrix.tuned]
    return len({score.estimate.value if score else None for score in scores}) == 1


def _won(matrix: Matrix, leaders: list[tuple[str, Row | None]]) -> list[str]:
    """Who is best at what, and whether somebody may be best at all of it."""
    won: dict[str, list[str]] = {}
    for name, row in leaders:
        won.setdefault(row.label if row else "", []).append(name)
    if len(won) == 1:
        where = (
            "every benchmark" if len(leaders) == len(matrix.benchmarks) else listed(*won.values())
        )
        return [f"{next(iter(won))} has the best score of the mixtures on {where}."]
    by_name = "; ".join(f"{label} on {listed(names)}" for label, names in won.items())
    standing = unbeaten(matrix)
    if not standing:
        return [
            "No single data set is best: each mixture is detectably behind another on at least "
            f"one benchmark. The best scores: {by_name}."
        ]
    return [
        f"The best scores are spread ({by_name}), but the differences do not rule out that "
        f"{_either(standing)} is best on all."
    ]


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _helped(matrix: Matrix, differences: Sequence[Difference]) -> list[str]:
    if not differences:
        return []
    sentences = [
        f"Detectably {verdict} than the base: {_by_mixture(matrix, found)}."
        for verdict in (BETTER, WORSE)
        if (found := [one for one in differences if one.verdict == verdict])
    ]
    if not sentences:
        return [
            f"None of the {counted(len(differences), 'comparison')} with the base on single "
            "benchmarks shows a detectable difference."
        ]
    open_ones = sum(one.verdict not in (BETTER, WORSE) for one in differences)
    return [
        *sentences,
        f"{open_ones} of {counted(len(differences), 'comparison')} with the base show no "
        "detectable difference.",
    ]


def _by_mixture(matrix: Matrix, found: Sequence[Difference]) -> str:
    parts = []
    for row in matrix.tuned:
        own = [
            f"{one.benchmark} ({signed(one.paired.difference)})"
            for one in found
            if one.mixture == row.mixture
        ]
        if own:
            parts.append(f"{row.label} on {listed(own)}")
    return "; ".join(parts)


def _missing(matrix: Matrix) -> list[str]:
    missing = [
        _gap(row) for row in matrix.rows if not all(row.scores[n] for n in matrix.benchmarks)
    ]
    return [f"Not finished, and left out above: {'; '.join(missing)}."] if missing else []


def _gap(row: Row) -> str:
    names = [name for name, score in row.scores.items() if score is None and name != AVERAGE]
    return f"{row.label} on {listed(names)}"
