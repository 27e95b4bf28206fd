"""`train proof`: that the loss is right, shown on the user's own configuration and conversations.

What training does is compared with a plain restatement that shares none of its code: the template
as its own Jinja text, the mask found in that text, each conversation alone through the model's own
attention, all logits, log-softmax, and weights worked out by hand. Everything is shown twice: in
float32, where hardly anything may differ, and in the run's own precision, where as much may differ
as rounding itself makes of the restatement.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cameleer.chat.conversation import read_conversations
from cameleer.chat.template import template_named
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_json, write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.model.attention import NAME, Documents
from cameleer.model.load import device_and_dtype, load_tokenizer, model_folder
from cameleer.train.config import Reduction, TrainConfig
from cameleer.train.loop import _Run, conversations_file
from cameleer.train.loss import supervised_loss
from cameleer.train.micro_batch import micro_batch
from cameleer.train.parallel import Ranks, joined, whole
from cameleer.train.restated import Restated, restated, stretches, weights_by_hand

READ = 1000  # conversations among which some are chosen
CHOSEN = 4
SHORT = 96  # tokens; conversations up to so many are preferred, so that a proof takes seconds
TIGHT = {"loss": 1e-6, "gradient": 5e-4}  # float32, relative
ROUNDING = 4.0  # times what rounding does to the restatement itself
SAMPLE = 1 << 16  # numbers of each weight's gradient that are compared, evenly spaced
SMALL = 1 << 29  # weights up to which ranks are started, trained ones up to which states are saved
LAST = 4  # steps of the run that is broken off in the middle


@dataclass(frozen=True)
class Check:
    """One thing shown: how far it is from what it should be, how far it may be, and why so far.

    difference: None if it could not be shown here; `why` says the reason.
    """

    shows: str
    precision: str
    difference: float | None
    tolerance: float
    why: str

    @property
    def passed(self) -> bool | None:
        """None if it was not shown."""
        return None if self.difference is None else bool(self.difference <= self.tolerance)

    def to_row(self) -> dict[str, Any]:
        """As JSON values; a difference that is not a number is told as text."""
        told = self.difference
        if told is not None and not math.isfinite(told):
            return {**asdict(self), "difference": str(told), "passed": self.passed}
        return {**asdict(self), "passed": self.passed}


def prove(config: TrainConfig) -> list[Check]:
    """Everything that can be shown about `config`, on a few of its own conversations."""
    base, template = model_folder(config.model), template_named(config.template)
    tokenizer = load_tokenizer(str(base))
    chosen = _choose(config, tokenizer, template)
    with tempfile.TemporaryDirectory(prefix="cameleer-proof-") as temporary:
        folder = Path(temporary)
        write_jsonl(folder / "chosen.jsonl", (one.to_row() for one in chosen))
        small = _small(config, folder / "chosen.jsonl", max(one.tokens for one in chosen))
        return _Proof(small, base, chosen, tokenizer, folder).checks()


def _choose(config: TrainConfig, tokenizer: Any, template: Any) -> list[Restated]:
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


def _small(config: TrainConfig, data: Path, longest: int) -> TrainConfig:
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


@dataclass(frozen=True)
class _Learned:
    """What a way of working out a step comes to: its loss, and numbers of each gradient."""

    loss: float
    gradients: dict[str, Tensor]


def _gradients(model: Any) -> dict[str, Tensor]:
    """SAMPLE numbers of each gradient, evenly spaced, in float32; the gradients themselves go."""
    found = {}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            flat = whole(weight.grad).detach().flatten()
            found[name] = flat[:: max(1, len(flat) // SAMPLE)].float().cpu().clone()
            weight.grad = None
    return found


def _apart(one: _Learned, other: _Learned, precision: str) -> dict[str, float]:
    """Relative differences: of the losses, and of the gradients.

    In float32 the gradient is that of the weight that differs most, one with next to none being
    measured by a thousandth of the largest; rounded ones are measured over all weights.
    """
    if one.gradients.keys() != other.gradients.keys():
        return {"loss": math.inf, "gradient": math.inf}
    sizes = {name: float(gradient.norm()) for name, gradient in other.gradients.items()}
    off = {name: float((one.gradients[name] - other.gradients[name]).norm()) for name in sizes}
    floor = 1e-3 * max(sizes.values())
    worst = max(off[name] / max(size, floor, 1e-30) for name, size in sizes.items())
    overall = math.hypot(*off.values()) / max(math.hypot(*sizes.values()), 1e-30)
    return {
        "loss": abs(one.loss - other.loss) / max(abs(other.loss), 1e-30),
        "gradient": worst if precision == "fp32" else overall,
    }


class _Proof:
    """All checks of one configuration."""

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

    def checks(self) -> list[Check]:
        """Template and mask first, then each precision, then ranks and resuming."""
        _, dtype = device_and_dtype(self.config.precision)
        found: list[Check] = []
        exact: _Learned | None = None
        shared: dict[str, _Learned] = {}
        for precision in ("fp32", "bf16") if dtype == torch.bfloat16 else ("fp32",):
            note(f"proving in {precision} on {len(self.chosen)} conversations")
            run = self._run(precision)
            if exact is None:
                found += self._template(run)
            plain = self._plain(run)
            limits = TIGHT if exact is None else _rounded(_apart(plain, exact, precision), dtype)
            found += self._masked(run, precision)
            found += self._losses(run, precision, plain, limits, shared)
            exact = exact or plain
            del run
        found += self._ranks(shared, found)
        found.append(self._resumed())
        return found

    def _run(self, precision: str) -> _Run:
        """A run as training makes it, without dropout, its adapters doing something."""
        config = self.config.model_copy(update={"precision": precision})
        run = _Run(
            config,
            self.base,
            config.data,
            self.folder / precision,
            self.folder / "stopped",
            Ranks(),
        )
        _make_comparable(run.model)
        weights = list(run.model.parameters())
        self.weights = sum(weight.numel() for weight in weights)
        self.trained = sum(weight.numel() for weight in weights if weight.requires_grad)
        return run

    # ---- text and mask

    def _template(self, run: _Run) -> list[Check]:
        """The tokens that are trained on, back as text; and what is learned of them."""
        text, answers, places = 0, 0, 0
        paper = self.config.rule == "paper"
        for index, one in enumerate(self.chosen):
            span = slice(run.tokens.starts[index], run.tokens.starts[index + 1])
            ids, mask = run.tokens.ids[span].tolist(), run.tokens.supervised[span].tolist()
            text += ids != one.ids or not self._same_text(ids, one.text)
            found = [self.tokenizer.decode(part) for part in stretches(ids, mask)]
            answers += found != one.answers
            places += sum(a != b for a, b in zip(mask, one.learned, strict=False))
        marked = "the paper's rule keeps its defects" if paper else "no text may differ"
        return [
            Check("tokens are the template's text", "-", text, 0, "conversations that differ"),
            Check(
                "learned: answers and end tokens, nothing else",
                "-",
                answers,
                len(self.chosen) if paper else 0,
                f"conversations that differ; {marked}",
            ),
            Check(
                "the mask is that of the text",
                "-",
                places,
                sum(one.tokens for one in self.chosen) if paper else 0,
                f"tokens that differ; {marked}",
            ),
        ]

    def _same_text(self, ids: list[int], text: str) -> bool:
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        texts = {text, normalizer.normalize_str(text)} if normalizer else {text}
        back = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        start = self.tokenizer.bos_token or ""
        return any(each in texts for each in (back, back.removeprefix(start), back.strip()))

    def _wanted(self, run: _Run, index: int) -> list[bool]:
        """Which tokens are learned: restated; by the paper's rule, which has no plain restatement,
        as they are."""
        if self.config.rule == "fixed":
            return self.chosen[index].learned
        span = slice(run.tokens.starts[index], run.tokens.starts[index + 1])
        learned: list[bool] = run.tokens.supervised[span].tolist()
        return learned

    def _masked(self, run: _Run, precision: str) -> list[Check]:
        """That nothing else than supervised tokens enters: by targets, and by gradients."""
        batch = micro_batch([self.everything], run.tokens, run.device)
        wanted = [each for i in self.everything for each in self._wanted(run, i)]
        learned = torch.tensor(wanted + [False] * (batch.ids.shape[1] - len(wanted)))
        others = batch.ids.clone()
        masked = ~learned.to(run.device)
        others[0, masked] = (others[0, masked] + 1) % int(run.tokens.ids.max())
        weights = torch.ones(int(batch.supervised.sum()), device=run.device)

        def nll(ids: Tensor) -> Tensor:
            stand_in = cast(Any, _WithTargets(run.model, batch.ids))
            with torch.no_grad():
                _, each = supervised_loss(
                    stand_in,
                    ids,
                    batch.positions,
                    batch.supervised,
                    weights,
                    Documents(batch.lengths),
                )
            return each

        changed = float((nll(others) - nll(batch.ids)).abs().max())
        with _last_hidden(run.model) as seen:
            run._learn([self.everything])
        assert seen[-1].grad is not None
        entered = seen[-1].grad[0].abs().sum(-1).cpu() > 0
        _gradients(run.model)
        should = torch.cat([learned[1:], torch.zeros(1, dtype=torch.bool)])
        wrong = int((entered & ~should).sum()), int((should & ~entered).sum())
        return [
            Check("other targets at masked tokens change nothing", precision, changed, 0, "nats"),
            Check(
                "masked tokens have no gradient",
                precision,
                wrong[0],
                0,
                "positions whose hidden state gets one although nothing is learned there",
            ),
            Check(
                "supervised tokens have one",
                precision,
                wrong[1],
                0,
                f"positions without, of {int(should.sum())}",
            ),
        ]

    # ---- losses and gradients

    def _plain(self, run: _Run) -> _Learned:
        """Each conversation alone through the model's own attention; plain log-softmax."""
        counts = [sum(self._wanted(run, index)) for index in self.everything]
        weigh = weights_by_hand(self.rows, counts, self.config.loss_reduction)
        total = 0.0
        run.model.set_attn_implementation("eager")
        try:
            for index in self.everything:
                one = self.chosen[index]
                ids = torch.tensor([one.ids], device=run.device)
                logits = run.model(input_ids=ids, use_cache=False).logits[0].double()
                each = -torch.log_softmax(logits, -1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
                mask = torch.tensor(self._wanted(run, index)[1:], device=run.device)
                loss = (each * mask).sum() * weigh[index]
                torch.autograd.backward(loss)
                total += loss.item()
        finally:
            run.model.set_attn_implementation(NAME)
        return _Learned(total, _gradients(run.model))

    def _losses(
        self,
        run: _Run,
        precision: str,
        plain: _Learned,
        limits: dict[str, float],
        shared: dict[str, _Learned],
    ) -> list[Check]:
        """Training's own way: in one row, in two micro-batches, and each conversation alone."""
        exact = precision == "fp32"
        rounding = (
            "" if exact else f"; at most {ROUNDING:.0f} x what rounding makes of the plain one"
        )
        why = {
            "loss": f"relative{rounding}",
            "gradient": f"relative, {'the worst weight' if exact else 'all weights'}{rounding}",
        }
        said = " (by loss_reduction token)" if self.config.loss_reduction == "paper" else ""
        ours = _learn(run, self.rows, self.config.loss_reduction)
        two = _learn(run, self.rows, self.token_wise)
        one_row = _learn(run, [self.everything], self.token_wise)
        alone = _learn(run, [[index] for index in self.everything], self.token_wise)
        shared[precision] = ours
        pairs = {
            "the loss is its plain restatement": (ours, plain),
            f"packed = unpacked{said}": (one_row, alone),
            f"accumulated = one batch{said}": (two, one_row),
        }
        return [
            Check(f"{shows}: {what}", precision, apart, limits[what], why[what])
            for shows, (one, other) in pairs.items()
            for what, apart in _apart(one, other, precision).items()
        ]

    # ---- ranks and resuming

    def _ranks(self, shared: dict[str, _Learned], before: list[Check]) -> list[Check]:
        """Two processes, each with half of the weights and rows, started by torchrun."""
        limits = {
            (check.precision, check.shows.rpartition(": ")[2]): check
            for check in before
            if check.shows.startswith("the loss is")
        }
        failure = None
        apart: dict[str, dict[str, float]] = {key: {} for key in shared}
        reason = self._too_much("weights", self.weights)
        if self.config.quantization:
            reason = "weights in 4 bits are shown on one rank"
        if reason is None:
            for precision, learned in shared.items():
                save_file(
                    {**learned.gradients, "": torch.tensor([learned.loss], dtype=torch.float64)},
                    self.folder / f"{precision}.safetensors",
                )
            write_json(self.folder / "config.json", self.config.model_dump(mode="json"))
            write_json(self.folder / "rows.json", {"rows": self.rows, "base": str(self.base)})
            note("proving on two ranks")
            failure = _started(self.folder)
            nothing = {name: {"loss": math.inf, "gradient": math.inf} for name in shared}
            apart = nothing if failure else read_json(self.folder / "apart.json")
        return [
            Check(
                f"2 ranks = 1 rank: {what}",
                precision,
                apart[precision].get(what),
                check.tolerance,
                failure or reason or check.why,
            )
            for (precision, what), check in limits.items()
        ]

    def _too_much(self, what: str, number: int) -> str | None:
        return f"{number} {what}: shown up to {SMALL}" if number > SMALL else None

    def _resumed(self) -> Check:
        """A run that ends after half of its steps and is begun again, beside one that does not."""
        shows, precision = "resumed = unbroken, 2 + 2 steps", self.config.precision
        if reason := self._too_much("trained weights", self.trained):
            return Check(shows, precision, None, 0, reason)
        note("proving that a run goes on as if it had never stopped")

        def begun(name: str, stop: int) -> tuple[dict[str, Tensor], list[Any]]:
            folder = self.folder / name
            run = _Stopping(
                self.config, self.base, self.config.data, folder, self.folder / "stopped", Ranks()
            )
            run.stop = stop
            try:
                run.to_the_end()
            except _Stopped:
                return {}, []
            rows = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
            facts = [(row["loss"], row["grad_norm"], row["tokens"]) for row in rows if row["step"]]
            return run.optimizer.state(), facts

        state, facts = begun("unbroken", LAST)
        begun("broken", LAST // 2)
        again, more = begun("broken", LAST)
        differ = sum(not torch.equal(state[name], again[name]) for name in state)
        differ += state.keys() != again.keys()
        differ += sum(a != b for a, b in zip(facts, more, strict=True)) + (len(facts) != LAST)
        return Check(shows, precision, differ, 0, "weights, moments and steps that differ by a bit")


class _Stopped(Exception):  # noqa: N818 (nothing went wrong)
    pass


class _Stopping(_Run):
    """A run that ends before step `stop` as if killed, and that leaves no checkpoint."""

    stop = LAST

    def _one_step(self, step: int, *rest: Any) -> dict[str, Any]:
        if step >= self.stop:
            raise _Stopped
        return super()._one_step(step, *rest)

    def _finish(self, state: dict[str, Any]) -> dict[str, Any]:
        return state


def shown(check: Check) -> dict[str, Any]:
    """A line of the table."""
    words = {True: "pass", False: "FAIL", None: "not shown"}
    return {
        "": words[check.passed],
        "what": check.shows,
        "in": check.precision,
        "difference": "" if check.difference is None else f"{check.difference:.2g}",
        "at most": f"{check.tolerance:.2g}",
        "measured as": check.why,
    }


def _rounded(apart: dict[str, float], dtype: torch.dtype) -> dict[str, float]:
    """How far apart ways may be that differ from float32 as far as the restatement does."""
    step = torch.finfo(dtype).eps
    return {name: max(step, ROUNDING * value) for name, value in apart.items()}


def _make_comparable(model: Any) -> None:
    """No dropout, and adapters that do something: they start from zero."""
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.01)


def _learn(run: _Run, rows: list[list[int]], reduction: Reduction) -> _Learned:
    run.config = run.config.model_copy(update={"loss_reduction": reduction})
    loss, *_ = run._learn(rows)
    return _Learned(loss, _gradients(run.model))


class _WithTargets:
    """The model, but what it reads is `ids`, whatever it is given: so that targets alone change."""

    def __init__(self, model: Any, ids: Tensor) -> None:
        self.model, self.ids = model, ids

    def __call__(self, **given: Any) -> Any:
        return self.model(**{**given, "input_ids": self.ids})

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()


@contextmanager
def _last_hidden(model: Any) -> Iterator[list[Tensor]]:
    """Catch the hidden states from which logits are made, [1, tokens, hidden], with gradients."""
    seen: list[Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        hidden = output[0]
        if hidden.requires_grad:
            hidden.retain_grad()
        seen.append(hidden)

    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    handle = plain.get_decoder().register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _started(folder: Path) -> str | None:
    """Have two ranks work on `folder`; returns how they failed, if they did."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "cameleer.train.proof", str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = re.search(r"^(?:\[rank\d\]: )?[\w.]*Error: (.*)", done.stderr, re.MULTILINE)
    return f"two ranks ended: {said[1] if said else f'code {done.returncode}'}"


def _on_a_rank(folder: Path) -> None:
    """What each of the ranks does: the same rows, shared out, beside what one rank left."""
    facts = read_json(folder / "rows.json")
    apart = {}
    with joined() as ranks:
        for file in sorted(folder.glob("*.safetensors")):
            config = TrainConfig(**read_json(folder / "config.json") | {"precision": file.stem})
            run = _Run(
                config,
                Path(facts["base"]),
                config.data,
                folder / f"ranks-{file.stem}",
                folder / "stopped",
                ranks,
            )
            _make_comparable(run.model)
            learned = _learn(run, facts["rows"], config.loss_reduction)
            wanted = load_file(file)
            loss = float(wanted.pop(""))
            apart[file.stem] = _apart(learned, _Learned(loss, wanted), file.stem)
        if ranks.first:
            write_json(folder / "apart.json", apart)


if __name__ == "__main__":
    _on_a_rank(Path(sys.argv[1]))
