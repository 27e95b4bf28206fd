"""Stage folders: finished once, taken up after a kill, never mistaken for another's."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import multiprocessing
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.artifact import (
    Stage,
    disk_full_named,
    fingerprint,
    fingerprint_of,
    require_unchanged,
)
from cameleer.core.errors import UserError
from cameleer.core.files import sha256_tree


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cameleer.core.artifact.PATIENCE", 0.0)


def stage(folder: Path, **changes: Any) -> Stage:
    facts: dict[str, Any] = {"kind": "train", "config": {"rate": 1}, "inputs": {"data": "ab"}}
    return Stage(folder=folder, **{**facts, **changes})


def write_a_file(partial: Path) -> dict[str, Any]:
    (partial / "result.txt").write_text("42")
    return {"lines": 1}


def refuse(partial: Path) -> dict[str, Any]:
    raise AssertionError("nothing was to be done")


def test_done_once_then_skipped(tmp_path: Path) -> None:
    one = stage(tmp_path / "out")
    assert not one.done()
    assert one.run(write_a_file)
    assert one.done()
    assert not one.run(refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in one.folder.iterdir()) == ["manifest.json", "result.txt"]
    manifest = json.loads((one.folder / "manifest.json").read_text())
    assert manifest["outcome"] == {"lines": 1}
    assert manifest["config"] == {"rate": 1}
    assert manifest["inputs"] == {"data": "ab"}
    assert manifest["environment"]["python"].startswith("3.")
    assert fingerprint_of(one.folder) == manifest["fingerprint"] == one.fingerprint


def test_an_empty_folder_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert stage(tmp_path / "out").run(write_a_file)


@pytest.mark.parametrize(
    "change", [{"kind": "eval"}, {"config": {"rate": 2}}, {"inputs": {"data": "cd"}}]
)
def test_another_run_is_not_overwritten(tmp_path: Path, change: dict[str, Any]) -> None:
    stage(tmp_path / "out").run(write_a_file)
    other = stage(tmp_path / "out", **change)
    assert not other.done()
    with pytest.raises(UserError, match="holds another run"):
        other.run(refuse)
    assert (tmp_path / "out" / "result.txt").read_text() == "42"


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("five years")
    with pytest.raises(UserError, match="holds other files"):
        stage(tmp_path / "out").run(refuse)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, a folder is needed"):
        stage(tmp_path / "file").run(refuse)


def test_a_manifest_that_is_not_ours_is_no_finished_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('["theirs"]')
    assert not stage(tmp_path).done()
    assert fingerprint_of(tmp_path) == sha256_tree(tmp_path)


def test_what_a_killed_call_left_is_taken_up(tmp_path: Path) -> None:
    one = stage(tmp_path / "out")

    def killed(partial: Path) -> dict[str, Any]:
        (partial / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run(killed)
    assert not one.folder.exists()

    def go_on(partial: Path) -> dict[str, Any]:
        text = (partial / "half.txt").read_text()
        (partial / "half.txt").write_text(text + " and half")
        return {}

    assert one.run(go_on)
    assert (one.folder / "half.txt").read_text() == "half and half"


def test_what_another_stage_left_is_cleared_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(partial: Path) -> dict[str, Any]:
        (partial / "half.txt").write_text("half")
        (partial / "state").mkdir()
        (partial / "state" / "x").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path / "out").run(killed)
    other = stage(tmp_path / "out", config={"rate": 2})

    def work(partial: Path) -> dict[str, Any]:
        assert not (partial / "half.txt").exists()
        assert not (partial / "state").exists()
        return write_a_file(partial)

    assert other.run(work)
    assert "unfinished work with other settings is given up" in capsys.readouterr().err
    assert sorted(p.name for p in other.folder.iterdir()) == ["manifest.json", "result.txt"]


def test_scratch_goes_when_the_work_is_finished(tmp_path: Path) -> None:
    def work(partial: Path) -> dict[str, Any]:
        (partial / "scratch" / "state").mkdir(parents=True)
        (partial / "scratch" / "state" / "x").write_text("")
        return {}

    stage(tmp_path / "out").run(work)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("step", ["rmtree", "rename", "unlink"])
def test_killed_between_the_manifest_and_the_end(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is handed over by the next call, not done again."""
    one = stage(tmp_path / "out")
    calls = []

    def work(partial: Path) -> dict[str, Any]:
        calls.append(partial)
        (partial / "scratch").mkdir()
        return write_a_file(partial)

    def killed(path: Path, *_: object, **__: object) -> None:
        if step != "unlink" or path.name == "begun.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        target = "shutil.rmtree" if step == "rmtree" else f"pathlib.Path.{step}"
        patch.setattr(target, killed)
        with pytest.raises(KeyboardInterrupt):
            one.run(work)
    assert not one.done()
    assert one.run(refuse)
    assert sorted(p.name for p in one.folder.iterdir()) == ["manifest.json", "result.txt"]
    assert len(calls) == 1


