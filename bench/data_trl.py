"""TRL's side of `bench.data`: its SFTTrainer's own preparation of conversations, masks included.

Runs in an environment of its own and imports nothing of ours:

    python bench/data_trl.py JOB.json     prints one JSON object
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import disable_caching, load_dataset  # type: ignore[import-not-found,unused-ignore]
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found,unused-ignore]

IGNORED = -100

# The same text as Cameleer's template; what lies between the marks is learned.
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] | trim + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] | trim }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


class Timed(SFTTrainer):  # type: ignore[misc]
    """Notes the processor time of preparing the data, and keeps what came of it."""

    def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        self.prepared = super()._prepare_dataset(*args, **kwargs)
        self.seconds = time.process_time() - began
        return self.prepared


def main() -> None:
    """Prepare the sample in one process; say what processor time that took."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    tokenizer.chat_template = TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **tiny, **heads))
    config = SFTConfig(
        output_dir=job["out"],
        assistant_only_loss=True,
        max_length=None,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    disable_caching()  # a repeat would find the first one's work done
    data = load_dataset("json", data_files=job["sample"], split="train")
    data = data.select_columns(["messages"])
    trainer = Timed(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    lines = []
    for row in trainer.prepared:
        ids = np.asarray(row["input_ids"], np.uint32).tobytes()
        mask = (np.asarray(row["labels"]) != IGNORED).tobytes()
        lines.append(hashlib.sha256(ids + b"|" + mask).hexdigest()[:16])
    Path(job["digests"]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    versions = {name: importlib.metadata.version(name) for name in ("trl", "datasets")}
    said = {"seconds": trainer.seconds, "conversations": len(lines), "versions": versions}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
