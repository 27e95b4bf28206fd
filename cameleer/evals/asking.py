"""What a model is asked: how one evaluation is declared, its items, their prompts and requests."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from cameleer.core.config import Config
from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.evals.benchmark import Ask, Benchmark, benchmark_named
from cameleer.evals.protocol import Opens, prompt_of, template_for
from cameleer.results.records import Format, Item, Rule

PROMPT_TOKENS = 2048  # the paper's limit, at which few-shot examples are dropped
AROUND = 4  # tokens that a tokenizer may put around a text, besides at most one for each byte
T = TypeVar("T")


class EvalSpec(Config):
    """One benchmark in one setting, and how to ask it.

    benchmark: `name` or `name:setting`. format: None takes the setting's own. limit: so many items
    of the whole, drawn with seed 42 from every group by its share and asked in the same order, so
    that a few stand for all. samples, temperature, max_new_tokens: None takes the setting's own.
    reviewers: by name, models to take in place of the setting's own. template: of the chat format;
    `own` is the one that the model's tokenizer brings along.
    """

    benchmark: str
    rule: Rule = "fixed"
    format: Format | None = None
    limit: int | None = Field(default=None, ge=1)
    template: str = "tulu"
    samples: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    max_new_tokens: int | None = Field(default=None, ge=1)
    seed: int = 42
    reviewers: dict[str, str] = Field(default_factory=dict)


def ask_of(
    spec: EvalSpec,
    benchmark: Benchmark,
    data: Path | None,
    template: Opens,
    count_tokens: Callable[[str], int] | None,
    cut: Callable[[str, int, Rule], str] | None = None,
) -> Ask:
    """How the benchmark is asked; a text of fewer bytes than the limit is not even counted."""
    form = spec.format or benchmark.setting.format

    def fits(text: str, cue: str) -> bool:
        if count_tokens is None:
            return True
        prompt = prompt_of(text, cue, form, template)
        short = len(prompt.encode()) + AROUND <= PROMPT_TOKENS
        return short or count_tokens(prompt) <= PROMPT_TOKENS

    def shortened(text: str, tokens: int) -> str:
        long = len(text.encode()) + AROUND > tokens
        return cut(text, tokens, spec.rule) if cut and long else text

    return Ask(benchmark.folder(data), benchmark.setting_name, spec.rule, form, fits, shortened)


def items_of(benchmark: Benchmark, ask: Ask, limit: int | None) -> list[Item]:
    """The items that are asked; says where there are fewer groups than in the whole set, or more.

    Raises UserError where there are none, or two of one key: answers are known by their keys.
    """
    items: list[Item] = benchmark.module.items(ask)
    if not items:
        patterns = ", ".join(benchmark.module.NATIVE)
        raise UserError("holds no items", file=ask.data, hint=f"they are read from {patterns}")
    key, count = Counter(item.key for item in items).most_common(1)[0]
    if count > 1:
        hint = "its questions need numbers or ids of their own"
        raise UserError(f"'{key}' is there {count} times", file=ask.data, hint=hint)
    groups, whole = len({item.group for item in items}), getattr(benchmark.module, "GROUPS", 0)
    if whole and groups != whole:
        warn(f"{benchmark.label}: {groups} groups are in {ask.data}, the whole set has {whole}")
    return limited(items, limit)


def request_of(item: Item, spec: EvalSpec, benchmark: Benchmark, ask: Ask, shown: Opens) -> Request:
    """What an engine is asked for one item."""
    setting = benchmark.setting
    return Request(
        key=item.key,
        prompt=prompt_of(item.text, item.cue, ask.format, shown),
        choices=item.choices or setting.choices,
        max_new_tokens=_or(spec.max_new_tokens, setting.max_new_tokens),
        stop=setting.stops(ask.rule, ask.format),
        temperature=_or(spec.temperature, setting.temperature),
        top_p=setting.top_p,
        samples=_or(spec.samples, setting.samples),
        seed=spec.seed,
        scoring=setting.scoring,
        clip=setting.clip,
        text=item.text,
        cue=item.cue,
        format=ask.format,
    )


def prompts(
    label: str,
    data: Path | None,
    rule: Rule = "fixed",
    form: Format | None = None,
    count_tokens: Callable[[str], int] | None = None,
    template: str = "tulu",
    limit: int | None = None,
    cut: Callable[[str, int, Rule], str] | None = None,
    tokenizer: Any = None,
) -> Iterator[dict[str, str]]:
    """The exact strings that a local model would get, as {"item", "prompt"}.

    Without `count_tokens` no few-shot example is dropped, however long the prompt, without `cut`
    no context is shortened. tokenizer: whose template `own` stands for.
    """
    benchmark = benchmark_named(label)
    spec = EvalSpec(benchmark=label, rule=rule, format=form, limit=limit, template=template)
    shown = template_for(template, tokenizer)
    ask = ask_of(spec, benchmark, data, shown, count_tokens, cut)
    for item in items_of(benchmark, ask, limit):
        yield {"item": item.key, "prompt": prompt_of(item.text, item.cue, ask.format, shown)}


def limited(items: Sequence[Item], limit: int | None) -> list[Item]:
    """`limit` items drawn with seed 42, each group by its share, in the order given.

    Shares are rounded by largest remainder, so exactly `limit` items come, or all if there are
    fewer. The same items come whatever the model, so that runs with one limit can be paired.
    """
    if limit is None or limit >= len(items):
        return list(items)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[item.group].append(index)
    shares = {group: limit * len(rows) / len(items) for group, rows in groups.items()}
    counts = {group: int(share) for group, share in shares.items()}
    by_remainder = sorted(shares, key=lambda group: counts[group] - shares[group])
    for group in by_remainder[: limit - sum(counts.values())]:
        counts[group] += 1
    draw = random.Random(42)
    chosen = [row for group, rows in groups.items() for row in draw.sample(rows, counts[group])]
    return [items[index] for index in sorted(chosen)]


def _or(given: T | None, default: T) -> T:
    return default if given is None else given
