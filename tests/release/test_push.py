"""Pushing: a dry run sends nothing and finds what must not leave; told to send, all arrives."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import bundling
from cameleer.core.artifact import Stage
from cameleer.core.errors import UserError
from cameleer.core.files import sha256_file, write_json, write_jsonl
from cameleer.data.mix.provenance import asks
from cameleer.evals.scoring import estimates
from cameleer.release.bundle import make_bundle
from cameleer.release.leaks import leaks
from cameleer.release.push import Hub, cargo, look, require_name, send
from tests.release.fake_hub import fake_hub

Run = Callable[..., tuple[int, str, str]]
CARD = """---
license: {}
licences_of_base_and_data:
- [org/base, base, Apache-2.0]
- [dolly, data, {}]
---
# A camel
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as a training leaves it, with a card."""

    def work(partial: Path) -> dict[str, Any]:
        (partial / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        write_json(partial / "config.json", {"model_type": "llama"})
        return {}

    folder = tmp_path / "model"
    Stage("train", folder, {}, {"data": "1" * 64}).run(work)
    (folder / "README.md").write_text(CARD.format("cc-by-sa-3.0", "CC BY-SA 3.0"))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("stays")
    return folder


def against(folder: Path, *accept: str) -> list[str]:
    """What stands against pushing a folder."""
    with cargo(folder, bundling.derive()) as load:
        return [str(one) for one in look(load, asks, accept).refused]


def test_a_dry_run_lists_and_sends_nothing(model: Path, run_release: Run) -> None:
    code, out, err = run_release("push", str(model), "me/camel")
    assert code == 0
    for name in ("README.md", "config.json", "manifest.json", "model.safetensors"):
        assert name in out
        assert sha256_file(model / name) in out
    assert "not sent: .cache/x" in err
    assert "card: license: cc-by-sa-3.0" in err
    assert "base and data ask: share-alike, attribution; 0 doubts" in err
    assert "dry run: nothing was sent; --yes sends 4 files to me/camel" in err


def test_json_names_every_file(model: Path, run_release: Run) -> None:
    code, out, _ = run_release("push", str(model), "me/camel", "--json")
    facts = json.loads(out)
    assert (code, facts["sent"], facts["type"], facts["refused"]) == (0, False, "model", [])
    size = (model / "config.json").stat().st_size
    assert facts["files"]["config.json"]["bytes"] == size


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("notes.txt", "ok\nhf_" + "aB3" * 12, "line 2: holds what looks like a Hugging Face token"),
        ("run.log", "key sk-proj-" + "a1" * 20, "a key of OpenAI or Anthropic"),
        ("x.jsonl", "-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("a.yaml", "url: https://me:hunter2@host/v1", "a password in an address"),
        ("b.json", '{"path": "/home/anna/llama"}', "holds a path with a user's name"),
        ("c.md", "C:\\Users\\anna\\x", "holds a path with a user's name"),
    ],
)
def test_secrets_and_names_are_found(model: Path, name: str, text: str, told: str) -> None:
    (model / name).write_text(text)
    (found,) = against(model)
    assert found.startswith(f"{name}: line")
    assert told in found
    assert against(model, name) == []


def test_a_file_or_folder_can_stay(model: Path, run_release: Run) -> None:
    """As the adapter of a run, which names the base's path."""
    (model / "adapter").mkdir()
    (model / "adapter" / "adapter_config.json").write_text('{"base": "/home/anna/llama"}')
    assert len(against(model)) == 1
    given = ("push", str(model), "me/x")
    code, out, err = run_release(*given, "--without", "adapter")
    assert code == 0, err
    assert "not sent: .cache/x, adapter/adapter_config.json" in err
    assert "adapter_config" not in out
    code, _, err = run_release(*given, "--without", "adap")
    assert (code, "'adap' is no file or folder of it" in err) == (2, True)


def test_a_secret_of_the_environment_is_found(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"run": "correct-horse-9"}')
    environment = {"WANDB_API_KEY": "correct-horse-9", "HF_TOKEN": "short", "MONKEY": "metrics"}
    (found,) = leaks(file.name, file, environment)
    assert found.what == "holds the value of $WANDB_API_KEY"


