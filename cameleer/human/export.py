"""What a campaign's raters said, as judgements and as tables, without their names."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine

from cameleer.core.errors import UserError
from cameleer.core.files import replacing
from cameleer.human.campaign import Campaign, Instance
from cameleer.human.ratings import Rated, current_ratings
from cameleer.results.judgements import FILE, level, swapped, write_judgements
from cameleer.results.records import Judgement

Format = Literal["judgements", "csv", "tulu1"]

REPEAT = "repeat"
"""The note of a hidden repeat, which tells of its rater, not of the models: it counts nowhere."""

UNJUDGED = {"invalid": "the item is invalid", "too_hard": "the item is too hard to judge"}


def preference_of_b(said: int | None, b_first: bool) -> float | None:
    """A preference from -2 (the first answer) to 2 (the second) on the scale of Judgement."""
    if said is None:
        return None
    return 1.5 + 0.25 * (-said if b_first else said)


def judgements(engine: Engine, campaign: Campaign, *, names: bool = False) -> list[Judgement]:
    """All ratings that count, practice left out, in the order in which they were given.

    Hidden repeats have the note REPEAT. names: raters by their names, else by a number.
    """
    return [
        judgement(campaign.instances[one.task.instance], one, names=names)
        for one in current_ratings(engine)
        if one.task.kind != "practice"
    ]


def judgement(instance: Instance, rated: Rated, *, names: bool = False) -> Judgement:
    """One rating as a judgement; of an item that is not good there is no preference."""
    task, said = rated.task, rated.rating
    good = said.quality == "good"
    shown = (said.first_acceptable, said.second_acceptable)
    notes = [REPEAT] if task.kind == "repeat" else []
    return Judgement(
        item=instance.key,
        a=instance.a,
        b=instance.b,
        preference=preference_of_b(said.preference, task.b_first) if good else None,
        who=rated.name if names else pseudonym(task.rater),
        kind="human",
        b_first=task.b_first,
        acceptable=(shown[1], shown[0]) if task.b_first else shown,
        quality=said.quality,
        comment=said.comment,
        note="; ".join(notes + ([] if good else [UNJUDGED[said.quality]])),
        seconds=round(said.seconds, 3),
        time=rated.time,
    )


def pseudonym(rater: int) -> str:
    """What a rater is called outside: only the campaign's database tells who it is."""
    return f"annotator-{rater}"


def is_repeat(one: Judgement) -> bool:
    """Whether it is a hidden repeat."""
    return one.kind == "human" and one.note.partition(";")[0] == REPEAT


def first_only(given: Iterable[Judgement]) -> list[Judgement]:
    """Without the hidden repeats."""
    return [one for one in given if not is_repeat(one)]


def write_export(
    engine: Engine, campaign: Campaign, out: Path, form: Format = "judgements", names: bool = False
) -> dict[str, int]:
    """Write what was rated; returns how many ratings of each kind there are, and how many raters.

    out: a file named .jsonl or .csv, or a folder to put one into. form: `judgements` is JSON lines;
    `csv` the same as a table; `tulu1` a table with the columns of the one released with the paper
    (section 6), repeats left out. Practice is in none of them. Raises UserError where nothing was
    rated yet.
    """
    rated = current_ratings(engine)
    kept = [one for one in rated if one.task.kind != "practice"]
    if not kept:
        hint = f"{len(rated)} practice items were rated" if rated else "nobody has rated anything"
        raise UserError("nothing to export yet", file=campaign.folder, hint=hint)
    pairs = [(one, campaign.instances[one.task.instance]) for one in kept]
    made = [judgement(instance, one, names=names) for one, instance in pairs]
    if form == "judgements":
        write_judgements(_file(out, ".jsonl", FILE), made)
    elif form == "csv":
        _write_csv(_file(out, ".csv", "annotations.csv"), _rows(made))
    else:
        _write_csv(_file(out, ".csv", "eval_annotations.csv"), _released_rows(pairs, made))
    kinds = Counter(one.task.kind for one in rated)
    return {
        "judgements": kinds["rating"],
        "repeats": kinds["repeat"],
        "unjudged": sum(one.preference is None for one in first_only(made)),
        "practice": kinds["practice"],
        "annotators": len({one.who for one in made}),
    }


def _file(out: Path, ending: str, name: str) -> Path:
    """`out` itself where it is named as a file of this kind, else `name` in the folder `out`."""
    if out.suffix == ending:
        return out
    if out.is_file():
        raise UserError(f"is a file, and not named *{ending}", file=out, field="output")
    return out / name


Row = dict[str, object]


def _rows(made: Iterable[Judgement]) -> Iterator[Row]:
    """A judgement to a row, its fields under their own names; of two answers, a column each."""
    for one in made:
        yield {
            "item": one.item,
            "a": one.a,
            "b": one.b,
            "preference": one.preference,
            "who": one.who,
            "b_first": _yes(one.b_first),
            "acceptable_a": _yes(one.acceptable[0]),
            "acceptable_b": _yes(one.acceptable[1]),
            "quality": one.quality,
            "comment": one.comment,
            "note": one.note,
            "seconds": one.seconds,
            "time": one.time,
        }


PREFERENCES = (
    "a-is-better", "a-is-slightly-better", "tie", "b-is-slightly-better", "b-is-better",
)  # fmt: skip
"""What the released table calls the five verdicts, by `results.judgements.level`."""


def _released_rows(
    pairs: Iterable[tuple[Rated, Instance]], made: Iterable[Judgement]
) -> Iterator[Row]:
    """Model A is the one that stood first, as in the released table."""
    number = 0
    for (rated, instance), one in zip(pairs, made, strict=True):
        if rated.task.kind == "repeat":
            continue
        number += 1
        shown = swapped(one) if one.b_first else one
        completions = [instance.completion_a, instance.completion_b]
        if one.b_first:
            completions.reverse()
        told = shown.preference
        yield {
            "id": number,
            "instance_index": instance.index,
            "instance_id": instance.key.removeprefix("human/"),
            "prompt": instance.prompt,
            "model_a": shown.a,
            "model_b": shown.b,
            "completion_a": completions[0],
            "completion_b": completions[1],
            "completion_a_is_acceptable": _yes(shown.acceptable[0]),
            "completion_b_is_acceptable": _yes(shown.acceptable[1]),
            "preference": "" if told is None else PREFERENCES[level(told)],
            "instance_quality": one.quality,
            "comment": one.comment,
            "evaluator": one.who,
            "timestamp": one.time.replace("T", " ").removesuffix("Z"),
        }


def _yes(answer: bool | None) -> str:
    return "" if answer is None else ("yes" if answer else "no")


def _write_csv(path: Path, rows: Iterator[Row]) -> None:
    """RFC 4180; what a spreadsheet would take for a formula is kept as it was said."""
    first = next(rows, {})
    with replacing(path) as handle:
        writer = csv.DictWriter(handle, list(first), lineterminator="\r\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)
