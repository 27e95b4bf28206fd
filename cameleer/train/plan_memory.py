"""Memory of one rank, part by part, from a model's configuration alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import nn

from cameleer.model.adapters import LoraSpec, add_lora, dropped
from cameleer.model.attention import NAME as ATTENTION
from cameleer.model.dropout import quick_dropout
from cameleer.model.load import quiet
from cameleer.model.memory import checkpoint_layers
from cameleer.model.norm import lean_norms
from cameleer.train import loss
from cameleer.train.config import MasterWeights, OptimName
from cameleer.train.flops import Flops, training_flops
from cameleer.train.footprint import (
    Footprint,
    Held,
    cut_decoder,
    decoder_layers,
    most_held,
    trace,
)
from cameleer.train.hardware import KERNELS, Hardware
from cameleer.train.optim_bytes import BUCKET, BytesPerWeight, bytes_per_weight
from cameleer.train.workload import Workload

Method = Literal["full", "lora", "qlora"]
PACKED = 0.5  # bytes of a weight in 4 bits
NF4 = PACKED + (1 + 4 / 256) / 64  # with its scales: a byte for 64, a float for 256 of those
TRACED = (256, 512)  # tokens of the two traces that tell every other


@dataclass(frozen=True)
class Way:
    """A way to train: what is learned, and how the optimizer keeps it."""

    method: Method = "full"
    optim: OptimName = "adamw_torch_fused"
    master_weights: MasterWeights = "fp32"
    offload: bool = False

    @property
    def words(self) -> str:
        """As a person would name it."""
        more: list[str] = [] if self.optim == "adamw_torch_fused" else [self.optim]
        more += ["no masters"] if self.master_weights == "none" else []
        more += ["offloaded optimizer"] if self.offload else []
        return ", ".join([self.method, *more])


@dataclass(frozen=True)
class Weights:
    """Numbers of weights. layer: of one decoder layer; outside: of embeddings, head and the last
    norm; linear: all in linear layers but the head, which QLoRA keeps in 4 bits; embedding: of the
    input's; largest: of the largest tensor."""

    all: int
    layer: int
    outside: int
    linear: int
    embedding: int
    largest: int


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank at the moment when it holds most."""

    weights: float
    masters: float
    moments: float
    gradients: float
    activations: float
    loss: float
    workspace: float
    process: float

    @property
    def total(self) -> float:
        return float(sum(vars(self).values()))


def on_meta(
    config: Any, bf16: bool, lora: LoraSpec | None = None, layers: int | None = None
) -> Any:
    """A model of this transformers configuration without weights: only shapes; its own copy.

    layers: leave so many of the decoder's, to be traced; adapters go into what is left.
    """
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if bf16 else torch.float32
    own = type(config).from_dict(config.to_dict())
    with quiet(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(own, dtype=dtype, attn_implementation=ATTENTION)
        if layers is not None:
            cut_decoder(model, layers)
        if lora is not None:
            model = add_lora(model, lora)
    lean_norms(model)
    head = model.get_output_embeddings()
    head.in_chunks = type(head) is nn.Linear and not getattr(own, "final_logit_softcapping", None)
    return model


class Anatomy:
    """What a plan asks of a model, each thing found once."""

    def __init__(self, config: Any, bf16: bool, lora: LoraSpec, work: Workload, gpu: bool) -> None:
        """config: of transformers; lora: the adapters that `lora` and `qlora` have."""
        self.config, self.bf16, self.lora, self.work, self.gpu = config, bf16, lora, work, gpu
        model = on_meta(config, bf16)
        self.layers = len(decoder_layers(model)[1])
        self.weights = _weights(model)
        self.footprint = lru_cache(None)(self._footprint)
        self.learned = lru_cache(None)(self._learned)
        self.dropped = lru_cache(None)(self._dropped)

    def _learned(self, method: Method) -> tuple[int, int, Flops]:
        """Trained weights of all layers together and of one, and the arithmetic of a token."""
        found = []
        for layers in (1, 2):  # the rest are like the second
            model = self._cut(method, layers)
            trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
            found.append((trained, training_flops(model)))
        (trained, flops), (more, most) = found
        rest, one = self.layers - 1, more - trained
        return (
            trained + rest * one,
            one,
            Flops(
                flops.token + rest * (most.token - flops.token),
                flops.supervised,
                flops.pair * self.layers,
            ),
        )

    def _dropped(self, method: Method) -> int:
        """Numbers of a token that are dropped at random, forward."""
        if method == "full" or not self.lora.lora_dropout:
            return 0
        one, two = (dropped(self._cut(method, layers)) for layers in (1, 2))
        return one + (self.layers - 1) * (two - one)

    def _cut(self, method: Method, layers: int) -> Any:
        lora = None if method == "full" else self.lora
        model = on_meta(self.config, self.bf16, lora, layers)
        if not self.gpu:
            quick_dropout(model)
        return model

    def _footprint(self, method: Method, checkpointed: bool, tokens: int) -> Footprint:
        if self.gpu and tokens not in TRACED:
            short, long = (self.footprint(method, checkpointed, size) for size in TRACED)
            return short.scaled(long, tokens)
        model = self._cut(method, min(3, self.layers))
        if checkpointed:
            checkpoint_layers(model, True)
        learned = max(1, round(tokens * self.work.learned / sum(self.work.row)))
        lengths = None if self.gpu else _documents(self.work.row, tokens)
        loss.CHUNK["meta"] = loss.CHUNK["cuda" if self.gpu else "cpu"]
        loss.BLOCK["meta"] = loss.BLOCK["cuda" if self.gpu else "cpu"]
        found = trace(model, tokens, min(learned, tokens - 1), Held(lengths))
        return replace(found, between=max(0, self.layers - 2))

    def memory(
        self, way: Way, hardware: Hardware, ranks: int, tokens: int, checkpointed: int, more: bool
    ) -> Memory:
        """Of one rank of `ranks`, micro-batches of `tokens`, and the first layers checkpointed.

        more: a step has more than one micro-batch, so gradients are there from the one before.
        """
        trained, one, _ = self.learned(way.method)
        each, layer_bytes = self._each(way), 2 if self.bf16 else 4
        kept = self._kept(way, ranks, trained)
        gradients = each.gradient * trained / ranks
        tokens = -(-tokens // loss.SHAPES) * loss.SHAPES
        plain = again = self.footprint(way.method, False, tokens)
        if checkpointed:
            again = self.footprint(way.method, True, tokens)
        most = most_held(plain, again, checkpointed, gradients if more else 0.0, ranks)
        together = self._gathered(way, ranks, layer_bytes, one) if ranks > 1 else 0.0
        bucket = min(max(BUCKET, self.weights.largest), trained) / ranks * each.bucket
        updating = gradients + (0 if way.offload else bucket)
        working = most.total + together
        if way.method == "qlora":
            working += 2 * layer_bytes * self.weights.largest  # unpacked for a product
        if working >= updating:
            parts = vars(most) | {"workspace": most.workspace + working - most.total}
        else:
            parts = {"gradients": gradients, "activations": 0.0, "loss": 0.0}
            parts |= {"workspace": updating - gradients}
        dropped = parts["activations"] + parts["loss"] + parts["workspace"]
        kernels = min(hardware.kernels, KERNELS * self.weights.all)
        slack = hardware.slack if way.method == "full" else hardware.adapters
        held = slack.dropped * dropped + slack.workspace * parts["workspace"]
        held += slack.weights * kept["weights"] + slack.layers * plain.made
        beside = hardware.process + kernels + held
        return Memory(**kept, **parts, process=beside)

    def _each(self, way: Way) -> BytesPerWeight:
        return bytes_per_weight(way.optim, way.master_weights, self.bf16)

    def _kept(self, way: Way, ranks: int, trained: int) -> dict[str, float]:
        """Weights, masters and moments: what is there from the first step to the last."""
        each, own = self._each(way), self.weights
        size = 2 if self.bf16 else 4
        if way.method == "full":
            weights = own.all * size / ranks
        elif way.method == "lora":
            weights = (own.all + trained) * size / ranks
        else:  # every rank has all scales of the packed weights
            weights = own.linear * (NF4 - PACKED)
            weights += (own.linear * PACKED + (own.all - own.linear + trained) * size) / ranks
        embedding = own.embedding if way.method == "full" else 0
        moments = each.moments * (trained - embedding) + each.embedding_moments * embedding
        masters = each.master * trained
        if way.offload:
            masters = moments = 0.0
        return {"weights": weights, "masters": masters / ranks, "moments": moments / ranks}

    def _gathered(self, way: Way, ranks: int, size: int, one: int) -> float:
        """What FSDP brings together: two layers, the weights outside of them, gradients to add."""
        own = self.weights
        layers = 2 * own.layer * (PACKED if way.method == "qlora" else size)
        summed = 4 if way.method == "full" else 0  # bytes of a gradient that is added up
        outside = own.outside * (size + (size + summed if summed else 0))
        if not self.gpu:  # gloo adds up in a copy, and gathers in one piece that is then cut
            outside += own.outside * (size + summed)
        return layers + outside + 4 * one * (1 + 1 / ranks)


def _documents(row: list[int], tokens: int) -> list[int]:
    """Lengths like those of `row`, over and over, that add up to `tokens`."""
    lengths: list[int] = []
    while (left := tokens - sum(lengths)) > 0:
        lengths.append(min(left, row[len(lengths) % len(row)]))
    return lengths


def _weights(model: Any) -> Weights:
    def count(module: Any) -> int:
        return sum(p.numel() for p in module.parameters())

    _, layers = decoder_layers(model)
    head = model.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    inside = sum(count(layer) for layer in layers)
    return Weights(
        all=count(model),
        layer=count(layers[0]),
        outside=count(model) - inside,
        linear=linear,
        embedding=model.get_input_embeddings().weight.numel(),
        largest=max(p.numel() for p in model.parameters()),
    )
