"""Models' own chat templates: the tokens are those of the tokenizer's own rendering."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.own import OwnTemplate
from cameleer.core.errors import UserError

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)


def with_template(tokenizer: Any, start: bool) -> Any:
    """The tokenizer with a template; start: it puts <s> in front of every text by itself."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATE
    if start:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return tokenizer


@pytest.mark.parametrize("start", [True, False])
def test_texts_start_once(tiny_tokenizer: Any, start: bool) -> None:
    tokenizer = with_template(tiny_tokenizer, start)
    opened = OwnTemplate(tokenizer).opened(" Hi\n")
    assert opened == ("" if start else "<s>") + "[ Hi\n]>"
    messages = [{"role": "user", "content": " Hi\n"}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert tokenizer(opened)["input_ids"] == rendered
    assert rendered[0] == 0
    assert rendered.count(0) == 1


def test_a_system_message_stands_before_it(tiny_tokenizer: Any) -> None:
    tokenizer = with_template(tiny_tokenizer, start=True)
    assert OwnTemplate(tokenizer).opened("Hi", "Be kind.") == "[Be kind.][Hi]>"


def test_a_template_that_takes_no_system_message_is_told(tiny_tokenizer: Any) -> None:
    tokenizer = with_template(tiny_tokenizer, start=True)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    tokenizer.chat_template = refusing + TEMPLATE
    assert OwnTemplate(tokenizer).opened("Hi") == "[Hi]>"
    with pytest.raises(UserError, match="takes no system message: none"):
        OwnTemplate(tokenizer).opened("Hi", "Be kind.")


def test_without_one_there_is_no_fall_back(tiny_tokenizer: Any) -> None:
    with pytest.raises(UserError, match="no chat template of its own"):
        OwnTemplate(tiny_tokenizer)


@pytest.mark.embedded
def test_the_embedded_models_prompts_are_its_own(embedded_model: Path, tmp_path: Path) -> None:
    import json

    from transformers import AutoTokenizer

    from cameleer.engines.lengths import Lengths
    from cameleer.evals.asking import prompts

    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    rows = [{"id": f"vicuna_{n}", "prompt": f"Say {n}.\n"} for n in range(3)]
    file = tmp_path / "eval_instances_tulu_1.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    measure = Lengths(tokenizer)
    found = prompts("human", tmp_path, template="own", tokenizer=tokenizer, cut=measure.cut)
    for number, row in enumerate(found):
        messages = [{"role": "user", "content": f"Say {number}."}]
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        assert tokenizer(row["prompt"])["input_ids"] == rendered["input_ids"]
        assert row["prompt"].endswith(
            f"<|im_start|>user\nSay {number}.<|im_end|>\n<|im_start|>assistant\n"
        )
    with pytest.raises(UserError, match="not to be had without its tokenizer"):
        next(prompts("human", tmp_path, template="own"))
