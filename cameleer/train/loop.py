"""The training loop: rows in, checkpoint out; killed anywhere, it goes on to the same bits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor

from cameleer.chat.template import template_named
from cameleer.core.artifact import SCRATCH, Stage, fingerprint_of
from cameleer.core.console import Ticker, note, progress, warn
from cameleer.core.errors import UserError, out_of_memory
from cameleer.core.files import read_json, write_json
from cameleer.data.heldout import HeldOut, hold_out
from cameleer.data.loader import (
    Row,
    Tokens,
    epoch_rows,
    epoch_steps,
    micro_batches,
    say_what_was_left_out,
    tokenise,
)
from cameleer.model.adapters import ADAPTER, make_portable
from cameleer.model.attention import Documents
from cameleer.model.load import (
    device_and_dtype,
    load_tokenizer,
    model_fingerprint,
    model_folder,
    quiet,
    told_name,
)
from cameleer.train.checkpoint import (
    NotSavedError,
    disk_full,
    load_state,
    save_checkpoint,
    save_state,
    save_tokenizer,
    steps_saved,
)
from cameleer.train.config import TrainConfig
from cameleer.train.gather import save_weights
from cameleer.train.heap import keep_freed_memory
from cameleer.train.loss import supervised_loss
from cameleer.train.micro_batch import MicroBatch, micro_batch, supervised_counts
from cameleer.train.model_to_train import end_as_learned, model_to_train, require_room
from cameleer.train.optim import AdamW, learning_rate
from cameleer.train.pace import Pace, peak_memory
from cameleer.train.parallel import Ranks, joined
from cameleer.train.plan import model_config
from cameleer.train.planned import Planned
from cameleer.train.reduction import StepTotals, token_weights
from cameleer.train.trackers import MetricsLog, require_libraries
from cameleer.train.validation import Validation
from cameleer.train.watch import DocumentLosses, StoppedError, Watch

ROWS = "rows.json"  # of an unfinished run: how many its steps have, with how many ranks it began
FROM_THE_START = {"step": 0, "tokens": 0, "supervised": 0, "seconds": 0.0}


def train(config: TrainConfig, folder: Path) -> Path:
    """Fine-tune as `config` says and leave the checkpoint in `folder`; give it again to resume."""
    with joined() as ranks:
        base = ranks.first_before_others(lambda: model_folder(config.model))
        data = conversations_file(config.data)
        stopped = folder.with_name(f"{folder.name}.stopped")

        def work(partial: Path) -> dict[str, Any]:
            return Run(config, base, data, partial, stopped, ranks).to_the_end()

        if ranks.first:
            inputs = {"model": model_fingerprint(base), "data": fingerprint_of(config.data)}
            _require_same_run(config, folder, inputs, ranks.world)
            stage = train_stage(config, folder, inputs, ranks.world)

            def begin(partial: Path) -> dict[str, Any]:
                rows = config.rows_of_a_step(ranks.world)
                facts = {"rows": rows, "ranks": ranks.world, "fingerprint": stage.fingerprint}
                facts |= {"decided by": stage.config | dict(stage.inputs)}
                write_json(partial / SCRATCH / ROWS, facts)
                return work(ranks.told(partial))

            if not stage.run(begin):
                ranks.told(None)
                note(f"done before: {folder}")
        elif partial := ranks.told(None):
            work(partial)
    return folder


def train_stage(config: TrainConfig, folder: Path, inputs: dict[str, str], ranks: int = 1) -> Stage:
    """The stage of a run; inputs: fingerprints of `model` and `data`."""
    if config.validation_data:
        inputs = {**inputs, "validation_data": fingerprint_of(config.validation_data)}
    return Stage("train", folder, config.deciding(ranks), inputs)


def _require_same_run(
    config: TrainConfig, folder: Path, inputs: dict[str, str], ranks: int
) -> None:
    """UserError if an unfinished run with a state is another one than this: it would be lost."""
    stage = train_stage(config, folder, inputs, ranks)
    begun = stage.partial / SCRATCH / ROWS
    facts = read_json(begun) if begun.exists() else {}
    if facts.get("fingerprint", stage.fingerprint) == stage.fingerprint:
        return
    now = config.rows_of_a_step(ranks)
    as_begun = config.model_copy(update={"train_batch_rows": facts["rows"]})
    if train_stage(as_begun, folder, inputs, ranks).fingerprint == facts["fingerprint"]:
        raise UserError(
            f"the unfinished run takes {facts['rows']} rows in an optimizer step (it was begun "
            f"with {facts['ranks']} ranks), with {ranks} it would be {now}",
            file=folder,
            field="train_batch_rows",
            hint=f"set it to {facts['rows']} to go on, or give another -o",
        )
    if steps := steps_saved(stage.partial / SCRATCH):
        then, own = facts.get("decided by", {}), stage.config | dict(stage.inputs)
        other = sorted(key for key in then if then[key] != own.get(key))
        raise UserError(
            f"holds an unfinished run of {steps} steps with other settings "
            f"({', '.join(other) or 'of another version'})",
            file=stage.partial,
            hint="give those again to go on with it; else give another -o, or delete it",
        )


def conversations_file(data: Path) -> Path:
    """The JSONL file that `data` names: itself, or the one in a mixture's folder."""
    file = data / "conversations.jsonl" if data.is_dir() else data
    if not file.is_file():
        raise UserError(
            "no such file", file=file, field="data", hint="give a JSONL file or mixture"
        )
    return file


