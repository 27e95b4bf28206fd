"""What is shown: nothing lost, nothing obeyed, the mask visible with and without colour."""

import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.render import render
from cameleer.chat.show import BEHIND, Shown, lay_out, pieces, show_html, show_text, summary
from cameleer.chat.template import template_named

TULU = template_named("tulu")
HOSTILE = "<script>alert('x')</script> & \x1b[2J café 🐪\x7f\u202e\x9b"
SHOWN = HOSTILE.replace("\x1b", "⟨ESC⟩").replace("\x7f", "⟨DEL⟩").replace("\u202e", "⟨U+202E⟩")
SHOWN = SHOWN.replace("\x9b", "⟨U+009B⟩")


def talk(*contents: str) -> Conversation:
    roles = ("user", "assistant") * 5
    turns = (Message(role, text) for role, text in zip(roles, contents, strict=False))
    return Conversation('id"<b>', "s", tuple(turns))


def laid(tokenizer: Any, *contents: str, limit: int = 10_000, rule: Any = "fixed") -> Shown:
    [one] = lay_out([talk(*contents)], tokenizer, TULU, max_tokens=limit, rule=rule)
    return one


class Spans(HTMLParser):
    """The tokens of a page: (class, title, text)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if tag == "span" and "data-i" in values:
            self.found.append([values.get("class") or "", values["title"] or "", ""])
            self.open = ["span"]
        elif self.open:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and "b" not in self.open:  # signs for line breaks are no text
            self.found[-1][2] += data


def text_of(page: Spans, kind: str) -> str:
    return "".join(text for classes, _, text in page.found if kind in classes.split())


@settings(deadline=None, max_examples=40)
@given(answer=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_pieces_are_the_whole_text(family: Any, answer: str) -> None:
    one = laid(family, "Hi", answer)
    found = pieces(one, family, len(one.ids))
    assert "".join(piece.text for piece in found) == family.decode(
        one.ids, clean_up_tokenization_spaces=False
    )
    assert [token for piece in found for token in piece.ids] == one.ids
    [rendered] = render([talk("Hi", answer)], family, TULU)
    flags = [one.fate(piece.first) for piece in found for _ in piece.ids]
    assert [flag == "learned" for flag in flags] == [bool(flag) for flag in rendered.supervised]


def test_plain_text_brackets_what_is_learned(family: Any) -> None:
    shown = show_text(laid(family, "Hi", "Hello 🐪"), family, plain=True).plain
    assert re.findall("⟦(.*?)⟧", shown, re.DOTALL) == ["Hello 🐪</s>"]
    hostile = show_text(laid(family, "Hi", HOSTILE), family, plain=True).plain
    assert not re.search("[\x1b\x7f\x9b\u202e]", hostile)
    assert SHOWN in hostile


def test_coloured_text_underlines_what_is_learned(family: Any) -> None:
    shown = show_text(laid(family, "Hi", "Hello"), family, plain=False)
    marked = [
        shown.plain[span.start : span.end] for span in shown.spans if "underline" in str(span.style)
    ]
    assert marked == ["Hello</s>"]
    assert not shown.style
    assert "⟦" not in shown.plain


def test_page_says_all_and_obeys_nothing(family: Any) -> None:
    one = laid(family, "Hi", HOSTILE)
    page = show_html([one], family, "a<b>")
    spans = Spans(page)
    assert not spans.tags & {"script", "img", "link", "iframe"}
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|src=|@import|url\(|[\x1b\x7f\x9b\u202e]", page)
    assert text_of(spans, "l") == SHOWN + "</s>"
    titles = [title for _, title, _ in spans.found]
    ids = [int(i) for title in titles for i in title.split("id ")[1].split(" ·")[0].split()]
    assert ids == one.ids
    assert f"{len(one.ids)} tokens, {sum(one.fixed)} learned" in page
    assert "prefers-color-scheme: dark" in page
    assert "&#34;&lt;b&gt;" in page
    assert "a&lt;b&gt;" in page


def test_characters_in_titles_run_on(family: Any) -> None:
    at = 0
    for _, title, _ in Spans(show_html([laid(family, "Hi", HOSTILE)], family)).found:
        match = re.search(r"characters (\d+)–(\d+)", title)
        assert match
        assert int(match[1]) == at
        at = int(match[2])


def test_special_tokens_and_blanks_can_be_told(family: Any) -> None:
    page = show_html([laid(family, "Hi", "a\tb\u00a0c\u200b")], family)
    assert "</s>" in text_of(Spans(page), "x")
    assert '<b aria-hidden="true">⇥</b>\t' in page
    assert 'title="U+00A0 NO-BREAK SPACE">⍽' in page
    assert 'title="U+200B ZERO WIDTH SPACE">⟨U+200B⟩' in page


def test_rules_differ_by_the_line_break_after_an_answer(tiny_tokenizer: Any) -> None:
    one = laid(tiny_tokenizer, "Hi", "Yes", "And?", "No")
    assert one.differing == 1
    page = show_html([one], tiny_tokenizer)
    kinds = [kind for kind, _, _ in Spans(page).found]
    assert (kinds.count("paper"), kinds.count("fixed")) == (1, 0)
    assert re.search(
        r'class="paper" title="[^"]*learned by rule paper" data-i="\d+"><b [^>]*>↵', page
    )
    by_paper = laid(tiny_tokenizer, "Hi", "Yes", "And?", "No", rule="paper")
    assert by_paper.learned == one.learned + 1


def test_what_lies_behind_the_limit_is_grey_and_counted(tiny_tokenizer: Any) -> None:
    whole = laid(tiny_tokenizer, "Hi", "word " * 30)
    one = laid(tiny_tokenizer, "Hi", "word " * 30, limit=len(whole.ids) - 10)
    assert (one.tokens, one.cut, one.cut_learned) == (len(whole.ids) - 10, 10, 10)
    assert one.learned == whole.learned - 10
    page = show_html([one], tiny_tokenizer)
    assert "10 tokens lie behind the limit" in page
    assert sum(title.endswith("cut") for _, title, _ in Spans(page).found) <= 10
    assert "10 cut off" in summary(one)
    assert Spans(page).found[-1][0] == "x"  # the end token, not in the loss


def test_a_long_tail_is_counted_not_shown(family: Any) -> None:
    one = laid(family, "Hi", "word " * 1000, limit=20)
    page = show_html([one], family)
    assert len(Spans(page).found) <= 20 + BEHIND
    assert f"and {one.cut - BEHIND:,} tokens more" in page


def test_what_teaches_nothing_is_shown_with_the_reason(family: Any) -> None:
    assert "it has no answer" in summary(laid(family, "Hi"))
    late = laid(family, "Hi " * 20, "Yes", limit=10)
    assert "its answers lie behind the limit" in summary(late)
    assert "its answers lie behind the limit" in show_html([late], family)


def test_conversations_are_linked(family: Any) -> None:
    page = show_html([laid(family, "Hi", "Yes"), laid(family, "Ho", "No")], family)
    targets = set(re.findall(r'id="(c\d+)"', page))
    assert set(re.findall(r'href="#(c\d+)"', page)) == targets == {"c1", "c2"}
