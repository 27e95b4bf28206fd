"""Text and mask: training reads the template's text, and learns its answers and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from cameleer.model.attention import Documents
from cameleer.train.loop import Run
from cameleer.train.loss import supervised_loss
from cameleer.train.micro_batch import MicroBatch, micro_batch
from cameleer.train.proof.case import Case
from cameleer.train.proof.check import Check
from cameleer.train.proof.learned import gradients
from cameleer.train.proof.restated import stretches


def text_and_mask(case: Case, run: Run) -> list[Check]:
    """The tokens that are trained on, back as text; and what is learned of them."""
    text, answers, places = 0, 0, 0
    paper = case.config.rule == "paper"
    for index, one in enumerate(case.chosen):
        span = slice(run.tokens.starts[index], run.tokens.starts[index + 1])
        ids, mask = run.tokens.ids[span].tolist(), run.tokens.supervised[span].tolist()
        text += ids != one.ids or not _same_text(case.tokenizer, ids, one.text)
        found = [case.tokenizer.decode(part) for part in stretches(ids, mask)]
        answers += found != one.answers
        places += sum(a != b for a, b in zip(mask, one.learned, strict=False))
    marked = "the paper's rule keeps its defects" if paper else "no text may differ"
    return [
        Check("tokens are the template's text", "-", text, 0, "conversations that differ"),
        Check(
            "learned: answers and end tokens, nothing else",
            "-",
            answers,
            len(case.chosen) if paper else 0,
            f"conversations that differ; {marked}",
        ),
        Check(
            "the mask is that of the text",
            "-",
            places,
            sum(one.tokens for one in case.chosen) if paper else 0,
            f"tokens that differ; {marked}",
        ),
    ]


def _same_text(tokenizer: Any, ids: list[int], text: str) -> bool:
    normalizer = tokenizer.backend_tokenizer.normalizer
    texts = {text, normalizer.normalize_str(text)} if normalizer else {text}
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    start = tokenizer.bos_token or ""
    return any(each in texts for each in (back, back.removeprefix(start), back.strip()))


def what_enters(case: Case, run: Run, precision: str) -> list[Check]:
    """That nothing else than supervised tokens enters the loss: by targets, and by gradients."""
    batch = micro_batch([case.everything], run.tokens, run.device)
    wanted = [each for i in case.everything for each in case.learned(run, i)]
    learned = torch.tensor(wanted + [False] * (batch.ids.shape[1] - len(wanted)))
    others = batch.ids.clone()
    masked = ~learned.to(run.device)
    others[0, masked] = (others[0, masked] + 1) % int(run.tokens.ids.max())
    changed = float((_nll(run, batch, others) - _nll(run, batch, batch.ids)).abs().max())
    with _last_hidden(run.model) as seen:
        run.learn([case.everything])
    assert seen[-1].grad is not None
    entered = seen[-1].grad[0].abs().sum(-1).cpu() > 0
    gradients(run.model)
    should = torch.cat([learned[1:], torch.zeros(1, dtype=torch.bool)])
    wrong = int((entered & ~should).sum()), int((should & ~entered).sum())
    told = "positions whose hidden state gets one although nothing is learned there"
    all_of_them = f"positions without, of {int(should.sum())}"
    return [
        Check("other targets at masked tokens change nothing", precision, changed, 0, "nats"),
        Check("masked tokens have no gradient", precision, wrong[0], 0, told),
        Check("supervised tokens have one", precision, wrong[1], 0, all_of_them),
    ]


def _nll(run: Run, batch: MicroBatch, targets: Tensor) -> Tensor:
    """What the model loses at each supervised token, [supervised], by other targets."""
    stand_in = cast(Any, _WithTargets(run.model, batch.ids))
    weights = torch.ones(int(batch.supervised.sum()), device=run.device)
    documents = Documents(batch.lengths)
    with torch.no_grad():
        return supervised_loss(
            stand_in, targets, batch.positions, batch.supervised, weights, documents
        )[1]


class _WithTargets:
    """The model, but what it reads is `ids`, whatever it is given: so that targets alone change."""

    def __init__(self, model: Any, ids: Tensor) -> None:
        self.model, self.ids = model, ids

    def __call__(self, **given: Any) -> Any:
        return self.model(**{**given, "input_ids": self.ids})

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()


@contextmanager
def _last_hidden(model: Any) -> Iterator[list[Tensor]]:
    """Catch the hidden states from which logits are made, [1, tokens, hidden], with gradients."""
    seen: list[Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        hidden = output[0]
        if hidden.requires_grad:
            hidden.retain_grad()
        seen.append(hidden)

    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    handle = plain.get_decoder().register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
