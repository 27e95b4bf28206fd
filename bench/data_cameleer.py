"""Cameleer's side of `bench.data`: makes conversations, converts, renders, packs, compares them.

python -m bench.data_cameleer JOB.json     prints one JSON object
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.chat.render import RenderedBytes, Renderer
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl

REAL = ("stanford_alpaca", "code_alpaca", "gpt4_alpaca", "dolly", "cot", "sharegpt")
CHANGED, NEW = 0.15, 0.4  # share of words changed, and of these by words that nobody has seen
REPEATED = 0.02  # share of records that are an earlier one with a word changed
SYLLABLES = [a + b + c for a in "bdfglmnprst" for b in "aeiou" for c in ("", "l", "n", "r")]
EVERY = 0.2  # seconds between two looks at the memory


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write the real conversations that all systems render, and native records to convert.

    The sample holds what ends in an answer and has at most `limit` tokens, so that every system has
    the same to do. The records are the sample's, over and over, with words changed at random: six
    in a hundred pieces of text are new, as in a real mixture after some millions of them.
    """
    from cameleer.data.convert import convert
    from cameleer.model.load import load_tokenizer, model_folder

    base, data = model_folder(job["model"]), Path(job["data"])
    found = [chat for name in REAL for chat in convert(name, data)[0]]
    shown = data / "instruct/tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"
    found += read_conversations(shown)
    renderer = Renderer(load_tokenizer(str(base)), template_named("tulu"))
    fitting, tokens = [], 0
    for chat, one in zip(found, renderer.whole(found), strict=True):
        if (
            chat.messages[-1].role == "assistant"
            and len(one.mask) <= job["limit"]
            and 1 in one.mask
        ):
            fitting.append(chat)
            tokens += len(one.mask)
    random.Random(0).shuffle(fitting)
    write_jsonl(Path(job["sample"]), (chat.to_row() for chat in fitting))
    native = Path(job["native"]) / "databricks-dolly-15k.jsonl"
    write_jsonl(native, islice(records(fitting), job["conversations"]))
    return {"base": str(base), "conversations": len(fitting), "tokens": tokens}


def records(chats: list[Conversation]) -> Iterator[dict[str, str]]:
    """Endless records in Dolly's native form, made of real conversations with words changed."""
    draw, lately = random.Random(0), list[dict[str, str]]()
    pool = [word for chat in chats[:500] for word in chat.messages[0].content.split(" ")]
    while True:
        for chat in chats:
            if lately and draw.random() < REPEATED:
                old = draw.choice(lately)
                yield old | {"response": changed(old["response"], 1, pool, draw)}
                continue
            question, *answers = (turn.content for turn in chat.messages if turn.role != "system")
            texts = [question, "\n\n".join(answers)]
            asked, told = (changed(one, CHANGED * one.count(" "), pool, draw) for one in texts)
            record = {"instruction": asked, "context": "", "response": told, "category": "any"}
            lately = [*lately[-200:], record]
            yield record


def changed(text: str, times: float, pool: list[str], draw: random.Random) -> str:
    """The text with so many of its words replaced."""
    words = text.split(" ")
    for _ in range(round(times)):
        new = draw.random() < NEW
        word = "".join(draw.choices(SYLLABLES, k=3)) if new else draw.choice(pool)
        words[int(draw.random() * len(words))] = word
    return " ".join(words)


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Native records to conversations, as `cameleer data convert` does it."""
    from cameleer.core.files import replacing
    from cameleer.data.convert import stream, to_line
    from cameleer.data.source import Convert, source_named

    work = Convert(Path(job["native"]))
    with replacing(Path(job["file"]), "wb") as handle:
        handle.writelines(stream(source_named("dolly"), work, to_line))
    return {"conversations": work.counts["kept"], "counts": dict(work.counts)}


def renderer_of(job: dict[str, Any], rule: str = "fixed") -> Renderer:
    """What renders in the Tülu format with the model's tokenizer."""
    from cameleer.model.load import load_tokenizer

    tokenizer, template = load_tokenizer(job["base"]), template_named("tulu")
    limit, ruled = job["limit"], "paper" if rule == "paper" else "fixed"
    return Renderer(tokenizer, template, max_tokens=limit, rule=ruled)  # type: ignore[arg-type]


def render(job: dict[str, Any]) -> dict[str, Any]:
    """Conversations to JSON lines of ids and masks, as `cameleer data render` does it."""
    from cameleer.data.rendering import render_file

    out = Path(job["file"]).with_suffix(".ids.jsonl")
    counts = render_file(Path(job["file"]), out, renderer_of(job))
    out.unlink()
    return {"conversations": counts["read"], "counts": counts}


