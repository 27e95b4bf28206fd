"""Length-controlled win rates: how often would a model win if its answers were as long as others'?

Judges prefer longer answers. A logistic regression tells what a verdict owes to the difference in
length from what it owes to the model and to the instruction; with the difference set to zero it
predicts the win rate that is left (Dubois et al., arXiv 2404.04475).

`published` is the fit of AlpacaEval's code: each model alone, an L1 penalty chosen by
cross-validation, and two inputs that were computed once over many models (`Gamed`). `joint` is our
own: all models of one judge at once, which tells the difficulty of instructions from the same
verdicts, and has an interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.core.csv_rows import read_csv
from cameleer.core.errors import UserError
from cameleer.results.stats import Estimate, mean_interval

STRENGTHS = 10.0 ** np.linspace(-4, 4, 10)  # C, of which cross-validation takes one
FOLDS = 5
GAMED_WEIGHT = 0.2 / 2  # of a verdict on a model told to be brief or verbose; there are two such
COLUMNS = ("index", "instruction_difficulty", "preference", "std_delta_len")


@dataclass(frozen=True)
class Gamed:
    """What the published fit takes over from earlier models: df_gamed.csv of AlpacaEval's data set.

    It holds the verdicts on one model told to be verbose and told to be brief, so that no model's
    length can pass for its quality. preference: [k] 0..1; difference: [k] in length, standardised;
    difficulty: [k] of the verdict's instruction; of_row: difficulty by the row of the instruction.
    """

    preference: Any
    difference: Any
    difficulty: Any
    of_row: dict[int, float]


@dataclass(frozen=True)
class Published:
    """The published fit of one model.

    win_rate: 0..1, at equal lengths; model, length, difficulty: coefficients; strength: C, the
    inverse of the penalty, as cross-validation chose it.
    """

    win_rate: float
    model: float
    length: float
    difficulty: float
    strength: float


def read_gamed(path: Path) -> Gamed:
    """Read df_gamed.csv; raises UserError for a file without its columns or with other values."""
    rows = read_csv(path)
    _, header = next(rows, (0, []))
    for column in COLUMNS:
        if column not in header:
            hint = "it is df_gamed.csv of the data set tatsu-lab/alpaca_eval"
            raise UserError("is no column of it", file=path, line=1, field=column, hint=hint)
    places = [header.index(column) for column in COLUMNS]
    values = []
    for line, row in rows:
        try:
            values.append([float(row[place]) for place in places])
        except (ValueError, IndexError):
            raise UserError("holds something that is no number", file=path, line=line) from None
    if not values:
        raise UserError("holds no records", file=path)
    index, difficulty, preference, difference = np.array(values).T
    of_row: dict[int, float] = {}
    for row, value in zip(index, difficulty, strict=True):
        of_row.setdefault(int(row), float(value))
    return Gamed(preference, difference, difficulty, of_row)


def published(
    preference: Any, difference: Any, difficulty: Any = None, gamed: Gamed | None = None
) -> Published:
    """The fit of AlpacaEval's code (length_controlled_v1), for one model.

    preference: [n] 0 (the reference) to 1 (the model), nan for no verdict; difference: [n]
    characters of the reference's answer less those of the model's; difficulty: [n] of the
    instructions. It minimises |b|_1 + C sum of w (log(1 + e^(x b)) - y x b) over x = (1, tanh of
    the difference in its standard deviations, difficulty), without a free intercept: verdicts on
    gamed models have 0 in place of 1, and a tenth of the weight. C is the best of `STRENGTHS` by
    the weighted log loss over five folds, in which every fifth verdict is left out, the last first.
    The win rate is the mean over all n of the prediction at a difference of 0. Without `difficulty`
    or `gamed` the fit has no such term, or no such verdicts: then it is not the published number.
    """
    y, known = np.asarray(preference, dtype=float), ~np.isnan(preference)
    scaled = np.asarray(difference, dtype=float) / (np.std(difference, ddof=1) or 1.0)
    terms = [np.ones(len(y)), np.tanh(scaled), *([] if difficulty is None else [difficulty])]
    rows = np.stack(terms, axis=1)[known]
    targets, weights = y[known], np.ones(int(known.sum()))
    if gamed is not None:
        others = [np.zeros(len(gamed.preference)), np.tanh(gamed.difference)]
        others += [] if difficulty is None else [gamed.difficulty]
        rows = np.concatenate([np.stack(others, axis=1), rows])
        targets = np.concatenate([gamed.preference, targets])
        weights = np.concatenate([np.full(len(gamed.preference), GAMED_WEIGHT), weights])
    strength = _best_strength(rows, targets, weights)
    model, length, *hard = l1_logistic(rows, targets, weights, strength).tolist()
    level = model + (hard[0] * np.asarray(difficulty) if hard else np.zeros(len(y)))
    value = float(_logistic(level).mean())
    return Published(value, model, length, hard[0] if hard else 0.0, strength)


def _best_strength(rows: Any, targets: Any, weights: Any) -> float:
    """The C of the least mean log loss over folds; of equals the smallest."""
    fold = np.arange(len(rows))[::-1] % FOLDS
    losses = np.zeros(len(STRENGTHS))
    for left_out in range(FOLDS):
        told, asked = fold != left_out, fold == left_out
        for place, strength in enumerate(STRENGTHS):
            fit = l1_logistic(rows[told], targets[told], weights[told], float(strength))
            odds = rows[asked] @ fit
            loss = weights[asked] * (np.logaddexp(0, odds) - targets[asked] * odds)
            losses[place] += loss.mean() / FOLDS
    return float(STRENGTHS[int(losses.argmin())])


def l1_logistic(rows: Any, targets: Any, weights: Any, strength: float) -> Any:
    """Coefficients b [k] that minimise |b|_1 + strength * sum of w (log(1 + e^(x b)) - y x b).

    rows: x, [n, k]; targets: y, [n] in 0..1; weights: w, [n]. By Newton steps, each the solution of
    the penalised quadratic problem that the logistic one looks like nearby, halved until they help.
    """
    fit = np.zeros(rows.shape[1])

    def cost(at: Any) -> float:
        odds = rows @ at
        loss = np.logaddexp(0, odds) - targets * odds
        return float(np.abs(at).sum() + strength * (weights @ loss))

    value = cost(fit)
    for _ in range(100):
        share = _logistic(rows @ fit)
        slope = strength * (rows.T @ (weights * (share - targets)))
        curve = strength * (rows.T * (weights * share * (1 - share))) @ rows
        curve += np.eye(len(fit)) * (1e-10 * curve.diagonal().max() + 1e-12)  # never singular
        step = _l1_quadratic(curve, slope, fit) - fit
        size = 1.0
        while cost(fit + size * step) > value and size > 1e-10:
            size /= 2
        moved = fit + size * step
        now = cost(moved)
        if not now < value:
            return fit
        fit, value = moved, now
        if float(np.abs(step).max()) < 1e-12:
            return fit
    return fit


def _l1_quadratic(curve: Any, slope: Any, start: Any) -> Any:
    """b that minimises |b|_1 + slope (b - start) + (b - start) curve (b - start) / 2.

    If one knew which coefficients are negative, zero and positive, it were a linear problem. There
    are two or three, so each of the 9 or 27 guesses is solved and the best kept, which needs no
    steps however alike the columns are, as they are where all answers are longer.
    """
    size = len(start)
    signs = np.array(list(product((-1.0, 0.0, 1.0), repeat=size)))
    free = signs != 0
    pull = slope - curve @ start
    tables = np.where(free[:, :, None] & free[:, None], curve, np.eye(size))
    guesses = np.linalg.solve(tables, -((pull + signs) * free)[:, :, None])[:, :, 0]
    bends = np.einsum("gi,ij,gj->g", guesses, curve, guesses) / 2
    return guesses[int((np.abs(guesses).sum(axis=1) + guesses @ pull + bends).argmin())]


@dataclass(frozen=True)
class Joint:
    """Our fit of several models of one judge.

    win_rates: at equal lengths, each with its interval; lengths: the log odds that an answer gains
    at most by being longer; difficulty: [n] log odds of any model's win on each instruction beside
    the average one; spread: the standard deviation that it was drawn towards 0 with.
    """

    win_rates: list[Estimate]
    lengths: list[float]
    difficulty: Any
    spread: float


SPREADS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
LOOSE = 0.01  # precision of coefficients' prior: so little that it only keeps them finite


def joint(preferences: Any, differences: Any, scale: float, level: float = 0.95) -> Joint:
    """Length-controlled win rates of all models that one judge compared with the same reference.

    preferences: [models, n] 0 (the reference) to 1 (the model), nan for no verdict; differences:
    [models, n] characters of the model's answer less those of the reference's; scale: characters
    that are a large difference, the median length of the reference's answers. The log odds of a win
    are a term for the model, one for the model times tanh(difference / scale), and one for the
    instruction, normal around 0, whose spread is the likeliest (Laplace's approximation). The win
    rate is the mean over instructions of the prediction at a difference of 0. Its interval is on
    the scale of log odds, from what each instruction contributes (the sandwich estimate, all
    verdicts on an instruction being one draw), and takes the spread as known. One model alone tells
    nothing of difficulty: its spread is 0. A model that all verdicts agree on cannot be fitted and
    keeps its raw win rate.
    """
    y, d = np.asarray(preferences, dtype=float), np.asarray(differences, dtype=float)
    known = ~np.isnan(y)
    one_sided = [len(set(row[there])) < 2 for row, there in zip(y, known, strict=True)]
    raw = [mean_interval(row[there].tolist(), level) for row, there in zip(y, known, strict=True)]
    left = [place for place, alike in enumerate(one_sided) if not alike]
    if not left:
        return Joint(raw, [0.0] * len(y), np.zeros(y.shape[1]), 0.0)
    problem = _Verdicts(np.where(known, y, 0.0)[left], known[left], np.tanh(d / scale)[left])
    fits = [problem.fitted(spread) for spread in (SPREADS if len(left) > 1 else SPREADS[:1])]
    best = max(fits, key=lambda fit: fit.likelihood)
    lengths, found = [0.0] * len(y), list(raw)
    for place, estimate, slope in zip(left, best.win_rates(level), best.slopes(), strict=True):
        found[place] = Estimate(*estimate, raw[place].n)
        lengths[place] = slope
    return Joint(found, lengths, best.difficulty, best.spread)


@dataclass(frozen=True)
class _Verdicts:
    """wins: [m, n] 0..1, 0 where not known; known: [m, n]; length: [m, n] in -1..1."""

    wins: Any
    known: Any
    length: Any

    def fitted(self, spread: float) -> _Fit:
        """The likeliest coefficients [2 m] (model, length; model by model), by damped Newton."""
        at = _Fit.at(self, np.zeros(2 * len(self.wins)), np.zeros(self.wins.shape[1]), spread)
        for _ in range(50):
            step, size = np.linalg.solve(at.curve, at.slope), 1.0
            while size > 1e-6:
                tried = _Fit.at(self, at.coefficients + size * step, at.difficulty, spread)
                if tried.value >= at.value - 1e-12:
                    break
                size /= 2
            at = tried
            if float(np.abs(step).max()) < 1e-9:
                break
        return at

    def difficulty(self, odds: Any, spread: float, start: Any) -> Any:
        """What of each instruction makes the verdicts likeliest, given all else; [n], log odds."""
        if not spread:
            return np.zeros_like(start)
        found = start
        for _ in range(50):
            share = _logistic(odds + found)
            slope = ((self.wins - share) * self.known).sum(axis=0) - found / spread**2
            curve = (share * (1 - share) * self.known).sum(axis=0) + 1 / spread**2
            step = np.clip(slope / curve, -2, 2)
            found = found + step
            if float(np.abs(step).max()) < 1e-11:
                break
        return found


@dataclass(frozen=True)
class _Fit:
    """Coefficients [2 m] with the difficulty [n] that goes with them.

    value: the log likelihood, penalised; likelihood: with difficulty integrated out; slope [2 m]
    and curve [2 m, 2 m]: first derivative of value and second, negative; pulls: [2 m, n] of each
    instruction on the first; ties: [2 m, n] how difficulty gives way to the coefficients.
    """

    coefficients: Any
    difficulty: Any
    spread: float
    value: float
    likelihood: float
    slope: Any
    curve: Any
    pulls: Any
    ties: Any

    @classmethod
    def at(cls, verdicts: _Verdicts, coefficients: Any, start: Any, spread: float) -> _Fit:
        wins, known, length = verdicts.wins, verdicts.known, verdicts.length
        models, n = wins.shape
        odds = coefficients[::2, None] + coefficients[1::2, None] * length
        hard = verdicts.difficulty(odds, spread, start)
        odds = odds + hard
        share = _logistic(odds)
        weights = share * (1 - share) * known
        precision = 1 / spread**2 if spread else math.inf
        stiff = weights.sum(axis=0) + precision  # [n]
        terms = np.stack([np.ones_like(length), length], axis=1)  # [m, 2, n]
        pulls = ((wins - share) * known)[:, None] * terms
        loads = (weights[:, None] * terms).reshape(2 * models, n)
        curve = LOOSE * np.eye(2 * models) - (loads / stiff) @ loads.T
        for model in range(models):
            own = slice(2 * model, 2 * model + 2)
            curve[own, own] += (weights[model] * terms[model]) @ terms[model].T
        value = float(((wins * odds - np.logaddexp(0, odds)) * known).sum())
        value -= float(hard @ hard) * (precision if spread else 0) / 2
        value -= LOOSE * float(coefficients @ coefficients) / 2
        likelihood = value - float(np.log1p(spread**2 * weights.sum(axis=0)).sum()) / 2
        pulls = pulls.reshape(2 * models, n)
        slope = pulls.sum(axis=1) - LOOSE * coefficients
        ties = -loads / stiff
        return cls(coefficients, hard, spread, value, likelihood, slope, curve, pulls, ties)

    def slopes(self) -> list[float]:
        """What each model's verdicts owe to length."""
        return [float(slope) for slope in self.coefficients[1::2]]

    def win_rates(self, level: float) -> list[tuple[float, float, float]]:
        """(value, low, high) of each model at equal lengths."""
        n = len(self.difficulty)
        moves = np.linalg.solve(self.curve, self.pulls)  # [2 m, n] of the coefficients
        found = []
        for model, term in enumerate(self.coefficients[::2]):
            share = _logistic(term + self.difficulty)
            value, steep = float(share.mean()), share * (1 - share)
            gradient = (steep * self.ties).mean(axis=1)
            gradient[2 * model] += steep.mean()
            parts = share - value + n * (gradient @ moves)
            error = math.sqrt(float(parts @ parts) / (n * (n - 1)))
            found.append(_logit_interval(value, error, level))
        return found


def _logit_interval(value: float, error: float, level: float) -> tuple[float, float, float]:
    """(value, low, high) of a share with a standard error, symmetric in log odds."""
    from scipy.special import ndtri

    centre = math.log(value / (1 - value))
    half = float(ndtri(0.5 + level / 2)) * error / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(centre + side * half))) for side in (-1, 1))
    return value, low, high


def _logistic(odds: Any) -> Any:
    return np.exp(-np.logaddexp(0, -odds))
