"""Text of strangers made safe to look at: what a terminal or browser would obey becomes a sign."""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"  # needed inside words and emoji, and harmless


def visible(text: str) -> str:
    """The text with control, direction and invisible characters as signs such as ␛ or ⟨U+202E⟩."""
    return "".join(sign if sign in "\n\t" else sign_for(sign) or sign for sign in text)


def sign_for(character: str) -> str:
    """What stands for a character that must not act or cannot be seen; "" for all others."""
    code = ord(character)
    if code < 32:
        return chr(0x2400 + code)
    if code == 127:
        return "\u2421"
    if character.isprintable() or character in JOINERS:
        return ""
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return f"⟨U+{code:04X}⟩" if hidden else ""


def name_of(character: str) -> str:
    """A character's code point and name, for those who point at its sign."""
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"
