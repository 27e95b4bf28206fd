"""Ways in which a record's text in a native file goes wrong, each a function of text and chance."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, str], bytes]


def _value(change: Callable[[Random, dict[str, Any]], Any]) -> Mutation:
    """A mutation of a JSON record by what it holds; the result is JSON."""

    def mutate(draw: Random, text: str) -> bytes:
        changed = change(draw, json.loads(text))
        return json.dumps(changed, ensure_ascii=draw.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )

    return mutate


def _field(make: Callable[[Random], Any]) -> Mutation:
    """One field anywhere in the record gets another value."""

    def change(draw: Random, row: dict[str, Any]) -> dict[str, Any]:
        places = list(_places(row))
        if places:
            holder, key = draw.choice(places)
            holder[key] = make(draw)
        return row

    return _value(change)


def _places(value: Any) -> Any:
    """(holder, key) of every value inside."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _without_a_key(draw: Random, row: dict[str, Any]) -> dict[str, Any]:
    row.pop(draw.choice(list(row)))
    return row


def _other_key(draw: Random, row: dict[str, Any]) -> dict[str, Any]:
    key = draw.choice(list(row))
    return {(name.upper() if name == key else name): value for name, value in row.items()}


def _text(old: str, new: str) -> Mutation:
    """One place that fits `old` becomes `new`; the record stays as it is if there is none."""

    def mutate(draw: Random, text: str) -> bytes:
        found = list(re.finditer(old, text))
        if not found:
            return text.encode()
        place = draw.choice(found)
        return (text[: place.start()] + new + text[place.end() :]).encode()

    return mutate


def _inserted(junk: bytes) -> Mutation:
    def mutate(draw: Random, text: str) -> bytes:
        at = draw.randrange(1, len(text))
        return text[:at].encode() + junk + text[at:].encode()

    return mutate


def _cut(draw: Random, text: str) -> bytes:
    return text[: draw.randrange(1, len(text))].encode()


def _headless(draw: Random, text: str) -> bytes:
    return text[draw.randrange(1, len(text)) :].encode()


def _hole(draw: Random, text: str) -> bytes:
    begin = draw.randrange(len(text))
    return (text[:begin] + text[begin + draw.randrange(1, 40) :]).encode()


def _flipped(draw: Random, text: str) -> bytes:
    """Some bytes are others, line breaks excepted."""
    data = bytearray(text.encode())
    for _ in range(draw.randrange(1, 5)):
        data[draw.randrange(len(data))] = draw.choice([n for n in range(256) if n not in (10, 13)])
    return bytes(data)


IN_JSON: dict[str, Mutation] = {
    "null in a field": _field(lambda _: None),
    "number in a field": _field(lambda draw: draw.choice([0, -1, 1.5, 10**400, True])),
    "list in a field": _field(lambda draw: draw.choice([[], [None], ["x"], [[]], [{}]])),
    "object in a field": _field(lambda draw: draw.choice([{}, {"a": None}, {"role": 3}])),
    "text in a field": _field(lambda draw: draw.choice(["", " \n", "x", "None", "bing"])),
    "NaN or infinity": _field(lambda draw: float(draw.choice(["nan", "inf", "-inf"]))),
    "half a surrogate pair": _field(lambda draw: draw.choice(["\ud83d", "a\ude00b", "\udc80"])),
    "strange characters": _field(lambda _: "\0\u2028\u2029\x85\x0b\x1b[2J\ufeff\U0010ffff"),
    "wrong role": _field(lambda draw: draw.choice(["nobody", "Human", "system", "tool"])),
    "missing key": _value(_without_a_key),
    "key in capitals": _value(_other_key),
    "no object": _value(lambda draw, _: draw.choice([None, [], [1], 3, "x", True, {}])),
    "several records in a list": _value(lambda _, row: [row, row]),
    "repeated key": _text(r"^\{", '{"instruction": 1, "messages": 2, '),
    "10,000 digits": _text(r"(?<=: )[\"\[]", "1" * 10_000 + '"'),
    "nested 100,000 deep": _text(r"(?<=: )[\"\[]", "[" * 100_000),
    "lost quote": _text('"', ""),
    "quote too many": _text('"', '""'),
    "lost brace": _text(r"[{}]", ""),
    "lost first brace": _text(r"^\{", ""),
    "lost last brace": _text(r"\}$", ""),
    "lost bracket": _text(r"[\[\]]", ""),
    "brace twice": _text(r"\{", "{{"),
    "closing brace twice": _text(r"\}$", "}}"),
    "bracket before": _text(r"^\{", "[{"),
    "bracket behind": _text(r"\}$", "}]"),
    "closed too early": _text(r", ", "}, "),
    "lost comma": _text(r",", ""),
    "comma too many": _text(r",", ",,"),
    "lost colon": _text(r":", " "),
    "bad escape": _text(r"[a-z]", "\\x"),
}
IN_TEXT: dict[str, Mutation] = {
    "cut": _cut,
    "head lost": _headless,
    "hole": _hole,
    "bytes changed": _flipped,
    "NUL bytes": _inserted(b"\0\0\0"),
    "not UTF-8": _inserted(b"\xe9\xff"),
    "raw surrogate": _inserted(b"\xed\xa0\xbd"),
    "BOM before": lambda _, text: b"\xef\xbb\xbf" + text.encode(),
    "BOM inside": _inserted(b"\xef\xbb\xbf"),
    "line break inside": _inserted(b"\n"),
    "carriage return inside": _inserted(b"\r"),
    "control characters": _inserted(b"\x1b[31m\x07\x7f"),
    "tab": _inserted(b"\t"),
    "replaced by noise": lambda draw, text: draw.randbytes(min(len(text), 60)).translate(
        None, b"\r\n"
    ),
    "twice": lambda _, text: text.encode() + text.encode(),
}
BETWEEN_JSON: dict[str, tuple[bytes, bytes]] = {  # in a list, in lines
    "separator lost": (b" ", b""),
    "separator twice": (b",,", b"\n\n"),
    "blank lines between": (b"\n ,\n\n", b"\n \t \n"),
    "words between": (b",\n<<<<<<< HEAD\n", b"\n<<<<<<< HEAD\n"),
    "brackets between": (b"], [", b"\n]\n[\n"),
    "null between": (b", null, ", b"\nnull\n"),
}
