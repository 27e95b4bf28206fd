"""Models that read texts to say a probability: classifiers, and models asked yes or no."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.model.load import (
    device_and_dtype,
    load_model,
    load_tokenizer,
    load_whole,
    model_fingerprint,
    model_folder,
    quiet,
)

Kind = Literal["label", "yes"]
YES = " yes"
ROWS, TOKENS = 32, 8192  # most texts, and tokens with padding, in one forward pass
MADE_FOR = {
    "label": ("a classifier of texts", ("ForSequenceClassification",)),
    "yes": ("a causal language model", ("ForCausalLM", "LMHeadModel")),
}
SPARE = 2  # times its file's bytes a model takes on a GPU: more than weights, or they are widened


class Reader(Protocol):
    """Reads texts; a batch is read whole, and batches follow from the list of texts alone."""

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """The texts, in the batches in which they are to be read."""

    def read(self, batch: Sequence[str]) -> list[tuple[float, bool]]:
        """Of every text a probability, and whether the text had to be cut to fit."""


def find_reviewer(model: str, kind: Kind) -> tuple[Path, str]:
    """Folder and fingerprint of a model that is fit for this kind of reading, without loading it.

    Raises UserError if it cannot be had, has no safetensors weights, or was made for other work.
    """
    folder = model_folder(model)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            "holds no safetensors weights, and pickled ones are not read, as they can run code",
            file=folder,
            hint="convert it once, as docs/how-to/reviewers.md says, and give that folder",
        )
    config = read_json(folder / "config.json")
    names = [str(name) for name in config.get("architectures") or ["no architecture named"]]
    wanted, endings = MADE_FOR[kind]
    if not any(name.endswith(endings) for name in names):
        raise UserError(f"is not {wanted}, but: {', '.join(names)}", file=folder)
    if kind == "label" and len(config.get("id2label") or "01") < 2:
        raise UserError("has one label only; label 1 of two or more is wanted", file=folder)
    return folder, model_fingerprint(folder)


def open_reviewer(folder: Path, kind: Kind) -> Reader:
    """Load the model that `find_reviewer` found; on the GPU if there is one with room for it."""
    return Classifier(folder) if kind == "label" else YesNo(folder)


class Classifier:
    """Says the probability of label 1, by softmax over the labels, in float32.

    A text that does not fit is cut at its end.
    """

    def __init__(self, folder: Path) -> None:
        import torch

        self.tokenizer = load_tokenizer(str(folder))
        self.device = _device(folder)
        self.model = _load_classifier(folder, torch.float32).to(self.device)
        self.room = min(self.tokenizer.model_max_length, _positions(self.model))

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """See Reader."""
        return _by_length(texts, [min(length, self.room) for length in self._lengths(texts)])

    def read(self, batch: Sequence[str]) -> list[tuple[float, bool]]:
        """See Reader."""
        import torch

        cut = [length > self.room for length in self._lengths(batch)]
        limit: dict[str, Any] = {"truncation": True, "max_length": self.room} if any(cut) else {}
        inputs = self.tokenizer(list(batch), padding=True, return_tensors="pt", **limit)
        with torch.inference_mode():
            logits = self.model(**inputs.to(self.device)).logits
        return list(zip(logits.softmax(-1)[:, 1].tolist(), cut, strict=True))

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]


class YesNo:
    """Says how probable " yes" is to come next.

    That is the product over the tokens which the tokenizer makes of text + " yes" beyond those
    that it makes of the text; mostly there is one. A text that does not fit loses its beginning,
    since what is asked stands at its end.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = load_tokenizer(str(folder))
        self.device = _device(folder)
        _, dtype = device_and_dtype("auto")
        self.model = load_model(folder, dtype).to(self.device)
        self.room = min(self.tokenizer.model_max_length, _positions(self.model))

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """See Reader."""
        return _by_length(texts, [min(len(ids), self.room) for ids, _ in self._encoded(texts)])

    def read(self, batch: Sequence[str]) -> list[tuple[float, bool]]:
        """See Reader."""
        import torch

        encoded = self._encoded(batch)
        rows = [ids[-self.room :] for ids, _ in encoded]
        width = max(map(len, rows))
        # Padded on the right: what a causal model says does not depend on what comes after.
        padded = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        asked = [
            list(range(len(row) - new - 1, len(row) - 1))
            for row, (_, new) in zip(rows, encoded, strict=True)
        ]
        kept = sorted({place for places in asked for place in places})
        with torch.inference_mode():
            logits = self.model(
                input_ids=padded.to(self.device),
                attention_mask=mask.to(self.device),
                logits_to_keep=torch.tensor(kept, device=self.device),
                use_cache=False,
            ).logits
            said = logits.float().log_softmax(-1).cpu()
        found = []
        for index, (row, places) in enumerate(zip(rows, asked, strict=True)):
            logprob = sum(said[index, kept.index(at), row[at + 1]].item() for at in places)
            found.append((math.exp(logprob), len(encoded[index][0]) > self.room))
        return found

    def _encoded(self, texts: Sequence[str]) -> list[tuple[list[int], int]]:
        """Of each text with " yes" its tokens, and how many of them are those of " yes"."""
        before = self.tokenizer(list(texts), verbose=False)["input_ids"]
        whole = self.tokenizer([text + YES for text in texts], verbose=False)["input_ids"]
        pairs = [(ids, len(ids) - len(text)) for ids, text in zip(whole, before, strict=True)]
        if any(new < 1 for _, new in pairs):
            raise UserError(f"the reviewer's tokenizer has no token for '{YES}' after a text")
        return pairs


def _by_length(texts: Sequence[str], lengths: Sequence[int]) -> list[list[str]]:
    """Texts of similar length together, longest first, within ROWS and TOKENS."""
    order = sorted(range(len(texts)), key=lambda index: (-lengths[index], index))
    batches: list[list[str]] = []
    width = 0
    for index in order:
        if not batches or len(batches[-1]) == min(ROWS, max(1, TOKENS // width)):
            batches.append([])
            width = max(1, lengths[index])
        batches[-1].append(texts[index])
    return batches


def _positions(model: Any) -> int:
    """How many tokens the model can read; RoBERTa counts its positions from behind its padding."""
    limit = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    embeddings = getattr(model.base_model, "embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    return int(limit) - (0 if padding is None else int(padding) + 1)


def _device(folder: Path) -> Any:
    """The GPU if the weights fit beside what is there already, such as the model that answered."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    needed = SPARE * sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    free, _ = torch.cuda.mem_get_info()
    if needed <= free:
        return torch.device("cuda")
    note(
        f"{folder.name} reads on the CPU: it wants {needed / 2**30:.1f} GiB, "
        f"and the GPU has {free / 2**30:.1f} free"
    )
    return torch.device("cpu")


def _load_classifier(folder: Path, dtype: Any) -> Any:
    with quiet():
        from transformers import AutoModelForSequenceClassification

    names = ("classifier", "classifier")
    return load_whole(AutoModelForSequenceClassification, folder, names, dtype=dtype)
