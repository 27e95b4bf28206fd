"""How our pages are filled in: HTML templates beside the code that uses them, text escaped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def page_template(file: Path, **filters: Callable[..., Any]) -> Any:
    """The jinja2 template in a file; a name that it is not given is an error, never left blank."""
    import jinja2  # slow to import, and only met where a page is written

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(file.name)
