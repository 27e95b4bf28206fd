"""Pages show what they are given, escaped, and nothing that they were not given."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from cameleer.core.page import page_template


def test_text_is_escaped_and_gaps_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "a.html.jinja"
    file.write_text("<p>{{ text | loud }}{{ more }}</p>")
    page = page_template(file, loud=str.upper)
    assert page.render(text="<b>", more=1) == "<p>&lt;B&gt;1</p>"
    with pytest.raises(jinja2.UndefinedError):
        page.render(text="a")
