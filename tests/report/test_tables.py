"""Tables as files: LaTeX that compiles, Markdown and LaTeX that say what the CSV does."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.report.analysis import analyse
from cameleer.report.facts import Table
from cameleer.report.tables import analysis_sheets, latex, markdown, write_tables
from cameleer.results.store import read_study

Make = Callable[..., Path]
NASTY = r"[50%] a_b & c#d {e} ~^ \end{table} <$> x|y − – ▲ ▼ ↓ ± …"


def require_latex(text: str) -> list[list[str]]:
    """The rows of a table's cells, if it is one that LaTeX takes; told by its own rules.

    Braces are balanced, what is special is escaped, math is closed, each row has the columns that
    are declared, environments nest, and only ASCII and Latin letters are left.
    """
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    body = "\n".join(lines)
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert not set(bare) & set("#%~_|<>") - set("_" if "tab:" in bare else "")
    assert "^" not in re.sub(r"\$[^$]*\$", "", bare)
    begun = re.findall(r"\\(begin|end)\{(\w+)\}", body)
    assert begun == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    commands = set(re.findall(r"\\([a-zA-Z]+)", bare))
    assert commands <= {
        *("begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule"),
        *("textbf", "textbackslash", "textasciitilde", "textasciicircum", "textless"),
        *("textgreater", "textbar", "ldots", "pm", "times", "cdot", "triangle", "nabla"),
        *("downarrow", "surd"),
    }
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", body)
    inner = body.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    rows = [row for row in inner.strip().split(r" \\") if row.strip()]
    assert not any(row.lstrip().startswith(("[", "*")) for row in rows)  # would be \\'s option
    cells = [re.split(r"(?<!\\)&", row) for row in rows]
    assert {len(row) for row in cells} == {len(columns)}
    return [[cell.strip() for cell in row] for row in cells]


def test_latex_prints_what_it_would_obey() -> None:
    table = Table(
        NASTY, ["data", NASTY], [[NASTY, "1.0"], ["a", NASTY]], strong=frozenset({(1, 1)})
    )
    found = require_latex(latex(table, "scores"))
    assert len(found) == 3
    said = r"{[}50\%] a\_b \& c\#d \{e\} \textasciitilde{}\textasciicircum{} "
    assert found[1][0].startswith(
        said + r"\textbackslash{}end\{table\} \textless{}\$\textgreater{}"
    )
    assert found[2][1].startswith(rf"\textbf{{{said}")


@given(st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cc", "Cs"]), max_size=30))
def test_any_latin_text_is_a_cell(text: str) -> None:
    assert len(require_latex(latex(Table(text, ["a", "b"], [["x", text], [text, "y"]]), "x"))) == 3


def test_letters_that_pdflatex_lacks_are_told() -> None:
    assert "XeLaTeX" in latex(Table("骆驼", ["a"], [["b"]]), "x").splitlines()[0]
    assert "XeLaTeX" not in latex(Table("Tülu, 50 % ▲", ["a"], [["b"]]), "x")


def test_every_table_is_there_in_each_form(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", mixtures=("flan", "code"), bases=("a", "b"), n=20)
    sheets = analysis_sheets(analyse(read_study(study)))
    write_tables(sheets, tmp_path / "out")
    for sheet in sheets:
        for table in sheet.shown:
            rows = require_latex(latex(table, sheet.name))
            assert len(rows) == len(table.rows) + 1
            assert len(markdown(table).strip().splitlines()) == len(table.rows) + 4
    there = {path.name for path in (tmp_path / "out").iterdir()}
    names = ("scores", "differences", "data")
    assert {f"{name}.{form}" for name in names for form in ("md", "tex", "csv")} <= there
    scores = (tmp_path / "out/scores.tex").read_text()
    assert scores.count(r"\begin{table}") == 2
    assert (r"\label{tab:scores}" in scores, r"\label{tab:scores-2}" in scores) == (True, True)


def test_bold_is_the_best_of_its_column(make_study: Make, tmp_path: Path) -> None:
    analysis = analyse(read_study(make_study(tmp_path, mixtures=("flan", "code"), n=200)))
    (table,) = analysis_sheets(analysis)[0].shown
    line = next(one for one in markdown(table).splitlines() if one.startswith("| flan"))
    assert line.split(" | ")[1].startswith("**")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no pdflatex on this machine")
def test_pdflatex_takes_it(tmp_path: Path) -> None:
    table = Table(NASTY, ["data", NASTY], [[NASTY, "1.0"], ["a", NASTY]])
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}"]
    text = "\n".join([*lines, latex(table, "scores"), r"\end{document}"])
    (tmp_path / "t.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
