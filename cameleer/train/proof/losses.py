"""Losses and gradients: packed, accumulated and plainly restated they are the same."""

from __future__ import annotations

import torch

from cameleer.model.attention import NAME
from cameleer.train.loop import Run
from cameleer.train.proof.case import Case
from cameleer.train.proof.check import Check
from cameleer.train.proof.learned import Learned, apart, gradients, learn
from cameleer.train.proof.restated import weights_by_hand

TIGHT = {"loss": 1e-6, "gradient": 5e-4}  # float32, relative
ROUNDING = 4.0  # times what rounding does to the restatement itself


def plain(case: Case, run: Run) -> Learned:
    """Each conversation alone through the model's own attention; plain log-softmax."""
    learned = [case.learned(run, index) for index in case.everything]
    counts = [sum(each) for each in learned]
    weigh = weights_by_hand(case.rows, counts, case.config.loss_reduction)
    total = 0.0
    run.model.set_attn_implementation("eager")
    try:
        for index in case.everything:
            ids = torch.tensor([case.chosen[index].ids], device=run.device)
            logits = run.model(input_ids=ids, use_cache=False).logits[0].double()
            each = -torch.log_softmax(logits, -1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
            mask = torch.tensor(learned[index][1:], device=run.device)
            loss = (each * mask).sum() * weigh[index]
            torch.autograd.backward(loss)
            total += loss.item()
    finally:
        run.model.set_attn_implementation(NAME)
    return Learned(total, gradients(run.model))


def rounded(differences: dict[str, float], dtype: torch.dtype) -> dict[str, float]:
    """How far apart ways may be that differ from float32 as far as the restatement does."""
    step = torch.finfo(dtype).eps
    return {name: max(step, ROUNDING * value) for name, value in differences.items()}


def losses(
    case: Case, run: Run, precision: str, restated: Learned, limits: dict[str, float]
) -> tuple[Learned, list[Check]]:
    """Training's own way, returned, beside others: in one row, and each conversation alone."""
    exact = precision == "fp32"
    rounding = "" if exact else f"; at most {ROUNDING:.0f} x what rounding makes of the plain one"
    why = {
        "loss": f"relative{rounding}",
        "gradient": f"relative, {'the worst weight' if exact else 'all weights'}{rounding}",
    }
    said = " (by loss_reduction token)" if case.config.loss_reduction == "paper" else ""
    ours = learn(run, case.rows, case.config.loss_reduction)
    two = learn(run, case.rows, case.token_wise)
    one_row = learn(run, [case.everything], case.token_wise)
    alone = learn(run, [[index] for index in case.everything], case.token_wise)
    pairs = {
        "the loss is its plain restatement": (ours, restated),
        f"packed = unpacked{said}": (one_row, alone),
        f"accumulated = one batch{said}": (two, one_row),
    }
    return ours, [
        Check(f"{shows}: {what}", precision, difference, limits[what], why[what])
        for shows, (one, other) in pairs.items()
        for what, difference in apart(one, other, precision).items()
    ]
