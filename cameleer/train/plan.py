"""The plan of a run before it runs: memory, micro-batch, time, cost; what to do if it fits not.

Memory comes from the model's own code run without its numbers (footprint.py), time from the
arithmetic of the step and the share of the hardware's peak that such steps reach (hardware.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cameleer.core.errors import UserError
from cameleer.model.adapters import LoraSpec
from cameleer.model.load import Precision, device_and_dtype, load_tokenizer, quiet
from cameleer.model.memory import layers_to_checkpoint
from cameleer.model.shapes import SHAPES
from cameleer.train.config import TrainConfig
from cameleer.train.hardware import GIB, QLORA_SPEED, Hardware
from cameleer.train.plan_memory import PACKED, Anatomy, Memory, Method, Way
from cameleer.train.workload import Workload, workload

UPDATE = 28  # bytes that AdamW reads and writes for a trained weight: master, moments, both weights
HOST_LINK = 25e9  # bytes/s between a GPU and the host's memory


@dataclass(frozen=True)
class Option:
    """One way to run: what it needs and what it brings.

    rows: packed rows in a micro-batch; accumulation: micro-batches of a rank in an optimizer step;
    checkpointed: layers that are computed again. Hours and cost are of the whole run, in US dollars
    where the hardware has a price; tokens_per_second of all ranks together.
    """

    way: Way
    ranks: int
    length: int
    rows: int
    accumulation: int
    checkpointed: int
    memory: Memory
    fits: bool
    tokens_per_second: float
    hours: float
    cost: float | None

    def facts(self) -> dict[str, Any]:
        """All of it as JSON values; memory in GiB."""
        parts = {name: round(size / GIB, 3) for name, size in vars(self.memory).items()}
        return {
            **asdict(self.way),
            "words": self.way.words,
            "ranks": self.ranks,
            "max_seq_length": self.length,
            "per_device_train_batch_size": self.rows,
            "gradient_accumulation_steps": self.accumulation,
            "checkpointed_layers": self.checkpointed,
            "memory_gib": round(self.memory.total / GIB, 3),
            "memory_parts_gib": parts,
            "fits": self.fits,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "hours": round(self.hours, 3),
            "gpu_hours": round(self.hours * self.ranks, 3),
            "cost_usd": None if self.cost is None else round(self.cost, 2),
        }


class Planner:
    """Plans runs of one configuration on one kind of hardware."""

    def __init__(
        self, config: TrainConfig, model: Any, hardware: Hardware, work: Workload, bf16: bool
    ) -> None:
        """model: its transformers configuration."""
        self.config, self.hardware, self.work, self.bf16 = config, hardware, work, bf16
        self.anatomy = Anatomy(
            model, bf16, config.lora or LoraSpec(), work, gpu=hardware.kind == "gpu"
        )
        self.step_tokens = config.rows_of_a_step() * config.max_seq_length

    def over(self, work: Workload) -> Planner:
        """The same with other data, whose rows need no more memory: that is not worked out anew."""
        other = copy(self)
        other.work = work
        return other

    def as_configured(self, ranks: int = 1) -> Option:
        """The run just as its configuration says, on so many ranks."""
        own, layers = self.config.gradient_checkpointing, self.anatomy.layers
        way, rows = way_of(self.config), self.config.per_device_train_batch_size
        share = -(-self.config.rows_of_a_step(ranks) // ranks)
        found = self.option(way, ranks, rows, layers_to_checkpoint(own, layers), share=share)
        if own == "auto" and not found.fits:
            return self._checkpointed(way, ranks, rows, share=share)
        return found

    def best(self, way: Way, ranks: int, length: int | None = None) -> Option:
        """The largest micro-batch that fits, with as few layers checkpointed as need be."""
        most, best = self._share(ranks, length), None
        for rows in sorted({most, *(2**n for n in range(most.bit_length()))}):
            found = self.option(way, ranks, rows, 0, length)
            if not found.fits:
                break  # not the largest first: working out what is far too large takes memory
            best = found
        return best or self._checkpointed(way, ranks, 1, length)

    def _checkpointed(
        self, way: Way, ranks: int, rows: int, length: int | None = None, share: int | None = None
    ) -> Option:
        """With the fewest layers checkpointed with which so many rows fit; all, if none do."""
        least, every = 0, self.anatomy.layers
        while least < every:
            middle = (least + every) // 2
            if self.option(way, ranks, rows, middle, length, share).fits:
                every = middle
            else:
                least = middle + 1
        return self.option(way, ranks, rows, every, length, share)

    def option(
        self,
        way: Way,
        ranks: int,
        rows: int,
        checkpointed: int,
        length: int | None = None,
        share: int | None = None,
    ) -> Option:
        """One way to run, worked out; share: rows of an optimizer step that each rank takes."""
        length = length or self.config.max_seq_length
        accumulation = -(-(share or self._share(ranks, length)) // rows)
        memory = self.anatomy.memory(
            way, self.hardware, ranks, rows * length, checkpointed, accumulation > 1
        )
        speed = self._tokens_per_second(way, ranks, rows * length, checkpointed)
        hours = self._tokens_of_the_run() / speed / 3600
        price = self.hardware.price
        return Option(
            way,
            ranks,
            length,
            rows,
            accumulation,
            checkpointed,
            memory,
            memory.total - self._paged(way, memory) <= self.hardware.memory,
            speed,
            hours,
            None if price is None else hours * ranks * price,
        )

    def _paged(self, way: Way, memory: Memory) -> float:
        """Bytes that may go to the host when the GPU is full."""
        return memory.moments if "paged" in way.optim and self.hardware.kind == "gpu" else 0.0

    def _share(self, ranks: int, length: int | None = None) -> int:
        """Rows of an optimizer step that one rank takes, at most."""
        return max(1, self.step_tokens // ((length or self.config.max_seq_length) * ranks))

    def _tokens_of_the_run(self) -> float:
        epochs: float = self.config.num_train_epochs
        if self.config.max_steps:
            epochs = min(epochs, self.config.max_steps * self.step_tokens / self.work.tokens)
        return self.work.tokens * epochs

    def _tokens_per_second(self, way: Way, ranks: int, tokens: int, checkpointed: int) -> float:
        """Of all ranks: arithmetic, or exchanging weights if that takes longer; and updates."""
        trained, _, flops = self.anatomy.learned(way.method)
        hardware, work, own = self.hardware, self.work, self.anatomy.weights
        layers = (own.all - own.outside) * checkpointed / self.anatomy.layers
        per_token = flops.token + flops.supervised * work.supervised + flops.pair * work.pairs
        per_token += 2 * layers + flops.pair * work.pairs / 3 * checkpointed / self.anatomy.layers
        peak = hardware.flops if self.bf16 else hardware.flops_fp32
        rate = peak * hardware.efficiency * (QLORA_SPEED if way.method == "qlora" else 1)
        seconds = tokens * per_token / rate
        passes = 2 + checkpointed / self.anatomy.layers
        seconds += tokens * passes * self.anatomy.dropped(way.method) * hardware.dropout
        if ranks > 1:
            each = PACKED if way.method == "qlora" else 2
            exchanged = 2 * each * own.all + 4 * trained
            seconds = max(seconds, exchanged / hardware.link)
        bandwidth = HOST_LINK if way.offload and hardware.kind == "gpu" else hardware.bandwidth
        update = UPDATE * trained / ranks / bandwidth
        seconds += update * tokens * ranks / max(self.step_tokens, tokens * ranks)
        return ranks * tokens / seconds

    def table(self, ranks: Sequence[int], lengths: Sequence[int]) -> list[Option]:
        """The best run of each method on each number of ranks, for each length of rows."""
        return [
            self.best(replace(way_of(self.config), method=method), count, length)
            for length in lengths
            for method in self.methods()
            for count in ranks
        ]

    def methods(self) -> list[Method]:
        """Ways to learn that this hardware can run."""
        return ["full", "lora", "qlora"]

    def advice(self, ranks: int = 1) -> tuple[str, Option | None]:
        """What to change so that the run fits, the cheapest change first; and how it is then."""
        if (found := self.as_configured(ranks)).fits:
            return "it fits as it is", found
        for words, option in self._ladder(found):
            if option.fits:
                return words, option
        return "nothing that we know makes it fit: take a smaller model or more ranks", None

    def _ladder(self, given: Option) -> Iterator[tuple[str, Option]]:
        """Changes, from what costs least to what costs most, and the run that each gives."""
        every, way, ranks = self.anatomy.layers, given.way, given.ranks
        yield f"checkpoint all {every} layers", self.option(way, ranks, given.rows, every)
        small = self.best(way, ranks)
        yield f"micro-batches of {small.rows}, {small.checkpointed} layers checkpointed", small
        tried = replace(way, optim="paged_adamw_8bit" if "paged" in way.optim else "adamw_bnb_8bit")
        if way.method == "full":
            yield f"optim={tried.optim}", self.best(tried, ranks)
            bare = replace(tried, master_weights="none")
            yield f"optim={tried.optim} master_weights=none", self.best(bare, ranks)
        for method, words in (("lora", "LoRA"), ("qlora", "QLoRA")):
            if way.method != method and not (way.method == "qlora" and method == "lora"):
                yield words, self.best(Way(method), ranks)  # type: ignore[arg-type]
        for more in (2, 4, 8, 16, 32, 64):
            if more > ranks:
                yield f"{more} ranks", self.best(way, more)


def way_of(config: TrainConfig) -> Way:
    """How a configuration trains."""
    method: Method = "full"
    if config.lora is not None:
        method = "qlora" if config.quantization else "lora"
    return Way(method, config.optim, config.master_weights, config.offload_optimizer)


def planner(config: TrainConfig, hardware: Hardware, tokens: float | None = None) -> Planner:
    """The planner of a configuration; `tokens` of an epoch go before what its data holds.

    The model's config.json is enough; its tokenizer, if it is there, counts the data.
    """
    model, folder = model_config(config.model)
    tokenizer = None
    if folder is not None and any(folder.glob("tokenizer*")):
        tokenizer = load_tokenizer(str(folder))
    work = workload(config, tokenizer, tokens)
    return Planner(config, model, hardware, work, in_bf16(config.precision, hardware))


def in_bf16(precision: Precision, hardware: Hardware) -> bool:
    """Whether weights are bf16 on that hardware."""
    if hardware.kind == "gpu":
        return precision != "fp32"
    return device_and_dtype(precision)[1] == torch.bfloat16


def model_config(model: str) -> tuple[Any, Path | None]:
    """The transformers configuration of MODEL, and its folder if there is one here.

    A folder, an embedded model, the hub's cache, the shapes that we know (cameleer.model.shapes),
    and last the hub itself, of which config.json alone is fetched.
    """
    with quiet():
        from transformers import AutoConfig

        folder = _folder(model)
        if folder is not None:
            return AutoConfig.from_pretrained(folder, trust_remote_code=False), folder
        if model in SHAPES:
            facts = dict(SHAPES[model])
            return AutoConfig.for_model(facts.pop("model_type"), **facts), None
        try:
            return AutoConfig.from_pretrained(model, trust_remote_code=False), None
        except (OSError, ValueError):
            known = ", ".join(SHAPES)
            raise UserError(
                f"no configuration of '{model}' can be had",
                field="model",
                hint="its config.json in a folder is enough, weights are not needed; shapes that "
                f"are known without: {known}",
            ) from None


def _folder(model: str) -> Path | None:
    """The folder of MODEL that is on this machine, if one is."""
    from huggingface_hub import try_to_load_from_cache

    from cameleer.model.embedded import embedded_folder

    if model.startswith("embedded:"):
        path = embedded_folder(model.removeprefix("embedded:"))
    else:
        path = Path(model).expanduser()
        if not path.is_dir() and model.count("/") == 1:
            found = try_to_load_from_cache(model, "config.json")
            path = Path(found).parent if isinstance(found, str) else path
    return path if (path / "config.json").is_file() else None
