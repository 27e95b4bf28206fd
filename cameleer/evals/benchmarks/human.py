"""The instructions that people judged: answers are written here, for people to compare.

origin    https://github.com/allenai/open-instruct (human_eval/data/eval_instances_tulu_1.jsonl)
licence   Apache-2.0
citation  Wang et al., How Far Can Camels Go?, 2023, section 6
size      332 instructions: 252 of Self-Instruct's user-oriented ones, 80 of Vicuna's
score     none; outputs.json holds the answers in AlpacaEval's form, for people or a judge

The file holds each instruction three times, once for each pair of models that was compared.
Greedy, up to 1,024 new tokens, no stop texts.
Rule `paper`: as the code of the paper's first version, every instruction ends in a line break,
which stands before that of the chat format. Rule `fixed`: without it, as training data is rendered.
"""

from __future__ import annotations

from pathlib import Path

from cameleer.core.errors import UserError
from cameleer.core.folders import locate
from cameleer.core.jsonl import read_jsonl
from cameleer.evals.benchmark import Ask, Setting
from cameleer.results.records import Item

SETTINGS = {
    "greedy": Setting(
        "answers for people, no score", "", max_new_tokens=1024, clip=True, scored=False
    )
}
NATIVE = ("eval_instances_tulu_1.jsonl",)


def folder(data: Path | None) -> Path:
    """The user's data; the folder bears the name that the release gave it."""
    return locate(data, "eval", "human_eval", NATIVE)


def items(ask: Ask) -> list[Item]:
    """Every instruction once, in the order in which the file first has it."""
    path = ask.data / NATIVE[0]
    found: dict[str, Item] = {}
    for line, row in read_jsonl(path):
        for field in ("id", "prompt"):
            if not isinstance(row.get(field), str):
                raise UserError("is missing or not text", file=path, line=line, field=field)
        said, name = row["prompt"].strip(), row["id"]
        group = "vicuna" if name.startswith("vicuna") else "self-instruct"
        text = f"{said}\n" if ask.rule == "paper" else said
        item = Item(f"human/{name}", group, text, "", None, {"instruction": said})
        if found.setdefault(name, item).text != text:
            raise UserError(f"'{name}' was another text before", file=path, line=line)
    return list(found.values())
