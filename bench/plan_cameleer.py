"""One run of `bench.plan`: training steps of a random model, measured, then planned.

python -m bench.plan_cameleer JOB.json     prints one JSON object
"""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cameleer.model.adapters import LoraSpec, add_lora
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.dropout import quick_dropout
from cameleer.model.memory import checkpoint_layers
from cameleer.model.norm import lean_norms
from cameleer.train.config import TrainConfig
from cameleer.train.footprint import Counting, most_held
from cameleer.train.hardware import CPU
from cameleer.train.heap import join_freed_pieces, keep_freed_memory
from cameleer.train.loss import head_in_chunks, supervised_loss
from cameleer.train.optim import AdamW
from cameleer.train.pace import memory
from cameleer.train.plan import Planner, way_of
from cameleer.train.workload import Workload

LEARNED = 0.6
LORA = LoraSpec(r=16)


def main() -> None:
    """Measure, then plan, then print both."""
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["method"] == "lora":
        join_freed_pieces()  # as training does, like the next
    keep_freed_memory()
    bf16 = job["precision"] == "bf16"
    facts = dict(job["shape"])
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    lora = LORA if job["method"] == "lora" else None
    training = TrainConfig(
        model="random", data=Path("random"), max_seq_length=job["length"], lora=lora,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    rows = [documents(job["length"], seed) for seed in range(2 * job["steps"])]
    warm_up(training, bf16)
    before = memory(torch.device("cpu"))
    model = made(config, bf16, lora, job["checkpointing"])
    optimizer = AdamW(model, training)
    for begin in range(0, len(rows), 2):
        for row in rows[begin : begin + 2]:
            backward(model, row)
        optimizer.step(1e-5, 1.0)
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    tensors = counted(model, rows[0])
    del model, optimizer
    gc.collect()
    hardest = max(rows, key=lambda row: sum(length**2 for length in row))
    work = Workload(1e6, LEARNED, 100.0, 10, hardest, learned(job["length"]), "made")
    planner = Planner(training, config, CPU, work, bf16)
    every = planner.anatomy.layers if job["checkpointing"] else 0
    planned = planner.anatomy.memory(way_of(training), CPU, 1, job["length"], every, more=True)
    method = way_of(training).method
    found = [planner.anatomy.footprint(method, again, job["length"]) for again in (False, True)]
    moving = most_held(found[0], found[1], every, 0.0).total
    parts = vars(planned)
    print(
        json.dumps(
            {
                "planned": planned.total - CPU.process,
                "measured": measured,
                "tensors_planned": moving,
                "tensors": tensors,
                "parts": parts,
            }
        )
    )


def warm_up(training: TrainConfig, bf16: bool) -> None:
    """A step of a tiny model, so that all libraries are there before anything is measured."""
    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama", **tiny, intermediate_size=64, vocab_size=256)
    model = made(config, bf16, LoraSpec(r=2), again=True)
    backward(model, [32, 32])
    AdamW(model, training).step(1e-5, 1.0)


def documents(tokens: int, seed: int) -> list[int]:
    """Lengths of 30 to 300 tokens that add up to `tokens`."""
    draw = random.Random(seed)
    lengths: list[int] = []
    while (left := tokens - sum(lengths)) > 0:
        lengths.append(min(left, draw.randint(30, 300)))
    return lengths


def made(config: Any, bf16: bool, lora: LoraSpec | None, again: bool) -> Any:
    """The model, ready to train."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=NAME)
    lean_norms(model)
    head_in_chunks(model)
    if lora is not None:
        model = add_lora(model, lora)
    quick_dropout(model)
    if again:
        checkpoint_layers(model, True)
    return model.train()


def learned(tokens: int) -> int:
    """Supervised tokens of a row."""
    return round(LEARNED * tokens)


def backward(model: Any, lengths: list[int]) -> None:
    """Loss and gradients of a row of random tokens."""
    tokens = sum(lengths)
    ids = torch.randint(model.config.vocab_size, (1, tokens))
    mask = torch.zeros(tokens, dtype=torch.bool)
    mask[1 : learned(tokens) + 1] = True
    weights = torch.full((int(mask.sum()),), 1 / tokens)
    loss, _ = supervised_loss(model, ids, positions(lengths), mask, weights, Documents(lengths))
    torch.autograd.backward(loss)


def counted(model: Any, row: list[int]) -> int:
    """Most bytes of tensors that one micro-batch's forward and backward pass make."""
    count = Counting("cpu", before=[*model.parameters(), *model.buffers()])
    with count:
        backward(model, row)
    model.zero_grad(set_to_none=True)
    return count.peak


if __name__ == "__main__":
    main()
