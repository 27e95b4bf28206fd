"""Local models: what prompts begin with alike is computed once, prompts lie unpadded in one row.

Every forward pass is one row of tokens without padding (see cameleer.model.attention). All requests
make one tree of common beginnings, walked depth first. A batch, its beginnings and its passes
follow from the list of requests alone, so that answers do not depend on where a killed run went on.

In memory besides the model: keys and values of at most HELD tokens of beginnings (of one request's,
where they alone are more), of about writing.HELD tokens of sequences, and ROW tokens of a pass.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cameleer.core.errors import UserError
from cameleer.engines.continuation import windows
from cameleer.engines.engine import TOO_LONG, Hear, Request
from cameleer.engines.lengths import Lengths
from cameleer.engines.prefixes import Node, tree
from cameleer.engines.transformers_plugin import BATCH
from cameleer.engines.writing import ROW, Prompt, Writer, grouped, portions
from cameleer.model.attention import NAME, Prefix, Segments
from cameleer.model.cache import Capturing
from cameleer.model.load import (
    Precision,
    device_and_dtype,
    load_model,
    load_tokenizer,
)
from cameleer.model.packing import require_packing, require_vocabulary, room
from cameleer.results.records import Answer, Rule

WAVES = 2  # so many times as many make a batch, so that who ends makes place for another
LONG = 2048  # new tokens of outputs so long that a kill must not cost WAVES of them
HELD = 8192  # tokens of common beginnings that a batch may have in memory
WORTH = 1024  # tokens that a common beginning must save to stay shared while outputs are written


@dataclass
class _Row:
    """Tokens that are run through the model for a request.

    most: how many of them may be computed together with other rows; scored: numbers of choices,
    each with the tokens that are its own, the last of which comes after the row's last.
    """

    request: Request
    ids: list[int]
    most: int
    scored: list[tuple[int, list[int]]] = field(default_factory=list)
    node: Node | None = None
    before: Prefix | None = None

    @property
    def own(self) -> list[int]:
        return self.ids[self.node.end if self.node else 0 :]

    def nodes(self) -> list[Node]:
        """What the row begins with, from the root down."""
        return self.node.chain() if self.node else []


@dataclass
class _Plan:
    """A batch: its rows, and the nodes that other batches want as well."""

    rows: list[_Row]
    kept: set[Node] = field(default_factory=set)

    def nodes(self) -> list[Node]:
        """All nodes that the rows begin with, those above before those below."""
        return list(dict.fromkeys(node for row in self.rows for node in row.nodes()))


class TransformersEngine:
    """A causal language model of a Hugging Face folder, on one GPU or the CPU."""

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        *,
        precision: Precision = "auto",
        batch_size: int = BATCH,
    ) -> None:
        """batch_size: most sequences that are generated at a time. identity: see Engine."""
        self.identity, self.batch_size = identity, batch_size
        self.tokenizer = load_tokenizer(str(folder))
        self.measure = Lengths(self.tokenizer)
        self.device, dtype = device_and_dtype(precision)
        self.model = load_model(folder, dtype, NAME).to(self.device)
        require_packing(self.model)
        self.room = room(self.model)
        self.lengths: dict[str, int] = {}
        self.plans: dict[str, _Plan] = {}
        self.held: dict[Node, Prefix] = {}
        self.writer: Writer | None = None
        self.hear: Hear | None = None  # for chats: of what is said while it is written

    def status(self) -> str:
        """How far the outputs of the batch are."""
        return self.writer.status() if self.writer else ""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return self.measure.count(text)

    def cut(self, text: str, tokens: int, rule: Rule) -> str:
        """See Engine."""
        return self.measure.cut(text, tokens, rule)

    # ---- which requests are answered together

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Requests that begin alike together, else those of similar length, longest first.

        Those whose prompt leaves no room for an answer come last, and are not asked.
        """
        encoded = self.tokenizer([request.prompt for request in requests], verbose=False)
        rows = [
            self._rows(request, self._begun(ids))
            for request, ids in zip(requests, encoded["input_ids"], strict=True)
        ]
        pairs = zip(requests, encoded["input_ids"], strict=True)
        self.lengths = {request.key: len(ids) for request, ids in pairs}
        highest = max((max(row.ids) for own in rows for row in own), default=0)
        require_vocabulary(self.model, self.tokenizer, highest)
        self.plans, self.held = {}, {}
        told = [own for own in rows if all(self._fits(row) for row in own)]
        for chosen in (True, False):  # one batch is scored or written, never both
            self._plan([own for own in told if bool(own[0].request.choices) == chosen])
        batches = [
            list(dict.fromkeys(row.request for row in plan.rows)) for plan in self.plans.values()
        ]
        asked = {request.key for batch in batches for request in batch}
        mute = [request for request in requests if request.key not in asked]
        return [*batches, mute] if mute else batches

    def _begun(self, ids: list[int]) -> list[int]:
        """The tokens; an empty prompt is the token that texts begin with, or that they end with."""
        if ids:
            return ids
        start = self.tokenizer.bos_token_id
        return [self.tokenizer.eos_token_id if start is None else start]

    def _rows(self, request: Request, ids: list[int]) -> list[_Row]:
        """What has to go through the model for a request, each row of tokens once."""
        if not request.choices:
            return [_Row(request, ids, len(ids) - 1)]
        if request.scoring == "last":
            tokens = enumerate(self._choice_tokens(request.choices))
            scored = [(number, [token]) for number, token in tokens]
            return [_Row(request, ids, len(ids) - 1, scored)]
        rows: dict[tuple[int, tuple[int, ...]], _Row] = {}
        for number, choice in enumerate(request.choices):
            for given, own in windows(self.tokenizer, request.prompt, choice, self.room):
                whole = [*given, *own][:-1]  # nothing comes after the last token
                key = len(given), tuple(whole)
                rows.setdefault(key, _Row(request, whole, len(given) - 1))
                rows[key].scored.append((number, own))
        return list(rows.values())

    def _choice_tokens(self, choices: tuple[str, ...]) -> list[int]:
        tokens = [self.tokenizer(c, add_special_tokens=False)["input_ids"][-1] for c in choices]
        if len(set(tokens)) != len(choices):
            raise UserError(f"the tokenizer does not tell the choices {choices} apart")
        return tokens

    def _fits(self, row: _Row) -> bool:
        new = 0 if row.request.choices else 1
        return self.room is None or len(row.ids) + new <= self.room

    def _plan(self, asked: list[list[_Row]]) -> None:
        """Walk the tree of all rows depth first and cut it into batches."""
        flat = [row for own in asked for row in own]
        places: dict[Node | None, int] = {}
        for index, node in tree([row.ids for row in flat], [row.most for row in flat]):
            flat[index].node = node
            places.setdefault(node, len(places))
        places[None] = len(places)  # those that share nothing come last

        def place(own: list[_Row]) -> tuple[int, int, str]:
            size = sum(len(row.own) for row in own)
            return min(places[row.node] for row in own), -size, own[0].request.key

        plans = [_Plan(rows) for rows in self._cut(sorted(asked, key=place))]
        uses = Counter(node for plan in plans for node in plan.nodes())
        for plan in plans:
            plan.rows.sort(key=lambda row: places[row.node])
            plan.kept = {node for node in plan.nodes() if uses[node] > 1}
            self.plans[plan.rows[0].request.key] = plan

    def _cut(self, asked: list[list[_Row]]) -> Iterator[list[_Row]]:
        """Batches of about ROW tokens for choices, else of WAVES times `batch_size` sequences.

        LONG outputs come in batches of one wave. No batch has more than HELD tokens in nodes,
        unless one request alone does.
        """
        batch: list[_Row] = []
        nodes: set[Node] = set()
        size = 0
        for own in asked:
            request = own[0].request
            new = {node for row in own for node in row.nodes()} - nodes
            if request.choices:
                cost, limit = sum(len(row.own) for row in own), ROW
            else:
                waves = 1 if request.max_new_tokens >= LONG else WAVES
                cost, limit = request.samples, waves * self.batch_size
            held = sum(len(node.ids) for node in nodes | new)
            if batch and (size + cost > limit or held > HELD):
                yield batch
                batch, nodes, size = [], set(), 0
                new = {node for row in own for node in row.nodes()}
            batch, nodes, size = batch + own, nodes | new, size + cost
        if batch:
            yield batch

    # ---- answering

    @torch.inference_mode()
    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        """The answers to one batch that `batches` made."""
        began = time.perf_counter()
        plan = self.plans.get(batch[0].key)
        if plan is None:
            return [_mute(request, self.lengths[request.key]) for request in batch]
        prefixes = self._prefixes(plan)
        for row in plan.rows:
            row.before = prefixes[row.node] if row.node else None
        told = self._choose(plan) if batch[0].choices else self._write(plan, prefixes)
        for row in plan.rows:
            row.before = None
        seconds = round((time.perf_counter() - began) / len(batch), 4)
        return [replace(told[request.key], seconds=seconds) for request in batch]

    def _forward(self, ids: list[int], at: Tensor, layout: Any, keep: Tensor) -> Tensor:
        """Logits [kept, vocabulary] of one row; `at`: positions [1, tokens]."""
        logits: Tensor = self.model(
            input_ids=torch.tensor(ids, device=self.device)[None],
            position_ids=at.to(self.device),
            logits_to_keep=keep.to(self.device),
            use_cache=False,
            layout=layout,
        ).logits[0]
        return logits

    def _prefixes(self, plan: _Plan) -> dict[Node, Prefix]:
        """Keys and values of every node of a batch.

        What other batches want as well is computed by itself, so that it is the same whichever
        batch comes first after a kill; the rest level by level, many nodes in one pass.
        """
        nodes = plan.nodes()
        self.held = {node: self.held[node] for node in nodes if node in self.held}
        found = dict(self.held)
        for node in nodes:
            if node in plan.kept and node not in found:
                found |= self._captured([node], found)
        self.held = {node: prefix for node, prefix in found.items() if node in plan.kept}
        while missing := [node for node in nodes if node not in found]:
            ready = [node for node in missing if node.above is None or node.above in found]
            for part in portions([len(node.ids) for node in ready], ROW):
                found |= self._captured(ready[part.start : part.stop], found)
        return found

    def _captured(self, nodes: list[Node], known: dict[Node, Prefix]) -> dict[Node, Prefix]:
        """Keys and values of nodes, those of the nodes above them being known; one pass."""
        above = [known[node.above] if node.above else None for node in nodes]
        layout = Capturing(grouped([len(node.ids) for node in nodes], above))
        ids = [token for node in nodes for token in node.ids]
        self._forward(ids, layout.positions(), layout, torch.tensor([0]))
        return dict(zip(nodes, layout.captured, strict=True))

    def _choose(self, plan: _Plan) -> dict[str, Answer]:
        """Log-probability of each choice after its prompt; the likeliest is the output."""
        scores = {row.request.key: [0.0] * len(row.request.choices) for row in plan.rows}
        greedy = {key: [True] * len(own) for key, own in scores.items()}
        lengths = [len(row.own) for row in plan.rows]
        layout = Segments(grouped(lengths, [row.before for row in plan.rows]))
        ends = torch.tensor(lengths).cumsum(0).tolist()
        wanted = [max(len(tokens) for _, tokens in row.scored) for row in plan.rows]
        keep = [torch.arange(end - count, end) for end, count in zip(ends, wanted, strict=True)]
        ids = [token for row in plan.rows for token in row.own]
        logits = self._forward(ids, layout.positions(), layout, torch.cat(keep))
        for row, own in zip(plan.rows, torch.split(logits, wanted), strict=True):
            logprobs = own.float().log_softmax(-1)
            likeliest = own.argmax(-1).tolist()
            for number, tokens in row.scored:
                at = torch.arange(len(tokens), device=logprobs.device)
                picked = logprobs[at, torch.tensor(tokens, device=logprobs.device)]
                scores[row.request.key][number] += float(picked.double().sum())
                greedy[row.request.key][number] &= likeliest == tokens
        requests = {row.request.key: row.request for row in plan.rows}
        return {key: self._chosen(requests[key], own, greedy[key]) for key, own in scores.items()}

    def _chosen(self, request: Request, scores: list[float], greedy: list[bool]) -> Answer:
        best = request.choices[scores.index(max(scores))]
        tokens = self.lengths[request.key]
        told = greedy if request.scoring == "sum" else []
        return Answer(request.key, [best], scores, ["choice"], tokens, 0, 0.0, told)

    def _write(self, plan: _Plan, prefixes: dict[Node, Prefix]) -> dict[str, Answer]:
        """Outputs of every request of a batch."""
        shared = _shared(plan.rows)
        joined = {node: prefixes[node].joined() for node in set(shared) if node}
        self.writer = Writer(
            self._forward,
            self.tokenizer,
            ends=self._end_tokens(),
            layers=self.model.config.num_hidden_layers,
            device=self.device,
            batch_size=self.batch_size,
            hear=self.hear,
        )
        said = self.writer.write(
            [
                Prompt(
                    row.request,
                    row.own,
                    row.before,
                    joined[node] if node else None,
                    row.request.max_new_tokens if self.room is None else self.room - len(row.ids),
                )
                for row, node in zip(plan.rows, shared, strict=True)
            ]
        )
        return {
            row.request.key: Answer(
                row.request.key, outputs, [], finish, self.lengths[row.request.key], new, 0.0
            )
            for row, (outputs, finish, new) in zip(plan.rows, said, strict=True)
        }

    def _end_tokens(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return {end for end in (*ends, self.tokenizer.eos_token_id) if end is not None}


def _shared(rows: list[_Row]) -> list[Node | None]:
    """For each row the node up to which its sequences share keys and values while they are written.

    Sharing a node makes every step a little longer, and saves reading its tokens for each sequence.
    """
    counts: Counter[Node] = Counter()
    for row in rows:
        counts.update(dict.fromkeys(row.nodes(), row.request.samples))
    found = []
    for row in rows:
        last: Node | None = None
        for node in row.nodes():
            more = node.end - (last.end if last else 0)
            if (counts[node] - 1) * more >= WORTH:
                last = node
        found.append(last)
    return found


def _mute(request: Request, tokens: int) -> Answer:
    """The answer to a prompt that leaves the model no room for one."""
    samples = 1 if request.choices else request.samples
    return Answer(request.key, [""] * samples, [], [TOO_LONG] * samples, tokens, 0, 0.0)
