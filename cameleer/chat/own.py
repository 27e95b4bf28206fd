"""The chat template that a model's tokenizer brings along: for models that others trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cameleer.chat.conversation import Message
from cameleer.core.errors import UserError

OWN = "own"
"""The name that stands for it where a template is named."""


class OwnTemplate:
    """A tokenizer's own chat template, with the system message that it may put in front."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises UserError for a tokenizer without one: there is no falling back to another."""
        if not getattr(tokenizer, "chat_template", None):
            raise UserError(
                "the model's tokenizer has no chat template of its own",
                hint="name one (tulu), or ask in the plain format",
            )
        self.tokenizer = tokenizer
        self.start = _own_start(tokenizer)

    def opened(self, message: str, system: str = "") -> str:
        """A user's message up to where the answer begins, without the token that texts start with.

        The tokenizer puts that one in front of every text, so that it would stand there twice.
        system: a message before it, in place of the template's own. Raises UserError for a template
        that takes none.
        """
        before = [Message("system", system)] if system else []
        return self.continued([*before, Message("user", message)])

    def continued(self, messages: Sequence[Message], eos: str = "") -> str:  # noqa: ARG002
        """A whole chat up to where its next answer begins, as `opened` has it for one message.

        eos: for templates of ours; this one knows its own.
        """
        from jinja2 import TemplateError  # slow to import, and the tokenizer needs it only here

        turns = [{"role": one.role, "content": one.content} for one in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            if messages[0].role != "system":
                raise
            raise UserError(
                f"the model's own chat template takes no system message: {error}",
                hint="put what it says into the user's message, or name another template",
            ) from None
        return text.removeprefix(self.start)


def _own_start(tokenizer: Any) -> str:
    """The token that the tokenizer puts in front of every text; "" if it puts none there."""
    ids = tokenizer("x")["input_ids"]
    return str(tokenizer.bos_token) if ids and ids[0] == tokenizer.bos_token_id else ""
