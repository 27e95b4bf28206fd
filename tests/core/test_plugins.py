"""Plug-ins: found by their presence in a folder or by entry points; names are claimed once."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from cameleer.core.errors import UserError
from cameleer.core.plugins import plugin, plugins

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a package `oasis` with some modules, and entry points of other packages."""

    def make(*modules: str, entries: dict[str, str] | None = None) -> None:
        (tmp_path / "oasis").mkdir()
        for name in ("__init__", *modules):
            (tmp_path / "oasis" / f"{name}.py").write_text(f'"""The card of {name}."""\n')
        (tmp_path / "elsewhere.py").write_text('"""A card from elsewhere."""\n')
        monkeypatch.syspath_prepend(tmp_path)
        group = "cameleer.wells"
        found = [
            importlib.metadata.EntryPoint(name, value, group)
            for name, value in (entries or {}).items()
        ]
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: [e for e in found if e.group == group]
        )
        for name in [name for name in sys.modules if name.split(".")[0] in ("oasis", "elsewhere")]:
            monkeypatch.delitem(sys.modules, name)
        plugins.cache_clear()

    return make


def named(name: str) -> ModuleType:
    return plugin("oasis", "cameleer.wells", name, "cameleer wells ls")


def test_modules_and_entry_points(install: Install) -> None:
    install("deep", "shallow", "_hidden", entries={"far": "elsewhere"})
    assert sorted(plugins("oasis", "cameleer.wells")) == ["deep", "far", "shallow"]
    assert named("deep").__doc__ == "The card of deep."
    assert named("far").__doc__ == "A card from elsewhere."


def test_an_unknown_one(install: Install) -> None:
    install("deep")
    with pytest.raises(UserError, match=r"unknown well 'dep' \(did you mean 'deep'\?.*wells ls"):
        named("dep")
    with pytest.raises(UserError, match="unknown well '_hidden'"):
        named("_hidden")


def test_a_name_that_two_claim(install: Install) -> None:
    install("deep", entries={"deep": "elsewhere"})
    with pytest.raises(UserError, match=r"two plug-ins of cameleer\.wells are named 'deep'"):
        named("deep")
