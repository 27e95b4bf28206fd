"""Languages named when they can be told, and not guessed when not."""

import pytest

from cameleer.data.portrait.language import NONE, UNSURE, language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where does the camel drink, and how much water does it need?", "en"),
        ("Wo trinkt das Kamel, und wie viel Wasser braucht es?", "de"),
        ("骆驼在哪里喝水?", "zh"),
        ("낙타는 어디에서 물을 마십니까?", "ko"),
        ("Hm", UNSURE),
        ("lol xd", UNSURE),
        ("12 / 4", NONE),
        ("", NONE),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert language(text) == code
