"""Test items in training data: planted ones are found, by their kind; what is none is not."""

import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from cameleer import cli
from cameleer.core.files import read_json, write_jsonl
from cameleer.data.overlap.matches import LISTED, overlap_stage, write_overlap
from cameleer.data.overlap.page import Shown, marked, page
from cameleer.data.overlap.probes import ItemText, build_index, signs_of
from cameleer.data.overlap.search import Match, find_overlap

QUESTION = (
    "A caravan of seventeen camels leaves Timbuktu at dawn and walks twelve hours a day through "
    "the dunes until it comes to the salt mines of Taoudenni. How many days does it need?"
)
OTHER = "Which well lies half way between the northern gate and the old market of Agadez?"
SHORT = "Who rode first?"


def row(number: int, *said: str, source: str = "made") -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return {"id": f"{source}_{number}", "source": source, "messages": messages}


def look(tmp_path: Path, items: list[ItemText], *conversations: tuple[str, ...]) -> list[Match]:
    file = tmp_path / "data.jsonl"
    write_jsonl(file, (row(number, *said) for number, said in enumerate(conversations)))
    return list(find_overlap(build_index(items), [file]))


def items(*questions: str) -> list[ItemText]:
    return [ItemText(f"made/{number}", question) for number, question in enumerate(questions)]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (QUESTION, "exact"),
        (f"You need to complete the following task:\n\n{QUESTION}\n\nAnswer:", "exact"),
        (re.sub(r"[.?]", "", QUESTION).upper(), "exact"),
        ("So I was asked: “" + QUESTION.replace(" ", "\n") + "” and did not know.", "exact"),
        (QUESTION.replace("many", "few"), "13-gram"),
        (QUESTION[: QUESTION.index("How")], "13-gram"),
        (QUESTION.replace("through the", "through these"), "8-gram"),
        (OTHER, "exact"),
        (OTHER.replace("between", "amid"), "near"),
        (SHORT, "exact"),
        (f"Instruction: {SHORT}\nOutput:", "exact"),
        (f"Tell me.\n{SHORT}\nI forgot.", "exact"),
    ],
)
def test_what_is_planted_is_found(said: str, kind: str, tmp_path: Path) -> None:
    found = look(tmp_path, items(QUESTION, OTHER, SHORT), ("Hello!", "Hello."), (said, "Four."))
    assert [(one.kind, one.conversation, one.message) for one in found] == [(kind, "made_1", 0)]
    (match,) = found
    part = said[match.start : match.end]
    assert part in match.text
    assert match.text[match.start - match.text_start :].startswith(part)
    if kind == "exact":
        asked = items(QUESTION, OTHER, SHORT)[int(match.item[-1])].question
        assert re.findall(r"\w+", part.lower()) == re.findall(r"\w+", asked.lower())


@pytest.mark.parametrize(
    "said",
    [
        "A caravan of camels leaves at dawn.",
        "How many days does it need?",
        "Which well lies half way between the northern gate and the sea?",
        "Who rode first, and who rode last?",
    ],
)
def test_what_is_like_it_in_part_is_not(said: str, tmp_path: Path) -> None:
    assert not look(tmp_path, items(QUESTION, OTHER, SHORT), (said, "Four."))


def test_runs_that_many_questions_share_do_not_count(tmp_path: Path) -> None:
    frame = "In the following sentence please say which of the two words is the name of a town:"
    towns = [f"{frame} {' '.join([name] * 4)}" for name in "abcdefghijklmnop"]
    index = build_index(items(*towns))
    assert index.facts["made"]["13-gram_common"] == 16 * (len(frame.split()) - 12)
    said = f"{frame} camel or Agadez?"
    assert not look(tmp_path, items(*towns), (said, "Agadez."))
    assert [one.item for one in look(tmp_path, items(*towns), (towns[3], "No."))] == ["made/3"]


def test_signs_tell_items_of_the_same_words_apart(tmp_path: Path) -> None:
    frame = "Close all that is open in this row of brackets, please:"
    rows = [f"{frame} ( [ <", f"{frame} ( < <"]
    found = look(tmp_path, items(*rows), (f"{frame} (<<", ">>)"), (f"{frame} <<<", ">>>"))
    assert [(one.item, one.conversation) for one in found] == [("made/1", "made_0")]
    assert signs_of("A (b), “c”!") == "a(b)c"


def test_short_sums_are_not_found_by_their_numbers_alone(tmp_path: Path) -> None:
    assert not look(tmp_path, items("-4 + (-3) ="), ("-4/3", "No."))
    assert look(tmp_path, items("-4 + (-3) ="), ("-4 + (-3) =", "-7"))


def test_a_question_of_common_words_needs_its_options(tmp_path: Path) -> None:
    asked = "Which of the following is correct?"
    made = [ItemText(f"made/{n}", f"{asked} Say why, number {n}.") for n in range(2000)]
    one = ItemText("made/x", asked, ("Camels rest",), "Camels rest\nStones sing")
    assert not look(tmp_path, [*made, one], (asked, "This one."))
    said = f"{asked}\nCamels rest\nStones sing"
    assert [m.item for m in look(tmp_path, [*made, one], (said, "Camels rest"))] == ["made/x"]


