"""The reference of what can be called from Python, read from the code without running it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "cameleer"
MODULES = {
    "Conversations and data": (
        "chat.conversation", "chat.render", "data.source", "data.convert", "data.encode",
        "data.pack", "data.mix.build",
    ),
    "Models and training": ("model.load", "model.adapters", "train.loop"),
    "Answers and scores": (
        "engines.engine", "engines.registry", "evals.benchmark", "evals.runner",
    ),
    "Results and statistics": (
        "results.records", "results.store", "results.stats", "results.attribution",
        "results.agreement", "results.powered",
    ),
    "Studies, reports, releases": (
        "study.study", "report.page", "release.diff", "release.bundle", "release.verify",
    ),
    "What all of it builds on": ("core.errors", "core.config", "core.artifact"),
}  # fmt: skip
ABOUT = """What the commands are made of, for scripts and plug-ins of your own. Importing
`cameleer.results`, `cameleer.report` or `cameleer.human` loads no torch."""


def api_parts() -> Iterator[str]:
    """The page's lines, but for its title."""
    for title, modules in MODULES.items():
        yield from (f"## {title}", "")
        for name in modules:
            yield from _module(name)


def _module(name: str) -> Iterator[str]:
    file = PACKAGE / f"{name.replace('.', '/')}.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield from (f"### cameleer.{name}", "", *_text(tree))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield from (f"#### {node.name}", "", "```python", *_code(node), "```", "", *_text(node))


def _text(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    if text:
        yield from ("```text", text, "```", "")


def _code(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    """What a caller has to know: a function's signature, a class's fields and public methods."""
    if isinstance(node, ast.FunctionDef):
        yield _signature(node)
        return
    bases = ", ".join(map(ast.unparse, node.bases))
    yield f"class {node.name}({bases})" if bases else f"class {node.name}"
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and not ast.unparse(part.target).startswith("_"):
            yield f"    {ast.unparse(part)}"
        elif isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
            yield from (f"    @{ast.unparse(one)}" for one in part.decorator_list)
            yield f"    {_signature(part)}"


def _signature(node: ast.FunctionDef) -> str:
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returned}"
