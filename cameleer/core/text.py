"""Text of strangers made safe to look at: what a terminal or browser would obey becomes a sign."""

from __future__ import annotations

import re
import unicodedata

ASCII = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN"
)
NAMES = f"{ASCII} EM SUB ESC FS GS RS US".split(" ")  # of the first 32 characters
JOINERS = "\u200c\u200d"  # needed inside words and emoji, and harmless
LONE = re.compile(r"[\ud800-\udfff]")  # half a character, as a text that was cut may end in


def visible(text: str) -> str:
    """The text with control, direction and unseen characters as signs: ⟨ESC⟩, ⟨U+202E⟩."""
    return "".join(sign if sign in "\n\t" else sign_for(sign) or sign for sign in text)


def whole(text: str) -> str:
    """The text with U+FFFD for halves of characters, which no file in UTF-8 can hold."""
    return LONE.sub("\ufffd", text)


def sign_for(character: str) -> str:
    """What stands for a character that must not act or cannot be seen; "" for all others."""
    code = ord(character)
    if code < 32:
        return f"⟨{NAMES[code]}⟩"
    if code == 127:
        return "⟨DEL⟩"
    if character.isprintable() or character in JOINERS:
        return ""
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return f"⟨U+{code:04X}⟩" if hidden else ""


def name_of(character: str) -> str:
    """A character's code point and name, for those who point at its sign."""
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"
