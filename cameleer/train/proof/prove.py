"""All checks of one configuration, in order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from cameleer.chat.template import template_named
from cameleer.core.console import note
from cameleer.core.files import write_jsonl
from cameleer.model.load import device_and_dtype, load_tokenizer, model_folder
from cameleer.train.config import TrainConfig
from cameleer.train.proof.case import Case, choose, small
from cameleer.train.proof.check import Check
from cameleer.train.proof.learned import Learned, apart
from cameleer.train.proof.losses import TIGHT, losses, plain, rounded
from cameleer.train.proof.masks import text_and_mask, what_enters
from cameleer.train.proof.ranks import two_ranks
from cameleer.train.proof.resumed import resumed


def prove(config: TrainConfig) -> list[Check]:
    """Everything that can be shown about `config`, on a few of its own conversations."""
    base, template = model_folder(config.model), template_named(config.template)
    tokenizer = load_tokenizer(str(base))
    chosen = choose(config, tokenizer, template)
    with tempfile.TemporaryDirectory(prefix="cameleer-proof-") as temporary:
        folder = Path(temporary)
        write_jsonl(folder / "chosen.jsonl", (one.to_row() for one in chosen))
        short = small(config, folder / "chosen.jsonl", max(one.tokens for one in chosen))
        return _checks(Case(short, base, chosen, tokenizer, folder))


def _checks(case: Case) -> list[Check]:
    """Text and mask first, then each precision, then ranks and resuming."""
    _, dtype = device_and_dtype(case.config.precision)
    found: list[Check] = []
    exact: Learned | None = None
    learned: dict[str, Learned] = {}
    for precision in ("fp32", "bf16") if dtype == torch.bfloat16 else ("fp32",):
        note(f"proving in {precision} on {len(case.chosen)} conversations")
        run = case.run(precision)
        if exact is None:
            found += text_and_mask(case, run)
        restated = plain(case, run)
        limits = TIGHT if exact is None else rounded(apart(restated, exact, precision), dtype)
        found += what_enters(case, run, precision)
        learned[precision], checks = losses(case, run, precision, restated, limits)
        found += checks
        exact = exact or restated
        weights = [(weight.numel(), weight.requires_grad) for weight in run.model.parameters()]
        del run
    found += two_ranks(case, sum(size for size, _ in weights), learned, found)
    found.append(resumed(case, sum(size for size, trained in weights if trained)))
    return found
