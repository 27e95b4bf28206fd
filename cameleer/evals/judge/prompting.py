"""What a judge is asked about a pair: which answer stands first, and the request with both."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from cameleer.engines.engine import Request
from cameleer.evals.judge.outputs import Pair
from cameleer.evals.judge.spec import PLACES, Pairwise, filled
from cameleer.evals.protocol import Opens

ALPACA_EVAL_SEED = 0  # of its annotators, unless their user says otherwise


@dataclass(frozen=True)
class Question:
    """A pair as it is shown to the judge once."""

    pair: Pair
    b_first: bool
    request: Request


def questions(
    judge: Pairwise,
    pairs: Sequence[Pair],
    template: Opens | None,
    *,
    both_orders: bool = False,
    seed: int = 42,
) -> list[Question]:
    """What is to be asked: each pair in the order drawn for it, then in the other one if wanted.

    Pairs of the same text are a tie, about which nobody is asked. template: how the messages become
    a local model's prompt; None where a server has the template.
    """
    found = []
    for pair in pairs:
        if same_text(pair):
            continue
        drawn = b_first(judge, pair, seed)
        for turn in (drawn, not drawn) if both_orders else (drawn,):
            found.append(Question(pair, turn, _request(judge, pair, turn, template, seed)))
    return found


def same_text(pair: Pair) -> bool:
    """Whether nothing is there to choose from."""
    return pair.a == pair.b


def b_first(judge: Pairwise, pair: Pair, seed: int = 42) -> bool:
    """Whether B's answer is shown first.

    `content`: drawn from the instruction and both texts, so that neither the order of items, nor
    the models' names, nor which of them is A, change what the judge sees. `instruction`: as
    AlpacaEval's code draws it, where the seed is its own.
    """
    if judge.order == "instruction":
        name = f"is_switched_outputs{pair.instruction}{ALPACA_EVAL_SEED}"
        return random.Random(name).choices([False, True])[0]
    texts = sorted((pair.a, pair.b))
    facts = json.dumps([seed, pair.instruction, *texts]).encode()
    larger_first = hashlib.sha256(facts).digest()[0] & 1
    return (pair.b == texts[1]) == bool(larger_first)


def _request(
    judge: Pairwise, pair: Pair, b_first: bool, template: Opens | None, seed: int
) -> Request:
    """The request; its key is the item's with a mark of what is shown, in the order shown."""
    shown = (pair.b, pair.a) if b_first else (pair.a, pair.b)
    texts = dict(zip(PLACES, (pair.instruction, *shown), strict=True))
    user, system = filled(judge.messages.user, texts), filled(judge.messages.system, texts)
    mark = hashlib.sha256(json.dumps([system, user]).encode()).hexdigest()[:12]
    plain = "\n\n".join(part for part in (system, user) if part)
    return Request(
        key=f"{pair.item}#{mark}",
        prompt=template.opened(user, system) if template else plain,
        choices=tuple(judge.parser.values) if judge.parser.kind == "label" else (),
        seed=seed,
        text=user,
        system=system,
        format="chat",
        **judge.sampling.model_dump(),
    )
