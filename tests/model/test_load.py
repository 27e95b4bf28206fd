"""Loading: what the user may call a model, and folders that are not whole."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from cameleer.core.errors import UserError
from cameleer.model.embedded import embedded_folder
from cameleer.model.load import (
    device_and_dtype,
    load_model,
    load_tokenizer,
    model_fingerprint,
    model_folder,
    quiet,
    told_name,
)


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a tiny model that a test may spoil."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), copy)
    return copy


def test_a_whole_folder(folder: Path) -> None:
    assert model_folder(str(folder)) == folder
    model = load_model(folder, torch.float32)
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert load_model(folder, torch.bfloat16).dtype == torch.bfloat16
    assert load_tokenizer(str(folder)).eos_token == "</s>"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no-such", "no model 'no-such'.*embedded:smollm2"),
        ("./no/such", "no model './no/such'"),
        ("/no/such", "no model '/no/such'"),
        ("a/b/c", "no model 'a/b/c'"),
        ("embedded:smolm2-135m", "unknown embedded model.*did you mean 'smollm2-135m"),
    ],
)
def test_names_that_nothing_answers_to(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        model_folder(name)


def test_the_hub_cannot_be_reached() -> None:
    with pytest.raises(UserError, match="model 'no-such/model' cannot be fetched from the hub"):
        model_folder("no-such/model")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model folder: config\.json is missing"):
        model_folder(str(tmp_path))


def spoil(change: Callable[[dict[str, Any]], None], folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def test_missing_weights_are_not_random_numbers(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    spoil(lambda weights: weights.pop(name), folder)
    with pytest.raises(UserError, match=f"1 weights are missing, such as {name}"):
        load_model(folder, torch.float32)


def test_weights_of_another_shape(folder: Path) -> None:
    def shorten(weights: dict[str, Any]) -> None:
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:10].clone()

    spoil(shorten, folder)
    with pytest.raises(UserError, match="no model can be read"):
        load_model(folder, torch.float32)


def test_tied_weights_are_not_missing(tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("llama, as many key heads")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load_model(folder, torch.float32)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_file_cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match="no model can be read"):
        load_model(folder, torch.float32)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds no safetensors weights"):
        load_model(folder, torch.float32)


def test_code_in_a_folder_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "camel", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    marker = folder / "was_run"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    with pytest.raises(UserError, match="no model can be read"):
        load_model(folder, torch.float32)
    assert not marker.exists()


def test_no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="no tokenizer can be read"):
        load_tokenizer(str(folder))


def most_held(work: Callable[[], Any]) -> int:
    """Most bytes of memory that this process holds during `work`, beyond what it held before."""

    def held() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

    seen, done = [held()], threading.Event()

    def watch() -> None:
        while not done.wait(0.0005):
            seen.append(held())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return max(seen) - seen[0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_float32_folder_is_never_held_whole_to_be_bf16(tmp_path: Path) -> None:
    """Files are mapped, and each tensor converted by itself: nobody holds both."""
    sizes = {"vocab_size": 16_000, "hidden_size": 1024, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 8, "intermediate_size": 2048, "tie_word_embeddings": True}
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes))
    made.save_pretrained(tmp_path)
    size = sum(weight.numel() for weight in made.parameters()) * 2
    del made
    assert most_held(lambda: load_model(tmp_path, torch.bfloat16)) < 1.4 * size


def test_fingerprints_tell_models_apart(folder: Path, tmp_path: Path) -> None:
    before = model_fingerprint(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert model_fingerprint(copy) == before
    spoil(lambda weights: weights["lm_head.weight"].add_(1), folder)
    assert model_fingerprint(folder) != before
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123abcd"
    shutil.copytree(copy, snapshot)
    assert model_fingerprint(snapshot) == "models--a--b@0123abcd"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("/hub/models--meta-llama--Llama-2-7b-hf/snapshots/01c", "meta-llama/Llama-2-7b-hf"),
        ("/shared/hub/models--gpt2/snapshots/607a30d", "gpt2"),
        ("/runs/snapshots/01c7f73", "/runs/snapshots/01c7f73"),
        ("/runs/smollm2-135m-instruct", "/runs/smollm2-135m-instruct"),
        ("runs/tulu", "runs/tulu"),
        ("org/name", "org/name"),
        ("embedded:smollm2-135m-instruct", "embedded:smollm2-135m-instruct"),
        (str(embedded_folder("smollm2-135m-instruct")), "embedded:smollm2-135m-instruct"),
    ],
)
def test_a_folder_of_a_cache_is_called_by_what_it_was_fetched_by(model: str, name: str) -> None:
    assert told_name(model) == name


def test_precision() -> None:
    assert device_and_dtype("fp32")[1] == torch.float32
    assert device_and_dtype("bf16")[1] == torch.bfloat16
    assert device_and_dtype("auto")[1] in (torch.float32, torch.bfloat16)


def test_quiet_within_quiet() -> None:
    """Adapters are folded in quietly while a checkpoint is saved quietly."""
    from transformers.utils import logging as theirs

    with quiet():
        with quiet():
            pass
        assert not theirs.is_progress_bar_enabled()
    assert theirs.is_progress_bar_enabled()


def test_a_tokenizer_neither_cuts_nor_pads(folder: Path, tmp_path: Path) -> None:
    """Else what is saved would tell whether anything had been tokenised: both are kept in it."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.backend_tokenizer.enable_truncation(4)
    theirs.backend_tokenizer.enable_padding(length=9)
    theirs.save_pretrained(folder)
    ours = load_tokenizer(str(folder))
    text = "Where does the camel live?"
    assert ours.backend_tokenizer.encode(text).ids == ours(text)["input_ids"]
    ours.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"]) == (None, None)
