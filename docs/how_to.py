"""The list of how-to pages, grouped as the site's navigation has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
ABOUT = "One page for each task. The [tutorial](../tutorial.md) takes you through all of it once."
GROUPS = {
    "Data": "Get it, look at it, mix it.",
    "Training": "Know what it takes, train, go on after a break.",
    "Evaluation": "Benchmarks, what answers them, and reading the answers.",
    "Judging": "Models that compare answers, and whether to trust them.",
    "People": "The paper's human evaluation, and how far people agree.",
    "Studies": "The question itself: which data helped.",
    "Releasing": "What leaves the house, and talking to it.",
}


def grouped() -> dict[str, list[Path]]:
    """Every how-to page by its group in mkdocs.yml; those that it lacks are under "More"."""
    file = DOCS.parent / "mkdocs.yml"
    navigation = yaml.safe_load(file.read_text(encoding="utf-8"))["nav"]
    [section] = [part["How-to"] for part in navigation if "How-to" in part]
    groups = {
        name: pages for part in section if isinstance(part, dict) for name, pages in part.items()
    }
    found = {name: [DOCS / page for page in pages] for name, pages in groups.items()}
    known = {page for pages in found.values() for page in pages} | {DOCS / "how-to/index.md"}
    more = sorted(set((DOCS / "how-to").glob("*.md")) - known)
    return {**found, "More": more} if more else found


def index_parts() -> Iterator[str]:
    """The page's lines, but for its title."""
    for name, pages in grouped().items():
        yield from (f"## {name}", "")
        if name in GROUPS:
            yield from (GROUPS[name], "")
        yield from (f"- [{_title(page)}]({page.name})" for page in pages)
        yield ""


def _title(page: Path) -> str:
    first: Any = page.read_text(encoding="utf-8").partition("\n")[0]
    return str(first).removeprefix("# ")
