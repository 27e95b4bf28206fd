"""The released table is read in every way that people keep it; odd cells are named, not guessed."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from cameleer.core.errors import UserError
from cameleer.human.released import read_ratings
from cameleer.results.judgements import write_judgements
from cameleer.results.records import Judgement

ROW: dict[str, Any] = {
    "id": 1,
    "instance_index": 7,
    "instance_id": "user_oriented_task_2",
    "prompt": 'Rewrite the text.\n\n"It\'s, well", broken',
    "model_a": "tulu_65B",
    "model_b": "chatgpt",
    "completion_a": "one;\ttwo",
    "completion_b": "",
    "completion_a_is_acceptable": "yes",
    "completion_b_is_acceptable": "no",
    "preference": "a-is-slightly-better",
    "instance_quality": "",
    "comment": "",
    "evaluator": "annotator_3",
    "timestamp": "2023-05-18 10:03:22",
}


def table(rows: list[dict[str, Any]], divider: str = ",", ending: str = "\n") -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROW), delimiter=divider, lineterminator=ending)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def only(path: Path) -> Any:
    form, rows = read_ratings(path)
    assert form == "tulu1"
    return rows[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ratings.csv"


def test_a_row_is_a_judgement_with_models_in_the_order_of_their_names(file: Path) -> None:
    file.write_text(table([ROW]))
    one = only(file)
    assert (one.line, one.index, one.moment) == (2, "7", datetime(2023, 5, 18, 10, 3, 22))
    assert one.judgement == Judgement(
        item="human/user_oriented_task_2",
        a="chatgpt",
        b="tulu_65B",
        preference=1.75,
        who="annotator_3",
        kind="human",
        b_first=True,
        acceptable=(False, True),
        time="2023-05-18T10:03:22",
    )


@pytest.mark.parametrize("divider", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_spreadsheet_writes_it_another_way(
    file: Path, divider: str, ending: str, mark: str
) -> None:
    rows = [ROW, {**ROW, "instance_index": 8, "model_a": "chatgpt", "model_b": "tulu_65B"}]
    file.write_bytes((mark + table(rows, divider, ending)).encode())
    _, found = read_ratings(file)
    assert [one.judgement.preference for one in found] == [1.75, 1.25]
    assert [one.judgement.b_first for one in found] == [True, False]
    assert [one.line for one in found] == [2, 5]  # the first one's prompt has three lines


def test_a_data_frames_lines_and_array_are_read_too(tmp_path: Path, file: Path) -> None:
    file.write_text(table([ROW]))
    wanted = only(file).judgement
    lines, array = tmp_path / "ratings.jsonl", tmp_path / "ratings.json"
    row = {**ROW, "instance_index": 7.0, "instance_quality": None, "comment": float("nan")}
    lines.write_text(json.dumps(row).replace("NaN", "null") + "\n")
    array.write_text(json.dumps([ROW]))
    for path in (lines, array):
        assert only(path).judgement == wanted
        assert only(path).index == "7"
    assert (only(lines).line, only(array).line) == (1, None)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("yes", True), ("No", False), (" TRUE ", True), ("false", False), ("1", True), ("0", False),
     ("1.0", True), ("", None), ("nan", None), ("None", None)],
)  # fmt: skip
def test_acceptable_in_other_words(file: Path, cell: str, value: bool | None) -> None:
    file.write_text(table([{**ROW, "completion_a_is_acceptable": cell}]))
    assert only(file).judgement.acceptable == (False, value)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("a-is-better", 2.0), ("A-is-clearly-better", 2.0), ("a is slightly better", 1.75),
     ("tie", 1.5), ("Tie ", 1.5), ("b-is-slightly-better", 1.25), ("b_is_better", 1.0),
     ("b-is-clearly-better", 1.0)],
)  # fmt: skip
def test_preference_in_other_words(file: Path, cell: str, value: float) -> None:
    file.write_text(table([{**ROW, "preference": cell}]))
    assert only(file).judgement.preference == value  # A of the file is B by name


def test_a_row_that_only_holds_what_was_said_of_the_instance(file: Path) -> None:
    silent = dict.fromkeys(
        ("completion_a_is_acceptable", "completion_b_is_acceptable", "preference"), ""
    )
    said = {"instance_quality": "bad", "comment": "what\nis, this?"}
    file.write_text(table([{**ROW, **silent, **said}]))
    one = only(file)
    assert not one.answered
    assert (one.judgement.quality, one.judgement.comment) == ("invalid", "what\nis, this?")
    assert one.judgement.note == "no preference was given"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2023-05-18 10:03:22", "2023-06-04 09:00:00"),
        ("2023-05-18T10:03:22.500", "2023-06-04T09:00"),
        ("5/18/23 10:03", "6/4/23 9:00"),
        ("5/18/2023 10:03:22 AM", "6/4/2023 9:00:00 AM"),
        ("18/05/2023 10:03", "04/06/2023 09:00"),
        ("18.05.2023 10:03", "04.06.2023 09:00"),
        ("45064.4190", "45081.375"),
        ("2023-05-18 12:03:22+02:00", "2023-06-04 09:00:00Z"),
    ],
)
def test_times_as_spreadsheets_show_them(file: Path, first: str, second: str) -> None:
    file.write_text(table([{**ROW, "timestamp": first}, {**ROW, "timestamp": second}]))
    _, rows = read_ratings(file)
    told = [one.moment.strftime("%Y-%m-%d %H:%M") for one in rows if one.moment]
    assert told == ["2023-05-18 10:03", "2023-06-04 09:00"]


def test_a_date_that_may_be_two_is_not_guessed(file: Path) -> None:
    file.write_text(table([{**ROW, "timestamp": "5/6/23 10:03"}]))
    with pytest.raises(UserError, match="month first or day first") as caught:
        read_ratings(file)
    assert caught.value.field == "timestamp"


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"preference": "left"}, "preference", "unknown value 'left'"),
        ({"completion_b_is_acceptable": "maybe"}, "completion_b_is_acceptable", "'maybe'"),
        ({"instance_quality": "odd"}, "instance_quality", "unknown value 'odd'"),
        ({"evaluator": " "}, "evaluator", "is empty"),
        ({"instance_id": "nan"}, "instance_id", "is empty"),
        ({"model_b": "tulu_65B"}, "model_b", "is model_a too"),
        ({"timestamp": ""}, "timestamp", "is empty"),
        ({"timestamp": "yesterday"}, "timestamp", "'yesterday' is no time"),
        ({"timestamp": "18.5.2023 10:00"}, "timestamp", "'18.5.2023 10:00' is no time"),
    ],
)
def test_what_cannot_be_read_is_named(
    file: Path, change: dict[str, Any], field: str, said: str
) -> None:
    file.write_text(table([ROW, {**ROW, **change}]))
    with pytest.raises(UserError) as caught:
        read_ratings(file)
    assert (caught.value.file, caught.value.line, caught.value.field) == (file, 5, field)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        (table([]), "holds no row below its header"),
        (table([ROW]).replace("evaluator", "annotator"), "has no column 'evaluator'"),
        (table([ROW]).replace("comment", "prompt"), "has two columns 'prompt'"),
        (table([ROW]).rstrip() + ",more\n", "has 16 cells where the header has 15"),
        (table([ROW]).replace("yes,", ""), "has 14 cells where the header has 15"),
        (table([ROW]) + '9,7,"broken off', "is no CSV"),
        ("item,a,b\n1,x,y\n", "has no column 'preference'"),
    ],
)
def test_broken_tables_are_named(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        read_ratings(file)


def workbook(path: Path, rows: list[list[str | float | None]]) -> Path:
    """A workbook whose first sheet is its second file; texts shared, one of them in two runs."""
    texts: list[str] = []

    def cell(at: int, line: int, value: str | float | None) -> str:
        place = f"{chr(65 + at)}{line}"
        if value is None:
            return ""
        if not isinstance(value, str):
            return f'<c r="{place}"><v>{value}</v></c>'
        if at == 1:
            return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        texts.append(escape(value))
        return f'<c r="{place}" t="s"><v>{len(texts) - 1}</v></c>'

    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    body = "".join(
        f'<row r="{line}">{"".join(cell(at, line, one) for at, one in enumerate(row))}</row>'
        for line, row in enumerate(rows, 1)
    )
    shared = "".join(
        f"<si><r><t>{text[:2]}</t></r><r><t>{text[2:]}</t></r><rPh><t>aloud</t></rPh></si>"
        if "&" not in text and at % 2
        else f"<si><t>{text}</t></si>"
        for at, text in enumerate(texts)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook {main} xmlns:r="{links}"><sheets><sheet name="S" sheetId="3" r:id="rId2"/>'
            '<sheet name="T" sheetId="4" r:id="rId1"/></sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            '<Relationship Id="rId1" Target="worksheets/sheet1.xml"/>'
            '<Relationship Id="rId2" Target="/xl/worksheets/sheet2.xml"/></Relationships>',
        )
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {main}/>")
        archive.writestr(
            "xl/worksheets/sheet2.xml",
            f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>",
        )
        archive.writestr("xl/sharedStrings.xml", f"<sst {main}>{shared}</sst>")
    return path


def test_the_workbook_as_it_was_released(tmp_path: Path, file: Path) -> None:
    file.write_text(table([ROW]))
    empty = [cell or None for cell in {**ROW, "comment": "a_x000D_ & <b>"}.values()]
    path = workbook(tmp_path / "ratings.xlsx", [list(ROW), empty, [], [*empty[:-1], 45064.4190]])
    with pytest.raises(UserError, match=r"'45064\.419' is no time"):
        read_ratings(path)
    path = workbook(tmp_path / "ratings.xlsx", [list(ROW), empty, [], empty])
    form, rows = read_ratings(path)
    assert (form, [row.line for row in rows]) == ("tulu1", [2, 4])
    wanted = replace(only(file).judgement, comment="a\r & <b>")
    assert [row.judgement for row in rows] == [wanted, wanted]


@pytest.mark.parametrize("data", [b"PK\x05\x06 no archive", b"id,instance_index\n"])
def test_what_only_looks_like_a_workbook(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ratings.xlsx").write_bytes(data)
    with pytest.raises(UserError, match="is no Excel workbook"):
        read_ratings(tmp_path / "ratings.xlsx")


def test_a_workbook_with_a_trap_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ratings.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>')
    with pytest.raises(UserError, match="declares a document type"):
        read_ratings(path)


def test_text_that_is_not_utf_8_is_named(file: Path) -> None:
    file.write_bytes(table([{**ROW, "comment": "naïve"}]).encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_ratings(file)


def test_our_own_judgements_and_their_table(tmp_path: Path, file: Path) -> None:
    one = Judgement("human/1", "x", "y", 1.25, "ann", "human", b_first=True,
                    acceptable=(True, None), seconds=3.5, time="2026-01-02T03:04:05Z")  # fmt: skip
    write_judgements(tmp_path / "judgements.jsonl", [one])
    file.write_text(
        "item,a,b,preference,who,b_first,acceptable_a,acceptable_b,seconds,time,comment\n"
        "human/1,x,y,1.25,ann,true,yes,,3.5,2026-01-02T03:04:05Z,\n"
        "human/1,y,x,,bob,,,,,,\n"
    )
    for path in (tmp_path, tmp_path / "judgements.jsonl", file):
        form, rows = read_ratings(path)
        assert form == "own"
        assert rows[0].judgement == one
        assert rows[0].moment == datetime(2026, 1, 2, 3, 4, 5)
    other = rows[1]
    assert (other.judgement.a, other.judgement.b) == ("x", "y")
    assert other.index == rows[0].index
    assert not other.answered