class Run:
    """One run of the loop: on one process, or on each of many ranks the same."""

    def __init__(
        self,
        config: TrainConfig,
        base: Path,
        data: Path,
        folder: Path,
        stopped: Path,
        ranks: Ranks,
    ) -> None:
        self.config, self.folder, self.scratch = config, folder, folder / SCRATCH
        self.ranks, self.rows_of_a_step = ranks, config.rows_of_a_step(ranks.world)
        self.template = template_named(config.template)
        self.tokenizer = load_tokenizer(str(base))
        require_libraries(config.report_to)
        self.held = self._held_out(data)
        data = self.held.train if self.held else data
        self.tokens = self._tokens(data, "tokens")
        self.validation: Validation | None = None
        if self.held:
            tokens = self._tokens(self.held.validation, "validation-tokens")
            self.validation = Validation(config, tokens, self.held.validation, folder, ranks)
        self.lengths = self.tokens.lengths.tolist()
        self.steps = self._steps()
        self.device, self.dtype = device_and_dtype(config.precision)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.planned = Planned(
            config, model_config(str(base))[0], self.tokens, self.device, self.dtype, ranks.world
        )
        self.model = model_to_train(
            config, base, self.device, self.dtype, ranks, self.planned.checkpointed
        )
        tried = [self.validation.tokens] if self.validation else []
        require_room(self.model, self.tokenizer, [self.tokens, *tried])
        end_as_learned(self.model, self.tokenizer)
        self.optimizer = AdamW(self.model, config)
        self.watch = Watch(self.tokens, data, stopped, config.stop_on_spike)
        self.pace = Pace(self.model, self.device, self.dtype, ranks.world)

    def _held_out(self, data: Path) -> HeldOut | None:
        """What is kept from training to validate on, if anything is."""
        config = self.config
        if not config.validates:
            return None
        own = conversations_file(config.validation_data) if config.validation_data else None
        held = self.ranks.first_before_others(
            lambda: hold_out(
                data,
                self.scratch / "held-out",
                fraction=config.validation_fraction,
                conversations=config.validation_conversations,
                given=own,
            )
        )
        held.say()
        return held

    def _tokens(self, data: Path, name: str) -> Tokens:
        """The conversations of a file as tokens, in a folder of that name."""
        config = self.config
        tokens = self.ranks.first_before_others(
            lambda: tokenise(
                data,
                self.tokenizer,
                self.template,
                max_tokens=config.max_seq_length,
                on_long=config.on_long,
                rule=config.rule,
                folder=self.scratch / name,
            )
        )
        say_what_was_left_out(tokens.counts, config.max_seq_length)
        return tokens

    def _steps(self) -> int:
        """Optimizer steps of the whole run; every epoch has as many rows as the first."""
        config, world = self.config, self.ranks.world
        rows = len(epoch_rows(self.lengths, config.max_seq_length, config.seed, 0))
        if min(rows, self.rows_of_a_step) < world:
            raise UserError(
                f"more ranks than packs: {world} ranks, but an epoch has {rows} packed rows and an "
                f"optimizer step {self.rows_of_a_step}",
                field="train_batch_rows",
                hint="start fewer ranks, or give more data",
            )
        steps = config.num_train_epochs * -(-rows // self.rows_of_a_step)
        return min(steps, config.max_steps or steps)

    def to_the_end(self) -> dict[str, Any]:
        """Train from where the folder's state stands, save the checkpoint, say how it went."""
        state = load_state(self.scratch, self.optimizer, self.ranks) or dict(FROM_THE_START)
        if state["step"]:
            note(f"resuming after step {state['step']} of {self.steps}")
        log = self._log(state["step"])
        if self.validation and not state["step"]:
            row = self._validated(self.validation, 0)
            if log:
                log.append(row)
        with progress("train", self.steps, state["step"]) as ticker:
            for step, epoch, rows in self._remaining(state["step"]):
                try:
                    row = self.one_step(step, epoch, rows, state)
                except StoppedError:
                    self._save(step, state)
                    raise
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    clear_frames(error.__traceback__)
                    if self.optimizer.steps == step:  # else weights may have taken half of it up
                        self._keep(step, state)
                    raise _out_of_memory(step, self.config) from None
                if self.validation and self.validation.due(step + 1, self.steps):
                    row |= self._validated(self.validation, step + 1)
                self.watch.take_up([row])
                if log:
                    log.append(row)
                if self._time_to_save(step + 1, state):
                    if log:
                        log.sync()
                    self._save(step + 1, state)
                self._tick(ticker, row)
        if log:
            log.close()
        return self.finish(state)

    def _log(self, done: int) -> MetricsLog | None:
        """The first rank's metrics.jsonl, open behind the step from which this run goes on."""
        if self.validation:
            self.validation.take_up(done)
        if not self.ranks.first:
            return None
        log = MetricsLog(self.folder, done, self.config.report_to, self.config.deciding())
        self.watch.take_up(row for row in log.rows if row["step"])
        return log

    def _validated(self, validation: Validation, step: int) -> dict[str, Any]:
        row = validation.at(step, self.model, self._tried)
        self.ranks.let_go(self.model)
        return row

    def _save(self, done: int, state: dict[str, Any]) -> None:
        try:
            save_state(self.scratch, self.optimizer, {**state, "step": done}, self.ranks)
        except NotSavedError as error:
            state["not_saved"] = state.get("not_saved", 0) + 1
            warn(f"the state after step {done} is not saved ({error}); training goes on")

    def _keep(self, done: int, state: dict[str, Any]) -> None:
        """Save a state where a run must end before its time, if one rank alone can still do it."""
        if self.ranks.world > 1:
            return  # the others do not know
        self.model.zero_grad()
        try:
            save_state(self.scratch, self.optimizer, {**state, "step": done}, self.ranks)
            note(f"the state after step {done} is saved")
        except Exception as error:
            if not (isinstance(error, NotSavedError) or out_of_memory(error)):
                raise

    def _remaining(self, done: int) -> Iterator[tuple[int, int, list[Row]]]:
        """(step, epoch, rows) of every optimizer step that is still to be taken."""
        config, step = self.config, 0
        for epoch in range(config.num_train_epochs):
            packed = epoch_rows(self.lengths, config.max_seq_length, config.seed, epoch)
            for rows in epoch_steps(packed, self.rows_of_a_step):
                if step >= self.steps:
                    return
                if step >= done:
                    yield step, epoch, rows
                step += 1

    def one_step(
        self, step: int, epoch: int, rows: list[Row], state: dict[str, Any]
    ) -> dict[str, Any]:
        """One optimizer step; returns its line for metrics.jsonl and counts it in `state`."""
        began = time.perf_counter()
        # Dropout is told by the step alone, and differs from rank to rank.
        torch.manual_seed(self.config.seed * 1_000_003 + step + self.ranks.rank * 1_000_000_007)
        loss, losses, totals = self.learn(rows)
        rate = learning_rate(step, self.steps, self.config)
        said: dict[str, float] = {}

        def check(norm: float) -> None:
            said.update(self._watched(step + 1, loss, norm, losses))

        norm = self.optimizer.step(rate, self.config.max_grad_norm, check)
        seconds = time.perf_counter() - began
        lengths = self.tokens.lengths[losses.documents].tolist()
        tokens = sum(lengths)
        state["tokens"] += tokens
        state["supervised"] += totals.supervised
        state["seconds"] += seconds
        return {
            "step": step + 1,
            "epoch": epoch + 1,
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": tokens,
            "supervised_tokens": totals.supervised,
            **losses.by_source(self.tokens),
            **said,
            **self.pace.measured(
                lengths, totals.supervised, tokens, seconds, self.steps - step - 1
            ),
        }

    def learn(self, rows: list[Row]) -> tuple[float, DocumentLosses, StepTotals]:
        """Leave the gradients of a step; returns its loss, over all ranks, and each document's."""
        shares = micro_batches(
            rows,
            self.lengths,
            self.config.per_device_train_batch_size,
            self.ranks.world,
        )
        totals = StepTotals.of(
            [supervised_counts(batch, self.tokens) for share in shares for batch in share]
        )
        micro = [micro_batch(rows, self.tokens, self.device) for rows in shares[self.ranks.rank]]
        total, nlls = 0.0, []
        for batch in micro:
            weights = token_weights(batch.counts, totals, self.config.loss_reduction)
            loss, nll = self._loss(batch, weights)
            torch.autograd.backward(loss)
            total += loss.item()
            nlls.append(nll)
        own = DocumentLosses.of(
            [document for batch in micro for document in batch.documents],
            [count for batch in micro for count in batch.counts[: len(batch.documents)]],
            torch.cat(nlls).cpu(),
        )
        parts = self.ranks.gathered((total, own))
        return sum(part for part, _ in parts), DocumentLosses.joined([o for _, o in parts]), totals

    def _loss(self, batch: MicroBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Its weighted sum of -log p, and each -log p; weights: [supervised]."""
        return supervised_loss(
            self.model,
            batch.ids,
            batch.positions,
            batch.supervised,
            weights.to(self.device),
            Documents(batch.lengths),
        )

    def _tried(self, rows: list[Row], tokens: Tokens) -> DocumentLosses:
        """What rows that are not trained on lose."""
        batch = micro_batch(rows, tokens, self.device)
        _, nll = self._loss(batch, torch.ones(sum(batch.counts)))
        return DocumentLosses.of(batch.documents, batch.counts[: len(batch.documents)], nll.cpu())

    def _watched(
        self, step: int, loss: float, norm: float, losses: DocumentLosses
    ) -> dict[str, float]:
        """The first rank looks at the step; if it stops, all do."""
        stop: StoppedError | None = None
        said: dict[str, float] = {}
        if self.ranks.first:
            try:
                said = self.watch.check(step, loss, norm, losses)
            except StoppedError as error:
                stop = error
        if self.ranks.told(stop is not None):
            raise stop or StoppedError("the first rank stopped")
        return said

    def _time_to_save(self, done: int, state: dict[str, Any]) -> bool:
        if done == self.steps:
            return False  # the checkpoint itself follows at once
        if self.config.save_steps:
            return done % self.config.save_steps == 0
        since: float = state["seconds"] - state.get("saved_at", 0.0)
        due = self.ranks.told(since >= 60 * self.config.save_minutes)  # clocks differ
        if due:
            state["saved_at"] = state["seconds"]
        return due

    def _tick(self, ticker: Ticker, row: dict[str, Any]) -> None:
        ticker.advance(
            info=f"loss {row['loss']:.3f}  {row['tokens_per_second']:.0f} tokens/s  "
            f"MFU {row['mfu']:.0%}  {row['memory_gib']:.1f} GiB"
        )

    def finish(self, state: dict[str, Any]) -> dict[str, Any]:
        """Leave the checkpoint; where the disk is too full for it, a state, if that still fits."""
        self.peak = peak_memory(self.device)  # of the steps; saving is not planned
        try:
            with quiet():
                self._save_checkpoint()
            if self.config.lora and self.ranks.first:
                make_portable(self.folder / ADAPTER, told_name(self.config.model))
        except Exception as error:
            if not disk_full(error):
                raise
            for file in self.folder.glob("model*.safetensors"):
                file.unlink()
            self._keep(self.steps, state)
            raise UserError(
                "the disk is full: the checkpoint cannot be written",
                file=self.folder,
                hint="make room, then give the same command again",
            ) from None
        return self._outcome(state)

    def _save_checkpoint(self) -> None:
        whole = self.config.save_precision == "fp32"
        exact = whole or self.config.lora is not None  # adapters are folded in before rounding
        if self.ranks.world == 1:
            if exact:
                self.optimizer.unround()
            if whole:
                self.model.float()
            save_checkpoint(self.folder, self.model, self.tokenizer, self.template)
            return
        masters = self.optimizer.masters() if exact else {}
        dtype = torch.float32 if whole else self.dtype
        save_weights(self.folder, self.model, masters, dtype, self.ranks)
        if self.ranks.first:
            save_tokenizer(self.folder, self.tokenizer, self.template)

    def _outcome(self, state: dict[str, Any]) -> dict[str, Any]:
        counts, steps = self.tokens.counts, self.watch.before
        speed = round(state["tokens"] / max(state["seconds"], 1e-9), 1)
        return {
            "steps": self.steps,
            "tokens": state["tokens"],
            "conversations": counts["kept"],
            "supervised_tokens": state["supervised"],
            "cut": counts["cut"],
            "dropped": counts["dropped_long"] + counts["dropped_no_supervised"],
            "counts": dict(counts),
            "final_loss": steps[-1]["loss"] if steps else None,
            **({"validation": self.validation.outcome()} if self.validation else {}),
            "states_not_saved": state.get("not_saved", 0),
            "spikes": self.watch.noted,
            "tokens_per_second": speed,
            "planned": self.planned.beside(self.pace.peak, self.peak, speed),
            "peak_memory_gib": round(peak_memory(self.device) / 2**30, 3),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
        }


def _out_of_memory(step: int, config: TrainConfig) -> UserError:
    """A clear line in the place of what the allocator says."""
    tokens = config.per_device_train_batch_size * config.max_seq_length
    return UserError(
        f"out of memory at step {step + 1}, with micro-batches of up to {tokens} tokens",
        field="per_device_train_batch_size",
        hint="lower it (gradient_accumulation_steps makes up for it) or max_seq_length, set "
        "gradient_checkpointing, use lora or more ranks; `cameleer train plan` says what fits",
    )
