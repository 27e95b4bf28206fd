"""The first sheet of an Excel workbook as rows of text: the paper's ratings came as one."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from cameleer.core.errors import UserError

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LINK = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
LARGEST = 1 << 28  # bytes of one part, unpacked; the released table has some 3 million
ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def read_sheet(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(row number from 1, cells) for each row that the first sheet holds; "" where one is empty.

    Numbers are as the file has them, times among them as days since 1899-12-30. Raises UserError
    if it is no workbook.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            texts = _shared(archive)
            sheet = _part(archive, _first_sheet(archive))
    except FileNotFoundError:
        raise UserError("no such file", file=path, hint="check the path") from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise UserError(f"is no Excel workbook: {error}", file=path) from None
    for at, row in enumerate(sheet.iter(f"{MAIN}row"), 1):
        cells: list[str] = []
        for cell in row.iter(f"{MAIN}c"):
            place = _column(cell.get("r", "")) if cell.get("r") else len(cells)
            cells += [""] * (place + 1 - len(cells))
            cells[place] = _text(cell, texts)
        yield int(row.get("r", at)), cells


def _part(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > LARGEST:
        raise ValueError(f"{name} is larger than {LARGEST >> 20} MiB")
    data = archive.read(name)
    if b"<!DOCTYPE" in data[:1000]:  # no workbook has one; a trap may
        raise ValueError(f"{name} declares a document type")
    return ElementTree.fromstring(data)


def _first_sheet(archive: zipfile.ZipFile) -> str:
    """The path of the first sheet in the archive."""
    sheet = next(_part(archive, "xl/workbook.xml").iter(f"{MAIN}sheet"), None)
    if sheet is None:
        raise ValueError("it has no sheet")
    links = _part(archive, "xl/_rels/workbook.xml.rels")
    target = {link.get("Id"): link.get("Target", "") for link in links}[sheet.get(LINK)]
    return target.lstrip("/") if target.startswith("/") else f"xl/{target}"


def _shared(archive: zipfile.ZipFile) -> list[str]:
    """Texts that cells name by number, where the workbook keeps them so."""
    name = "xl/sharedStrings.xml"
    if name not in archive.namelist():
        return []
    return [_joined(one) for one in _part(archive, name).iter(f"{MAIN}si")]


def _joined(element: ElementTree.Element) -> str:
    """The text of all its runs, without the readings that some languages add."""
    runs = [element, *element.iter(f"{MAIN}r")]
    text = "".join(run.findtext(f"{MAIN}t") or "" for run in runs)
    return ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def _text(cell: ElementTree.Element, texts: list[str]) -> str:
    kind, value = cell.get("t"), cell.findtext(f"{MAIN}v") or ""
    if kind == "inlineStr":
        inside = cell.find(f"{MAIN}is")
        return "" if inside is None else _joined(inside)
    return texts[int(value)] if kind == "s" else value


def _column(reference: str) -> int:
    """0 for "A7", 26 for "AA7"."""
    number = 0
    for letter in reference.rstrip("0123456789").upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
