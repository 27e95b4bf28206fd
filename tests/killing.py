"""SIGKILL where the moment must be exact: nothing that follows is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Killed(BaseException):
    """No code of ours sees it coming, or handles it."""


@contextmanager
def killed_at(owner: Any, name: str, when: Callable[..., bool]) -> Iterator[None]:
    """The block ends as if killed, as `owner.name` is called with arguments that `when` names."""
    real = getattr(owner, name)

    def instead(*given: Any, **more: Any) -> Any:
        if when(*given, **more):
            raise Killed
        return real(*given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, instead)
        with pytest.raises(Killed):
            yield
