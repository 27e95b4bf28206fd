"""The smallest native files of every benchmark, in the layouts of their releases."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

ZOO = "".join(f"Is {n} a camel?,yes,no,may be,never,{'ABCDA'[n]}\n" for n in range(5))
SOLUTION = "    return 2 * x\n"
PROBLEM = {
    "task_id": "HumanEval/7",
    "prompt": 'def twice(x):\n    """Two times x."""\n',
    "entry_point": "twice",
    "canonical_solution": SOLUTION,
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}
TRUTH = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    "A,Deserts,Do camels store water?,No they do not,No they do not; They store fat,"
    "Yes they do; In the hump,x\n"
)


def _lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _squad(key: str) -> bytes:
    row = {"id": key, "question": "Who drank?", "answers": [{"text": "a camel"}]}
    paragraph = {"context": "It was a camel that drank.", "qas": [row]}
    return json.dumps({"data": [{"paragraphs": [paragraph]}]}).encode()


NATIVE: dict[str, dict[str, bytes]] = {
    "mmlu": {"test/zoo_test.csv": ZOO.encode(), "dev/zoo_dev.csv": ZOO.encode()},
    "gsm": {
        "test.jsonl": _lines(
            {"question": "Two and 16?", "answer": "16 + 2.\n#### 18"},
            {"question": "1,300 camels less 66?", "answer": "#### 1,234"},
        ),
        "exemplars.jsonl": _lines(
            {"question": "Q?", "cot_answer": "So the answer is 2.", "short_answer": "2"}
        ),
    },
    "bbh": {
        "bbh/boolean_expressions.json": json.dumps(
            {"examples": [{"input": "not True is", "target": "False"}]}
        ).encode(),
        "cot-prompts/boolean_expressions.txt": (
            b"canary\n-----\nEvaluate.\n\nQ: True is\nA: Let's think. So the answer is True.\n"
        ),
    },
    "tydiqa": {
        "tydiqa-goldp-v1.1-dev.json": _squad("english-1-0"),
        "tydiqa-goldp-v1.1-train.json": _squad("english-2-0"),
    },
    "codex_humaneval": {"HumanEval.jsonl.gz": gzip.compress(_lines(PROBLEM))},
    "truthfulqa": {"TruthfulQA.csv": TRUTH.encode()},
    "toxigen": {"hate_camels_1k.txt": b"- camels spit\\n- camels\\n-\n- they stink\\n-\n"},
    "alpaca_eval": {
        "results/text_davinci_003/model_outputs.json": json.dumps(
            [{"instruction": "Name a camel.", "dataset": "koala", "output": "Joe"}]
        ).encode()
    },
    "human": {
        "eval_instances_tulu_1.jsonl": _lines({"id": "vicuna_1", "prompt": "Name a camel.\n"})
    },
}
FOLDERS = {"human": "human_eval"}  # where the release's name is another one


def native_files(root: Path, name: str) -> dict[str, Path]:
    """Write the files of a benchmark below `root`; their paths by their names."""
    home = root / "eval" / FOLDERS.get(name, name)
    found = {}
    for relative, content in NATIVE[name].items():
        found[relative] = home / relative
        found[relative].parent.mkdir(parents=True, exist_ok=True)
        found[relative].write_bytes(content)
    return found
