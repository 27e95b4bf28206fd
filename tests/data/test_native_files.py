"""What each source makes of its native files, by both rules, and of files that are broken."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.sources import cot


def read(
    name: str, root: Path, rule: Rule = "fixed", seed: int = 42
) -> tuple[list[Conversation], Counter[str]]:
    stream, counts = convert(name, root, rule, seed, strict=True)
    return list(stream), counts


def write(path: Path, rows: list[Any]) -> Path:
    lines = path.suffix == ".jsonl"
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
    path.write_text(text)
    return path


def texts(conversation: Conversation) -> list[str]:
    return [turn.content for turn in conversation.messages]


def alpaca(instruction: Any = "i", context: Any = "", output: Any = "o") -> dict[str, Any]:
    return {"instruction": instruction, "input": context, "output": output}


ALPACAS = {
    "stanford_alpaca": "alpaca_data.json",
    "gpt4_alpaca": "alpaca_gpt4_data.json",
    "code_alpaca": "code_alpaca_20k.json",
}


@pytest.mark.parametrize(("name", "file"), ALPACAS.items())
def test_alpacas(tmp_path: Path, name: str, file: str) -> None:
    write(tmp_path / file, [alpaca(), alpaca(output=" "), alpaca(context=None), alpaca(" ", "x")])
    paper, paper_counts = read(name, tmp_path, "paper")
    fixed, fixed_counts = read(name, tmp_path)
    assert [one.id for one in paper] == [f"{name}_{number}" for number in range(4)]
    assert [one.id for one in fixed] == [f"{name}_0", f"{name}_2"]
    assert paper_counts["read"] == fixed_counts["read"] == 4
    assert fixed_counts["dropped: empty answer"] == fixed_counts["dropped: empty question"] == 1
    for one in fixed:  # the same template by both rules, for the same seed
        same = next(other for other in paper if other.id == one.id)
        mended = [text.strip().replace("Plase", "Please") for text in texts(same)]
        assert texts(one) == mended


def test_seeds_draw_other_templates(tmp_path: Path) -> None:
    write(tmp_path / "alpaca_data.json", [alpaca()] * 50)
    assert read("stanford_alpaca", tmp_path, seed=1) != read("stanford_alpaca", tmp_path, seed=2)


def test_dolly(tmp_path: Path) -> None:
    row = {"instruction": "Who?", "context": "A camel.", "response": "It.", "category": "qa"}
    write(tmp_path / "databricks-dolly-15k.jsonl", [row, {**row, "context": ""}])
    first, second = read("dolly", tmp_path)[0]
    assert "A camel." in texts(first)[0]
    assert "A camel." not in texts(second)[0]
    assert texts(second)[1] == "It."


def test_code_alpaca_reads_the_small_file_by_the_fixed_rule_alone(tmp_path: Path) -> None:
    write(tmp_path / "code_alpaca_2k.json", [alpaca("small")])
    assert len(read("code_alpaca", tmp_path)[0]) == 1
    with pytest.raises(UserError, match=r"code_alpaca_20k\.json: no such file"):
        read("code_alpaca", tmp_path, "paper")
    write(tmp_path / "code_alpaca_20k.json", [alpaca("large")])
    assert ["large" in texts(one)[0] for one in read("code_alpaca", tmp_path)[0]] == [True, False]
    assert len(read("code_alpaca", tmp_path, "paper")[0]) == 1


def test_half_a_character_is_mended_and_counted(tmp_path: Path) -> None:
    (tmp_path / "alpaca_data.json").write_text(
        '[{"instruction": "\\ud83d\\ude00 \\ud83d", "input": "", "output": "\\ude00o"}]'
    )
    [one], counts = read("stanford_alpaca", tmp_path)
    assert "😀 \ufffd" in texts(one)[0]
    assert texts(one)[1] == "\ufffdo"
    assert counts["mended: half a character"] == 2


@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ({"instruction": "i", "input": ""}, "output", "missing or not text"),
        (alpaca(output=None), "output", "missing or not text"),
        (alpaca(instruction=3), "instruction", "missing or not text"),
        ({"instruction": "i", "output": ""}, "input", "missing or not text"),
        (["i"], None, "not a JSON object"),
    ],
)
def test_broken_records(tmp_path: Path, rule: Rule, row: Any, field: Any, says: str) -> None:
    file = write(tmp_path / "alpaca_data.json", [alpaca(), row])
    with pytest.raises(UserError, match=says) as caught:
        read("stanford_alpaca", tmp_path, rule)
    assert (caught.value.file, caught.value.line, caught.value.field) == (file, 7, field)


# --- CoT


def cot_rows(start: int, count: int) -> list[dict[str, str]]:
    return [{"inputs": f"q{n}", "targets": f"a{n}"} for n in range(start, start + count)]


@pytest.fixture
def cot_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve zero-shot and three few-shot rows, of each of which the sample takes five."""
    monkeypatch.setattr(cot, "SAMPLE", 5)
    write(tmp_path / "cot_zsopt.jsonl", cot_rows(0, 12))
    write(tmp_path / "cot_fsopt.jsonl", cot_rows(100, 3))
    return tmp_path


