"""The paper's way to ids and labels, restated for `bench.data`: one tokenisation for each prefix.

As its description says (arXiv 2306.04751, and the repository's `encode_with_messages_format`): the
whole text is tokenised, cut at the limit; then, for every message that is not the assistant's, the
text before it and the text up to its end, with the cue of the answer that follows. It gets the same
fast tokenizer as we do, which the paper's code did not have for LLaMA.

python -m bench.data_paper JOB.json     prints one JSON object
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data_cameleer import write_digests

IGNORED = -100


def encode(messages: list[dict[str, str]], tokenizer: Any, limit: int) -> tuple[Any, Any]:
    """Ids and labels, [tokens] both."""

    def text(turns: list[dict[str, str]]) -> str:
        lines = ""
        for turn in turns:
            end = tokenizer.eos_token if turn["role"] == "assistant" else ""
            lines += f"<|{turn['role']}|>\n{turn['content'].strip()}{end}\n"
        return lines

    def ids_of(asked: str) -> Any:
        return tokenizer(asked, return_tensors="pt", max_length=limit, truncation=True).input_ids

    ids = ids_of(text(messages).strip())
    labels = ids.clone()
    for place, turn in enumerate(messages):
        if turn["role"] == "assistant":
            continue
        begin = ids_of(text(messages[:place])).shape[1] if place else 0
        so_far = text(messages[: place + 1])
        if place + 1 < len(messages) and messages[place + 1]["role"] == "assistant":
            so_far += "<|assistant|>\n"
        end = ids_of(so_far).shape[1]
        labels[:, begin:end] = IGNORED
        if end >= limit:
            break
    return ids.flatten(), labels.flatten()


def main() -> None:
    """Encode the sample, on one core; say what processor time that took."""
    from cameleer.core.jsonl import read_jsonl
    from cameleer.model.load import load_tokenizer

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(job["base"])
    chats = [row["messages"] for _, row in read_jsonl(Path(job["sample"]))]
    began = time.process_time()
    made = [encode(messages, tokenizer, job["limit"]) for messages in chats]
    seconds = time.process_time() - began
    write_digests(
        job,
        (
            (ids.numpy().astype(np.uint32).tobytes(), (labels != IGNORED).numpy().tobytes())
            for ids, labels in made
        ),
    )
    print(json.dumps({"seconds": seconds, "conversations": len(made)}))


if __name__ == "__main__":
    main()
