"""A file out of a wheel: taken once, checked, and refused with a clear word."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.core.wheel import file_from_wheel

CONTENT = b"two humps\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder with one wheel, `caravan 1.0`."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "caravan-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("caravan/camel.bin", CONTENT)
        facts = "caravan-1.0.dist-info"
        wheel.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: caravan\nVersion: 1.0\n")
        wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{facts}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_taken_once_then_believed(index: Path, tmp_path: Path) -> None:
    to = tmp_path / "deep" / "camel.bin"
    assert file_from_wheel("caravan==1.0", "caravan/camel.bin", SHA256, to) == to
    assert to.read_bytes() == CONTENT
    (index / "caravan-1.0-py3-none-any.whl").unlink()
    assert file_from_wheel("caravan==1.0", "caravan/camel.bin", SHA256, to) == to
    assert sorted(path.name for path in to.parent.iterdir()) == [".camel.bin.sha256", "camel.bin"]


def test_a_spoilt_file_is_taken_anew(index: Path, tmp_path: Path) -> None:
    to = file_from_wheel("caravan==1.0", "caravan/camel.bin", SHA256, tmp_path / "camel.bin")
    to.write_bytes(b"one hump")
    file_from_wheel("caravan==1.0", "caravan/camel.bin", SHA256, to)
    assert to.read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_kept_without_the_index(tmp_path: Path) -> None:
    to = tmp_path / "camel.bin"
    to.write_bytes(CONTENT)
    assert file_from_wheel("no-such==0", "caravan/camel.bin", SHA256, to) == to


@pytest.mark.parametrize(
    ("requirement", "member", "sha256", "said"),
    [
        ("caravan==2.0", "caravan/camel.bin", SHA256, "caravan==2.0 could not be had"),
        ("caravan==1.0", "caravan/llama.bin", SHA256, "holds no file 'caravan/llama.bin'"),
        ("caravan==1.0", "caravan/camel.bin", "0" * 64, "is not the file expected"),
    ],
)
def test_refused(
    index: Path, tmp_path: Path, requirement: str, member: str, sha256: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        file_from_wheel(requirement, member, sha256, tmp_path / "to" / "camel.bin")
    assert not list((tmp_path / "to").iterdir())
