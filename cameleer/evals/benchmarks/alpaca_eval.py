"""AlpacaEval: 805 instructions as users write them; the answers are written here, not judged.

origin    https://github.com/tatsu-lab/alpaca_eval (results/text_davinci_003/model_outputs.json)
licence   CC BY-NC 4.0
citation  Li et al., AlpacaEval: An Automatic Evaluator of Instruction-following Models, 2023
size      805 instructions (252 Self-Instruct, 188 Open Assistant, 156 Koala, 129 Anthropic
          helpful, 80 Vicuna), with the answers of text-davinci-003 beside them
score     none; outputs.json holds the answers in AlpacaEval's own form, for a judge to compare

Greedy, up to 8,192 new tokens or to the end of the model's context, no stop texts, as the code of
the paper's second version; the first version had 2,048 (`--max-new-tokens 2048`) and the same
prompts with inputs told apart from instructions.
Rule `paper`: instructions as they are. Rule `fixed`: without white space around them (5 have some),
as training data is rendered.
"""

from __future__ import annotations

from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.evals.benchmark import Ask, Setting
from cameleer.results.records import Item

SETTINGS = {
    "greedy": Setting(
        "answers for a judge, no score", "", max_new_tokens=8192, clip=True, scored=False
    )
}
NATIVE = ("results/text_davinci_003/model_outputs.json",)


def items(ask: Ask) -> list[Item]:
    """The instructions in the file's order; groups are the data sets that they were taken from."""
    path = ask.data / NATIVE[0]
    rows = read_json(path)
    if not isinstance(rows, list):
        raise UserError("is not a list of records", file=path)
    found = []
    for number, row in enumerate(rows):
        for field in ("instruction", "dataset"):
            if not isinstance(row, dict) or not isinstance(row.get(field), str):
                raise UserError(
                    f"is missing or not text in record {number}", file=path, field=field
                )
        said = row["instruction"]
        text = said if ask.rule == "paper" else said.strip()
        meta = {"instruction": said}
        found.append(Item(f"alpaca_eval/{number}", row["dataset"], text, "", None, meta))
    return found
