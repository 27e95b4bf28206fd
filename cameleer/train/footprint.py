"""What a micro-batch keeps in memory, told by a step that is run without its numbers.

The model stands on torch's `meta` device, where tensors have shapes and no values, and every
tensor that the step makes and drops is counted. So the model's own code says what is saved for the
backward pass, with adapters and checkpointing too, for every family, and nothing is a formula of
ours but attention, whose kernels hold what no tensor shows.

Layers of a decoder are alike: three are traced and the middle one stands for all between the first
and the last. What a step holds grows linearly with its tokens, so two lengths tell every other.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from cameleer.core.errors import UserError
from cameleer.model.attention import Documents
from cameleer.train.loss import supervised_loss


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors of one device that are made while it is entered.

    before: tensors that were there before, whose views are nothing new.
    now, peak: bytes alive, and most of them since `restart`.
    """

    def __init__(self, device: str = "meta", before: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.now, self.peak = device, 0, 0
        self.alive = {tensor.untyped_storage()._cdata for tensor in before}

    def restart(self) -> int:
        """The peak since the last call, which is forgotten."""
        peak, self.peak = self.peak, self.now
        return peak

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "meta":
            return 0  # a model asks whether all of something is so; on `meta` there is no answer
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor) and tensor.device.type == self.device:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.alive:
            return
        self.alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.now -= size


@dataclass(frozen=True)
class AttentionBytes:
    """What the attention of one layer holds, in bytes, beside its inputs, output and gradients.

    kept: from the forward to the backward pass; forward, backward: more than that while it works.
    flash: the kernel of GPUs, which keeps its inputs and its output, token by token.
    """

    kept: int
    forward: int
    backward: int
    flash: bool = False


def flash_attention(q: Tensor) -> AttentionBytes:
    """FlashAttention 2: a float32 sum per head and token; backward, float32 gradients of q."""
    _, heads, tokens, _ = q.shape
    return AttentionBytes(4 * heads * tokens, 0, 4 * (heads * tokens + q.numel()), flash=True)


def measured_attention(
    lengths: list[int], shapes: list[torch.Size], dtype: torch.dtype, how: Any
) -> AttentionBytes:
    """Our own attention on a CPU, over documents of these lengths: run, and counted.

    shapes: of queries, keys and values; how: see cameleer.model.attention.
    """
    with Counting("cpu") as count:
        leaves = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in shapes]
        at_rest = count.now
        q, k, v = (leaf.clone() for leaf in leaves)
        mixed = Documents(lengths).attend(0, q, k, v, how)
        given = q.nbytes + k.nbytes + v.nbytes
        del q, k, v
        kept = count.now - at_rest - mixed.nbytes
        forward = max(0, count.restart() - at_rest - mixed.nbytes - kept - given)
        gradient = torch.zeros_like(mixed)
        before = count.now
        count.restart()
        torch.autograd.backward(mixed, gradient)
        return AttentionBytes(kept, forward, max(0, count.peak - before))


