"""Members out of archives that are honest, broken or malicious."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.core.unpack import unpack


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_the_members_that_fit_by_their_last_name(tmp_path: Path, pack: object) -> None:
    members = {"top/": b"", "top/tasks/a.json": b"1", "top/tasks/b.json": b"22"}
    members |= {"top/tasks/README.md": b"", "top/other/c.json": b"3", "x/top/tasks/._a.json": b"4"}
    members = {name: body for name, body in members.items() if pack is zipped or name != "top/"}
    archive = pack(tmp_path / "archive", members)  # type: ignore[operator]
    found = unpack(archive, "*/tasks/*.json", tmp_path / "to")
    assert [(path.name, path.read_bytes()) for path in found] == [
        ("a.json", b"1"),
        ("b.json", b"22"),
    ]
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../a.json", "x/../../a.json", "/etc/a.json", "..\\a.json"])
def test_what_leads_out_is_refused(tmp_path: Path, pack: object, name: str) -> None:
    archive = pack(tmp_path / "archive", {name: b"1", "b.json": b"2"})  # type: ignore[operator]
    with pytest.raises(UserError, match="leads out of the archive"):
        unpack(archive, "*.json", tmp_path / "deep" / "to")
    assert not list(tmp_path.rglob("*.json"))


def test_links_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("a.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            info = tarfile.TarInfo("a.json")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        with pytest.raises(UserError, match=r"'a\.json' is a link or device"):
            unpack(tmp_path / "a.tar", "*.json", tmp_path / "to")
    with pytest.raises(UserError, match=r"'a\.json' is a link or device"):
        unpack(tmp_path / "a.zip", "*.json", tmp_path / "to")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_bombs_are_refused(tmp_path: Path, pack: object) -> None:
    archive = pack(tmp_path / "archive", {"a.json": bytes(20 << 20)})  # type: ignore[operator]
    assert archive.stat().st_size < 50_000
    with pytest.raises(UserError, match="more than a hundred times its size"):
        unpack(archive, "*.json", tmp_path / "to")
    assert not list(tmp_path.rglob("*.json"))


def test_a_length_that_is_a_lie_unpacks_to_no_more(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.json": bytes(20 << 20)})
    true, lie = (20 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(true, lie))
    with pytest.raises(UserError, match="a broken one"):
        unpack(archive, "*.json", tmp_path / "to")
    assert not list(tmp_path.rglob("*.json"))


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a/x.json": b"1", "b/x.json": b"2"})
    with pytest.raises(UserError, match=r"two members are named 'x\.json'"):
        unpack(archive, "*.json", tmp_path / "to")


def test_no_member_fits(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a/x.json": b"1"})
    with pytest.raises(UserError, match=r"a\.zip: holds no member '\*\.tsv'"):
        unpack(archive, "*.tsv", tmp_path / "to")


def test_broken(tmp_path: Path) -> None:
    page = tmp_path / "page.zip"
    page.write_bytes(b"<html>not an archive</html>")
    whole = tarred(tmp_path / "a.tgz", {"a.json": bytes(range(256)) * 40}).read_bytes()
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(whole[: len(whole) // 2])
    spoilt = zipped(tmp_path / "b.zip", {"a.json": b"camels " * 100})
    content = bytearray(spoilt.read_bytes())
    content[40:44] = b"\0\0\0\0"
    spoilt.write_bytes(content)
    for archive in (page, cut, spoilt):
        with pytest.raises(UserError, match=f"{archive.name}: is no zip or tar archive, or a brok"):
            unpack(archive, "*.json", tmp_path / "to")
    assert not list(tmp_path.rglob("*.json"))


def test_encrypted(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.json": b"1"})
    content = bytearray(archive.read_bytes())
    for at in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[at] |= 1
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read: .*password"):
        unpack(archive, "*.json", tmp_path / "to")
