"""The difference of two models' means where not every item has both, or not equally often.

`stats.paired` needs the same items on both sides. Judgements may not have them: people are given
other items of each model, or the same ones a different number of times. The difference of the two
means is then still that of the table, and an item with both counts once in its error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cameleer.results.stats import Items, Paired, paired, t_p, t_quantile


def gap(a: Items, b: Items, level: float = 0.95) -> Paired:
    """The mean of b less that of a, each over its own items by their weights.

    Of the same items with the same weights this is `paired`. Otherwise interval and p are
    Student's, with the variance of the sum over all n items of what each moves the difference
    (linearisation; Cochran, Sampling Techniques, 1977, 6.5), every item being one draw. Where
    nothing varies, what was not seen in n items may still be there (as in `suite_difference`).
    `better`, `worse` and `same` are of the items that have both. Raises ValueError without items.
    """
    if a.scores.keys() == b.scores.keys() and _weights(a) == _weights(b):
        return paired(a, b, level)
    keys = sorted(a.scores.keys() | b.scores.keys())
    moves = _moves(b, keys) - _moves(a, keys)
    n, difference = len(keys), b.mean - a.mean
    error = math.sqrt(float(moves @ moves) * n / (n - 1)) if n > 1 else 0.0
    freedom = max(1, n - 1)
    t = t_quantile(freedom, level)
    error = error or (1 - ((1 - level) / 2) ** (1 / n)) / t
    p = t_p(difference / error, freedom)
    low, high = max(-1.0, difference - t * error), min(1.0, difference + t * error)
    both = [b.scores[key] - a.scores[key] for key in a.scores.keys() & b.scores.keys()]
    better, worse = sum(one > 0 for one in both), sum(one < 0 for one in both)
    same, discordance = len(both) - better - worse, float(np.abs(both).mean()) if both else 0.0
    return Paired(n, difference, low, high, p, better, worse, same, discordance, float(n))


def _weights(items: Items) -> list[float]:
    return [items.weights.get(key, 1.0) for key in sorted(items.scores)]


def _moves(items: Items, keys: Sequence[str]) -> Any:
    """[keys]: how far each item moves the mean, 0 where it is not of them."""
    own = np.array([items.weights.get(key, 1.0) if key in items.scores else 0.0 for key in keys])
    scores = np.array([items.scores.get(key, 0.0) for key in keys])
    return own * (scores - items.mean) / own.sum()
