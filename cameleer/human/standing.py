"""How sure each pair of a campaign is so far, and which is to be asked about next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sql
from sqlalchemy import Engine

from cameleer.human.campaign import Campaign
from cameleer.human.database import ratings, reading, tasks
from cameleer.human.export import preference_of_b
from cameleer.human.slots import slots
from cameleer.results.judgements import Tally, tally
from cameleer.results.records import Judgement

LEAST = 30  # verdicts before an interval is taken at its word, and may end the asking


@dataclass
class Standing:
    """What is known of the pairs, by their places in Campaign.pairs.

    tallies: of the ratings so far, None before the first verdict; pending: slots that are taken and
    not rated yet; lead: how many more tasks showed B first than A first.
    """

    tallies: list[Tally | None]
    pending: list[int]
    lead: list[int]

    def open(self, target: float | None) -> list[int]:
        """The pairs that are to be asked about, the one of the widest interval first.

        What is in raters' hands counts as if it were there: else all would get the same pair until
        the first of them comes back.
        """
        widths = {}
        for pair, counted in enumerate(self.tallies):
            if not reached(counted, target):
                n = 1 + (counted.n if counted else 0)
                half = half_width(counted) if counted else 0.5
                widths[pair] = half * math.sqrt(n / (n + self.pending[pair]))
        return sorted(widths, key=lambda pair: (-widths[pair], pair))


def half_width(counted: Tally) -> float:
    """Half width of the 95 % interval of a win rate, in 0..1."""
    return (counted.win_rate.high - counted.win_rate.low) / 2


def reached(counted: Tally | None, target: float | None) -> bool:
    """Whether a pair is done: LEAST verdicts, and an interval of half width `target` or less."""
    if counted is None or target is None:
        return False
    return counted.n >= LEAST and half_width(counted) <= target


def tally_or_none(judgements: Iterable[Judgement]) -> Tally | None:
    """The tally of one pair's judgements, None where none has a verdict."""
    given = list(judgements)
    return tally(given) if any(one.preference is not None for one in given) else None


def look(engine: Engine, campaign: Campaign) -> Standing:
    """Read how things stand. It goes through all ratings: not for every request."""
    place = {pair: index for index, pair in enumerate(campaign.pairs)}
    given: list[list[Judgement]] = [[] for _ in place]
    rated = (
        sql.select(tasks.c.instance, tasks.c.b_first, ratings.c.preference, ratings.c.quality)
        .join(ratings, ratings.c.task == tasks.c.id)
        .where(tasks.c.kind == "rating", ratings.c.state == "current")
    )
    turned = (
        sql.select(slots.c.pair, tasks.c.b_first, sql.func.count())
        .join(tasks, slots.c.task == tasks.c.id)
        .group_by(slots.c.pair, tasks.c.b_first)
    )
    with reading(engine) as connection:
        rows = connection.execute(rated).all()
        taken = connection.execute(turned).all()
    for index, b_first, said, quality in rows:
        one = campaign.instances[index]
        preference = preference_of_b(said, b_first) if quality == "good" else None
        given[place[one.a, one.b]].append(Judgement(one.key, one.a, one.b, preference, "", "human"))
    pending, lead = [-len(group) for group in given], [0] * len(given)
    for pair, b_first, count in taken:
        pending[pair] += count
        lead[pair] += count if b_first else -count
    return Standing([tally_or_none(group) for group in given], [max(0, n) for n in pending], lead)
