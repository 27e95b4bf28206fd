"""A page of ours as its tests look at it: elements, text, and whether tags are balanced."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "br", "img", "wbr", "path", "input", "link", "hr"}


class Page(HTMLParser):
    """Elements of a page with their attributes, its text, and whether its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def require_alone(html: str) -> None:
    """The page asks for nothing outside itself, and runs nothing."""
    for tag, attrs in Page(html).elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "img", "link"}
        for name, value in attrs.items():
            if not name.startswith("xmlns") and name not in {"aria-label", "title"}:
                assert "//" not in (value or ""), (tag, name, value)
            assert not name.startswith("on")
    css = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "@import" not in css
    assert "url(" not in css


def require_well_formed(html: str) -> None:
    """Balanced tags, tables with captions, heads with a scope, ids once, pictures with words."""
    page = Page(html)
    assert page.open == []
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    pictures = [attrs for _, attrs in page.elements if attrs.get("class") == "card"]
    assert all(len(attrs["aria-label"] or "") > 40 for attrs in pictures)


def require_outline(html: str) -> None:
    """One h1, no level of headings left out, a main part, contents, and a way past them first."""
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    levels = [int(tag[1]) for tag in tags if tag in {"h1", "h2", "h3", "h4", "h5", "h6"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [tags.count(name) for name in ("main", "nav", "header")] == [1, 1, 1]
    links = [attrs for tag, attrs in page.elements if tag == "a"]
    assert links[0]["class"] == "skip"
    there = {attrs.get("id") for _, attrs in page.elements}
    inside = [str(attrs["href"]) for attrs in links if str(attrs["href"]).startswith("#")]
    assert {address[1:] for address in inside} <= there
