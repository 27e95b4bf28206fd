"""Finding plug-ins: every module in a folder by its presence, and other packages' entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from functools import cache
from types import ModuleType

from cameleer.core.errors import UserError, unknown


@cache
def plugins(package: str, entry_points: str) -> dict[str, ModuleType]:
    """Plug-in modules by name: the modules of `package`, then those of the entry-point group.

    A plug-in is one file; its docstring is its card. A name that two of them claim is an error.
    """
    home = importlib.import_module(package)
    found = {
        info.name: importlib.import_module(f"{package}.{info.name}")
        for info in pkgutil.iter_modules(home.__path__)
        if not info.name.startswith("_")
    }
    for entry in importlib.metadata.entry_points(group=entry_points):
        if entry.name in found:
            raise UserError(f"two plug-ins of {entry_points} are named '{entry.name}'")
        found[entry.name] = entry.load()
    return found


def plugin(package: str, entry_points: str, name: str, see: str | None = None) -> ModuleType:
    """One plug-in by name; an unknown name is the user's error, see `unknown`."""
    found = plugins(package, entry_points)
    if name not in found:
        raise unknown(entry_points.rpartition(".")[2].removesuffix("s"), name, found, see)
    return found[name]