def test_a_second_worker_is_turned_away(tmp_path: Path) -> None:
    one = stage(tmp_path / "out")

    def work(partial: Path) -> dict[str, Any]:
        with pytest.raises(UserError, match="another process is at work on this"):
            stage(tmp_path / "out").run(refuse)
        with pytest.raises(UserError, match="another process is at work on this"):
            stage(tmp_path / "out", config={"rate": 2}).run(refuse)
        return write_a_file(partial)

    assert one.run(work)


@pytest.mark.parametrize("change", [{}, {"config": {"rate": 2}}])
def test_who_waited_for_the_lock_finds_the_work_done(
    tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.core.artifact.PATIENCE", 10.0)
    second = stage(tmp_path / "out", **change)
    with ThreadPoolExecutor(1) as pool:

        def work(partial: Path) -> dict[str, Any]:
            waiting.append(pool.submit(second.run, refuse))
            time.sleep(0.2)
            assert not waiting[0].done()
            return write_a_file(partial)

        waiting: list[Future[bool]] = []
        assert stage(tmp_path / "out").run(work)
        if change:
            with pytest.raises(UserError, match="holds another run"):
                waiting[0].result(10)
        else:
            assert waiting[0].result(10) is False
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def hold(lock: Path) -> None:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        (lock.parent / "held").write_text("")
        time.sleep(60)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    one = stage(tmp_path / "out")
    one.partial.mkdir()
    process = multiprocessing.get_context("fork").Process(
        target=hold, args=(one.partial / ".lock",)
    )
    process.start()
    try:
        deadline = time.monotonic() + 10
        while not (one.partial / "held").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(UserError, match="at work on this"):
            one.run(refuse)
    finally:
        process.kill()
        process.join()
    assert one.run(write_a_file)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
    ],
)
def test_a_full_disk_is_said_and_work_goes_on_later(tmp_path: Path, number: int, says: str) -> None:
    one = stage(tmp_path / "out")

    def full(partial: Path) -> dict[str, Any]:
        (partial / "half.txt").write_text("half")
        raise OSError(number, "no", str(partial / "x.txt"))

    with pytest.raises(UserError, match=says) as caught:
        one.run(full)
    assert str(caught.value.file).endswith("x.txt")
    assert not one.folder.exists()
    assert one.run(lambda partial: {"half": (partial / "half.txt").read_text()})


def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    with pytest.raises(UserError, match="cannot be written"):
        stage(tmp_path / "out").run(refuse)


def test_a_file_that_is_read_is_not_said_to_be_written(tmp_path: Path) -> None:
    def denied(_: Path) -> dict[str, Any]:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "in.txt"))

    with pytest.raises(UserError, match=r"in\.txt: cannot be read or written \(check the rights"):
        stage(tmp_path / "out").run(denied)


@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG])
def test_a_path_that_cannot_be_is_said(tmp_path: Path, number: int) -> None:
    said = r"in\.txt: cannot be read or written: no way"
    with pytest.raises(UserError, match=said), disk_full_named(tmp_path):
        raise OSError(number, "No way", str(tmp_path / "in.txt"))


@pytest.mark.parametrize("name", ["", ".lock", "more/.x.html.1.tmp"])
def test_hidden_names_are_not_told(tmp_path: Path, name: str) -> None:
    one = stage(tmp_path / "out")
    told = pytest.raises(UserError, match="cannot be written")
    with told as caught, disk_full_named(one.folder, one.partial):
        raise PermissionError(errno.EACCES, "Permission denied", str(one.partial / name))
    assert caught.value.file == one.folder


