"""The training loop: rows in, checkpoint out; killed anywhere, it goes on to the same bits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cameleer.chat.template import template_named
from cameleer.core.artifact import SCRATCH, Stage, fingerprint_of
from cameleer.core.console import Ticker, note, progress
from cameleer.core.errors import UserError
from cameleer.core.files import JsonlLog
from cameleer.core.jsonl import read_jsonl
from cameleer.data.loader import (
    Row,
    Tokens,
    epoch_rows,
    epoch_steps,
    say_what_was_left_out,
    tokenise,
)
from cameleer.model.adapters import add_lora
from cameleer.model.attention import NAME as ATTENTION
from cameleer.model.attention import Documents, positions
from cameleer.model.load import (
    device_and_dtype,
    load_model,
    load_tokenizer,
    model_fingerprint,
    model_folder,
    quiet,
)
from cameleer.model.packing import require_packing, room
from cameleer.train.checkpoint import load_state, save_checkpoint, save_state
from cameleer.train.config import TrainConfig
from cameleer.train.loss import SHAPES, head_in_chunks, supervised_loss
from cameleer.train.optim import AdamW, learning_rate
from cameleer.train.pace import Pace, peak_memory
from cameleer.train.reduction import StepTotals, token_weights
from cameleer.train.watch import DocumentLosses, StoppedError, Watch

FROM_THE_START = {"step": 0, "tokens": 0, "supervised": 0, "seconds": 0.0}


def train(config: TrainConfig, folder: Path) -> Path:
    """Fine-tune as `config` says and leave the checkpoint in `folder`; give it again to resume."""
    base, data = model_folder(config.model), conversations_file(config.data)
    stage = train_stage(config, folder, model_fingerprint(base), fingerprint_of(config.data))
    stopped = folder.with_name(f"{folder.name}.stopped")
    if not stage.run(lambda partial: _Run(config, base, data, partial, stopped).to_the_end()):
        note(f"done before: {folder}")
    return folder


def train_stage(config: TrainConfig, folder: Path, model: str, data: str) -> Stage:
    """The stage of a run; `model` and `data` are fingerprints."""
    return Stage("train", folder, config.deciding(), {"model": model, "data": data})


def conversations_file(data: Path) -> Path:
    """The JSONL file that `data` names: itself, or the one in a mixture's folder."""
    file = data / "conversations.jsonl" if data.is_dir() else data
    if not file.is_file():
        raise UserError(
            "no such file", file=file, field="data", hint="give a JSONL file or mixture"
        )
    return file


@dataclass(frozen=True)
class MicroBatch:
    """Rows laid one behind the other: ids and positions [1, tokens], supervised [tokens].

    documents: their indices; lengths: of them, the filling at the end included; counts: supervised
    tokens of each, again with the filling; tokens: all without it.
    """

    ids: Tensor
    positions: Tensor
    supervised: Tensor
    documents: list[int]
    lengths: list[int]
    counts: list[int]
    tokens: int


def micro_batch(rows: list[Row], tokens: Tokens, device: torch.device) -> MicroBatch:
    """The tensors of some rows; what lies across two documents is never attended to.

    They are filled up to a multiple of SHAPES by a document that nothing is learned of: matrices of
    few different shapes are multiplied by few different kernels, and each costs time and memory.
    """
    documents = [index for row in rows for index in row]
    spans = [slice(tokens.starts[index], tokens.starts[index + 1]) for index in documents]
    ids = torch.cat([torch.from_numpy(tokens.ids[span].astype("int64")) for span in spans])
    mask = torch.cat([torch.from_numpy(tokens.supervised[span].copy()) for span in spans])
    lengths = [int(span.stop - span.start) for span in spans]
    if filling := -len(ids) % SHAPES:
        ids, mask = F.pad(ids, (0, filling)), F.pad(mask, (0, filling))
        lengths.append(filling)
    return MicroBatch(
        ids[None].to(device),
        positions(lengths).to(device),
        mask.to(device),
        documents,
        lengths,
        [int(part.sum()) for part in torch.split(mask, lengths)],
        len(ids) - filling,
    )


