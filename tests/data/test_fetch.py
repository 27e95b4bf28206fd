"""Sources fetched from a server on the loopback address to where `convert` finds them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cameleer.cli import main
from cameleer.core.download import Patience, client
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.fetch import FETCHED, HERE, UNCHECKED, Fetched, fetch, plan
from cameleer.data.source import Card, Download, all_sources
from tests.loopback import Loopback, loopback, serve

ROWS = [{"instruction": "Name a camel.", "input": "", "output": f"Camel {n}."} for n in range(99)]
BODY = json.dumps(ROWS).encode()
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(tries=2, wait=0.001, timeout=5.0)
CARD = Card(
    title="Camels",
    origin="https://camels.example",
    licence="CC BY 4.0",
    citation="A. Camel",
    native=("camels.json",),
    instances=99,
    rounds=1.0,
    prompt_tokens=1.0,
    completion_tokens=1.0,
)


def archive(**members: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as packed:
        for name, content in members.items():
            packed.writestr(name.replace("__", "/") + ".json", content)
    return memory.getvalue()


class Desert:
    """A server, a data folder, and a source `camels` whose downloads a test gives."""

    def __init__(self, server: Loopback, root: Path, module: ModuleType) -> None:
        self.server, self.root, self.module = server, root, module
        self.folder = root / "instruct" / "camels"

    def offer(self, *lines: Download) -> None:
        downloads = tuple(replace(one, url=self.server.address + one.url) for one in lines)
        self.module.CARD = replace(CARD, downloads=downloads)  # type: ignore[attr-defined]

    def fetch(self) -> list[Fetched]:
        with client(QUICK) as http:
            return list(fetch(plan(["camels"], self.root, http), http, QUICK))

    def record(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "fetched.json").read_text())[
            "downloads"
        ]
        return found

    def files(self) -> list[str]:
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder)) for path in paths if path.name != ".lock")


@pytest.fixture
def desert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desert]:
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    module = ModuleType("camels")
    found = all_sources() | {"camels": module}
    monkeypatch.setattr("cameleer.core.plugins.plugins", lambda *_: found)
    with loopback() as server:
        server.files["/camels.json"] = BODY
        yield Desert(server, tmp_path / "data", module)


def test_fetched_and_recorded(desert: Desert) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    (done,) = desert.fetch()
    path = desert.folder / "camels.json"
    assert path.read_bytes() == BODY
    assert done.state == FETCHED
    assert [(p, f.bytes, f.sha256) for p, f in done.files.items()] == [(path, len(BODY), SHA256)]
    assert desert.files() == ["camels.json", "fetched.json"]
    (record,) = desert.record()
    assert record["url"] == record["final_url"] == f"{desert.server.address}/camels.json"
    assert (record["bytes"], record["sha256"], record["etag"]) == (len(BODY), SHA256, '"one"')
    assert record["licence"] == "CC BY 4.0"
    assert record["date"].endswith("Z")


def test_there_already_asks_nobody(desert: Desert) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    desert.fetch()
    asked = len(desert.server.asked)
    (again,) = desert.fetch()
    assert again.state == HERE
    os.utime(desert.folder / "camels.json")  # touched, or copied: then it is hashed
    (again,) = desert.fetch()
    assert again.state == HERE
    assert [file.sha256 for file in again.files.values()] == [SHA256]
    assert len(desert.server.asked) == asked


def test_another_file_than_the_first_time_is_refused(desert: Desert) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    desert.fetch()
    (desert.folder / "camels.json").unlink()
    desert.server.files["/camels.json"] = BODY.replace(b"Camel 7", b"Llama 7")
    with pytest.raises(UserError, match=r"but fetched\.json of .*to take what is there now, rem"):
        desert.fetch()
    assert desert.files() == ["fetched.json"]
    desert.server.files["/camels.json"] = BODY
    assert desert.fetch()[0].state == FETCHED


def test_what_was_changed_by_hand_is_not_replaced(desert: Desert) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    desert.fetch()
    path = desert.folder / "camels.json"
    path.write_bytes(BODY + b"\n")
    with pytest.raises(UserError, match=r"camels\.json: is in the way"):
        desert.fetch()
    assert path.read_bytes() == BODY + b"\n"


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_what_was_put_there_by_hand_is_not_replaced(desert: Desert, sha256: str | None) -> None:
    desert.offer(Download("/camels.json", "camels.json", sha256=sha256))
    desert.folder.mkdir(parents=True)
    (desert.folder / "camels.json").write_bytes(b"[]")
    with pytest.raises(UserError, match=r"camels\.json: is in the way"):
        desert.fetch()
    assert (desert.folder / "camels.json").read_bytes() == b"[]"
    (desert.folder / "camels.json").write_bytes(BODY)
    assert desert.fetch()[0].state == (HERE if sha256 else UNCHECKED)
    assert desert.server.sent == 0


def test_a_folder_in_the_way(desert: Desert) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    (desert.folder / "camels.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"camels\.json: is in the way"):
        desert.fetch()


def test_a_new_card_replaces_what_came_for_the_old_one(desert: Desert) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    desert.fetch()
    newer = BODY.replace(b"Camel 7", b"Llama 7")
    desert.server.files["/camels.json"] = newer
    sha256 = hashlib.sha256(newer).hexdigest()
    desert.offer(Download("/camels.json", "camels.json", sha256=sha256))
    assert desert.fetch()[0].state == FETCHED
    assert (desert.folder / "camels.json").read_bytes() == newer
    assert [record["sha256"] for record in desert.record()] == [sha256]


def test_what_the_hub_says_vouches_for_a_file(
    desert: Desert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", desert.server.address)
    linked = {"X-Linked-Size": str(len(BODY)), "X-Linked-Etag": f'"{SHA256}"'}
    path = "/datasets/desert/camels/resolve/main/camels.json"
    desert.server.redirects[path] = "/camels.json", linked
    line = Download("hf://datasets/desert/camels/camels.json", "camels.json")
    desert.module.CARD = replace(CARD, downloads=(line,))  # type: ignore[attr-defined]
    desert.folder.mkdir(parents=True)
    (desert.folder / "camels.json").write_bytes(BODY)
    assert desert.fetch()[0].state == HERE
    (desert.folder / "camels.json").unlink()
    assert desert.fetch()[0].state == FETCHED


def test_an_archive_comes_once_for_all_that_is_in_it(desert: Desert) -> None:
    desert.server.files["/all.zip"] = archive(top__tasks__a=b"1", top__tasks__b=b"2", top__c=b"3")
    desert.offer(
        Download("/all.zip", "tasks", member="*/tasks/*.json"),
        Download("/all.zip", ".", member="top/c.json"),
    )
    done = desert.fetch()
    names = [[str(path.relative_to(desert.folder)) for path in one.files] for one in done]
    assert names == [["tasks/a.json", "tasks/b.json"], ["c.json"]]
    assert desert.files() == ["c.json", "fetched.json", "tasks/a.json", "tasks/b.json"]
    assert len(desert.server.gets()) == 1
    assert [one.state for one in desert.fetch()] == [HERE, HERE]
    assert len(desert.server.gets()) == 1
    (desert.folder / "tasks" / "b.json").unlink()
    assert [one.state for one in desert.fetch()] == [HERE, FETCHED]
    assert desert.files() == ["c.json", "fetched.json", "tasks/a.json", "tasks/b.json"]


def test_an_archive_that_came_is_unpacked_by_the_next_call(
    desert: Desert, monkeypatch: pytest.MonkeyPatch
) -> None:
    desert.server.files["/all.zip"] = archive(a=b"1", b=b"2")
    desert.offer(Download("/all.zip", "tasks", member="*.json"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cameleer.data.fetch.unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            desert.fetch()
    assert desert.files() == [".all.zip", "fetched.json"]
    assert desert.fetch()[0].state == FETCHED
    assert desert.files() == ["fetched.json", "tasks/a.json", "tasks/b.json"]
    assert len(desert.server.gets()) == 1


def test_killed_before_the_file_had_its_name(
    desert: Desert, monkeypatch: pytest.MonkeyPatch
) -> None:
    desert.offer(Download("/camels.json", "camels.json"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cameleer.core.download._Part.finish", killed)
        with pytest.raises(KeyboardInterrupt):
            desert.fetch()
    assert desert.files() == [".camels.json.part", ".camels.json.part.json", "fetched.json"]
    assert desert.fetch()[0].state == FETCHED
    assert desert.files() == ["camels.json", "fetched.json"]
    assert len(desert.server.gets()) == 1


def test_members_replace_nothing_that_is_not_ours(desert: Desert) -> None:
    desert.server.files["/all.zip"] = archive(a=b"1", b=b"2")
    desert.offer(Download("/all.zip", "tasks", member="*.json"))
    (desert.folder / "tasks").mkdir(parents=True)
    (desert.folder / "tasks" / "b.json").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"tasks/b\.json: is in the way"):
        desert.fetch()
    assert not (desert.folder / "tasks" / "a.json").exists()
    (desert.folder / "tasks" / "b.json").write_bytes(b"2")  # the very same
    assert desert.fetch()[0].state == FETCHED


def test_an_archive_that_leads_out_is_refused(desert: Desert) -> None:
    desert.server.files["/all.zip"] = archive(a=b"1", **{"..__b": b"2"})
    desert.offer(Download("/all.zip", "tasks", member="*.json"))
    with pytest.raises(UserError, match=r"/all\.zip member '\.\./b\.json' leads out of the arch"):
        desert.fetch()
    assert not list(desert.root.rglob("b.json"))
    assert desert.files() == ["fetched.json"]
    assert desert.record() == []
    desert.server.files["/all.zip"] = archive(a=b"1")  # mended at its origin
    assert desert.fetch()[0].state == FETCHED


def test_a_new_card_replaces_what_came_out_of_the_old_archive(desert: Desert) -> None:
    desert.server.files["/all.zip"] = archive(a=b"1", b=b"2")
    desert.offer(Download("/all.zip", "tasks", member="*.json"))
    desert.fetch()
    newer = archive(a=b"1", b=b"3")
    desert.server.files["/all.zip"] = newer
    sha256 = hashlib.sha256(newer).hexdigest()
    desert.offer(Download("/all.zip", "tasks", member="*.json", sha256=sha256))
    assert desert.fetch()[0].state == FETCHED
    assert (desert.folder / "tasks" / "b.json").read_bytes() == b"3"
    assert desert.fetch()[0].state == HERE


def test_one_that_fails_does_not_keep_the_others_from_coming(
    desert: Desert, capsys: pytest.CaptureFixture[str]
) -> None:
    desert.offer(Download("/gone.json", "gone.json"), Download("/camels.json", "camels.json"))
    with pytest.raises(UserError, match="1 of 2 downloads failed, as told above"):
        desert.fetch()
    assert desert.files() == ["camels.json", "fetched.json"]
    assert "/gone.json answers 404 Not Found" in capsys.readouterr().err


def test_room_is_looked_for_first(desert: Desert, monkeypatch: pytest.MonkeyPatch) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    usage = shutil.disk_usage("/")._replace(free=len(BODY) - 1)
    monkeypatch.setattr("cameleer.core.download.shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"are needed here, .* are free"):
        desert.fetch()
    assert desert.server.gets() == []
    assert not desert.folder.exists()


def test_a_broken_record_is_told(desert: Desert) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    desert.folder.mkdir(parents=True)
    (desert.folder / "fetched.json").write_text('{"downloads": [1]}')
    with pytest.raises(UserError, match=r"fetched\.json: is not as fetch writes it"):
        desert.fetch()


def test_two_at_once(desert: Desert) -> None:
    import fcntl

    desert.offer(Download("/camels.json", "camels.json"))
    desert.folder.mkdir(parents=True)
    with (desert.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is fetching this"):
            desert.fetch()
    desert.fetch()


def test_a_source_without_addresses(desert: Desert) -> None:
    desert.offer()
    with pytest.raises(UserError, match=r"get camels\.json from https://camels\.example and put"):
        desert.fetch()
    with client(QUICK) as http, pytest.raises(UserError, match="'jsonl' reads your own files"):
        plan(["jsonl"], desert.root, http)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["data", "fetch", *arguments])
    return int(ended.value.code or 0)


def test_the_command_line(desert: Desert, capsys: pytest.CaptureFixture[str]) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    root = str(desert.root)
    assert run("camels", "-o", root, "--dry-run") == 0
    said = capsys.readouterr().out
    for word in ("camels.json", "6.9 kB", "CC BY 4.0", "https://camels.example", "to fetch"):
        assert word in said
    assert not desert.root.exists()

    assert run("camels", "-o", root, "--json") == 0
    said, noted = capsys.readouterr()
    result = json.loads(said)
    path = str(desert.folder / "camels.json")
    facts = {"source": "camels", "path": path, "bytes": len(BODY), "sha256": SHA256}
    assert result == {"folder": root, "files": [{**facts, "state": "fetched"}]}
    assert "CC BY 4.0" in noted

    assert run("camels", "-o", root, "--dry-run", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["downloads"]
    assert (row["state"], row["bytes"]) == (HERE, len(BODY))
    assert run("camels", "-o", root) == 0
    assert SHA256 in capsys.readouterr().out


def test_many_files_are_one_row(desert: Desert, capsys: pytest.CaptureFixture[str]) -> None:
    desert.server.files["/all.zip"] = archive(a=b"1", b=b"22")
    desert.offer(Download("/all.zip", "tasks", member="*.json"))
    assert run("camels", "-o", str(desert.root)) == 0
    said = capsys.readouterr()
    assert f"{desert.folder}/tasks (2 files)" in said.out
    assert " tasks/*.json " in said.err
    assert run("camels", "-o", str(desert.root), "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [Path(file["path"]).name for file in files] == ["a.json", "b.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["camel"], "did you mean 'camels'"),
        (["camels", "-o", "{file}"], "its folder cannot be made"),
        ([], "Missing argument"),
    ],
)
def test_mistakes(
    desert: Desert,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    (tmp_path / "file").write_text("")
    assert run(*(one.format(file=tmp_path / "file") for one in arguments)) == 2
    assert said in capsys.readouterr().err


def test_a_broken_download_goes_on_from_the_command_line(
    desert: Desert, capsys: pytest.CaptureFixture[str]
) -> None:
    desert.offer(Download("/camels.json", "camels.json"))
    desert.server.acts.append(serve(cut=2000))
    assert run("camels", "-o", str(desert.root)) == 0
    assert desert.server.sent == len(BODY)
    assert "2.0 kB are here; again in" in capsys.readouterr().err


@pytest.mark.real_data
def test_real_records_are_read_from_where_they_were_fetched_to(
    desert: Desert, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", desert.server.address)
    path = "/datasets/hamishivi/tulu_mix_store/resolve/main"
    for name in ("cot_zsopt.jsonl", "cot_fsopt.jsonl"):
        desert.server.files[f"{path}/{name}"] = (real_data / "instruct/cot" / name).read_bytes()
    desert.server.acts.append(serve(cut=5000))
    with client(QUICK) as http:
        done = list(fetch(plan(["cot"], desert.root, http), http, QUICK))
    assert [one.state for one in done] == [FETCHED, FETCHED]
    conversations, counts = convert("cot", desert.root)
    assert len(list(conversations)) == counts["kept"] == 34


@pytest.mark.parametrize("name", all_sources())
def test_the_addresses_of_every_source(name: str) -> None:
    card: Card = all_sources()[name].CARD
    for line in card.downloads:
        assert line.url.startswith(("https://", "hf://datasets/"))
        assert not Path(line.to).is_absolute()
        assert ".." not in Path(line.to).parts
        assert line.sha256 is None or len(line.sha256) == 64
    places = [(line.to, line.member) for line in card.downloads]
    assert len(set(places)) == len(places)
