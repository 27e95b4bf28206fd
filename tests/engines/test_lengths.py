"""Texts are cut by tokens, at characters, and as the paper's code did it by its rule."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cameleer.engines.lengths import Lengths

TEXT = "Ein Dromedar säuft 🐪 in der Wüste."


def test_the_papers_cut_decodes_special_tokens_too(tiny_tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    opening = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer.backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    opening.add_bos_token = True
    lengths = Lengths(opening)
    whole = len(opening(TEXT)["input_ids"])
    assert lengths.cut(TEXT, whole, "paper") == TEXT
    ids = opening(TEXT)["input_ids"][:7]
    assert lengths.cut(TEXT, 7, "paper") == opening.decode(ids)


@given(text=st.text(max_size=60), tokens=st.integers(1, 40))
def test_the_mended_cut_is_a_beginning_that_fits(
    tiny_tokenizer: Any, text: str, tokens: int
) -> None:
    lengths = Lengths(tiny_tokenizer)
    cut = lengths.cut(text, tokens, "fixed")
    assert text.startswith(cut)
    assert lengths.count(cut) <= tokens
    if lengths.count(text) <= tokens:
        assert cut == text
    elif len(cut) < len(text):
        # One character more would not fit, unless its bytes are merged with those before it.
        longer = text[: len(cut) + 1]
        assert lengths.count(longer) > tokens or lengths.count(longer) < lengths.count(cut) + 1
