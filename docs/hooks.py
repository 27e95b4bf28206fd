"""What the site has beside the pages as they lie: the changelog, README's table, figures inline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)
TABLE = "<!-- README: quickstart table -->"
FIGURE = re.compile(r'<p><img alt="([^"]*)" src="assets/(\w+\.svg)" /></p>')


def on_files(files: Files, config: Any) -> Files:
    """The repository's changelog is a page, without a copy of it."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=text))
    return files


def on_page_markdown(markdown: str, **_given: Any) -> str:
    """A block "yaml mix.yaml", which `docs.transcripts` writes to that file, bears its name."""
    if TABLE in markdown:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        shown = readme.split("<!-- quickstart table -->")[1].split("<!-- /quickstart table -->")[0]
        markdown = markdown.replace(TABLE, shown)
    return NAMED.sub(r'```\1 title="\2"', markdown)


def on_page_content(html: str, **_given: Any) -> str:
    """Figures stand in the page itself, so that their colours follow light and dark."""

    def inline(image: re.Match[str]) -> str:
        drawn = (ROOT / "docs/assets" / image[2]).read_text(encoding="utf-8")
        return f'<figure class="drawing" role="img" aria-label="{image[1]}">{drawn}</figure>'

    return FIGURE.sub(inline, html)
