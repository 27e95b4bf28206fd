"""From a benchmark's item to the exact string that a local model is given."""

from __future__ import annotations

from cameleer.chat.conversation import Message
from cameleer.chat.template import Template
from cameleer.results.records import Format


def prompt_of(text: str, cue: str, form: Format, template: Template) -> str:
    """The prompt of an item's text and cue, without special tokens: the tokenizer adds those.

    chat: the text is the user's message, white space and all, and the cue opens the answer, after a
    space if the template does not end in white space. plain: the text, then the cue.
    """
    if form == "plain":
        return text + cue
    # The end token closes an answer only, and there is none yet.
    opened = template.prefix([Message("user", text)], "", cue=True)
    return opened + (" " if cue and not opened[-1].isspace() else "") + cue
