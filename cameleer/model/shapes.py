"""The shapes of well-known base models: enough to plan and to check a run without a download.

Facts of the published configurations (hidden sizes, layers, heads, vocabulary), keyed by hub id.
A folder's or a cached model's own `config.json` always goes first.
"""

from __future__ import annotations

from typing import Any

LLAMA = {"model_type": "llama", "vocab_size": 32000, "rms_norm_eps": 1e-6}


def _llama(hidden: int, layers: int, heads: int, inner: int, room: int) -> dict[str, Any]:
    return LLAMA | {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": room,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "huggyllama/llama-7b": _llama(4096, 32, 32, 11008, 2048),
    "huggyllama/llama-13b": _llama(5120, 40, 40, 13824, 2048),
    "huggyllama/llama-30b": _llama(6656, 60, 52, 17920, 2048),
    "huggyllama/llama-65b": _llama(8192, 80, 64, 22016, 2048),
    "meta-llama/Llama-2-7b-hf": _llama(4096, 32, 32, 11008, 4096),
    "meta-llama/Llama-2-13b-hf": _llama(5120, 40, 40, 13824, 4096),
    "facebook/opt-6.7b": {
        "model_type": "opt",
        "vocab_size": 50272,
        "hidden_size": 4096,
        "word_embed_proj_dim": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "ffn_dim": 16384,
        "max_position_embeddings": 2048,
        "dropout": 0.1,
    },
    "EleutherAI/pythia-6.9b": {
        "model_type": "gpt_neox",
        "vocab_size": 50432,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 16384,
        "max_position_embeddings": 2048,
        "rotary_pct": 0.25,
    },
}
