"""The Tülu chat format (arXiv 2306.04751, section 3.1): roles are plain text, no new tokens."""

from cameleer.chat.template import Template

TEMPLATE = Template(
    name="tulu",
    headers={"system": "<|system|>\n", "user": "<|user|>\n", "assistant": "<|assistant|>\n"},
    footers={"system": "\n", "user": "\n", "assistant": "{eos}\n"},
    jinja=(
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\\n' + message['content'] | trim }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
)