def test_questions_of_one_mould_are_not_all_near(tmp_path: Path) -> None:
    mould = "The {} camel drinks before the {} one comes to the well and after the {} has left it."
    colours = ["red", "grey", "white", "black"]
    asked = [mould.format(*(random.Random(n).choices(colours, k=3))) for n in range(8)]
    found = look(tmp_path, items(*dict.fromkeys(asked)), (mould.format("red", "blue", "grey"), "?"))
    assert len(found) <= 1


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ((QUESTION, "It needs 14 days."), True),
        ((QUESTION, "It needs 15 days."), False),
        ((f"{QUESTION} It needs 14 days.",), True),
        ((f"14 days. {QUESTION}",), False),
        (("14 days", "Yes?", QUESTION, "I do not know."), False),
    ],
)
def test_whether_the_answer_was_seen(said: tuple[str, ...], seen: bool, tmp_path: Path) -> None:
    item = ItemText("made/0", QUESTION, ("14 days", "fourteen days"))
    assert [one.answer_seen for one in look(tmp_path, [item], said)] == [seen]


def test_the_right_option_among_options_is_no_answer(tmp_path: Path) -> None:
    item = ItemText("made/0", QUESTION, ("14",), "13\n14\n15")
    said = f"{QUESTION}\n13\n14\n15"
    assert [one.answer_seen for one in look(tmp_path, [item], (said, "B"))] == [False]
    assert [one.answer_seen for one in look(tmp_path, [item], (said, "14"))] == [True]
    assert [one.answer_seen for one in look(tmp_path, items(QUESTION), (said, "14"))] == [None]


def test_processes_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    write_jsonl(file, (row(n, QUESTION if n % 7 == 0 else f"{n}", OTHER) for n in range(700)))
    index = build_index(items(QUESTION, OTHER))
    assert list(find_overlap(index, [file], cores=2)) == list(find_overlap(index, [file]))


def written(tmp_path: Path, remove: tuple[str, ...] = ()) -> tuple[Path, dict[str, Any]]:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    talk = "Tell me something long about the life of camels in the desert, please."
    write_jsonl(one, [row(0, talk, "They live."), row(1, QUESTION, "14"), row(2, "Hi", "Hi")])
    rows = [row(n, f"{n} {QUESTION}", "13", source="b") for n in range(LISTED + 3)]
    write_jsonl(other, [*rows, row(99, talk, "they live", source="b")])
    asked = [ItemText("made/0", QUESTION, ("14",)), ItemText("made/1", OTHER)]
    folder = tmp_path / "out"
    stage = overlap_stage([one, other], asked, "conversation", remove, folder)
    stage.run(lambda f: write_overlap(f, [one, other], asked, "conversation", remove, 1))
    return folder, read_json(folder / "summary.json")


def test_what_is_written(tmp_path: Path) -> None:
    folder, facts = written(tmp_path)
    labels = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert [(one["item"], one["touched"], one["kind"]) for one in labels] == [
        ("made/0", True, "exact"),
        ("made/1", False, None),
    ]
    touched, clean = labels
    assert touched["total"] == LISTED + 4
    assert len(touched["matches"]) == LISTED
    assert touched["answer_seen"] is True
    assert touched["matches"][0]["answer_seen"] is True
    assert touched["matches"][0] | {"file": ""} == {
        "kind": "exact",
        "share": 1.0,
        "file": "",
        "source": "made",
        "conversation": "made_1",
        "message": 0,
        "role": "user",
        "start": 0,
        "end": len(QUESTION) - 1,
        "answer_seen": True,
    }
    assert clean == {
        "item": "made/1",
        "touched": False,
        "kind": None,
        "share": 0.0,
        "answer_seen": None,
        "total": 0,
        "matches": [],
    }
    made = facts["benchmarks"]["made"]
    assert (made["items"], made["touched"], made["answer_seen"]) == (2, 1, 1)
    assert made["sources"] == {"b": 1, "made": 1}
    assert facts["matches"] == len((folder / "matches.jsonl").read_text().splitlines())
    assert facts["duplicates"]["exact"] == 1
    assert not (folder / "cleaned").exists()


def test_removal_keeps_the_first_and_says_what_went(tmp_path: Path) -> None:
    folder, facts = written(tmp_path, ("near", "overlap"))
    left = [
        [json.loads(line)["id"] for line in (folder / row["file"]).read_text().splitlines()]
        for row in facts["removed"]
    ]
    assert left == [["made_0", "made_2"], []]
    went = [{k: v for k, v in one.items() if k != "file"} for one in facts["removed"]]
    assert went[0] == {"read": 3, "kept": 2, "removed: overlap": 1}
    assert went[1]["removed: exact"] == 1
    assert sum(v for k, v in went[1].items() if k.startswith("removed")) == LISTED + 4


