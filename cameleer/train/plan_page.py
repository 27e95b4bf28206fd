"""A plan as facts for JSON and as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from cameleer.core.console import note, out, table
from cameleer.core.errors import UserError
from cameleer.train.config import TrainConfig
from cameleer.train.hardware import GIB, hardware_named
from cameleer.train.plan import planner

RANKS = (1, 2, 4, 8)


def plan_facts(
    config: TrainConfig,
    hardware: str | None,
    ranks: Sequence[int],
    lengths: Sequence[int],
    tokens: float | None,
    price: float | None,
) -> dict[str, Any]:
    """The whole plan as JSON values; None for the hardware is this machine."""
    for name, values in (("gpus", ranks), ("length", lengths), ("tokens", [tokens or 1])):
        if any(value < 1 for value in values):
            raise UserError("must be 1 at least", field=name)
    dtype = torch.float32 if config.precision == "fp32" else torch.bfloat16
    device = hardware_named(hardware, dtype)
    if price is not None:
        device = replace(device, price=price)
    made = planner(config, device, tokens)
    counts = ranks or (RANKS if device.kind == "gpu" else (1,))
    words, option = made.advice(counts[0])
    return {
        "model": config.model,
        "parameters": made.anatomy.weights.all,
        "dtype": "bf16" if made.bf16 else "fp32",
        "hardware": device.facts(),
        "data": {
            "tokens": round(made.work.tokens),
            "supervised": round(made.work.supervised, 4),
            "how": made.work.how,
            "epochs": config.num_train_epochs,
        },
        "as_configured": made.as_configured(counts[0]).facts(),
        "advice": words,
        "advised": option and option.facts(),
        "options": [
            found.facts() for found in made.table(counts, lengths or [config.max_seq_length])
        ],
    }


def show_plan(facts: dict[str, Any]) -> None:
    """The plan for people: what was asked for, what to do, and what else could be done."""
    device, data, own = facts["hardware"], facts["data"], facts["as_configured"]
    memory = device["memory"] / GIB
    out.print(
        f"{facts['model']}: {facts['parameters'] / 1e9:.3g} billion weights in {facts['dtype']}; "
        f"{device['name']}, {memory:.1f} GiB; {data['epochs']} epochs of {data['tokens']:,} "
        f"tokens ({data['how']}), {data['supervised']:.0%} learned",
        markup=False,
    )
    ranks = f"{own['ranks']} rank" + ("s" if own["ranks"] > 1 else "")
    verdict = "fits" if own["fits"] else "will not fit"
    title = f"As configured, on {ranks}: {own['memory_gib']:.2f} of {memory:.1f} GiB, {verdict}"
    parts = [[name, f"{size:.2f}"] for name, size in own["memory_parts_gib"].items()]
    table(title, ["GiB on each rank", ""], parts)
    if not own["fits"]:
        advised = facts["advised"]
        then = f": {advised['memory_gib']:.1f} GiB, {_hours(advised)}" if advised else ""
        out.print(f"It will not fit; do this: {facts['advice']}{then}", markup=False)
    rows = [_row(option) for option in facts["options"]]
    table("The largest micro-batch of each", list(rows[0]), [list(row.values()) for row in rows])
    if device["priced"]:
        note(
            f"prices: {device['price']} USD an hour and device, of {device['priced']}; see --price"
        )


def _row(option: dict[str, Any]) -> dict[str, Any]:
    cost = option["cost_usd"]
    return {
        "method": option["words"],
        "ranks": option["ranks"],
        "length": option["max_seq_length"],
        "micro-batch": option["per_device_train_batch_size"],
        "accumulation": option["gradient_accumulation_steps"],
        "checkpointed layers": option["checkpointed_layers"],
        "GiB": round(option["memory_gib"], 2),
        "": "fits" if option["fits"] else "will not fit",
        "tokens/s": round(option["tokens_per_second"]),
        "hours": round(option["hours"], 2),
        "GPU-hours": round(option["gpu_hours"], 1),
        "USD": "–" if cost is None else cost,
    }


def _hours(option: dict[str, Any]) -> str:
    return f"{option['tokens_per_second']:,.0f} tokens/s, {option['hours']:.2f} hours"
