"""How long texts are in a model's tokens, and their beginnings of a given length."""

from __future__ import annotations

from typing import Any

from cameleer.results.records import Rule


class Lengths:
    """Counts and cuts by a Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def count(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def cut(self, text: str, tokens: int, rule: Rule) -> str:
        """See Engine.cut."""
        if rule == "paper":
            ids = self.tokenizer(text, verbose=False)["input_ids"]
            return text if len(ids) <= tokens else str(self.tokenizer.decode(ids[:tokens]))
        found = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = [end for _, end in found["offset_mapping"]]
        if len(ends) <= tokens:
            return text
        # The last token may hold a part of a character only: then that character goes, too.
        for end in sorted(set(ends[:tokens]), reverse=True):
            if self.count(text[:end]) <= tokens:
                return text[:end]
        return ""