class _StandIn(torch.autograd.Function):
    """Holds what an attention kernel would hold, and computes nothing."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, holds: AttentionBytes) -> Tensor:
        ctx.holds, ctx.shapes = holds, (q.shape, k.shape, v.shape)
        _bytes(holds.forward, q)
        _, heads, tokens, head_dim = q.shape
        out = q.new_empty(1, tokens, heads, head_dim).transpose(1, 2)
        if not holds.flash:
            out = torch.empty_like(out, memory_format=torch.contiguous_format)
        ctx.save_for_backward(_bytes(holds.kept, q), *((q, k, v, out) if holds.flash else ()))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _bytes(ctx.holds.backward, grads[0])
        return *(grads[0].new_empty(shape) for shape in ctx.shapes), None


def _bytes(size: int, like: Tensor) -> Tensor:
    return like.new_empty(size, dtype=torch.uint8)


class Held:
    """A layout (see cameleer.model.attention) that computes nothing and holds what another would.

    lengths: of the documents, for the attention of a CPU; None for the kernel of GPUs.
    """

    def __init__(self, lengths: list[int] | None) -> None:
        self.lengths, self.known = lengths, dict[Any, AttentionBytes]()
        self.longest = max(lengths) if lengths else 1

    def attend(self, _layer: int, q: Tensor, k: Tensor, v: Tensor, how: Any) -> Tensor:
        if how not in self.known:
            self.known[how] = self._bytes(q, k, v, how)
        mixed: Tensor = _StandIn.apply(q, k, v, self.known[how])  # type: ignore[no-untyped-call]
        return mixed

    def _bytes(self, q: Tensor, k: Tensor, v: Tensor, how: Any) -> AttentionBytes:
        if self.lengths is None:
            return flash_attention(q)
        shapes = [x.shape for x in (q, k, v)]
        with ThreadPoolExecutor(1) as apart:  # what counts the trace reaches no other thread
            return apart.submit(measured_attention, self.lengths, shapes, q.dtype, how).result()


@dataclass(frozen=True)
class Part:
    """A part of the step, in bytes: what it leaves alive, and what it holds at most beside that
    which was alive before; gradients of weights that it leaves, counted in `left` as well."""

    left: float
    peak: float
    gradients: float

    def at(self, other: Part, share: float) -> Part:
        """The part at `share` of the way from this one to `other`, or beyond it."""
        return Part(
            self.left + share * (other.left - self.left),
            self.peak + share * (other.peak - self.peak),
            self.gradients + share * (other.gradients - self.gradients),
        )


@dataclass(frozen=True)
class Footprint:
    """What a step of one micro-batch of `tokens` tokens holds beside weights and optimizer.

    parts: `first` (embedding, first layer), `layer` (one in the middle), `last`, `head`, `loss`
    (their backward), `last back`, `layer back`, `first back`. between: layers in the middle.
    """

    tokens: int
    between: int
    parts: dict[str, Part]

    @property
    def made(self) -> float:
        """Bytes that all layers leave on their way forward."""
        one, layer, last = (self.parts[name].left for name in ("first", "layer", "last"))
        return one + self.between * layer + last

    def scaled(self, other: Footprint, tokens: int) -> Footprint:
        """The footprint of another number of tokens, on the line through this one and `other`."""
        share = (tokens - self.tokens) / (other.tokens - self.tokens)
        parts = {name: part.at(other.parts[name], share) for name, part in self.parts.items()}
        return replace(self, tokens=tokens, parts=parts)


@dataclass(frozen=True)
class Most:
    """The moment of a step at which most is held, in bytes: see `most_held`."""

    gradients: float
    activations: float
    loss: float
    workspace: float

    @property
    def total(self) -> float:
        return self.gradients + self.activations + self.loss + self.workspace


def most_held(
    plain: Footprint, checkpointed: Footprint, layers: int, accumulated: float, ranks: int = 1
) -> Most:
    """The largest sum over a step whose first `layers` layers are checkpointed.

    The first ones, for they are computed again when least else is left. accumulated: bytes of
    gradients that stay from the micro-batch before, 0 if there is none. ranks: gradients are cut
    over so many once a layer's are whole.
    """
    every = plain.between + 2
    again = max(0, min(layers - 1, plain.between))  # of those in the middle
    first = checkpointed if layers else plain
    last = checkpointed if layers >= every else plain
    walk: list[tuple[str, Part]] = [("", first.parts["first"])]
    walk += [("", checkpointed.parts["layer"])] * again
    walk += [("", plain.parts["layer"])] * (plain.between - again)
    walk += [("", last.parts["last"]), ("head", last.parts["head"])]
    walk += [("back", last.parts["last back"])]
    walk += [("", plain.parts["layer back"])] * (plain.between - again)
    walk += [("", checkpointed.parts["layer back"])] * again
    walk += [("", first.parts["first back"])]
    alive, gradients, loss, found = 0.0, 0.0, 0.0, Most(0, 0, 0, 0)
    for place, part in walk:
        here = Most(max(gradients, accumulated), alive - loss, loss, part.peak)
        found = max(found, here, key=lambda most: most.total)
        loss = max(0.0, part.left) if place == "head" else 0.0
        alive += part.left - part.gradients
        gradients += part.gradients / ranks
    return found


def trace(model: Any, tokens: int, supervised: int, layout: Held) -> Footprint:
    """The footprint of a model on the `meta` device; its decoder is cut to three layers.

    tokens, supervised: of the micro-batch, and those of them that are learned.
    """
    _, layers = decoder_layers(model)
    count = len(layers)
    if count > 3 and _alike(layers):
        layers = cut_decoder(model, 3)
    model.train()
    counting = Counting(before=[*model.parameters(), *model.buffers()])
    marks = _Marks(counting, model)
    handles = marks.listen(layers, model.get_output_embeddings())
    mask = torch.zeros(tokens, dtype=torch.bool)
    mask[1 : supervised + 1] = True
    try:
        with counting, torch.device("meta"):
            ids = torch.zeros(1, tokens, dtype=torch.long)
            marks.set("start")
            weights = torch.empty(supervised)
            loss, _ = supervised_loss(model, ids, ids, mask, weights, layout)
            marks.set("loss")
            torch.autograd.backward(loss)
            marks.set("end")
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"models of type '{model.config.model_type}' cannot be planned: {reason}", field="model"
        ) from None
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    return Footprint(tokens, max(0, count - 2), marks.parts())


def decoder_layers(model: Any) -> tuple[str, Any]:
    """Name and list of the decoder's layers: as many as the configuration says."""
    config = model.config.get_text_config()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == config.num_hidden_layers:
            return name, module
    raise UserError(f"models of type '{config.model_type}' cannot be planned", field="model")


