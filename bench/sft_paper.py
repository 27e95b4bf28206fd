"""The paper's own loop restated for `bench.sft`: conversations padded to the longest of a batch.

    python bench/sft_paper.py JOB.json     prints one JSON object

As the paper's code trained (arXiv 2306.04751, its `finetune.py` under accelerate): float32 weights,
bf16 autocast, batches of two shuffled conversations (as its script has them on each device) padded
to the longer, accumulated to a step, the model's own mean loss, torch's AdamW without decay for
biases and norms. Imports nothing of Cameleer.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

IGNORED, PER_DEVICE = -100, 2


def batch_of(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Padded on the right: input ids, attention mask and labels, [conversations, longest]."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filling: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filling] * (longest - len(row[name])) for row in rows])

    ids = padded("input_ids", 0)
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": padded("labels", IGNORED)}


def grouped(model: Any) -> list[dict[str, Any]]:
    """Parameters with and without weight decay, told by their names."""
    bare = ("bias", "layer_norm.weight")
    named = list(model.named_parameters())
    groups = [[p for n, p in named if any(b in n for b in bare) == without] for without in (0, 1)]
    return [{"params": one, "weight_decay": 0.0} for one in groups if one]


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch; returns what every step took and gave."""
    torch.manual_seed(job["seed"])
    lines = Path(f"{job['data']}.tokens.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    model = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(grouped(model), lr=job["learning_rate"])
    order = torch.randperm(len(rows)).tolist()
    size, steps = min(job["conversations_per_row"] * job["rows_per_step"], len(rows)), []
    for at in range(0, len(order), size):
        began = time.perf_counter()
        own = [rows[index] for index in order[at : at + size]]
        made = [batch_of(own[k : k + PER_DEVICE]) for k in range(0, len(own), PER_DEVICE)]
        total, counts = 0.0, [int((one["labels"][:, 1:] != IGNORED).sum()) for one in made]
        for one, count in zip(made, counts, strict=True):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(**one, use_cache=False).loss
            (loss / len(made)).backward()
            total += loss.item() * count
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), job["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        steps.append(
            {
                "tokens": sum(int(one["attention_mask"].sum()) for one in made),
                "supervised": sum(counts),
                "seconds": round(time.perf_counter() - began, 3),
                "loss": total / sum(counts),
                "grad_norm": float(norm),
            }
        )
    model.save_pretrained(job["out"])
    names = ("torch", "transformers")
    return {"steps": steps, "versions": {name: importlib.metadata.version(name) for name in names}}


if __name__ == "__main__":
    print(json.dumps(train(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
