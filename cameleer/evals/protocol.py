"""From a benchmark's item to the exact string that a local model is given."""

from __future__ import annotations

from typing import Any, Protocol

from cameleer.chat.own import OWN, OwnTemplate
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.results.records import Format


class Opens(Protocol):
    """A chat template, as far as a prompt needs it."""

    def opened(self, message: str, system: str = "") -> str:
        """A user's message, up to where the answer to it begins; system: a message before it."""


def template_for(name: str, tokenizer: Any) -> Opens:
    """The chat template that a name stands for: `own` is what the model's tokenizer brings along.

    tokenizer: None where there is none to look into. An unknown name is the user's error.
    """
    if name != OWN:
        return template_named(name)
    if tokenizer is None:
        raise UserError(
            "the model's own chat template is not to be had without its tokenizer",
            hint="a server puts its own around every message, whatever is named here",
        )
    return OwnTemplate(tokenizer)


def prompt_of(text: str, cue: str, form: Format, template: Opens) -> str:
    """The prompt of an item's text and cue, without special tokens: the tokenizer adds those.

    chat: the text is the user's message, white space and all, and the cue opens the answer, after a
    space if the template does not end in white space. plain: the text, then the cue.
    """
    if form == "plain":
        return text + cue
    opened = template.opened(text)
    return opened + (" " if cue and not opened[-1].isspace() else "") + cue