class _Run:
    """One run of the loop, on one process."""

    def __init__(
        self, config: TrainConfig, base: Path, data: Path, folder: Path, stopped: Path
    ) -> None:
        self.config, self.folder, self.scratch = config, folder, folder / SCRATCH
        self.template = template_named(config.template)
        self.tokenizer = load_tokenizer(str(base))
        self.tokens = tokenise(
            data,
            self.tokenizer,
            self.template,
            max_tokens=config.max_seq_length,
            on_long=config.on_long,
            rule=config.rule,
            folder=self.scratch / "tokens",
        )
        say_what_was_left_out(self.tokens.counts, config.max_seq_length)
        self.steps = self._steps()
        self.device, self.dtype = device_and_dtype(config.precision)
        torch.manual_seed(config.seed)  # adapters start from random numbers
        model = load_model(base, self.dtype, ATTENTION).to(self.device)
        require_packing(model)
        self._require_room(model)
        self.model = (add_lora(model, config.lora) if config.lora else model).train()
        head_in_chunks(self.model)
        self.optimizer = AdamW(self.model, config)
        self.watch = Watch(self.tokens, data, stopped, config.stop_on_spike)
        self.pace = Pace(self.model, self.device, self.dtype)

    def _steps(self) -> int:
        """Optimizer steps of the whole run; every epoch has as many rows as the first."""
        config = self.config
        rows = len(epoch_rows(self.tokens.lengths.tolist(), config.max_seq_length, config.seed, 0))
        per_step = config.per_device_train_batch_size * config.gradient_accumulation_steps
        steps = config.num_train_epochs * -(-rows // per_step)
        return min(steps, config.max_steps or steps)

    def _require_room(self, model: Any) -> None:
        most = room(model)
        longest = int(self.tokens.lengths.max())
        if most is not None and longest > most:
            raise UserError(
                f"a conversation has {longest} tokens, the model has room for {most}",
                field="max_seq_length",
                hint=f"set it to {most} at most",
            )
        known, highest = model.get_input_embeddings().num_embeddings, int(self.tokens.ids.max())
        if highest >= known:
            raise UserError(
                f"the tokenizer gives token {highest}, the model knows {known} tokens",
                field="model",
                hint="the folder's tokenizer belongs to another model",
            )

    def to_the_end(self) -> dict[str, Any]:
        """Train from where the folder's state stands, save the checkpoint, say how it went."""
        state = load_state(self.scratch, self.optimizer) or dict(FROM_THE_START)
        if state["step"]:
            note(f"resuming after step {state['step']} of {self.steps}")
        self.watch.take_up(self._forget_metrics_after(state["step"]))
        log = JsonlLog(self.folder / "metrics.jsonl")
        with progress("train", self.steps, state["step"]) as ticker:
            for step, epoch, batches in self._remaining(state["step"]):
                try:
                    row = self._one_step(step, epoch, batches, state)
                except StoppedError:
                    save_state(self.scratch, self.optimizer, {**state, "step": step})
                    raise
                log.append([row])
                self.watch.take_up([row])
                if self._time_to_save(step + 1, state):
                    log.sync()
                    save_state(self.scratch, self.optimizer, {**state, "step": step + 1})
                self._tick(ticker, row)
        log.close()
        return self._finish(row if self.steps > state["step"] else {}, state)

    def _remaining(self, done: int) -> Iterator[tuple[int, int, list[list[Row]]]]:
        """(step, epoch, micro-batches) of every optimizer step that is still to be taken."""
        config, step = self.config, 0
        for epoch in range(config.num_train_epochs):
            rows = epoch_rows(
                self.tokens.lengths.tolist(), config.max_seq_length, config.seed, epoch
            )
            for batches in epoch_steps(
                rows, config.per_device_train_batch_size, config.gradient_accumulation_steps
            ):
                if step >= self.steps:
                    return
                if step >= done:
                    yield step, epoch, batches
                step += 1

    def _one_step(
        self, step: int, epoch: int, batches: list[list[Row]], state: dict[str, Any]
    ) -> dict[str, Any]:
        """One optimizer step; returns its line for metrics.jsonl and counts it in `state`."""
        began = time.perf_counter()
        torch.manual_seed(self.config.seed * 1_000_003 + step)  # dropout, told by the step alone
        micro = [micro_batch(rows, self.tokens, self.device) for rows in batches]
        totals = StepTotals.of([batch.counts for batch in micro])
        total, nlls = 0.0, []
        for batch in micro:
            weights = token_weights(batch.counts, totals, self.config.loss_reduction)
            loss, nll = supervised_loss(
                self.model,
                batch.ids,
                batch.positions,
                batch.supervised,
                weights.to(self.device),
                Documents(batch.lengths),
            )
            torch.autograd.backward(loss)
            total += loss.item()
            nlls.append(nll)
        losses = DocumentLosses.of(
            [document for batch in micro for document in batch.documents],
            [count for batch in micro for count in batch.counts[: len(batch.documents)]],
            torch.cat(nlls).cpu(),
        )
        rate = learning_rate(step, self.steps, self.config)
        said: dict[str, float] = {}

        def check(norm: float) -> None:
            said.update(self.watch.check(step + 1, total, norm, losses))

        norm = self.optimizer.step(rate, self.config.max_grad_norm, check)
        seconds = time.perf_counter() - began
        tokens = sum(batch.tokens for batch in micro)
        state["tokens"] += tokens
        state["supervised"] += totals.supervised
        state["seconds"] += seconds
        return {
            "step": step + 1,
            "epoch": epoch + 1,
            "loss": total,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": tokens,
            "supervised_tokens": totals.supervised,
            **losses.by_source(self.tokens),
            **said,
            **self.pace.measured(
                [length for batch in micro for length in batch.lengths[: len(batch.documents)]],
                totals.supervised,
                tokens,
                seconds,
                self.steps - step - 1,
            ),
        }

    def _time_to_save(self, done: int, state: dict[str, Any]) -> bool:
        if done == self.steps:
            return False  # the checkpoint itself follows at once
        if self.config.save_steps:
            return done % self.config.save_steps == 0
        since: float = state["seconds"] - state.get("saved_at", 0.0)
        due = since >= 60 * self.config.save_minutes
        if due:
            state["saved_at"] = state["seconds"]
        return due

    def _tick(self, ticker: Ticker, row: dict[str, Any]) -> None:
        ticker.advance(
            info=f"loss {row['loss']:.3f}  {row['tokens_per_second']:.0f} tokens/s  "
            f"MFU {row['mfu']:.0%}  {row['memory_gib']:.1f} GiB"
        )

    def _forget_metrics_after(self, step: int) -> list[dict[str, Any]]:
        """Steps that were taken but not saved are taken again: their lines go; returns the rest."""
        file = self.folder / "metrics.jsonl"
        if not file.exists():
            return []
        JsonlLog(file).close()  # cuts off a torn line
        rows = [row for _, row in read_jsonl(file) if row["step"] <= step]
        file.unlink()
        log = JsonlLog(file)
        log.append(rows)
        log.close()
        return rows

    def _finish(self, last: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        counts = self.tokens.counts
        if self.config.save_precision == "fp32":
            self.model.float()  # before adapters are folded in, so that they are not rounded either
            self.optimizer.unround()
        with quiet():
            save_checkpoint(self.folder, self.model, self.tokenizer, self.template)
        return {
            "steps": self.steps,
            "tokens": state["tokens"],
            "conversations": counts["kept"],
            "supervised_tokens": state["supervised"],
            "cut": counts["cut"],
            "dropped": counts["dropped_long"] + counts["dropped_no_supervised"],
            "counts": dict(counts),
            "final_loss": last.get("loss"),
            "spikes": self.watch.noted,
            "tokens_per_second": round(state["tokens"] / max(state["seconds"], 1e-9), 1),
            "peak_memory_gib": round(peak_memory(self.device) / 2**30, 3),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
        }
