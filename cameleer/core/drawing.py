"""Drawing a chart as inline SVG for our pages, offline, in colours that follow light and dark.

Colours hold for the colour-blind (Okabe and Ito's set), and none carries meaning alone: values are
written out, lines differ in dash as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

INK, PALE, GRID, PAPER = "#1b1b1b", "#d8d8d8", "#ececec", "#ffffff"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7d7d7d")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"

STYLE = f"""
.drawing svg {{ display: block; max-width: 100%; height: auto; }}
.drawing [fill="{PAPER}"] {{ fill: none; }}
@media (prefers-color-scheme: dark) {{
  .drawing [fill="{INK}"] {{ fill: #e6e6e1; }} .drawing [stroke="{INK}"] {{ stroke: #e6e6e1; }}
  .drawing [stroke="{PALE}"] {{ stroke: #55564f; }}
  .drawing [stroke="{GRID}"] {{ stroke: #2e2f2d; }}
}}
@media print {{
  .drawing [fill="{INK}"] {{ fill: {INK}; }} .drawing [stroke="{INK}"] {{ stroke: {INK}; }}
}}
"""
"""CSS of a page that holds drawings in elements of class `drawing`: ink turns light in the dark."""


@dataclass(frozen=True)
class Drawing:
    """A drawing, what it says in words for those who do not see it, and its caption."""

    svg: str
    alternative: str
    caption: str


def line_styles(names: list[str]) -> tuple[list[str], list[list[int]]]:
    """A colour and a dash for each name, so that no two of 28 look alike."""
    colours = [LINES[index % len(LINES)] for index in range(len(names))]
    dashes = [DASHES[index % len(DASHES)] for index in range(len(names))]
    return colours, dashes


def svg(chart: Any, name: str) -> str:
    """An altair chart as SVG whose ids begin with `name`, so that several can stand in one page."""
    import vl_convert

    styled = chart.configure(background=PAPER, font=FONT, padding=6)
    styled = styled.configure_view(stroke=None)
    styled = styled.configure_axis(
        labelColor=INK, titleColor=INK, gridColor=GRID, domainColor=PALE, tickColor=PALE,
        labelFontSize=12, titleFontSize=12, titleFontWeight="normal",
    )  # fmt: skip
    styled = styled.configure_title(color=INK, fontSize=12, anchor="start", fontWeight="normal")
    styled = styled.configure_legend(labelColor=INK, titleColor=INK, labelFontSize=12)
    styled = styled.configure_header(labelColor=INK, titleColor=INK, labelFontSize=12)
    return _renamed(str(vl_convert.vegalite_to_svg(json.loads(styled.to_json()))), name)


def png(drawn: str) -> bytes:
    """A drawing's SVG in pixels, two to each of its units."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(drawn, scale=2))


def _renamed(drawn: str, name: str) -> str:
    """Ids counted from 0 within the drawing: as drawn they depend on what was drawn before."""
    for index, identity in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', drawn))):
        own = f"{name}-{index}"
        for form in ('id="{}"', "url(#{})", 'href="#{}"'):
            drawn = drawn.replace(form.format(identity), form.format(own))
    return drawn