def test_cot_by_the_papers_rule(cot_folder: Path) -> None:
    found, counts = read("cot", cot_folder, "paper", seed=3)
    sample = random.Random(3).sample(cot_rows(0, 12), k=5)
    expected = [[row["inputs"] + "\n", row["targets"]] for row in sample + cot_rows(100, 3)]
    assert [texts(one) for one in found] == expected
    assert [one.id for one in found] == [f"cot_{number}" for number in range(8)]
    assert counts["read"] == 15
    assert counts["dropped: not in the sample"] == 7
    assert counts["missing: rows of cot_fsopt.jsonl to 5"] == 2


def test_cot_by_the_fixed_rule_keeps_the_files_order(cot_folder: Path) -> None:
    paper, fixed = (read("cot", cot_folder, rule, 3)[0] for rule in ("paper", "fixed"))
    numbers = [int(texts(one)[1][1:]) for one in fixed]
    assert numbers == sorted(numbers)
    assert {texts(one)[1] for one in fixed} == {texts(one)[1] for one in paper}


def test_cot_needs_both_files_by_the_papers_rule(cot_folder: Path) -> None:
    (cot_folder / "cot_fsopt.jsonl").unlink()
    assert len(read("cot", cot_folder)[0]) == 5
    with pytest.raises(UserError, match=r"cot_fsopt\.jsonl: no such file"):
        read("cot", cot_folder, "paper")


def test_cot_tsv(tmp_path: Path) -> None:
    (tmp_path / "b_train.tsv").write_text("Why?\\nOptions:\\n- yes\tyes\tAs it is.\nq\ta\t\n")
    (tmp_path / "a_train.tsv").write_text("1+1?\t2\tAdd.\r\n")
    found, counts = read("cot", tmp_path)
    assert [texts(one) for one in found] == [
        ["1+1?", "Add.\nSo the answer is 2."],
        ["Why?\nOptions:\n- yes", "As it is.\nSo the answer is yes."],
    ]
    assert counts == {"read": 3, "kept": 2, "dropped: empty answer": 1}


def test_cot_tsv_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "a_train.tsv"
    file.write_text("q\ta\te\nq\ta\n")
    with pytest.raises(UserError, match="2 tab-separated fields") as caught:
        read("cot", tmp_path)
    assert (caught.value.file, caught.value.line) == (file, 2)


# --- ShareGPT


def sharegpt(folder: Path, *conversations: str, file: str = "ShareGPT_V3") -> Path:
    """Each conversation as its speakers' first letters; texts are "0", "1", …"""
    names = {"h": "human", "g": "gpt", "u": "user", "c": "chatgpt", "s": "system", "b": "bing"}
    rows = [
        {
            "id": "x",
            "conversations": [
                {"from": names.get(sign, sign), "value": str(place)}
                for place, sign in enumerate(signs)
            ],
        }
        for signs in conversations
    ]
    ending = "_unfiltered_cleaned_split.json" if file == "ShareGPT_V3" else ""
    return write(folder / f"{file}{ending}", rows)


@pytest.mark.parametrize(
    ("signs", "paper", "fixed"),
    [
        ("hg", "01", "01"),
        ("hghg", "0123", "0123"),
        ("hgh", "01", "01"),
        ("uc", "", "01"),
        ("", "", ""),
        ("h", "", ""),
        ("g", "", ""),
        ("gh", "", ""),
        ("ghg", "", "12"),
        ("gghgh", "", "23"),
        ("hhg", "", ""),
        ("hgg", "01", ""),
        ("shg", "", ""),
        ("hgs", "01", ""),
        ("hgbg", "", ""),
    ],
)
def test_sharegpt_turns(tmp_path: Path, signs: str, paper: str, fixed: str) -> None:
    sharegpt(tmp_path, signs)
    for rule, kept in (("paper", paper), ("fixed", fixed)):
        found, counts = read("sharegpt", tmp_path, rule)  # type: ignore[arg-type]
        assert ["".join(texts(one)) for one in found] == ([kept] if kept else [])
        dropped = sum(n for reason, n in counts.items() if reason.startswith("dropped: "))
        assert dropped == (not kept)
        assert all(turn.role == ROLES[place % 2] for one in found
                   for place, turn in enumerate(one.messages))  # fmt: skip


