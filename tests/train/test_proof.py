"""The proof: it passes where training is right, and names what is wrong where it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.data.loader import Tokens, tokenise
from cameleer.model.adapters import LoraSpec
from cameleer.model.attention import Documents
from cameleer.train import loop
from cameleer.train.checkpoint import load_state
from cameleer.train.config import Reduction, TrainConfig
from cameleer.train.proof import prove as proving
from cameleer.train.proof import ranks
from cameleer.train.proof.check import Check
from cameleer.train.proof.prove import prove
from cameleer.train.proof.restated import weights_by_hand
from cameleer.train.reduction import StepTotals

Make = Callable[..., TrainConfig]

PACKED = {"the loss is its plain restatement", "packed = unpacked"}
ACCUMULATED = {"the loss is its plain restatement", "accumulated = one batch"}


@pytest.fixture(autouse=True)
def one_rank(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Without other processes, but for the tests that ask for them."""
    if request.node.name != "test_two_ranks":
        monkeypatch.setattr(ranks, "too_much", lambda *_: "not in this test")


def failed(checks: list[Check]) -> set[str]:
    return {check.shows.partition(":")[0] for check in checks if check.passed is False}


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("llama", {}),
        ("llama, as many key heads", {"precision": "bf16", "loss_reduction": "conversation"}),
        ("gpt_neox", {"loss_reduction": "paper", "rule": "paper"}),
        ("opt", {"lora": LoraSpec(r=4, target_modules=["q_proj", "fc1"])}),
    ],
)
def test_what_is_right_passes(config: Make, model: str, changes: dict[str, Any]) -> None:
    checks = prove(config(model, **changes))
    assert not failed(checks)
    shown = [check for check in checks if check.passed]
    assert len(shown) == (22 if changes.get("precision") == "bf16" else 13)
    assert {check.precision for check in checks} >= {"fp32", changes.get("precision", "fp32")}
    assert {c.why for c in checks if c.passed is None} == {"not in this test"}


def test_attention_across_documents_is_caught(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config()
    monkeypatch.setattr(loop, "Documents", _Leaking)
    assert failed(prove(made)) == PACKED | {"accumulated = one batch"}


class _Leaking(Documents):
    """All documents of a row as if they were one."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__([sum(lengths)])


def test_a_mask_shifted_by_one_is_caught(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tokenise

    def shifted(*given: Any, **more: Any) -> Tokens:
        tokens = real(*given, **more)
        mask = torch.from_numpy(tokens.supervised.copy()).roll(-1).numpy()
        mask[tokens.starts[:-1]] = False
        return dataclasses.replace(tokens, supervised=mask)

    monkeypatch.setattr(loop, "tokenise", shifted)
    assert failed(prove(config())) == {
        "learned",
        "the mask is that of the text",
        "masked tokens have no gradient",
        "supervised tokens have one",
        "other targets at masked tokens change nothing",
        "the loss is its plain restatement",
    }


def test_a_wrong_weight_is_caught(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of micro-batches' means, where every token should weigh the same."""

    def each_its_own(counts: list[int], totals: StepTotals, _: Reduction) -> Tensor:
        return torch.full((sum(counts),), 1 / sum(counts) / totals.micro_batches)

    monkeypatch.setattr(loop, "token_weights", each_its_own)
    assert failed(prove(config())) == ACCUMULATED | {"packed = unpacked"}


def test_a_prompt_that_is_learned_is_caught(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tokenise

    def all_learned(*given: Any, **more: Any) -> Tokens:
        tokens = real(*given, **more)
        mask = tokens.supervised | True
        mask[tokens.starts[:-1]] = False
        return dataclasses.replace(tokens, supervised=mask)

    monkeypatch.setattr(loop, "tokenise", all_learned)
    found = failed(prove(config()))
    assert {"learned", "masked tokens have no gradient", "the loss is its plain restatement"} <= (
        found
    )
    assert "supervised tokens have one" not in found


def test_a_template_that_differs_from_its_jinja_is_caught(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = template_named("tulu")
    other = dataclasses.replace(real, headers={**real.headers, "user": "<|human|>\n"})
    monkeypatch.setattr(loop, "template_named", lambda _: other)
    assert "tokens are the template's text" in failed(prove(config()))


def test_a_state_that_is_not_whole_is_caught(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments are lost on the way; the weights are right."""
    real = load_state

    def forgetful(scratch: Path, optimizer: Any, ranks: Any) -> Any:
        found = real(scratch, optimizer, ranks)
        if found:
            state = {
                name: tensor * (0 if name.startswith("exp_avg.") else 1)
                for name, tensor in optimizer.state().items()
            }
            optimizer.load_state(state)
        return found

    monkeypatch.setattr(loop, "load_state", forgetful)
    assert failed(prove(config())) == {"resumed = unbroken, 2 + 2 steps"}


@pytest.mark.slow
def test_two_ranks(config: Make) -> None:
    checks = [check for check in prove(config()) if check.shows.startswith("2 ranks")]
    assert [check.passed for check in checks] == [True, True]


def test_ranks_that_differ_are_caught(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(folder: Path) -> None:
        from cameleer.core.files import write_json

        write_json(folder / "apart.json", {"fp32": {"loss": 1e-7, "gradient": 0.1}})

    monkeypatch.setattr(ranks, "too_much", lambda *_: None)
    monkeypatch.setattr(ranks, "started", started)
    found = [check for check in prove(config()) if check.passed is False]
    assert [check.shows for check in found] == ["2 ranks = 1 rank: gradient"]


def test_ranks_that_end_early_are_a_failure(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "too_much", lambda *_: None)
    monkeypatch.setattr(ranks, "started", lambda _: "two ranks ended: they were ill")
    found = [check.to_row() for check in prove(config()) if check.passed is False]
    assert {row["difference"] for row in found} == {"inf"}
    assert {row["why"] for row in found} == {"two ranks ended: they were ill"}


def test_nothing_to_compare(config: Make, tmp_path: Path) -> None:
    data = tmp_path / "one.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write_jsonl(data, [{"id": "x", "messages": turns}])
    with pytest.raises(UserError, match="fewer than two"):
        prove(config(data=data))


def test_weights_by_hand() -> None:
    rows, counts = [[0, 1], [2]], [1, 3, 2]
    assert weights_by_hand(rows, counts, "token") == pytest.approx(dict.fromkeys(range(3), 1 / 6))
    by_conversation = weights_by_hand(rows, counts, "conversation")
    assert by_conversation == pytest.approx({0: 1 / 3, 1: 1 / 9, 2: 1 / 6})
    assert weights_by_hand(rows, counts, "paper") == pytest.approx({0: 1 / 8, 1: 1 / 8, 2: 1 / 4})


def test_the_command_exits_with_1_and_names_what_failed(
    config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import json

    from cameleer.cli import main

    file = tmp_path / "sft.yaml"
    file.write_text(json.dumps(config().model_dump(mode="json", include={"model", "data"})))
    checks = [Check("packed = unpacked: loss", "fp32", 0.5, 1e-5, "relative")]
    monkeypatch.setattr(proving, "prove", lambda _: checks)
    with pytest.raises(SystemExit) as ended:
        main(["train", "proof", str(file), "--json"])
    assert ended.value.code == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["passed"]
    assert said["checks"][0]["shows"] == "packed = unpacked: loss"
    with pytest.raises(SystemExit):
        main(["train", "proof", str(file)])
    assert "FAIL" in capsys.readouterr().out