def cut_decoder(model: Any, keep: int) -> Any:
    """Leave the first `keep` layers of the decoder, and return them."""
    name, layers = decoder_layers(model)
    parent, _, last = name.rpartition(".")
    kept = torch.nn.ModuleList(list(layers)[:keep])
    setattr(model.get_submodule(parent), last, kept)
    model.config.get_text_config().num_hidden_layers = len(kept)
    return kept


def _alike(layers: Any) -> bool:
    shapes = [[tuple(weight.shape) for weight in layer.parameters()] for layer in layers]
    return all(shape == shapes[0] for shape in shapes)


class _Marks:
    """Cuts a step into parts at the moments when layers begin and have their gradient."""

    def __init__(self, counting: Counting, model: Any) -> None:
        self.counting, self.model = counting, model
        self.found: dict[str, tuple[int, int, int]] = {}

    def set(self, name: str) -> None:
        """Note alive bytes, the peak since the last mark and gradients; once for each name."""
        if name not in self.found:
            grads = (weight.grad for weight in self.model.parameters())
            gradients = sum(grad.nbytes for grad in grads if grad is not None)
            self.found[name] = (self.counting.now, self.counting.restart(), gradients)

    def listen(self, layers: Any, head: Any) -> list[Any]:
        """Set marks before the second and the last layer and the head, forward and backward."""

        def before(name: str) -> Callable[..., None]:
            def mark(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
                if name in self.found:
                    return  # computed again by checkpointing
                self.set(name)
                given = args[0] if args else kwargs["hidden_states"]
                if given.requires_grad:
                    given.register_hook(lambda _: self.set(f"{name} back"))

            return mark

        hooked = [(layers[-1], "last"), (head, "head")]
        if len(layers) > 2:
            hooked.insert(0, (layers[1], "second"))
        return [m.register_forward_pre_hook(before(name), with_kwargs=True) for m, name in hooked]

    def _at(self, name: str) -> tuple[int, int, int]:
        """A mark; where there is none, as there are fewer layers, the one that comes next."""
        if name in self.found:
            return self.found[name]
        return self._at({"second": "last", "second back": "last back", "last back": "end"}[name])

    def parts(self) -> dict[str, Part]:
        """The parts between the marks that were set, in order."""
        order = (
            ("first", "start", "second"),
            ("layer", "second", "last"),
            ("last", "last", "head"),
            ("head", "head", "loss"),
            ("last back", "loss", "last back"),
            ("layer back", "last back", "second back"),
            ("first back", "second back", "end"),
        )
        made = {}
        for name, begin, end in order:
            (before, _, had), (after, peak, has) = self._at(begin), self._at(end)
            made[name] = Part(after - before, peak - before, has - had)
        return made
