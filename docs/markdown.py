"""How the generated pages are put together: a page of parts, a table of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

NOTICE = "<!-- Written by `python -m docs.generate` from the code; change it there. -->"


def page(title: str, about: str, parts: Iterator[str]) -> str:
    """A page's text."""
    return "\n".join([f"# {title}", "", NOTICE, "", about, "", *parts]).rstrip() + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table's lines, and an empty one after it."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""
