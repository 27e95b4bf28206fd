"""Signs of trouble in an answer, told by simple rules that a person can check.

A sign is a reason to look, not a verdict: one-word answers are right for classification, and code
has no full stop. Each rule is one line below; the page shows examples of each.
"""

from __future__ import annotations

import re
from collections import Counter

CUT_WORDS = 12  # shorter last lines are taken for headings and list items, not for cut sentences
LOOP = 4  # times the same long line must stand in an answer to be called a repetition
LONG_LINE = 20  # characters

ABOUT = {
    "empty": "nothing but white space",
    "placeholder": "“N/A”, “no output”, “null” and their like stand in place of an answer",
    "one word": "a single word; right for classification, thin otherwise",
    "apology or refusal": "begins with an apology or with what the assistant will not do",
    "speaks as a model": "“as an AI language model”, the name of a maker, a knowledge cut-off",
    "no full stop": f"cut off or careless: {CUT_WORDS} words or more in the last line, no end mark",
    "open code block": "a ``` that is never closed",
    "template text": "“### Instruction”, “[|Human|]”, “<|im_start|>” or “Human:” inside an answer",
    "repeats a line": f"the same line of {LONG_LINE} characters or more, {LOOP} times or more",
    "repeats the prompt": "the whole prompt stands in the answer",
    "web remains": "HTML tags or entities outside code",
    "damaged letters": "“â€™”, “Ã©” or U+FFFD, left by a wrong encoding",
}
"""Every sign and its rule in words."""

FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
START, LINE = 20_000, 300  # characters of an answer, and of its lines, that are looked at for code
CODE_LINE = re.compile(
    r"""\s*(?:
      (?:def|class|import|from\s\w+\simport|public|private|static|function|var|let|const|return)\s
    | (?:for|while|if|elif|else|with|try|except)\b.*[:{]\s*$
    | \#include|print\(|console\.|<\?php|@\w+\s*$
    | (?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|FROM|WHERE|ORDER\ BY|GROUP\ BY|JOIN)\s
    | </?(?:!doctype|html|head|body|div|h\d|p|a|img|[uo]l|li|t[rdh]|table|form|input|script|style)\b
    | <(\w+)[^>]*>.*</\1>\s*$
    | [\w.\[\]]+\s*[-+*/]?=\s*(?:["'\[{]|\w[\w.]*[(\[])
    | [\w.]+\([^()]*\)\s*$
    | .*[{}]\s*$ | .*[=(){}<>"'].*;\s*$
    )""",
    re.VERBOSE,
)
PLACEHOLDER = re.compile(
    r"\W*(?:no ?(?:output|answer|response|input)|n/?a|null|nan|todo|tbd)\W*", re.I
)
REFUSAL = re.compile(
    r"\W*(?:(?:I['’]m|I am|we['’]re|we are) (?:\w+ )?(?:sorry|afraid|unable|not able)|sorry\b"
    r"|(?:unfortunately,? )?I (?:can ?not|can['’]t|won['’]t|will not|do not have|don['’]t have)\b"
    r"|(?:I )?apologi[sz]e|my apologies|as an? (?:AI|artificial|\w* ?language model))",
    re.I,
)
MODEL = re.compile(
    r"\bas an? (?:AI\b|artificial intelligence|(?:large |AI )?language model)"
    r"|\bI(?:['’]m| am) (?:an? (?:AI\b|(?:large |AI )?language model)|ChatGPT)"
    r"|\b(?:OpenAI|ChatGPT)\b|\bknowledge cut-?off|\b(?:trained|developed|created) by OpenAI",
    re.I,
)
TEMPLATE = re.compile(
    r"###\s*(?:Instruction|Response|Input)\b|\[\|(?:Human|AI)\|\]|<\|\w+\|>"
    r"|^(?:Human|User|Assistant)\s*:",
    re.MULTILINE,
)
WEB = re.compile(
    r"&(?:nbsp|amp|quot|lt|gt|#\d+);|</?(?:div|span|p|br|a|li|ul|td|tr)\b[^>]{0,300}>", re.I
)
DAMAGED = re.compile("\ufffd|â€[™œ\x9d“”¦]|Ã[©¨¡±¶¼]")


def looks_like_code(text: str) -> bool:
    """Whether a text holds a fenced block of code, or a third of its lines read like code."""
    if "```" in text:
        return True
    lines = [line[:LINE] for line in text[:START].split("\n") if line.strip()]
    return bool(lines) and 3 * sum(bool(CODE_LINE.match(line)) for line in lines) >= len(lines)


def signs(prompt: str, answer: str) -> set[str]:
    """Names of the signs (keys of ABOUT) that one answer to a prompt shows."""
    bare = answer.strip()
    if not bare:
        return {"empty"}
    prose = FENCE.sub("", bare)
    code = looks_like_code(bare)
    found = {
        "placeholder": PLACEHOLDER.fullmatch(bare),
        "one word": len(bare.split(None, 1)) == 1 and not _unspaced(bare),
        "apology or refusal": REFUSAL.match(bare),
        "speaks as a model": MODEL.search(prose),
        "no full stop": not code and _no_full_stop(bare),
        "open code block": bare.count("```") % 2,
        "template text": TEMPLATE.search(prose),
        "repeats a line": _repeats(prose),
        "repeats the prompt": len(prompt) > LONG_LINE and prompt.strip() in bare,
        "web remains": not code and WEB.search(prose),
        "damaged letters": DAMAGED.search(bare),
    }
    return {name for name, seen in found.items() if seen}


def _unspaced(text: str) -> bool:
    """Whether a text without blanks may be many words: scripts such as Chinese or Thai."""
    return len(text) > 3 and any(ord(sign) > 0x0E00 for sign in text)


def _no_full_stop(text: str) -> bool:
    words = text.rsplit("\n", 1)[-1].split()
    end = text[-1]
    cased = end.lower() != end.upper()  # scripts without case, such as Thai, have no full stop
    unfinished = end.isdigit() or end in ",;-–" or cased
    plain = words[-1][0] not in "#@" and "://" not in words[-1]
    return unfinished and plain and len(words) >= CUT_WORDS


def _repeats(text: str) -> bool:
    lines = [line.strip() for line in text.split("\n") if len(line.strip()) >= LONG_LINE]
    return len(lines) >= LOOP and Counter(lines).most_common(1)[0][1] >= LOOP
