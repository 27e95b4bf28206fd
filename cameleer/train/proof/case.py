"""What is proved on: a few of the user's conversations, and runs on them as training makes them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch

from cameleer.chat.conversation import read_conversations
from cameleer.core.errors import UserError
from cameleer.train.config import Reduction, TrainConfig
from cameleer.train.loop import Run, conversations_file
from cameleer.train.parallel import Ranks
from cameleer.train.proof.restated import Restated, restated

READ = 1000  # conversations among which some are chosen
CHOSEN = 4
SHORT = 96  # tokens; conversations up to so many are preferred, so that a proof takes seconds
SMALL = 1 << 29  # weights up to which ranks are started, trained ones up to which states are saved
LAST = 4  # steps of a whole run


def choose(config: TrainConfig, tokenizer: Any, template: Any) -> list[Restated]:
    """A few short conversations: that with most turns, the others from all over the beginning."""
    file = conversations_file(config.data)
    some = islice(read_conversations(file), READ)
    found = [restated(one, tokenizer, template.jinja) for one in some]
    usable = [one for one in found if any(one.learned) and one.tokens <= config.max_seq_length]
    short = [one for one in usable if one.tokens <= SHORT]
    if len(short) < CHOSEN:
        short = sorted(usable, key=lambda one: one.tokens)[:CHOSEN]
    if len(short) < 2:
        raise UserError(
            f"fewer than two of its first {READ} conversations fit into {config.max_seq_length} "
            "tokens with something to learn",
            file=file,
            field="max_seq_length",
        )
    most = max(short, key=lambda one: len(one.answers))
    rest = [one for one in short if one is not most]
    step = max(1, len(rest) // (CHOSEN - 1))
    return [most, *rest[::step][: CHOSEN - 1]]


def small(config: TrainConfig, data: Path, longest: int) -> TrainConfig:
    """The same configuration on the chosen conversations, without what proves nothing."""
    lora = config.lora.model_copy(update={"lora_dropout": 0.0}) if config.lora else None
    changes: dict[str, Any] = {
        "data": data,
        "max_seq_length": longest,
        "num_train_epochs": LAST,
        "max_steps": LAST,
        "per_device_train_batch_size": 1,
        "train_batch_rows": 2,
        "save_steps": LAST // 2,
        "lora": lora,
        "validation_fraction": 0.0,
        "validation_conversations": None,
        "validation_data": None,
        "eval_steps": None,
        "stop_on_spike": None,
        "report_to": [],
    }
    return config.model_copy(update=changes)


class Case:
    """The conversations that are proved on, in one row or in two, and the runs that learn them."""

    def __init__(
        self,
        config: TrainConfig,
        base: Path,
        chosen: list[Restated],
        tokenizer: Any,
        folder: Path,
    ) -> None:
        self.config, self.base, self.chosen = config, base, chosen
        self.tokenizer, self.folder = tokenizer, folder
        self.everything = list(range(len(chosen)))
        half = max(1, len(chosen) // 2)
        self.rows = [self.everything[:half], self.everything[half:]]
        self.token_wise: Reduction = (
            "token" if config.loss_reduction == "paper" else config.loss_reduction
        )

    def run(self, precision: str) -> Run:
        """A run as training makes it, without dropout, its adapters doing something."""
        config = self.config.model_copy(update={"precision": precision})
        return comparable(config, self.base, self.folder / precision, Ranks())

    def learned(self, run: Run, index: int) -> list[bool]:
        """Which tokens are learned: restated; by the paper's rule, which has no plain restatement,
        as they are."""
        if self.config.rule == "fixed":
            return self.chosen[index].learned
        span = slice(run.tokens.starts[index], run.tokens.starts[index + 1])
        learned: list[bool] = run.tokens.supervised[span].tolist()
        return learned


def comparable(config: TrainConfig, base: Path, folder: Path, ranks: Ranks) -> Run:
    """A run without dropout, whose adapters do something: they start from zero."""
    run = Run(config, base, config.data, folder, folder.parent / "stopped", ranks)
    run.model.eval()
    with torch.no_grad():
        for name, weight in run.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.01)
    return run


def too_much(what: str, number: int) -> str | None:
    """Why something is not shown: a proof is to take little time and room."""
    return f"{number} {what}: shown up to {SMALL}" if number > SMALL else None