@pytest.mark.parametrize(
    "text", ["the ask-" + "a1" * 20, "/home/", "see https://host:8000/x@y", "task-force", ""]
)
def test_what_is_no_secret_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert list(leaks("a.json", tmp_path / "a.json", {})) == []


def test_texts_of_others_may_hold_anybodys_path(model: Path) -> None:
    (model / "samples.jsonl").write_text('{"output": "cd /home/anna/code"}')
    assert against(model) == []


def test_pickles_are_refused_by_name_and_by_content(model: Path) -> None:
    (model / "optimizer.pt").write_bytes(b"")
    (model / "training_args.bin").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(model / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    found = against(model, "optimizer.pt")  # no looking makes a pickle safe
    assert [one.split(":")[0] for one in found] == [
        "optimizer.pt",
        "pytorch_model.bin",
        "training_args.bin",
    ]
    assert all("is a pickle, which runs code" in one for one in found)


def test_a_card_that_is_missing_or_forbids_is_told(model: Path, run_release: Run) -> None:
    card = model / "README.md"
    card.write_text(CARD.format("apache-2.0", "CC BY-NC 4.0"))
    told = "apache-2.0 allows commercial use, cc-by-nc-4.0 of dolly does not."
    assert against(model) == [f"README.md: licence: {told}"]
    card.write_text(CARD.format("other", "CC BY-NC-ND 4.0"))
    assert "no derivatives may be passed on" in against(model)[0]
    card.write_text("# No front matter\n")
    assert against(model) == ["README.md: no card: `cameleer release card` writes one"]
    card.unlink()
    manifest = (model / "manifest.json").read_text()
    (model / "manifest.json").unlink()  # a folder that `release card` knows nothing of
    assert against(model)[0].startswith("README.md: no card: write one that begins with `license:")
    (model / "manifest.json").write_text(manifest)
    code, _, err = run_release("push", str(model), "me/camel")
    assert code == 2
    assert "error:" in err
    assert "1 things stand against it, first README.md: no card" in err
    card.write_text("---\nlicense: [\n---\n")
    with pytest.raises(UserError, match=r"README.md: its front matter is broken YAML"):
        against(model)


def test_a_licence_in_doubt_is_told_but_decides_nothing(model: Path, run_release: Run) -> None:
    (model / "README.md").write_text(CARD.format("other", "none stated"))
    code, _, err = run_release("push", str(model), "me/camel")
    assert code == 0
    assert "dolly (data): licence none stated" in err


def test_what_was_edited_since_is_not_pushed(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0[]")
    with pytest.raises(UserError, match=r"model.safetensors: was changed after"):
        against(model)


def test_what_cannot_be_pushed(model: Path, tmp_path: Path, run_release: Run) -> None:
    code, _, err = run_release("push", str(tmp_path / "nowhere"), "me/x")
    assert (code, "no such folder or bundle" in err) == (2, True)
    code, _, err = run_release("push", str(model), "me/a/b")
    assert (code, "field 'REPO'" in err) == (2, True)
    code, _, err = run_release("push", str(model), "me/x", "--accept", "nothing.txt")
    assert (code, "'nothing.txt' is no file of it" in err) == (2, True)
    write_json(tmp_path / "study" / "study.json", {})
    code, _, err = run_release("push", str(tmp_path / "study"), "me/x")
    assert (code, "push a bundle of it, or one of its models" in err) == (2, True)
    require_name("me/tulu-7b")


def test_a_bundle_leaves_as_one_tar_beside_its_card(tmp_path: Path, run_release: Run) -> None:
    def work(partial: Path) -> dict[str, Any]:
        row = {"item": "gsm/0", "group": "", "score": 1.0, "finish": ["stop"], "values": {}}
        row |= {"prompt_tokens": 1, "new_tokens": 1, "note": ""}
        write_jsonl(partial / "samples.jsonl", [row])
        asked = {"benchmark": "gsm", "setting": "cot", "macro": False, "finish": {"stop": 1}}
        counts = {"n": 1, "no_answer": 0, "notes": {}, "prompt_tokens": 1, "new_tokens": 1}
        write_json(partial / "scores.json", asked | counts | estimates([row], False))
        return {"n": 1}

    Stage("eval", tmp_path / "gsm", {}, {"test": "0" * 64}).run(work)
    made = make_bundle(tmp_path / "gsm", tmp_path / "small", bundling.derive()).path
    with cargo(made, bundling.derive()) as load:
        assert set(load.files) == {"README.md", "small.tar"}
        assert (load.kind, load.problems) == ("dataset", [])
        with tarfile.open(load.files["small.tar"]) as tar:
            assert "small/gsm/samples.jsonl" in tar.getnames()
    code, _, err = run_release("push", str(made), "me/small", "--without", "gsm")
    assert (code, "a bundle leaves whole, or not" in err) == (2, True)
    samples = made / "gsm/samples.jsonl"
    samples.write_text(samples.read_text().replace('"score": 1.0', '"score": 0.0'))
    code, _, err = run_release("push", str(made), "me/small")
    assert code == 2
    assert "against it: gsm/samples.jsonl: its bytes were changed" in err


# ---- sending


def pushed(model: Path, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`release push --yes` to a hub on this machine, in a process of its own: the hub's library
    reads its settings once."""
    settings = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_TOKEN": "hf_" + "x" * 34, "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "cameleer.cli", "release", "push", str(model), "me/x", "--yes"]
    given = os.environ | settings | environment
    return subprocess.run(command, capture_output=True, text=True, env=given, check=False)


def test_all_arrives_in_a_private_repository_and_again_after_a_break(model: Path) -> None:
    with fake_hub() as hub:
        hub.breaks = 1
        broken = pushed(model, hub.url)
        assert broken.returncode == 2
        assert "the hub did not take it" in broken.stderr
        assert "the hub is tired" in broken.stderr
        assert "Traceback" not in broken.stderr
        done = pushed(model, hub.url)
    assert done.returncode == 0, done.stderr
    assert hub.private is True
    assert hub.tokens == {"Bearer hf_" + "x" * 34}
    names = {"README.md", "config.json", "manifest.json", "model.safetensors"}
    assert hub.files == {name: (model / name).read_bytes() for name in names}
    assert "sent 4 files to me/x" in done.stderr


def test_nothing_is_sent_where_the_hub_is_switched_off(model: Path, run_release: Run) -> None:
    code, _, err = run_release("push", str(model), "me/x", "--yes")  # tests are offline
    assert code == 2
    assert "HF_HUB_OFFLINE is set: nothing is sent" in err


class Library:
    """A hub's library that keeps what it was told; public: of a repository that is there."""

    def __init__(self, public: bool = False, loses: str = "") -> None:
        self.public, self.loses = public, loses
        self.made: dict[str, Any] = {}
        self.got: list[str] = []

    def create_repo(self, repo_id: str, **given: Any) -> None:
        self.made = {"repo_id": repo_id, **given}

    def repo_info(self, repo_id: str, *, repo_type: str) -> Any:
        return type("Info", (), {"private": not self.public})

    def upload_folder(self, *, folder_path: Path, **given: Any) -> None:
        files = (file for file in folder_path.rglob("*") if file.is_file())
        self.got = sorted(file.relative_to(folder_path).as_posix() for file in files)

    def list_repo_files(self, repo_id: str, *, repo_type: str) -> list[str]:
        return [".gitattributes", *(name for name in self.got if name != self.loses)]


def sent(model: Path, api: Hub, public: bool = False) -> None:
    with cargo(model, bundling.derive()) as load:
        send(load, "me/x", "model", api, public)


def test_a_public_repository_is_written_to_only_if_that_is_said(model: Path) -> None:
    there = Library(public=True)
    with pytest.raises(UserError, match="'me/x' is there and public"):
        sent(model, there)
    assert there.got == []
    assert there.made["private"] is True
    sent(model, there, public=True)
    assert there.made == {
        "repo_id": "me/x",
        "repo_type": "model",
        "private": False,
        "exist_ok": True,
    }
    assert "config.json" in there.got


def test_what_did_not_arrive_is_told(model: Path) -> None:
    with pytest.raises(UserError, match="1 files did not arrive, first config"):
        sent(model, Library(loses="config.json"))
