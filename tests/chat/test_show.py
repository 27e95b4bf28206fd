"""What is shown: nothing lost, nothing obeyed, the mask visible with and without colour."""

import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.render import Rendered, render
from cameleer.chat.show import pieces, show_html, show_text
from cameleer.chat.template import template_named

TULU = template_named("tulu")
HOSTILE = "<script>alert('x')</script> & \x1b[2J café 🐪\x7f"


def chat(tokenizer: Any, question: str = "Hi", answer: str = HOSTILE) -> Rendered:
    messages = (Message("user", question), Message("assistant", answer))
    [one] = render([Conversation('id"<b>', "s", messages)], tokenizer, TULU)
    return one


class Spans(HTMLParser):
    """The tokens of a page: (class, title, text)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if tag == "span" and "title" in values:
            self.found.append([values.get("class") or "", values["title"] or "", ""])
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "span":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1][2] += data


@settings(deadline=None, max_examples=40)
@given(answer=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_pieces_are_the_whole_text(family: Any, answer: str) -> None:
    one = chat(family, answer=answer)
    found = pieces(one, family)
    whole = family.decode(one.ids, clean_up_tokenization_spaces=False)
    assert "".join(piece.text for piece in found) == whole
    assert [token for piece in found for token in piece.ids] == one.ids
    flags = [flag for piece in found for flag in [piece.supervised] * len(piece.ids)]
    assert flags == [bool(flag) for flag in one.supervised]


def test_plain_text_brackets_what_is_learned(family: Any) -> None:
    shown = show_text(chat(family, answer="Hello 🐪"), family, plain=True).plain
    assert re.findall("⟦(.*?)⟧", shown, re.DOTALL) == ["Hello 🐪</s>"]
    assert "\x1b" not in show_text(chat(family), family, plain=True).plain


def test_coloured_text_underlines_what_is_learned(family: Any) -> None:
    shown = show_text(chat(family, answer="Hello"), family, plain=False)
    marked = [
        shown.plain[span.start : span.end] for span in shown.spans if "underline" in str(span.style)
    ]
    assert marked == ["Hello</s>"]
    assert not shown.style
    assert "⟦" not in shown.plain


def test_page_says_all_and_obeys_nothing(family: Any) -> None:
    one = chat(family)
    page = show_html([one], family)
    spans = Spans(page)
    assert "script" not in spans.tags
    assert "\x1b" not in page
    assert not re.search(r"https?://|src=|@import|url\(", page)
    learned = "".join(text for kind, _, text in spans.found if kind == "l")
    assert learned == HOSTILE.replace("\x1b", "␛").replace("\x7f", "␡") + "</s>"
    assert sum(
        len(title.split("id ")[1].split(" ·")[0].split()) for _, title, _ in spans.found
    ) == len(one.ids)
    assert f"{len(one.ids)} tokens, {sum(one.supervised)} learned" in page
    assert "prefers-color-scheme: dark" in page
    assert "&quot;&lt;b&gt;" in page


def test_characters_in_titles_run_on(family: Any) -> None:
    spans = Spans(show_html([chat(family)], family)).found
    at = 0
    for _, title, _ in spans:
        begin, end = map(int, title.rpartition("characters ")[2].split("–"))
        assert begin == at
        at = end