ROLES = ("user", "assistant")


def test_sharegpt_counts_what_is_cut(tmp_path: Path) -> None:
    sharegpt(tmp_path, "hgh", "gghgh")
    counts = read("sharegpt", tmp_path)[1]
    assert counts["cut: answer before the first question"] == 2
    assert counts["cut: question after the last answer"] == 2
    assert read("sharegpt", tmp_path, "paper")[1]["cut: last turn of an odd number"] == 2


def test_sharegpt_reads_one_kind_of_file(tmp_path: Path) -> None:
    sharegpt(tmp_path, "hg")
    assert len(read("sharegpt", tmp_path)[0]) == 1
    sharegpt(tmp_path, "hg", "hg", file="sg_90k_part2_html_cleaned.json")
    sharegpt(tmp_path, "hg", "hghg", file="sg_90k_part1_html_cleaned.json")
    found = read("sharegpt", tmp_path)[0]
    assert [len(one.messages) for one in found] == [2, 4, 2, 2]
    assert [one.id for one in found] == [f"sharegpt_{number}" for number in range(4)]


@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_sharegpt_unknown_speaker(tmp_path: Path, rule: Rule) -> None:
    file = sharegpt(tmp_path, "hg", "hx")
    with pytest.raises(UserError, match="unknown speaker 'x'") as caught:
        read("sharegpt", tmp_path, rule)
    line = [n for n, text in enumerate(file.read_text().split("\n"), 1) if text == " {"][1]
    assert (caught.value.file, caught.value.line) == (file, line)
    assert caught.value.field == "conversations.1.from"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"id": 1}, "conversations"),
        ({"conversations": ["x"]}, "conversations.0"),
        ({"conversations": [{"from": "human"}]}, "conversations.0.value"),
        ({"conversations": [{"from": ["human"], "value": ""}]}, "conversations.0.from"),
        ({"conversations": [{"value": "x"}]}, "conversations.0.from"),
    ],
)
def test_sharegpt_broken_records(tmp_path: Path, row: Any, field: str) -> None:
    write(tmp_path / "ShareGPT_V3_unfiltered_cleaned_split.json", [row])
    with pytest.raises(UserError) as caught:
        read("sharegpt", tmp_path)
    assert (caught.value.line, caught.value.field) == (2, field)


# --- real records: numbers taken from the files by other means (see each comment)


@pytest.mark.real_data
def test_real_records(real_data: Path) -> None:
    instruct = real_data / "instruct"
    for name, file in ALPACAS.items():
        rows = json.loads((instruct / name / file).read_text())
        paper = read(name, real_data, "paper")[0]
        assert len(paper) == len(rows)
        for row, one in zip(rows, paper, strict=True):
            question, answer = texts(one)
            assert row["instruction"].strip() in question
            assert (row["input"] or "").strip() in question
            assert answer.strip() == row["output"].strip()
    assert len(read("stanford_alpaca", real_data)[0]) == 1996  # four outputs are empty
    assert len(read("code_alpaca", real_data)[0]) == 1326  # 27 + 1,300, one output is empty
    assert len(read("dolly", real_data)[0]) == 400
    assert len(read("cot", real_data, "paper")[0]) == 34
    assert len(read("cot", real_data)[0]) == 34 + 7 * 300


@pytest.mark.real_data
def test_real_sharegpt(real_data: Path) -> None:
    path = real_data / "instruct/sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json"
    speakers = [
        "".join(turn["from"][0] for turn in row["conversations"])
        for row in json.loads(path.read_text())
    ]
    paper = read("sharegpt", real_data, "paper")[0]
    even = [signs[: len(signs) // 2 * 2] for signs in speakers]
    expected = [len(signs) for signs in even if signs and signs == "hg" * (len(signs) // 2)]
    assert [len(one.messages) for one in paper] == expected
    fixed, counts = read("sharegpt", real_data)
    assert len(fixed) == 484
    assert counts["read"] == 495


@pytest.mark.real_data
def test_cot_as_the_papers_authors_converted_it(real_data: Path) -> None:
    """The zero-shot and few-shot rows in a mixture that the authors published, word for word."""
    path = real_data / "instruct/tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"
    published = [
        [turn["content"] for turn in row["messages"]]
        for row in map(json.loads, path.read_text().strip().split("\n"))
        if row["dataset"] == "cot"
    ]
    ours = [texts(one) for one in read("cot", real_data, "paper")[0]]
    assert sorted(ours) == sorted(published)
