"""Text of models and guidelines as HTML that is safe to show: nothing in it runs or is fetched."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from cameleer.core.text import visible, whole

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

LONGEST = 40_000  # characters; markdown of more than that is shown as it stands
TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "a"),
    *("h3", "h4", "h5", "h6", "ul", "ol", "li"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"*": {"dir"}, "a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}


def plain(text: str) -> str:
    """The text as it stands; a character that a browser would obey or hide is a sign."""
    return visible(text.replace("\r\n", "\n"))


@lru_cache(maxsize=2048)
def shown(text: str, breaks: bool = True) -> Any:
    """Markdown as HTML (a `Markup`); None where it is too long, and to be shown as it stands.

    breaks: every line break is kept, since models mean them; else they are spaces. HTML in it is
    text, images are links, links open elsewhere and tell nobody where they were followed; each
    outermost block takes its direction (left-to-right or right-to-left) from its own first letter.
    """
    import nh3
    from markupsafe import Markup

    if len(text) > LONGEST:
        return None
    html = nh3.clean(  # a second wall, in case that the first has a hole
        _markdown(breaks).render(whole(text)),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        url_relative="deny",  # a link to a page of ours is none of a model's
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return Markup(html)


@cache
def _markdown(breaks: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "breaks": breaks})
    markdown.enable(["table", "strikethrough"]).disable("image")
    markdown.core.ruler.push("directions_and_headings", _directions_and_headings)
    return markdown


def _directions_and_headings(state: Any) -> None:
    """Give each outermost block its own direction; headings go below those of the page."""
    for token in state.tokens:
        if token.level == 0 and token.nesting == 1:
            token.attrSet("dir", "auto")
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
