"""What users bring that is unusual or wrong: it works, or one line says what is the matter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.model.load import load_model, load_tokenizer
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train

Make = Callable[..., TrainConfig]


@pytest.fixture
def model(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a tiny model's folder that a test may change."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    return folder


@pytest.fixture
def run(config: Make, model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Trains the changed model for two steps."""

    def go(**changes: Any) -> Path:
        made = config(**{"max_steps": 2, **changes}).model_copy(update={"model": str(model)})
        return train(made, tmp_path / "run")

    return go


def change(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; those set to None are taken out."""
    facts = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: x for key, x in facts.items() if x is not None}))


def chats(folder: Path, *pairs: tuple[str, str], role: str = "assistant") -> Path:
    file = folder / "chats.jsonl"
    write_jsonl(
        file,
        (
            {
                "id": f"c{number}",
                "messages": [{"role": "user", "content": a}, {"role": role, "content": b}],
            }
            for number, (a, b) in enumerate(pairs)
        ),
    )
    return file


def test_a_tokenizer_without_an_end_token(model: Path, run: Callable[..., Path]) -> None:
    change(model / "tokenizer_config.json", eos_token=None)
    with pytest.raises(UserError, match="the tokenizer has no end-of-text token"):
        run()


def with_tokens(model: Path, *more: str) -> Any:
    """The folder's tokenizer with as many tokens as the model has embeddings, and `more`."""
    tokenizer = load_tokenizer(str(model))
    tokenizer.add_tokens([f"<{number}>" for number in range(320 - len(tokenizer))])
    tokenizer.add_tokens(list(more))
    tokenizer.save_pretrained(model)
    assert len(load_tokenizer(str(model))) == 320 + len(more)
    return tokenizer


def test_an_end_token_that_the_model_does_not_know(model: Path, run: Callable[..., Path]) -> None:
    with_tokens(model)
    change(model / "tokenizer_config.json", eos_token="<the end>")  # transformers adds the token
    with pytest.raises(UserError, match="the tokenizer gives token 320, '<the end>', the model"):
        run()


def test_a_tokenizer_without_padding(model: Path, run: Callable[..., Path]) -> None:
    """Rows are packed and generation is not padded: nobody needs such a token."""
    change(model / "tokenizer_config.json", pad_token=None)
    change(model / "config.json", pad_token_id=None)
    folder = run()
    assert load_tokenizer(str(folder)).pad_token is None
    assert load_model(folder, torch.float32).config.pad_token_id is None


def test_a_token_beyond_the_model_that_nobody_uses(model: Path, run: Callable[..., Path]) -> None:
    """As when a padding token was added to LLaMA's tokenizer and not to LLaMA."""
    with_tokens(model, "<never>")
    run()


def test_a_token_beyond_the_model_is_named(
    model: Path, run: Callable[..., Path], tmp_path: Path
) -> None:
    with_tokens(model, "<camel>")
    data = chats(tmp_path, ("what?", "a <camel>"))
    says = r"token 320, '<camel>', the model knows 320 tokens .*resize_token_embeddings"
    with pytest.raises(UserError, match=says):
        run(data=data)


def test_more_embeddings_than_tokens(model: Path, run: Callable[..., Path]) -> None:
    """Many models round their vocabulary up."""
    whole = load_model(model, torch.float32)
    whole.resize_token_embeddings(384)
    whole.save_pretrained(model)
    folder = run()
    made, before = load_model(folder, torch.float32), load_model(model, torch.float32)
    assert made.get_output_embeddings().weight.shape == (384, 64)
    unused = slice(320, 384)
    assert torch.equal(
        made.get_input_embeddings().weight[unused], before.get_input_embeddings().weight[unused]
    )


def test_chat_tags_that_grow_together_with_answers(
    model: Path,
    run: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    joining_tags: Any,
) -> None:
    """Of `<|assistant|>` + line break + `hi` the tokenizer makes a token `>\\nh`."""
    joining_tags.save_pretrained(model)
    assert joining_tags.tokenize("<|assistant|>\nhi")[-2:-1] == [">Ċh"]
    data = chats(tmp_path, *[("hello", f"hi {n}") for n in range(5)], ("hello", "no"))
    folder = run(data=data)
    said = capsys.readouterr().err
    assert "5 tokens reach from a prompt into its answer: not in the loss" in said
    assert (
        json.loads((folder / "manifest.json").read_text())["outcome"]["counts"]["straddling"] == 5
    )


@pytest.fixture
def joining_tags() -> Any:
    """Bytes, the end token, and one token that reaches from the role line into the answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "</s>", "<pad>", *signs, ">Ċ", ">Ċh"]
    vocabulary = {word: number for number, word in enumerate(words)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[(">", "Ċ"), (">Ċ", "h")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", bos_token="<s>")


def test_a_conversation_of_which_nothing_is_learned(
    run: Callable[..., Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mute = tmp_path / "mute.jsonl"
    lone = json.dumps({"id": "x", "messages": [{"role": "user", "content": "hello?"}]})
    mute.write_text(data.read_text() + lone + "\n")
    run(data=mute)
    said = capsys.readouterr().err
    assert "1 of 41 conversations dropped, nothing in them is to be learned" in said


@pytest.mark.parametrize("text", ["", json.dumps({"messages": [{"role": "user", "content": "a"}]})])
def test_nothing_to_learn_from_at_all(run: Callable[..., Path], tmp_path: Path, text: str) -> None:
    """An empty mixture, or one in which nobody answers."""
    empty = tmp_path / "mixture" / "conversations.jsonl"
    empty.parent.mkdir()
    empty.write_text(text)
    with pytest.raises(UserError, match="holds no conversation that can be learned from"):
        run(data=empty.parent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(model: Path, run: Callable[..., Path], number: float) -> None:
    file = model / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = number
    save_file(weights, file, metadata={"format": "pt"})
    says = r"1 of 6144 numbers in the weight 'model\.layers\.1\.mlp\.up_proj\.weight' are infinite"
    with pytest.raises(UserError, match=says) as caught:
        run()
    assert caught.value.file == str(model)