def tokenise(job: dict[str, Any]) -> dict[str, Any]:
    """Conversations to arrays on disk, as training does it."""
    from cameleer.data.loader import tokenise as tokenised
    from cameleer.model.load import load_tokenizer

    tokens = tokenised(
        Path(job["file"]),
        load_tokenizer(job["base"]),
        template_named("tulu"),
        max_tokens=job["limit"],
        on_long="cut",
        rule="fixed",
        folder=Path(job["arrays"]),
    )
    return {"conversations": tokens.counts["read"], "tokens": tokens.counts["tokens"]}


def pack(job: dict[str, Any]) -> dict[str, Any]:
    """The rows of one epoch from the lengths, as training packs them anew each epoch."""
    import numpy as np

    from cameleer.data.loader import epoch_rows

    lengths = np.diff(np.fromfile(Path(job["arrays"]) / "starts.i64", np.int64)).tolist()
    rows = epoch_rows(lengths, job["limit"], 42, 0)
    full = sum(lengths) / (len(rows) * job["limit"])
    return {"conversations": len(lengths), "rows": len(rows), "full": round(full, 5)}


def duplicates(job: dict[str, Any]) -> dict[str, Any]:
    """Exact and near duplicates among the first conversations of a file."""
    from cameleer.data.overlap.duplicates import find_duplicates

    some = Path(job["file"]).with_suffix(".some.jsonl")
    with Path(job["file"]).open("rb") as whole, some.open("wb") as part:
        part.writelines(islice(whole, job["duplicates"]))
    found = find_duplicates([some], cores=job["cores"], scratch=some.parent)
    some.unlink()
    return {"conversations": found.counts["read"], "counts": dict(found.counts)}


def rate(job: dict[str, Any]) -> dict[str, Any]:
    """Processor time of one way to tokenise the sample, by one core, and digests of what it gives.

    way: `bare` (the library's bare call, no masks), `call` (transformers' call with offsets),
    `whole` (one tokenisation of the text, masks by offsets), `pieces`, `known` (all pieces seen
    before), `paper` (pieces, by the paper's rule).
    """
    chats = list(read_conversations(Path(job["sample"])))
    renderer = renderer_of(job, job["way"])
    made: dict[str, Callable[[], Iterable[Any]]] = {
        "bare": lambda: renderer.backend.encode_batch(texts(renderer, chats)),
        "call": lambda: transformers_call(job, texts(renderer, chats)),
        "whole": lambda: renderer.whole(chats),
    }
    work = made.get(job["way"], lambda: list(renderer.render(chats, Counter())))
    if job["way"] == "known":
        work()
    began = time.process_time()
    found = work()
    seconds = time.process_time() - began
    if job["way"] not in ("bare", "call"):
        masks = [one.supervised if isinstance(one, RenderedBytes) else one.mask for one in found]
        write_digests(job, zip((one.ids for one in found), masks, strict=True))
    return {"seconds": seconds, "conversations": len(chats)}


def texts(renderer: Renderer, chats: list[Conversation]) -> list[str]:
    """The whole text of each conversation."""
    return [renderer.template.text(chat.messages, renderer.eos) for chat in chats]


def transformers_call(job: dict[str, Any], asked: list[str]) -> list[Any]:
    """What the tokenizer's own call gives, with offsets, in batches."""
    from cameleer.model.load import load_tokenizer

    tokenizer = load_tokenizer(job["base"])
    return [
        tokenizer(asked[at : at + 256], return_offsets_mapping=True, verbose=False)
        for at in range(0, len(asked), 256)
    ]


def write_digests(job: dict[str, Any], made: Iterable[tuple[bytes, bytes]]) -> None:
    """One line for each conversation: a digest of its ids (uint32) and its mask (0 and 1)."""
    lines = [hashlib.sha256(ids + b"|" + mask).hexdigest()[:16] for ids, mask in made]
    Path(job["digests"]).write_text("\n".join(lines) + "\n", encoding="utf-8")


class Memory(threading.Thread):
    """Watches how much memory this process and its workers hold together, in bytes.

    Shared pages are counted once (Pss); a peak between two looks goes unseen.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0, threading.Event()

    def run(self) -> None:
        """Look every now and then, until told to end."""
        while not self.ended.wait(EVERY):
            pids = ["self", *(str(one.pid) for one in multiprocessing.active_children())]
            self.peak = max(self.peak, sum(map(held, pids)))


def held(pid: str) -> int:
    """Bytes that a process holds; 0 if it has just ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


WORK: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "prepare": prepare,
    "convert": convert,
    "render": render,
    "tokenise": tokenise,
    "pack": pack,
    "duplicates": duplicates,
    "rate": rate,
}


def main() -> None:
    """Do the job; say what came of it and how much memory it took at most."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    memory = Memory()
    memory.start()
    began = time.perf_counter()
    answer = WORK[asked["do"]](asked)
    wall = time.perf_counter() - began
    memory.ended.set()
    memory.join()
    print(json.dumps({"wall": wall, "peak": memory.peak} | answer))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
