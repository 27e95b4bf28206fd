"""The site: every page in its navigation, nothing fetched from elsewhere, a search that works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.how_to import GROUPS, grouped

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a link or page that is missing is an error."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    told = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def listed(part: Any) -> Iterator[str]:
    """The pages in a part of the navigation."""
    if isinstance(part, str):
        yield part
    else:
        for below in part.values() if isinstance(part, dict) else part:
            yield from listed(below)


def test_the_navigation_has_every_page_once() -> None:
    named = list(listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(there | {"changelog.md"})  # add what is missing to mkdocs.yml


def test_every_group_of_how_to_pages_says_what_it_is_for() -> None:
    assert list(grouped()) == list(GROUPS)


def test_pages_load_nothing_from_other_sites(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?([^\"\s>]+)")
    for page in site.rglob("*.html"):
        for loaded in loads.findall(page.read_text(encoding="utf-8")):
            assert not re.match("(https?:)?//", loaded), (page, loaded)


def test_the_site_has_the_changelog_the_table_of_readme_and_no_code(site: Path) -> None:
    assert "<h1" in (site / "changelog.html").read_text(encoding="utf-8")
    assert "code_alpaca</td>" in (site / "index.html").read_text(encoding="utf-8")
    assert not list(site.rglob("*.py"))


@pytest.mark.browser
def test_the_search_works_on_files_without_a_network(site: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("there is no chromium on this machine")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.click("[data-md-component=search-query]")
        page.keyboard.type("McNemar")
        page.wait_for_selector(".md-search-result__link")
        first = page.get_attribute(".md-search-result__link >> nth=0", "href")
        browser.close()
    assert "statistics.html" in str(first)
    assert asked
    assert all(url.startswith(("file:", "data:", "about:")) for url in asked), asked
