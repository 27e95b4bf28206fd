"""Merged weights are base plus adapters, and what cannot be merged truly is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cameleer.core.errors import UserError
from cameleer.model.adapters import LoraSpec, add_lora
from cameleer.model.load import load_model
from cameleer.release.merge import adapter_of, merge

Make = Callable[..., Path]


@pytest.fixture
def adapter(tiny_model: Make, tmp_path: Path) -> Path:
    """A peft folder of random adapters on a tiny llama."""
    torch.manual_seed(1)
    model = add_lora(load_model(tiny_model("llama"), torch.float32), LoraSpec(r=4, lora_alpha=8))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(folder / "model.safetensors")
    return found


def settle(file: Path, **fields: Any) -> None:
    """Change fields of a JSON file, or make it."""
    facts = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**facts, **fields}))


def test_merged_is_base_plus_scaled_product(
    adapter: Path, tiny_model: Make, tmp_path: Path
) -> None:
    base, parts = tensors(tiny_model("llama")), load_file(adapter / "adapter_model.safetensors")
    outcome = merge(adapter_of(adapter), tmp_path / "merged")
    found = tensors(tmp_path / "merged")
    assert found.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if (down := parts.get(f"{stem}.lora_A.weight")) is not None:
            weight = weight + parts[f"{stem}.lora_B.weight"] @ down * (8 / 4)
            changed += 1
        assert torch.allclose(found[name], weight, rtol=1e-6, atol=1e-6), name
    assert changed == 14
    assert outcome["dtype"] == "float32"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        mine, theirs = tmp_path / "merged" / name, tiny_model("llama") / name
        assert mine.read_bytes() == theirs.read_bytes()
    load_model(tmp_path / "merged", torch.float32)


def test_a_run_is_merged_as_it_was_trained(adapter: Path, tiny_model: Make, tmp_path: Path) -> None:
    """Its base was read in bf16 and is written in float32: rounded as the run had it."""
    run = tmp_path / "run"
    shutil.copytree(adapter, run / "adapter")
    settle(run / "config.json", dtype="float32")
    settle(run / "manifest.json", kind="train", config={}, outcome={"dtype": "bfloat16"})
    (run / "tokenizer.json").write_text('{"the": "run\'s"}')
    merge(adapter_of(run), tmp_path / "merged")
    found, base = tensors(tmp_path / "merged"), tensors(tiny_model("llama"))
    embeddings = found["model.embed_tokens.weight"]
    assert embeddings.dtype == torch.float32
    assert torch.equal(embeddings, base["model.embed_tokens.weight"].bfloat16().float())
    assert (tmp_path / "merged/tokenizer.json").read_text() == '{"the": "run\'s"}'


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "IA3"}, "is of type IA3, only LORA"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"base_model_name_or_path": None}, "give --base MODEL"),
    ],
)
def test_what_cannot_be_merged_truly_is_refused(
    fields: dict[str, Any], said: str, adapter: Path
) -> None:
    settle(adapter / "adapter_config.json", **fields)
    with pytest.raises(UserError, match=said):
        adapter_of(adapter)


def test_a_run_in_4_bits_is_its_own_merged_model(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "run" / "adapter")
    settle(tmp_path / "run" / "manifest.json", config={"quantization": "nf4"})
    with pytest.raises(UserError, match="holds the merged model already"):
        adapter_of(tmp_path / "run")


def test_no_adapter(tiny_model: Make, adapter: Path) -> None:
    with pytest.raises(UserError, match="holds no adapter"):
        adapter_of(tiny_model("llama"))
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="pickles run code"):
        adapter_of(adapter)


def test_adapters_of_another_base_are_refused(
    adapter: Path, tiny_model: Make, tmp_path: Path
) -> None:
    deeper = tiny_model("llama", num_hidden_layers=1)
    with pytest.raises(UserError, match="does not fit the base"):
        merge(adapter_of(adapter, str(deeper)), tmp_path / "merged")
    wider = tiny_model("llama", intermediate_size=64)
    with pytest.raises(UserError, match="does not fit the base"):
        merge(adapter_of(adapter, str(wider)), tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


def test_a_lost_weight_is_no_zero(adapter: Path, tmp_path: Path) -> None:
    parts = load_file(adapter / "adapter_model.safetensors")
    parts.pop(next(iter(parts)))
    save_file(parts, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match="1 weights have no counterpart"):
        merge(adapter_of(adapter), tmp_path / "merged")


def test_nothing_is_asked_of_the_hub(
    adapter: Path, tiny_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapters' own name of their base is another's: peft would look for it there."""

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", asked)
    monkeypatch.setattr("socket.socket.connect", asked)
    settle(adapter / "adapter_config.json", base_model_name_or_path="org/base")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(adapter_of(adapter, str(tiny_model("llama"))), tmp_path / "merged")
    assert (tmp_path / "merged/model.safetensors").is_file()


def test_embeddings_saved_with_the_adapters_have_their_place(
    adapter: Path, tiny_model: Make, tmp_path: Path
) -> None:
    from peft import PeftModel

    model = load_model(tiny_model("llama"), torch.float32)
    adapted = PeftModel.from_pretrained(model, str(adapter))
    adapted.save_pretrained(tmp_path / "saved", save_embedding_layers=True)
    held = load_file(tmp_path / "saved/adapter_model.safetensors")
    assert any("embed_tokens" in name for name in held)
    merge(adapter_of(tmp_path / "saved"), tmp_path / "merged")
    merge(adapter_of(adapter), tmp_path / "plain")
    plain = tensors(tmp_path / "plain")
    assert all(torch.equal(one, plain[name]) for name, one in tensors(tmp_path / "merged").items())


def test_a_place_inside_what_is_read_or_of_a_file_is_refused_first(
    adapter: Path, tiny_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.release.merge._merged", pytest.fail)
    (tmp_path / "file").write_text("mine")
    for out, said in (
        (adapter / "deep" / "in", "lies in .*adapter, which is read"),
        (tiny_model("llama") / "in", "lies in .*, which is read"),
        (tmp_path / "file", "is a file, a folder is needed"),
        (tmp_path / "file" / "x", "cannot be written"),
    ):
        with pytest.raises(UserError, match=said):
            merge(adapter_of(adapter), out)
    assert not (adapter / "deep").exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_weights_that_are_cut_off_do_not_blame_the_base(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: .* is it cut off\?"):
        adapter_of(adapter)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"r": "x"}, "field 'r': is not a whole number"),
        ({"r": True}, "field 'r': is not a whole number"),
        ({"lora_alpha": None}, "field 'lora_alpha': is not a number"),
        ({"target_modules": 5}, "field 'target_modules': is not text or a list"),
        ({"target_modules": ["q_proj", 5]}, "field 'target_modules': is not text or a list"),
        ({"rank_pattern": [1]}, "field 'rank_pattern': is not an object"),
    ],
)
def test_settings_of_other_types_are_named(
    fields: dict[str, Any], said: str, adapter: Path
) -> None:
    settle(adapter / "adapter_config.json", **fields)
    with pytest.raises(UserError, match=said):
        adapter_of(adapter)


def test_a_setting_that_peft_stumbles_over_is_one_line(adapter: Path, tmp_path: Path) -> None:
    settle(adapter / "adapter_config.json", lora_dropout="x")
    with pytest.raises(UserError, match=r"adapter_config\.json: peft cannot use it: "):
        merge(adapter_of(adapter), tmp_path / "merged")