def test_a_folder_below_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: ") as caught:
        stage(tmp_path / "file" / "out").run(refuse)
    assert caught.value.file == tmp_path / "file" / "out"


def test_other_failures_stay_what_they_are(tmp_path: Path) -> None:
    def lost(partial: Path) -> dict[str, Any]:
        raise FileNotFoundError(errno.ENOENT, "gone")

    with pytest.raises(FileNotFoundError):
        stage(tmp_path / "out").run(lost)


def test_fingerprints(tmp_path: Path) -> None:
    base = fingerprint("train", {"a": 1, "b": 2}, {"x": "1", "y": "2"})
    assert base == fingerprint("train", {"b": 2, "a": 1}, {"y": "2", "x": "1"})
    others = [
        fingerprint("eval", {"a": 1, "b": 2}, {"x": "1", "y": "2"}),
        fingerprint("train", {"a": 1, "b": 3}, {"x": "1", "y": "2"}),
        fingerprint("train", {"a": 1, "b": 2}, {"x": "1", "y": "3"}),
        fingerprint("train", {"a": 1, "b": 2}, {"x": "1", "z": "2"}),
    ]
    assert len({base, *others}) == 5
    (tmp_path / "a.txt").write_text("a")
    assert fingerprint_of(tmp_path / "a.txt") == sha256_tree(tmp_path / "a.txt")


def write_a_model(partial: Path) -> dict[str, Any]:
    (partial / "model.safetensors").write_bytes(b"0123")
    (partial / "more").mkdir()
    (partial / "more" / "samples.jsonl").write_text("{}\n")
    (partial / "scratch").mkdir()
    (partial / "scratch" / "state").write_text("")
    return {"counts": {10: 1, 9: 2}, "sizes": (1, 2)}


def test_a_manifest_holds_size_and_hash_of_what_stays(tmp_path: Path) -> None:
    one = stage(tmp_path / "out")
    one.run(write_a_model)
    files = json.loads((one.folder / "manifest.json").read_text())["files"]
    assert files["model.safetensors"] == {
        "bytes": 4,
        "sha256": hashlib.sha256(b"0123").hexdigest(),
    }
    assert set(files) == {"model.safetensors", "more/samples.jsonl"}
    (one.folder / "README.md").write_text("added later")
    require_unchanged(one.folder, weights=True)
    assert not one.run(refuse)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("more/samples.jsonl", "[]\n", "samples.jsonl: was changed after the work was finished"),
        ("model.safetensors", "012", "model.safetensors: was changed after"),  # another size
        ("more/samples.jsonl", None, "samples.jsonl: is missing, and was there"),
        ("manifest.json", "another outcome", "manifest.json: was changed after the work"),
    ],
)
def test_an_edited_result_is_not_taken_for_a_finished_one(
    tmp_path: Path, name: str, text: str | None, told: str
) -> None:
    one = stage(tmp_path / "out")
    one.run(write_a_model)
    file = one.folder / name
    if text is None:
        file.unlink()
    elif name == "manifest.json":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"outcome": {"score": 1.0}}))
    else:
        file.write_text(text)
    for use in (lambda: one.run(refuse), lambda: fingerprint_of(one.folder)):
        with pytest.raises(UserError, match=told):
            use()


def test_weights_of_the_same_size_are_read_where_it_is_asked(tmp_path: Path) -> None:
    one = stage(tmp_path / "out")
    one.run(write_a_model)
    (one.folder / "model.safetensors").write_bytes(b"0124")
    require_unchanged(one.folder)
    with pytest.raises(UserError, match=r"model.safetensors: was changed .*remove .*out and give"):
        require_unchanged(one.folder, weights=True)


def test_a_manifest_without_a_seal_says_nothing_of_files(tmp_path: Path) -> None:
    one = stage(tmp_path / "out")
    one.run(write_a_file)
    manifest = one.folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({k: v for k, v in facts.items() if k not in ("files", "seal")}))
    (one.folder / "result.txt").write_text("43")
    assert not one.run(refuse)
