"""What benchmarks, judges and people say of the same models, in words: who is first by whom."""

from __future__ import annotations

from collections.abc import Sequence

from cameleer.report.words import counted, interval, listed, points, signed
from cameleer.results.disputes import Meeting
from cameleer.results.measures import Measure
from cameleer.results.opinions import ALIKE, CONTRARY, Alike, Opinions, Pair
from cameleer.results.rankings import FEWEST, Correlation, chance_of_equal

NAMED = 3  # contrary pairs that the answer names
TELLING = 6  # models, of which one in 720 pairs of rankings is equal by chance


def titled(measure: Measure) -> str:
    """The heading of a measure's column."""
    if measure.kind == "benchmarks":
        return "benchmarks"
    return "people" if measure.kind == "human" else measure.name


def answer(opinions: Opinions) -> list[str]:
    """Who ranks which model first, whether they contradict each other, and how sure that is."""
    if not opinions.measures:
        return ["Nothing here was judged, and nothing has a score."]
    paragraphs = [
        [*_firsts(opinions.measures), *_leads(opinions)],
        _contradictions(opinions),
        _correlations(opinions),
        _meetings(opinions),
    ]
    return [" ".join(sentences) for sentences in paragraphs if sentences]


def subject(measure: Measure) -> str:
    """A measure in a sentence."""
    return f"the judge {measure.name}" if measure.kind == "judge" else titled(measure)


def _rank(subjects: Sequence[Measure]) -> str:
    """`benchmarks and people rank`, `the judge gpt-4 ranks`."""
    one_judge = len(subjects) == 1 and subjects[0].kind == "judge"
    return f"{listed([subject(one) for one in subjects])} {'ranks' if one_judge else 'rank'}"


def _firsts(measures: Sequence[Measure]) -> list[str]:
    by_first: dict[str, list[Measure]] = {}
    for measure in measures:
        by_first.setdefault(measure.ranking[0], []).append(measure)
    parts = [f"{_rank(own)} {first} first" for first, own in by_first.items()]
    return [f"{capital('; '.join(parts))}."]


def _leads(opinions: Opinions) -> list[str]:
    """Whether each first is detectably ahead of the next."""
    found = []
    for measure in opinions.measures:
        if len(measure.ranking) < 2:
            continue
        first, second = measure.ranking[:2]
        one = _between(opinions, measure.name, first, second)
        if one is not None:
            gap, low, high, seen = one
            how = "detectably" if seen else "not detectably"
            found.append(
                f"by {titled(measure)}, {first} is {how} ahead of {second} "
                f"({signed(gap)} points, {signed(low)} to {signed(high)})"
            )
    return [f"{capital('; '.join(found))}."] if found else []


def _between(
    opinions: Opinions, measure: str, first: str, second: str
) -> tuple[float, float, float, bool] | None:
    """(difference first - second, its limits, whether it is detectable)."""
    for pair in opinions.pairs:
        one = pair.differences.get(measure)
        if one is None or {pair.first, pair.second} != {first, second}:
            continue
        gap, low, high = one.paired.difference, one.paired.low, one.paired.high
        turned = (gap, low, high) if pair.first == first else (-gap, -high, -low)
        return (*turned, one.detectable)
    return None


def _contradictions(opinions: Opinions) -> list[str]:
    if not opinions.pairs:
        return []
    pairs = opinions.pairs
    contrary = [pair for pair in pairs if pair.verdict == CONTRARY]
    alike = sum(pair.verdict == ALIKE for pair in pairs)
    rest = len(pairs) - alike - len(contrary)
    of_all = f"Of {counted(len(pairs), 'pair')} of models"
    told = (
        f"{of_all}, {alike} are put in the same order by all, detectably; on {rest} at least one "
        "of them cannot tell the two apart"
    )
    if not contrary:
        return [f"{told}. On none do two of them detectably contradict each other."]
    named = "; ".join(_contradiction(pair) for pair in contrary[:NAMED])
    more = f" (and {len(contrary) - NAMED} more)" if len(contrary) > NAMED else ""
    return [f"{told}; on {len(contrary)} two of them detectably contradict each other: "
            f"{named}{more}."]  # fmt: skip


def _contradiction(pair: Pair) -> str:
    sides: dict[str, list[str]] = {}
    for name, one in pair.differences.items():
        if one.detectable:
            gap = one.paired.difference
            above, below = (pair.first, pair.second) if gap > 0 else (pair.second, pair.first)
            sides.setdefault(f"{above} above {below}", []).append(f"{name} ({signed(abs(gap))})")
    return ", but ".join(f"{order} by {listed(names)}" for order, names in sides.items())


def _correlations(opinions: Opinions) -> list[str]:
    """What rank correlations tell, and what so few models cannot: a sentence for each kind."""
    by_kind: dict[str, list[str]] = {}
    for one in opinions.alike:
        by_kind.setdefault(_conclusion(one), []).append(_correlation(opinions, one))
    return [f"{kind}: {'; '.join(which)}." for kind, which in by_kind.items()]


def _conclusion(one: Alike) -> str:
    if one.n < FEWEST:
        return "Too few models in common to compare rankings"
    if one.kendall is None:
        return "Not to be compared, as one of them puts all models level"
    if one.kendall.low > 0:
        return "Rankings more alike than chance makes them"
    if one.kendall.high < 0:
        return "Rankings more opposite than chance makes them"
    return "Too few models to say whether they rank alike"


def _correlation(opinions: Opinions, one: Alike) -> str:
    names = [subject(opinions.measure(name)) for name in (one.first, one.second)]
    over = counted(one.n, "model")
    if one.kendall is not None:
        over = f"Kendall's τ {decimal(one.kendall.value)}, {span(one.kendall)}, over {over}"
    once = (
        f", which come in the very same order by chance once in {round(1 / chance_of_equal(one.n))}"
    )
    few = FEWEST <= one.n < TELLING and one.kendall is not None
    return f"{listed(names)} ({over}{once if few else ''})"


def _meetings(opinions: Opinions) -> list[str]:
    judges = [one for one in opinions.measures if one.kind == "judge"]
    people = any(one.kind == "human" for one in opinions.measures)
    if not judges or not people:
        return []
    if not opinions.meetings:
        return ["No comparison was judged by a judge and by people, so that no items can be shown "
                "on which they differ."]  # fmt: skip
    return [_met(one) for one in opinions.meetings]


def _met(one: Meeting) -> str:
    assert one.agreement is not None
    return (
        f"On {counted(one.items, 'comparison')} that both judged, {one.judge} and people prefer "
        f"the same answer on {one.same} and opposite ones on {one.opposite}: agreement "
        f"{points(one.agreement.value)} % ({interval(one.agreement)}; half where one of them "
        "prefers neither)."
    )


def capital(text: str) -> str:
    """The text as a sentence begins."""
    return text[:1].upper() + text[1:]


def decimal(value: float) -> str:
    """A correlation."""
    return f"{value:.2f}".replace("-", "−")


def span(one: Correlation) -> str:
    """The limits of a correlation's interval."""
    return f"{decimal(one.low)} to {decimal(one.high)}"
