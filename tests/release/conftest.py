"""What tests of releases share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cameleer.cli import main
from tests.release.small_study import build


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and one model tuned from it, on two benchmarks; every number follows from samples."""
    return build(tmp_path_factory.mktemp("small") / "camels")


@pytest.fixture
def run_release(
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Give a verb of `cameleer release` on the command line: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["release", *arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