def test_a_packed_file_is_cleaned_with_all_its_fields(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    records = [{**row(n, "The same long thing is said twice."), "note": n} for n in (0, 1)]
    file.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in records).encode()))
    facts = write_overlap(tmp_path, [file], [], "conversation", ("exact",), 1)
    left = (tmp_path / "cleaned" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in left] == records[:1]
    (counts,) = facts["removed"]
    assert counts == {"file": "cleaned/a.jsonl", "read": 2, "kept": 1, "removed: exact": 1}


def test_texts_of_strangers_do_nothing_on_the_page(tmp_path: Path) -> None:
    bad = f'<script>alert(1)</script> {OTHER} "><img src=x onerror=alert(1)> {{{{kinds}}}}'
    item = ItemText("made/<b>", OTHER, ("</pre><script>",), "<i>context</i>")
    file = tmp_path / "a.jsonl"
    write_jsonl(file, [{**row(0, bad, "x", source="<u>s"), "id": '"><b>id'}])
    facts = write_overlap(tmp_path, [file], [item], "conversation", (), 1)
    assert facts["matches"] == 1
    html = (tmp_path / "matches.html").read_text()
    for tag in ("<b>", "<u>", "<img", "<i>", "alert(1)</script>"):
        assert tag not in html.replace("<b>context</b>", "").replace("<b>answer</b>", "")
    assert html.count("<script>") == 1
    assert "http" not in html.replace("http-equiv", "")


def test_shared_words_are_marked() -> None:
    assert marked("The camel is big & old", "So THE camel is old") == (
        "<mark>The camel is</mark> big &amp; old",
        "So <mark>THE camel is</mark> old",
    )


def test_a_page_without_matches(tmp_path: Path) -> None:
    del tmp_path
    facts = {"benchmarks": {}, "matches": 0, "duplicates": {"pairs": [], "by": "prompt"}}
    no: list[Shown] = []
    assert "No test item was found" in page(facts, no)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["data", "overlap", *arguments])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data" / "gsm"
    data.mkdir(parents=True)
    write_jsonl(data / "test.jsonl", [{"question": QUESTION, "answer": "So. #### 14"}])
    file = tmp_path / "a.jsonl"
    write_jsonl(file, [row(0, QUESTION, "It needs 14 days.")])
    flags = ["--with", "gsm", "--data", str(tmp_path / "data"), "--json", "--cores", "1"]
    code, out, _ = run(capsys, str(file), *flags)
    assert code == 0
    assert json.loads(out)["benchmarks"]["gsm"]["kinds"]["exact"] == 1
    folder = tmp_path / "out"
    code, out, _ = run(capsys, str(file), *flags, "-o", str(folder), "--remove", "overlap")
    assert json.loads(out)["removed"][0]["kept"] == 0
    assert (folder / "cleaned" / "a.jsonl").read_text() == ""


def test_bad_lines_are_stepped_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are counted once, and what is removed is still what was found."""
    file, item = tmp_path / "a.jsonl", ItemText("made/0", QUESTION)
    rows = [json.dumps(row(number, said, "Yes.")) for number, said in enumerate([OTHER, QUESTION])]
    file.write_text("\n".join(["{broken", *rows[:1], '{"messages": 3}', "[]", *rows[1:], '{"']))
    facts = write_overlap(tmp_path, [file], [item], "conversation", ("overlap",), 1)
    assert facts["files"] == [{"file": str(file), "conversations": 2, "bad": 4}]
    [removed] = facts["removed"]
    assert (removed["read"], removed["removed: overlap"]) == (2, 1)
    assert (tmp_path / "cleaned/a.jsonl").read_text() == rows[0] + "\n"
    err = capsys.readouterr().err
    assert err.count("warning: dropped: ") == 3
    assert "in all: 4 bad records dropped" in err
    code, _, err = run(capsys, str(file), "--strict")
    assert code == 2
    assert "a.jsonl:1: broken JSON" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["nowhere.jsonl", "--remove", "near"], "give -o DIR"),
        (["nowhere.jsonl", "--remove", "overlap", "-o", "out"], "give --with"),
        (["nowhere.jsonl", "--with", "gms"], "did you mean 'gsm'"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert said in " ".join(err.split())


@pytest.mark.real_data
def test_real_items_planted_in_data_are_found(real_data: Path, tmp_path: Path) -> None:
    """Verbatim, framed and in other case: nearly all, and each by its own key."""
    from cameleer.evals.corpus import texts

    draw, plan = random.Random(5), []
    asked = [
        ItemText(*one) for name in ("gsm", "truthfulqa", "bbh") for one in texts(name, real_data)
    ]
    for item in draw.sample(asked, 90):
        framed = f"Task: {item.question}\n\nAnswer:"
        plan += [(item.item, said) for said in (item.question, framed, item.question.upper())]
    file = tmp_path / "a.jsonl"
    write_jsonl(file, (row(number, said, "Yes.") for number, (_, said) in enumerate(plan)))
    found = {(one.place, one.item) for one in find_overlap(build_index(asked), [file])}
    missed = [item for place, (item, _) in enumerate(plan) if (place, item) not in found]
    assert len(missed) <= len(plan) / 50
