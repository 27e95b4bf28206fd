"""Which tokens of a choice are scored, against the algorithm of lm-eval told again."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.engines.continuation import windows


def test_the_tokens_of_a_choice_are_those_beyond_the_prompts(tiny_tokenizer: Any) -> None:
    prompt, choice = "Where does the camel live?", " In the desert"
    ((before, scored),) = windows(tiny_tokenizer, prompt, choice, 64)
    assert tiny_tokenizer.decode(before) == prompt
    assert tiny_tokenizer.decode(scored) == choice


def test_a_choice_without_tokens_is_an_error(tiny_tokenizer: Any) -> None:
    with pytest.raises(UserError, match="adds no token"):
        windows(tiny_tokenizer, "Where", "", 64)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("abc de", min_size=1, max_size=60), st.integers(2, 20))
def test_whole_texts_are_scored_in_windows_as_lm_eval_does(
    tiny_tokenizer: Any, text: str, room: int
) -> None:
    ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    wanted, done = [], 0  # every token once; a window is filled up with what stands before it
    while done < len(ids):
        new = ids[done : done + room]
        end = done + len(new)
        line = [0, *ids]  # 0 is <s>, which the first token follows
        context = line[max(0, end - room) : done + 1] if done else [0]
        wanted.append((context, new))
        done = end
    assert windows(tiny_tokenizer, "", text, room) == wanted
    assert all(len(before) + len(new) <= room + 1 for before, new in wanted)
