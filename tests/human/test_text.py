"""Text of strangers as HTML: what it may hold, that nothing runs, and that it is still readable."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.human.text import LONGEST, plain, shown
from tests.human.site import Tags

HARMLESS_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "a"),
    *("h3", "h4", "h5", "h6", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
}
HARMLESS = {"dir", "href", "title", "start", "rel", "target"}

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](java&#x73;cript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[click](vbscript:x)",
    "[click](<javascript:alert(1)>)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/pixel.png)",
    '![x](x"onerror="alert(1))',
    '[a](http://x.example "onmouseover=alert(1)")',
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\ncode\n```',
    "<style>*{display:none}</style>",
    "<iframe src=//evil.example></iframe>",
    '<a href="x" style="position:fixed;inset:0">all</a>',
    "<form action=/logout method=post><button>x</button></form>",
    "<base href=//evil.example>",
    "<!--><script>alert(1)</script>-->",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "</pre></div></main><script>alert(1)</script>",
    "<div id=rating></div><input name=csrf>",
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "[a]: javascript:alert(1)\n\n[a]",
    "[a page of ours](/undo)",
    "[another site](//evil.example)",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]


def check(html: str) -> Tags:
    """That a browser would find harmless tags with harmless attributes only."""
    found = Tags(html)
    for tag, attributes in found.tags:
        assert tag in HARMLESS_TAGS
        assert attributes.keys() <= HARMLESS
        if "href" in attributes:
            assert (attributes["href"] or "").partition(":")[0] in ("http", "https", "mailto")
            assert "noopener" in (attributes["rel"] or "")
            assert "noreferrer" in (attributes["rel"] or "")
            assert attributes["target"] == "_blank"
    return found


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_text(attack: str) -> None:
    check(str(shown(attack)))


PIECES = st.sampled_from(
    [
        *"<>\"'`=/&;:#![]()|*_~-\n\t \\",
        *("script", "javascript:", "onerror=", "a", "http://b.c/", "\x00", "\u202e", "\ud800"),
        *("שלום", "```", "<a href=", "<!--", "&#106;", "|-|", "\r\n"),
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_no_mixture_of_marks_makes_more(text: str) -> None:
    check(str(shown(text)))
    plain(text).encode("utf-8")


def test_html_is_seen_as_it_was_written() -> None:
    assert "<script>alert(1)</script>" in check(str(shown("<script>alert(1)</script>"))).text


def test_every_line_break_is_kept() -> None:
    assert str(shown("one\ntwo")) == '<p dir="auto">one<br>\ntwo</p>\n'


def test_line_breaks_of_guidelines_are_spaces() -> None:
    assert str(shown("one\ntwo", breaks=False)) == '<p dir="auto">one\ntwo</p>\n'


def test_code_keeps_its_spaces() -> None:
    found = check(str(shown("```python\nif x:\n    y = '<b>'\n```")))
    assert "if x:\n    y = '<b>'\n" in found.text
    assert [tag for tag, _ in found.tags] == ["pre", "code"]


def test_lists_and_tables() -> None:
    listed = check(str(shown("3. a\n4. b")))
    assert listed.tags[0] == ("ol", {"start": "3", "dir": "auto"})
    table = check(str(shown("| a | b |\n|---|--:|\n| 1 | 2 |")))
    assert [tag for tag, _ in table.tags].count("td") == 2


def test_headings_are_below_those_of_the_page() -> None:
    assert [tag for tag, _ in check(str(shown("# a\n\n## b\n\n##### c"))).tags] == [
        "h3",
        "h4",
        "h6",
    ]


def test_each_block_takes_its_own_direction() -> None:
    found = check(str(shown("שלום\n\nhello\n\n- מים\n- אש")))
    assert [attributes for tag, attributes in found.tags if tag in ("p", "ul")] == [
        {"dir": "auto"}
    ] * 3
    # An element with a direction of its own tells its parent nothing, so items have none.
    assert all(not attributes for tag, attributes in found.tags if tag == "li")


def test_an_image_is_a_link_that_is_not_fetched() -> None:
    found = check(str(shown("![a cat](https://x.example/cat.png)")))
    assert ("a", "https://x.example/cat.png") in [(t, a.get("href")) for t, a in found.tags]


def test_text_that_is_too_long_is_not_read_as_markdown() -> None:
    assert shown("a" * LONGEST) is not None
    assert shown("a" * (LONGEST + 1)) is None


@pytest.mark.parametrize("piece", ["[", "*a ", "> ", "`", "- ", "![](", "<", "|", "_", "~~", "&"])
def test_no_text_takes_long(piece: str) -> None:
    text = (piece * LONGEST)[:LONGEST]
    start = time.perf_counter()
    check(str(shown(text)))
    assert time.perf_counter() - start < 5  # some 0.1 s where nothing else runs


def test_plain_text_shows_what_cannot_be_seen() -> None:
    assert plain("a\r\nb\x1b\u202e") == "a\nb⟨ESC⟩⟨U+202E⟩"
    assert plain("<b>") == "<b>"  # the template escapes it
