"""Reviewers of random weights: probabilities as a plain forward pass has them, cuts, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cameleer.core.errors import UserError
from cameleer.engines.reviewer import ROWS, find_reviewer, open_reviewer

ROOM = 40  # tokens that the tiny classifier reads
TEXTS = ["", "In the desert.", "the camel lives " * 3, "Where?", "so it is, of course", "Where?!"]


def read_all(folder: Path, kind: Any, texts: list[str]) -> dict[str, tuple[float, bool]]:
    reader = open_reviewer(folder, kind)
    batches = reader.batches(texts)
    assert sorted(text for batch in batches for text in batch) == sorted(texts)
    assert all(len(batch) <= ROWS for batch in batches)
    return {
        text: said
        for batch in batches
        for text, said in zip(batch, reader.read(batch), strict=True)
    }


def test_a_classifier_says_what_one_text_alone_would_get(tiny_classifier: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    long = "Where does the camel live? " * 20
    found = read_all(tiny_classifier, "label", [*TEXTS, long])
    tokenizer = AutoTokenizer.from_pretrained(tiny_classifier)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier).eval()
    for text, (probability, cut) in found.items():
        whole = tokenizer(text)["input_ids"]
        ids = tokenizer(text, truncation=True, max_length=ROOM)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].double()
        assert probability == pytest.approx(float(logits.softmax(0)[1]), abs=1e-5)
        assert cut == (len(whole) > ROOM)
    assert found[long][1]
    assert len({round(probability, 3) for probability, _ in found.values()}) > 4


def test_yes_is_the_product_of_its_tokens(tiny_model: Callable[[str], Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_model("llama")
    found = read_all(folder, "yes", TEXTS[1:])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for text, (probability, cut) in found.items():
        before, ids = tokenizer(text)["input_ids"], tokenizer(f"{text} yes")["input_ids"]
        assert len(ids) - len(before) > 1  # " yes" is no single token of this tokenizer
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].float()
        steps = logits.log_softmax(-1)[range(len(before) - 1, len(ids) - 1), ids[len(before) :]]
        # The reader may compute in bf16 where the processor has it.
        assert probability == pytest.approx(float(steps.sum().exp()), rel=0.1)
        assert not cut


def test_a_judge_reads_the_end_of_what_is_too_long(tiny_model: Callable[[str], Path]) -> None:
    long = "Where does the camel live? " * 60
    found = read_all(tiny_model("llama"), "yes", [f"one{long}True:", f"two{long}True:", "True:"])
    (one, first), (two, second), (_, short) = found.values()
    assert (first, second, short) == (True, True, False)
    assert one == pytest.approx(two, rel=1e-6)


def test_batches_do_not_depend_on_the_order_of_equal_work(tiny_classifier: Path) -> None:
    reader = open_reviewer(tiny_classifier, "label")
    texts = ["a" * (n % 37) + str(n) for n in range(100)]
    batches = reader.batches(texts)
    assert batches == reader.batches(texts)
    lengths = [len(text) for batch in batches for text in batch]
    assert lengths[0] == max(lengths)
    assert len(batches) == 4


def changed(classifier: Path, to: Path, **changes: Any) -> Path:
    shutil.copytree(classifier, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return to


def test_unfit_models_are_refused_before_they_are_loaded(
    tiny_classifier: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not a causal language model, but: Roberta"):
        find_reviewer(str(tiny_classifier), "yes")
    with pytest.raises(UserError, match="is not a classifier of texts, but: LlamaForCausalLM"):
        find_reviewer(str(tiny_model("llama")), "label")
    one = changed(tiny_classifier, tmp_path / "one", id2label={"0": "toxic"})
    with pytest.raises(UserError, match="one label only"):
        find_reviewer(str(one), "label")
    (one / "model.safetensors").rename(one / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no safetensors weights.*reviewers\.md"):
        find_reviewer(str(one), "label")
    with pytest.raises(UserError, match="no model 'nowhere'"):
        find_reviewer("nowhere", "label")


def test_weights_that_are_missing_are_no_random_numbers(
    tiny_classifier: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = changed(tiny_classifier, tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "classifier.out_proj" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"2 weights are missing, such as classifier\.out_proj"):
        open_reviewer(folder, "label")


def test_the_fingerprint_is_that_of_the_files(tiny_classifier: Path, tmp_path: Path) -> None:
    copy = changed(tiny_classifier, tmp_path / "copy")
    (copy / "config.json").write_bytes((tiny_classifier / "config.json").read_bytes())
    assert find_reviewer(str(copy), "label")[1] == find_reviewer(str(tiny_classifier), "label")[1]
    other = changed(tiny_classifier, tmp_path / "other", layer_norm_eps=1e-3)
    assert find_reviewer(str(other), "label")[1] != find_reviewer(str(tiny_classifier), "label")[1]
