"""What a benchmark asks of a model, and how long answers take: told before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from cameleer.engines.engine import Request
from cameleer.evals.asking import (
    PROMPT_TOKENS,
    EvalSpec,
    ask_of,
    items_of,
    limited,
    request_of,
)
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.judge.plan import PER_TOKEN
from cameleer.evals.protocol import template_for
from cameleer.evals.scoring import weights
from cameleer.results.detectable import independent_items
from cameleer.train.hardware import Hardware

COUNTED = 64  # prompts whose tokens are counted; the others are taken to be like them
LIKELY = 256  # tokens of an output that may be longer: few models and benchmarks write more


@dataclass(frozen=True)
class Tokens:
    """Of all requests together. prompt: tokens of prompts; own: those of them that are computed,
    where what prompts begin with alike is computed once; new: tokens written, where no output has
    more than LIKELY; most: and at most; outputs: texts that are written."""

    prompt: int
    own: int
    new: int
    most: int
    outputs: int


@dataclass(frozen=True)
class Asked:
    """items: that are asked; there: that the benchmark has here; independent: so many independent
    ones of equal weight they are at least."""

    items: int
    there: int
    independent: float
    tokens: Tokens


def asked(spec: EvalSpec, data: Path | None, tokenizer: Any | None) -> Asked:
    """What an evaluation asks; tokenizer: None, and about PER_TOKEN bytes make a token."""
    benchmark = benchmark_named(spec.benchmark)
    shown = template_for(spec.template, tokenizer)
    ask = ask_of(spec, benchmark, data, shown, None)
    every = items_of(benchmark, ask, None)
    items = limited(every, spec.limit)
    heavy = list(weights(items, benchmark.setting.macro).values())
    strata = [item.group for item in items] if benchmark.setting.macro else None
    alone = independent_items(heavy, [item.cluster for item in items], strata)
    requests = [request_of(item, spec, benchmark, ask, shown) for item in items]
    return Asked(len(items), len(every), alone, tokens_of(requests, tokenizer))


def tokens_of(requests: Sequence[Request], tokenizer: Any | None) -> Tokens:
    """Tokens of requests, prompts being cut where few-shot examples would be dropped."""
    if not requests:
        return Tokens(0, 0, 0, 0, 0)
    prompts = [request.prompt for request in requests]
    sample = prompts[:: -(-len(prompts) // COUNTED)]
    each = fmean(min(PROMPT_TOKENS, _count(prompt, tokenizer)) for prompt in sample)
    prompt = round(each * len(prompts))
    written = [(one.samples, one.max_new_tokens) for one in requests if not one.choices]
    new = sum(samples * min(most, LIKELY) for samples, most in written)
    most = sum(samples * most for samples, most in written)
    own = round(prompt * _own(prompts))
    return Tokens(prompt, own, new, most, sum(samples for samples, _ in written))


def _count(prompt: str, tokenizer: Any | None) -> int:
    if tokenizer is None:
        return len(prompt.encode()) // PER_TOKEN
    return len(tokenizer.encode(prompt))


def _own(prompts: Sequence[str]) -> float:
    """The share of all characters that no prompt before them, in sorted order, begins with."""
    order = sorted(prompts)
    alike = sum(_common(a, b) for a, b in pairwise(order))
    return 1 - alike / max(1, sum(map(len, order)))


def _common(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginnings."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def seconds(tokens: Tokens, model: int, bf16: bool, batch: int, hardware: Hardware) -> float:
    """How long a model of so many weights takes: prompts by the arithmetic, at the share of the
    peak that training reaches; outputs by it too, or by reading the weights for each token, if
    that takes longer.

    batch: sequences that are written at a time.
    """
    rate = (hardware.flops if bf16 else hardware.flops_fp32) * hardware.efficiency
    reading = model * (2 if bf16 else 4) / hardware.bandwidth
    beside = max(1, min(batch, tokens.outputs))
    return 2 * model * tokens.own / rate + tokens.new * max(2 * model / rate, reading / beside)
