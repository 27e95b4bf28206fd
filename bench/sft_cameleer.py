"""Cameleer's side of `bench.sft`: makes the data, trains, and scores checkpoints for everybody.

python -m bench.sft_cameleer JOB.json     prints one JSON object
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rendered, render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.data.convert import convert

IGNORED = -100  # label of a token that is not in the loss, as TRL takes it


def chats(data: Path, sources: list[str]) -> Iterator[Conversation]:
    """Conversations of each source in turn, until one has no more."""
    streams = [convert(name, data)[0] for name in sources]
    for together in zip(*streams, strict=False):
        yield from together


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write every part as conversations, for us, and as the same tokens and labels, for the others.

    parts: name to number of conversations, taken one part after the other; those longer than a row
    are passed over, and counted.
    """
    from cameleer.model.load import load_tokenizer, model_folder

    base, work, counts = model_folder(job["model"]), Path(job["work"]), {}
    tokenizer, too_long = load_tokenizer(str(base)), 0
    stream = chats(Path(job["folder"]), job["sources"])
    for part, wanted in job["parts"].items():
        found, rendered = list[Conversation](), list[Rendered]()
        for chat in stream if wanted else ():
            for one in render([chat], tokenizer, template_named("tulu")):
                fits = len(one.ids) <= job["row"]
                too_long += not fits
                if fits:
                    found.append(chat)
                    rendered.append(one)
            if len(found) == wanted:
                break
        if len(found) < wanted:
            raise UserError("holds too few rows", file=job["folder"], hint="ask for fewer")
        write_jsonl(work / f"{part}.jsonl", (chat.to_row() for chat in found))
        write_jsonl(work / f"{part}.tokens.jsonl", map(labelled, rendered))
        counts[part] = {
            "conversations": len(found),
            "tokens": sum(len(one.ids) for one in rendered),
            "supervised": sum(sum(one.supervised) for one in rendered),
        }
    return {"base": str(base), "counts": counts, "passed over, longer than a row": too_long}


def labelled(one: Any) -> dict[str, list[int]]:
    """A rendered conversation as input ids and labels."""
    pairs = zip(one.ids, one.supervised, strict=True)
    return {"input_ids": one.ids, "labels": [token if own else IGNORED for token, own in pairs]}


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch; returns what every step took and gave."""
    from cameleer.train.config import TrainConfig
    from cameleer.train.loop import train as fine_tune

    config = TrainConfig(
        model=job["base"],
        data=Path(f"{job['data']}.jsonl"),
        max_seq_length=job["row"],
        on_long="error",
        num_train_epochs=1,
        gradient_accumulation_steps=job["rows_per_step"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
        max_grad_norm=job["max_grad_norm"],
        precision="bf16",
        seed=job["seed"],
    )
    folder = fine_tune(config, Path(job["out"]))
    steps = [
        {
            "tokens": row["tokens"],
            "supervised": row["supervised_tokens"],
            "seconds": row["seconds"],
            "loss": row["loss"],
            "grad_norm": row["grad_norm"],
        }
        for _, row in read_jsonl(folder / "metrics.jsonl")
    ]
    return {"steps": steps, "versions": versions("torch", "transformers")}


def score(job: dict[str, Any]) -> dict[str, Any]:
    """Mean loss of each checkpoint over supervised tokens, as [weights as saved, rounded to bf16].

    Computed in float32, one conversation at a time, by plain transformers with its own attention: a
    judge that neither system's training code is in. Float32 weights may be saved as they are, but
    most who use a checkpoint round them, and small updates are lost in that: hence both.
    """
    import torch
    from transformers import AutoModelForCausalLM

    losses: dict[str, list[float]] = {}
    for name, folder in job["checkpoints"].items():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        saved = model.dtype
        losses[name] = [mean_loss(model.float(), Path(job["tokens"]))]
        rounded = model.bfloat16().float()
        again = saved != torch.bfloat16
        losses[name].append(mean_loss(rounded, Path(job["tokens"])) if again else losses[name][0])
    return {"losses": losses}


def mean_loss(model: Any, tokens: Path) -> float:
    """Sum of -log p over supervised tokens, in nats, by their number."""
    import torch
    import torch.nn.functional as F

    total, count = 0.0, 0
    with torch.inference_mode():
        for _, row in read_jsonl(tokens):
            labels = torch.tensor(row["labels"])[1:]
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            total += F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
            count += int((labels != IGNORED).sum())
    return total / count


def versions(*names: str) -> dict[str, str]:
    """Versions of installed packages."""
    return {name: importlib.metadata.version(name) for name in names}


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answer = {"prepare": prepare, "train": train, "score": score}[asked["do"]](asked)
    print(json.dumps(answer))
