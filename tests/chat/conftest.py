"""Tokenizers for these tests: the embedded model's, and tiny ones of other families."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "<|user|> Where does the camel live? <|assistant|> In the desert, where there is little water.",
    "<|system|> You are a kind helper. <|user|> 1 + 1 = ? <|assistant|> 2",
]


def fast(core: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def byte_level(prefix: bool = False, trim: bool = False, before: str = "", after: str = "") -> Any:
    """As GPT-2 and Pythia have it; before, after: special tokens that it adds to every text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=340,
            special_tokens=["<s>", "</s>", "<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    single = " ".join(part for part in (before, "$A", after) if part)
    adding = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    core.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=trim, add_prefix_space=prefix), adding]
    )
    return fast(core)


def sentence_piece(corpus: list[str], legacy: bool = True) -> Any:
    """As LLaMA has it: a blank before the text, bytes for unknown characters, a start token."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    blank = normalizers.Replace(" ", "▁")
    if legacy:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    raw = [f"<0x{number:02X}>" for number in range(256)]
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=specials + raw, show_progress=False
    )
    core.train_from_iterator(corpus, trainer)
    state = json.loads(core.to_str())
    state["added_tokens"] = [one for one in state["added_tokens"] if one["content"] in specials]
    core = Tokenizer.from_str(json.dumps(state))
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return fast(core)


FAMILIES: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level,
    "byte-level, trimmed offsets": lambda: byte_level(trim=True),
    "byte-level, added blank": lambda: byte_level(prefix=True, trim=True),
    "byte-level, added blank, whole offsets": lambda: byte_level(prefix=True),
    "byte-level, start and end added": lambda: byte_level(before="<s>", after="</s>"),
    "sentence piece": lambda: sentence_piece(CORPUS),
    "sentence piece, blank at the start only": lambda: sentence_piece(CORPUS, legacy=False),
}


@pytest.fixture(scope="session", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Any:
    """A tokenizer of each family, none of which joins a line break with what follows it."""
    return FAMILIES[request.param]()


@pytest.fixture(scope="session")
def joining() -> Any:
    """A tokenizer that joins line breaks with their neighbours, so that prefixes are off."""
    return sentence_piece(["<|user|>\nhello there\n<|assistant|>\nhi, how are you?\n"] * 3)
