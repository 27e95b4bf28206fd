"""The verb that sets benchmarks, judges and people side by side, and gathers what they said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import Json, out_file
from cameleer.core.console import emit_json, note, table, warn
from cameleer.core.errors import UserError

if TYPE_CHECKING:
    from cameleer.results.judged import Judged
    from cameleer.results.opinions import Opinions
    from cameleer.results.stats import Run

CAMPAIGN, ITEMS = "campaign.json", "items.jsonl"

Judgements = Annotated[
    list[Path] | None,
    typer.Option(
        "--judgements",
        help="A folder of judging or of a campaign's export, a judgements.jsonl, or AlpacaEval's "
        "annotations.json; can be given again.",
    ),
]
Same = Annotated[
    list[str] | None,
    typer.Option(help="A model that is called otherwise, as JUDGED=NAME; can be given again."),
]
Answers = Annotated[
    list[str] | None,
    typer.Option(
        help="What a model answered, as NAME=FILE_OR_FOLDER (see `judge run`), to be shown beside "
        "verdicts; can be given again."
    ),
]


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of judging or of campaigns' exports, judgements.jsonl, annotations.json."
        ),
    ],
    evals: Annotated[
        list[str] | None,
        typer.Option(help="A model's evaluations, as NAME=DIR (-o of `eval run`); again for more."),
    ] = None,
    same: Same = None,
    answers: Answers = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a page with all of it.")
    ] = None,
    json: Json = False,
) -> None:
    """Set judges, people and benchmarks side by side: rankings, differences, disputes.

    Judgements of models and people may come from any number of places; models are joined by name.
    A study has the same on its report: `cameleer study report STUDY --judgements RESULTS`.

    Example: `cameleer judge compare judged campaign --evals dolly=evals/dolly -o compared.html`
    """
    from cameleer.report.opinions_page import write_opinions
    from cameleer.results.opinions import join

    judged = gather(results, answers or ())
    benchmarks, known = _benchmarks(evals or ())
    told, strange = judged.named(known, named_options(same or (), "--same"))
    opinions = join(benchmarks, told.judgements, None, told.outputs)
    hubs = {measure.hub for measure in opinions.measures}
    if benchmarks:
        opinions.warnings.extend(
            f"{name} was judged, and --evals names no evaluations of it." for name in strange
            if name not in hubs
        )  # fmt: skip
    if output is not None:
        write_opinions(opinions, told, out_file(output))
    if json:
        emit_json(_facts(opinions, output))
        return
    _tell(opinions)
    if output is not None:
        note(f"page: {output}")


def named_options(given: Sequence[str], option: str) -> dict[str, str]:
    """Options NAME=VALUE as a mapping."""
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise UserError(f"'{one}' is not NAME=VALUE", field=option)
        found[name] = value
    return found


def gather(places: Sequence[Path], answers: Sequence[str] = ()) -> Judged:
    """All judgements of these places, with the texts that stand there or that `answers` names."""
    from cameleer.evals.judge.outputs import read_outputs
    from cameleer.results.judged import Judged

    judged = Judged()
    for place in places:
        judged.add(_new(_read(place), judged, place))
    for name, path in named_options(answers, "--answers").items():
        rows = read_outputs(Path(path)).rows
        judged.hear(name, ((row.item, row.instruction, row.output) for row in rows))
    if not judged.judgements:
        raise UserError("no judgements here", file=places[0] if places else None)
    return judged


def _new(found: Judged, before: Judged, place: Path) -> Judged:
    """What is not there yet; annotators of two campaigns are told apart, who are but numbers."""
    known = set(before.judgements)
    fresh = [one for one in found.judgements if one not in known]
    if again := len(found.judgements) - len(fresh):
        warn(f"{place}: {again:,} judgements were given before, and count once")
    taken = {one.who for one in before.judgements if one.kind == "human"}
    found.judgements = [
        replace(one, who=f"{one.who} of {place}" if one.who in taken else one.who) for one in fresh
    ]
    return found


def _read(place: Path) -> Judged:
    """The judgements of one place, and the texts beside them."""
    from cameleer.results.judged import ANNOTATIONS, Judged
    from cameleer.results.judgements import FILE

    if place.suffix == ".json":
        return _annotated(place)
    if place.is_dir() and not (place / FILE).is_file():
        if (place / ANNOTATIONS).is_file():
            return _annotated(place / ANNOTATIONS)
        if (place / CAMPAIGN).is_file():
            return _rated(place)
    judged = Judged.read(place)
    folder = place if place.is_dir() else place.parent
    for home in (folder, folder.parent):
        if (home / CAMPAIGN).is_file():
            _hear_instances(judged, home / ITEMS)
    return judged


def _rated(folder: Path) -> Judged:
    """What a campaign holds now, exported or not."""
    from cameleer.human.campaign import Campaign
    from cameleer.human.database import open_database
    from cameleer.human.export import judgements
    from cameleer.results.judged import Judged

    campaign = Campaign.open(folder)
    judged = Judged(judgements(open_database(campaign), campaign))
    _hear_instances(judged, folder / ITEMS)
    return judged


def _annotated(path: Path) -> Judged:
    """A released file of verdicts; it holds both answers."""
    from cameleer.evals.judge.outputs import read_annotations
    from cameleer.results.judged import Judged

    found = read_annotations(path)
    judged = Judged(found.judgements())
    for row in found.rows:
        for model, text in ((found.a, row.a), (found.b, row.b)):
            if text is not None:
                judged.hear(model, [(row.item, row.instruction, text)])
    return judged


def _hear_instances(judged: Judged, path: Path) -> None:
    """The texts of a campaign."""
    from cameleer.core.jsonl import read_jsonl

    for _, row in read_jsonl(path):
        for side in ("a", "b"):
            judged.hear(row[side], [(row["key"], row["prompt"], row[f"completion_{side}"])])


def _benchmarks(evals: Sequence[str]) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """What each model scored, and by which names judgements may call it."""
    from cameleer.evals.browse import find_evaluations

    runs: dict[str, list[Run]] = {}
    known: dict[str, str] = {}
    for name, path in named_options(evals, "--evals").items():
        scored, known[name] = {}, name
        for evaluation in find_evaluations(Path(path)):
            engine = (evaluation.manifest.get("config") or {}).get("engine") or {}
            known.setdefault(str(engine.get("model") or name), name)
            if not evaluation.scored:
                continue
            facts = evaluation.scores
            label = ":".join(filter(None, (facts.get("benchmark"), facts.get("setting"))))
            if label in scored:
                raise UserError(f"holds {label} twice", file=path, hint="give one folder of each")
            scored[label] = evaluation.items_upward
        if scored:
            runs[name] = [scored]
        else:
            warn(f"{path}: nothing there has a score")
    return runs, known


def _tell(opinions: Opinions) -> None:
    """The answer, the table of models, and what to know."""
    from cameleer.core.console import out
    from cameleer.report.opinions import answer
    from cameleer.report.opinions_shown import columns, notes, rows

    for text in answer(opinions):
        out.print(text, markup=False)
    head = [title for title, _ in columns(opinions)]
    shown = [
        [model, *(f"{one.value} ({one.interval})" if one.interval else one.value for one in cells)]
        for model, cells in rows(opinions)
    ]
    table("", ["model", *head], shown)
    for text in notes(opinions):
        note(text)


def _facts(opinions: Opinions, page: Path | None) -> dict[str, Any]:
    """All of it as JSON; shares in 0..1, preferences of disputes in 1 (A) to 2 (B)."""
    return {
        "page": str(page) if page else None,
        "measures": [
            {
                "name": one.name,
                "kind": one.kind,
                "reference": one.hub or None,
                "judgements": one.judgements,
                "unknown": one.unknown,
                "ranking": one.ranking,
                "models": {model: asdict(found) for model, found in one.estimates.items()},
                "length_controlled": {m: asdict(found) for m, found in one.adjusted.items()},
            }
            for one in opinions.measures
        ],
        "accepted": {model: asdict(found) for model, found in opinions.accepted.items()},
        "rankings": [asdict(one) for one in opinions.alike],
        "pairs": [
            {
                "first": one.first,
                "second": one.second,
                "verdict": one.verdict,
                "same_sign": one.same_sign,
                "differences": {
                    name: {**asdict(found.paired), "p_holm": found.p_holm}
                    for name, found in one.differences.items()
                },
            }
            for one in opinions.pairs
        ],
        "meetings": [
            {
                "judge": one.judge,
                "items": one.items,
                "same": one.same,
                "opposite": one.opposite,
                "agreement": asdict(one.agreement) if one.agreement else None,
                "disputes": [
                    {"item": d.item, "a": d.a, "b": d.b, "judge": d.judged, "people": d.rated}
                    for d in one.disputes
                ],
            }
            for one in opinions.meetings
        ],
        "warnings": opinions.warnings,
    }
