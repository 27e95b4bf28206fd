"""Weights of tokens: what the three reductions mean, restated from losses of each token."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cameleer.train.config import Reduction
from cameleer.train.reduction import StepTotals, token_weights

Step = list[list[int]]
steps = st.lists(
    st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=4
).filter(lambda step: any(map(sum, step)))


def restated(step: Step, nll: list[list[list[float]]], reduction: Reduction) -> float:
    """The loss of a step from -log p of each token of each document of each micro-batch."""
    documents = [document for batch in nll for document in batch if document]
    if reduction == "conversation":
        return sum(sum(each) / len(each) for each in documents) / len(documents)
    if reduction == "paper":
        flat = [[one for document in batch for one in document] for batch in nll]
        means = [sum(each) / len(each) for each in flat if each]
        return sum(means) / len(means)
    every = [one for document in documents for one in document]
    return sum(every) / len(every)


@pytest.mark.parametrize("reduction", get_args(Reduction))
@given(step=steps, seed=st.integers(0, 99))
def test_a_weighted_sum_is_the_mean_that_is_meant(
    reduction: Reduction, step: Step, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    nll = [[torch.rand(number, generator=draw).tolist() for number in batch] for batch in step]
    totals = StepTotals.of(step)
    found = 0.0
    weighed = 0.0
    for batch, losses in zip(step, nll, strict=True):
        weights = token_weights(batch, totals, reduction)
        assert weights.dtype == torch.float32
        assert len(weights) == sum(batch)
        flat = [one for document in losses for one in document]
        found += sum(w * one for w, one in zip(weights.tolist(), flat, strict=True))
        weighed += float(weights.sum())
    assert found == pytest.approx(restated(step, nll, reduction), rel=1e-5)
    assert weighed == pytest.approx(1, rel=1e-5)


def test_the_three_differ() -> None:
    step = [[1, 3], [2]]
    totals = StepTotals.of(step)
    found = {name: token_weights(step[0], totals, name).tolist() for name in get_args(Reduction)}
    assert found["token"] == pytest.approx([1 / 6] * 4)
    assert found["conversation"] == pytest.approx([1 / 3, *[1 / 9] * 3])
    assert found["paper"] == pytest.approx([1 / 8] * 4)


def test_an_empty_micro_batch_weighs_nothing() -> None:
    totals = StepTotals.of([[2], [0], []])
    assert totals == StepTotals(micro_batches=1, conversations=1, supervised=2)
    for reduction in get_args(Reduction):
        assert token_weights([0], totals, reduction).tolist() == []
        assert token_weights([], totals, reduction).tolist() == []
