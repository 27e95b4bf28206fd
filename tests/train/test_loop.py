"""A whole fine-tuning run: what it learns from, what it leaves, and what it refuses."""

from __future__ import annotations

import fcntl
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from cameleer.chat.conversation import Message
from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.data.loader import Tokens
from cameleer.model.adapters import LoraSpec
from cameleer.model.load import load_model, load_tokenizer
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train
from cameleer.train.micro_batch import micro_batch
from tests.conftest import FAMILIES

Make = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def shared() -> dict[str, Path]:
    return {}


@pytest.fixture
def finished(
    config: Make, shared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that nobody disturbed."""
    if "run" not in shared:
        shared["run"] = train(config(), tmp_path_factory.mktemp("runs") / "run")
    return shared["run"]


def outcome(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["outcome"]
    return facts


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


def furthest(one: Path, other: Path) -> float:
    """The largest difference between weights of two checkpoints."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_what_a_run_leaves(finished: Path, metrics: Metrics, config: Make) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    rows = metrics(finished)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5  # it learns
    rates = [row["learning_rate"] for row in rows]
    assert rates == pytest.approx(
        [1e-3 * r for r in (1 / 3, 2 / 3, 1, *(n / 9 for n in range(9, 0, -1)))]
    )
    facts = outcome(finished)
    assert facts["steps"] == 12
    assert facts["tokens"] == sum(row["tokens"] for row in rows)
    assert facts["final_loss"] == rows[-1]["loss"]
    assert (facts["cut"], facts["dropped"], facts["conversations"]) == (0, 0, 40)
    assert furthest(finished, Path(config().model)) > 1e-3


def test_an_epoch_learns_every_supervised_token_once(
    config: Make, metrics: Metrics, tmp_path: Path, data: Path, tiny_tokenizer: Any
) -> None:
    from cameleer.chat.conversation import read_conversations

    folder = train(config(num_train_epochs=2, max_steps=None), tmp_path / "run")
    rendered = list(render(read_conversations(data), tiny_tokenizer, template_named("tulu")))
    supervised = sum(sum(item.supervised) for item in rendered)
    for epoch in (1, 2):
        rows = [row for row in metrics(folder) if row["epoch"] == epoch]
        assert sum(row["supervised_tokens"] for row in rows) == supervised
        assert sum(row["tokens"] for row in rows) == sum(len(item.ids) for item in rendered)
    by_source = outcome(folder)["counts"]
    assert by_source["supervised: a"] + by_source["supervised: b"] == supervised
    assert outcome(folder)["supervised_tokens"] == 2 * supervised


def test_rows_are_filled_up_with_what_nothing_is_learned_of() -> None:
    ids, starts = np.arange(1, 71, dtype=np.uint32), np.array([0, 30, 70])
    sources, places = np.zeros(2, np.uint32), np.arange(2)
    tokens = Tokens(ids, np.ones(70, np.bool_), starts, sources, places, ["a"], Counter())
    batch = micro_batch([[1, 0]], tokens, torch.device("cpu"))
    assert batch.lengths == [40, 88]  # the filling with the last
    assert batch.tokens == 70
    assert batch.ids[0, :70].tolist() == [*range(31, 71), *range(1, 31)]
    assert batch.supervised.tolist() == [True] * 70 + [False] * 58
    assert batch.counts == [40, 30]
    assert batch.positions[0].tolist() == [*range(40), *range(30), *range(58)]


def test_the_first_steps_loss_is_that_of_each_conversation_alone(
    config: Make, metrics: Metrics, tmp_path: Path, data: Path, tiny_tokenizer: Any
) -> None:
    """All conversations in one step: the base model's mean over supervised tokens, unpacked."""
    import torch.nn.functional as F

    from cameleer.chat.conversation import read_conversations

    made = config(gradient_accumulation_steps=50, max_steps=1)
    folder = train(made, tmp_path / "run")
    model = load_model(Path(made.model), torch.float32, "eager")
    total, count = 0.0, 0
    for item in render(read_conversations(data), tiny_tokenizer, template_named("tulu")):
        ids, mask = torch.tensor([item.ids]), torch.tensor(item.supervised[1:], dtype=torch.bool)
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        total += F.cross_entropy(logits[mask], ids[0, 1:][mask], reduction="sum").item()
        count += int(mask.sum())
    [row] = metrics(folder)
    assert row["loss"] == pytest.approx(total / count, rel=1e-5)
    assert row["supervised_tokens"] == count


def test_accumulated_is_one_batch(config: Make, metrics: Metrics, tmp_path: Path) -> None:
    shapes = {"a": (1, 6), "b": (6, 1), "c": (2, 3)}
    for name, (batch, accumulation) in shapes.items():
        train(
            config(
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                max_steps=3,
            ),
            tmp_path / name,
        )
    for row, *others in zip(*(metrics(tmp_path / name) for name in shapes), strict=True):
        for other in others:
            assert other["supervised_tokens"] == row["supervised_tokens"]
            assert other["loss"] == pytest.approx(row["loss"], rel=1e-4)
            assert other["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-3)
    assert furthest(tmp_path / "a", tmp_path / "b") < 1e-3


def test_the_same_run_gives_the_same_bits(
    config: Make, finished: Path, metrics: Metrics, tmp_path: Path
) -> None:
    """How often the state is saved changes nothing; the seed changes something."""
    again = train(config(save_steps=1), tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (
        finished / "model.safetensors"
    ).read_bytes()
    assert metrics(again) == metrics(finished)
    other = train(config(seed=43), tmp_path / "other")
    assert furthest(other, finished) > 1e-4


def test_a_finished_run_is_skipped(
    config: Make, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert train(config(save_minutes=1.0), finished) == finished
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before
    assert "done before" in capsys.readouterr().err


def test_another_run_is_not_overwritten(config: Make, finished: Path) -> None:
    with pytest.raises(UserError, match="holds another run"):
        train(config(learning_rate=1e-4), finished)


def test_two_at_work_on_one_folder(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.core.artifact.PATIENCE", 0.0)
    partial = tmp_path / ".run.partial"
    partial.mkdir()
    with (partial / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is at work"):
            train(config(), tmp_path / "run")


WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA": {"lora": {"r": 8}, "learning_rate": 2e-2},
    "QLoRA": {"lora": {"r": 8}, "learning_rate": 2e-2, "quantization": "nf4"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns(
    config: Make, metrics: Metrics, tmp_path: Path, family: str, way: str
) -> None:
    if way == "QLoRA":
        pytest.importorskip("bitsandbytes")
    rows = metrics(train(config(family, **WAYS[way]), tmp_path / "run"))
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5


def test_bf16(config: Make, metrics: Metrics, tmp_path: Path, finished: Path) -> None:
    folder = train(config(precision="bf16"), tmp_path / "run")
    rounded = train(config(precision="bf16", save_precision="bf16"), tmp_path / "rounded")
    whole, halves = weights(folder), weights(rounded)
    assert {weight.dtype for weight in whole.values()} == {torch.float32}
    assert all(torch.equal(whole[name].bfloat16(), half) for name, half in halves.items())
    assert not all(torch.equal(whole[name], half.float()) for name, half in halves.items())
    assert outcome(folder)["dtype"] == "bfloat16"
    for found, wanted in zip(metrics(folder), metrics(finished), strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=0.1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"on_long": "error", "max_seq_length": 30}, "tokens, over the limit of 30"),
        ({"max_seq_length": 8}, "learned from .40 of 40 conversations cut at 8 tokens .* dropped"),
        ({"data": Path("/no/such.jsonl")}, "no such file"),
        ({"model": "/no/such"}, "no model '/no/such'"),
        ({"template": "tulo"}, "did you mean 'tulu'"),
        ({"learning_rate": 1e30, "max_grad_norm": None}, "not a number at step"),
        ({"lora": LoraSpec(target_modules=["no_such"])}, "no_such"),
    ],
)
def test_what_the_user_can_mend(
    config: Make, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        train(config().model_copy(update=changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"max_grad_norm": -1.0},  # elsewhere: do not clip; here it would climb instead of descend
        {"max_grad_norm": 0.0},
        {"adam_beta1": 2.0},
        {"adam_epsilon": 0.0},
        {"seed": -1},
        {"lora": {"r": 0}},
        {"lora": {"lora_alpha": -16}},
        {"lora": {"lora_dropout": 1.0}},
    ],
)
def test_numbers_that_make_no_sense(config: Make, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="should be"):
        config(**changes)


def test_a_conversation_longer_than_the_model_has_room_for(config: Make, tmp_path: Path) -> None:
    data = tmp_path / "long.jsonl"
    turns = [{"role": "user", "content": "sand " * 300}, {"role": "assistant", "content": "yes"}]
    write_jsonl(data, [{"id": "x", "messages": turns}])
    with pytest.raises(UserError, match="the model has room for 256"):
        train(config("opt", data=data, max_seq_length=4096), tmp_path / "run")


def test_a_tokenizer_of_another_model(
    config: Make, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), model)
    facts = json.loads((model / "config.json").read_text())
    file = model / "model.safetensors"
    from safetensors.torch import save_file

    cut = {
        name: weight[:100].clone() if len(weight) == 320 else weight
        for name, weight in load_file(file).items()
    }
    save_file(cut, file, metadata={"format": "pt"})
    (model / "config.json").write_text(json.dumps(facts | {"vocab_size": 100}))
    with pytest.raises(UserError, match=r"gives token \d+, '\S+', the model knows 100"):
        train(config().model_copy(update={"model": str(model)}), tmp_path / "run")


@pytest.mark.parametrize(
    ("on_long", "cut", "dropped"), [("cut", 10, 0), ("drop", 0, 10)], ids=["cut", "drop"]
)
def test_what_was_cut_or_dropped_is_in_the_manifest(
    config: Make,
    tmp_path: Path,
    data: Path,
    tiny_tokenizer: Any,
    on_long: str,
    cut: int,
    dropped: int,
) -> None:
    from cameleer.chat.conversation import read_conversations

    rendered = list(render(read_conversations(data), tiny_tokenizer, template_named("tulu")))
    limit = sorted(len(item.ids) for item in rendered)[-11]
    over = sum(len(item.ids) > limit for item in rendered)
    assert 0 < over <= 10
    folder = train(config(max_seq_length=limit, on_long=on_long, max_steps=1), tmp_path / "run")
    facts = outcome(folder)
    assert (facts["cut"], facts["dropped"]) == (cut and over, dropped and over)
    assert facts["conversations"] == 40 - facts["dropped"]


# ---- the checkpoint


def test_the_checkpoint_is_read_by_plain_transformers(finished: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(finished)
    assert model.dtype == torch.float32
    assert "cameleer" not in (finished / "config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(finished)
    ids = tokenizer("Where does the camel live?", return_tensors="pt")["input_ids"]
    ours = load_model(finished, torch.float32, "eager")
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, ours(ids).logits, atol=1e-4)
    assert (
        ids.tolist()
        == load_tokenizer(str(finished))("Where does the camel live?", return_tensors="pt")[
            "input_ids"
        ].tolist()
    )
    assert not hasattr(tokenizer, "cameleer")


@pytest.mark.parametrize(("own", "wanted"), [(7, [1, 7]), ([1, 7], [1, 7]), (None, 1), (1, 1)])
def test_the_checkpoint_ends_where_it_learned_to(
    config: Make, tmp_path: Path, own: Any, wanted: Any
) -> None:
    """As Llama's and Qwen's bases, whose generation ends elsewhere than a chat does."""
    base = tmp_path / "base"
    shutil.copytree(config().model, base)
    settings = json.loads((base / "generation_config.json").read_text()) | {"eos_token_id": own}
    (base / "generation_config.json").write_text(json.dumps(settings))
    made = config(max_steps=1, lora=LoraSpec(r=4)).model_copy(update={"model": str(base)})
    saved = json.loads((train(made, tmp_path / "run") / "generation_config.json").read_text())
    assert saved["eos_token_id"] == wanted


def test_the_checkpoints_chat_template_is_ours(finished: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer, tulu = AutoTokenizer.from_pretrained(finished), template_named("tulu")
    turns = [
        Message("system", "Be kind."),
        Message("user", " Where? "),
        Message("assistant", "There.\n"),
        Message("user", "And now?"),
        Message("assistant", "Here."),
    ]
    chat = [{"role": turn.role, "content": turn.content} for turn in turns]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == tulu.text(turns, "</s>")
    asked = tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)
    assert asked == tulu.prefix(turns[:-1], "</s>", cue=True, strip=True)
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    assert ids == tokenizer(tulu.text(turns, "</s>"))["input_ids"]


def test_the_checkpoint_keeps_what_the_base_says_of_its_tokenizer(
    config: Make, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), model)
    file = model / "tokenizer_config.json"
    before = json.loads(file.read_text()) | {"model_max_length": 256, "padding_side": "left"}
    file.write_text(json.dumps(before))
    train(config(max_steps=1).model_copy(update={"model": str(model)}), tmp_path / "run")
    after = json.loads((tmp_path / "run" / "tokenizer_config.json").read_text())
    assert {key: after.get(key) for key in before} == before


def test_a_checkpoint_can_be_trained_on(config: Make, finished: Path, tmp_path: Path) -> None:
    more = config(max_steps=2).model_copy(update={"model": str(finished)})
    folder = train(more, tmp_path / "more")
    assert furthest(folder, finished) > 0


@pytest.mark.parametrize("sampling", [{}, {"do_sample": False}])
def test_a_base_with_strange_generation_settings_can_be_saved(
    config: Make, tmp_path: Path, tiny_model: Callable[[str], Path], sampling: dict[str, bool]
) -> None:
    """Llama 2's own folder had a temperature without sampling, which transformers won't save."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), model)
    settings = {"temperature": 0.9, "top_p": 0.6, "eos_token_id": 1, "bos_token_id": 0, **sampling}
    (model / "generation_config.json").write_text(json.dumps(settings))
    made = config(max_steps=1).model_copy(update={"model": str(model)})
    assert (train(made, tmp_path / "run") / "model.safetensors").exists()


# ---- LoRA


LORA = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.1}


def test_lora_trains_adapters_alone_and_merges_them(
    config: Make, metrics: Metrics, tmp_path: Path
) -> None:
    from peft import PeftModel

    made = config(lora=LORA, learning_rate=1e-2)
    folder = train(made, tmp_path / "run")
    assert metrics(folder)[-1]["loss"] < metrics(folder)[0]["loss"] - 0.2
    base, merged = weights(Path(made.model)), weights(folder)
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    assert len(changed) == 2 * 7
    said = json.loads((folder / "adapter/adapter_config.json").read_text())
    assert said["base_model_name_or_path"] == made.model  # as the user called it
    assert not (folder / "adapter/README.md").exists()
    adapted = PeftModel.from_pretrained(
        load_model(Path(made.model), torch.float32, "eager"), folder / "adapter"
    ).eval()
    plain = load_model(folder, torch.float32, "eager")
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)


def test_lora_on_a_bf16_base_keeps_adapters_in_float32(config: Make, tmp_path: Path) -> None:
    folder = train(config(lora=LORA, precision="bf16", max_steps=2), tmp_path / "run")
    adapters = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in adapters.values()} == {torch.float32}
    assert {weight.dtype for weight in weights(folder).values()} == {torch.float32}
