"""What must not leave: pickles however they are called, keys by their names, the user's folder."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cameleer.release.leaks import HEAD, is_pickle, leaks

HEX = "3f9a" * 10
KEY = "holds what looks like a key or a token, by its name"
BEARER = "holds what looks like a token that lets its bearer in"
HOME = "holds the path of your home folder"
USER = "holds a path with a user's name"


def found(folder: Path, name: str, text: str) -> list[str]:
    """What is told of a file with this text."""
    (folder / name).write_text(text)
    return [one.what for one in leaks(name, folder / name, {})]


@pytest.mark.parametrize("name", ["a.json", "A.JSON", "a.yaml", "a.jsonl", "a.py"])
def test_the_users_home_is_found_in_every_kind_of_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/srv/people/bob")
    for text in ('{"to": "/srv/people/bob"}', "in /srv/people/bob/x", "in /srv/people/bob."):
        assert found(tmp_path, name, text) == [HOME], text
    for text in ("/srv/people/bobby/x", "/srv/people/bob-2", "/srv/people/bob.old"):
        assert found(tmp_path, name, text) == [], text


@pytest.mark.parametrize(
    "text", ['"/home/bob"', "cd /home/bob", "/Users/bob.", "file:///home/bob", "/home/bob"]
)
def test_a_users_folder_is_found_without_a_slash_behind(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, "a.md", text) == [USER]


@pytest.mark.parametrize("text", ["https://x.org/home/page", "/home/", "/home/$USER", "/homes/bob"])
def test_what_names_no_user_is_none(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, "a.md", text) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"WANDB_API_KEY={HEX}", KEY),
        (f'export OUR_TOKEN="{HEX}"', KEY),
        (json.dumps({"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfi"}), KEY),
        (f"APIKEY: {HEX}", KEY),
        (f"Authorization: Bearer {HEX}", BEARER),
        ("authorization: bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.x", BEARER),
    ],
)
def test_keys_are_found_by_their_names(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "notes.txt").write_text(f"first\n{text}\n")
    (one,) = leaks("notes.txt", tmp_path / "notes.txt", {})
    assert (one.what, one.line) == (told, 2)


@pytest.mark.parametrize(
    "text",
    [
        "API_KEY = 'YOUR_API_KEY_GOES_IN_HERE'",
        "API_KEY=os.environ['OPENAI_API_KEY']",
        "Authorization: Bearer YOUR_PERSONAL_ACCESS_TOKEN",
        "a bearer of bad news, 1914 to 1918",
        "TOKEN: 12345678901234567890123",
        '{"eos_token": "<|im_end|>", "model_max_length": 1000000000000000019884624838656}',
        "PAD_TOKEN_ID=0",
    ],
)
def test_what_is_only_called_a_key_is_none(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, "a.txt", text) == []


@pytest.mark.parametrize("name", ["W.PKL", "w.Pt", "w.CKPT"])
def test_a_pickle_is_known_by_its_name_in_upper_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert is_pickle(tmp_path / name)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [{"w": [1.5, 2]}, print, "text", list(range(400_000))])
def test_pickles_of_every_protocol_are_known_by_their_bytes(
    tmp_path: Path, protocol: int, value: Any
) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(pickle.dumps(value, protocol))
    assert is_pickle(file)


def test_a_pickle_with_text_behind_it_runs_code_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_bytes(b"cposix\nsystem\n(S'true'\ntR.and more")
    assert is_pickle(file)


def test_a_zip_with_a_pickle_in_it_is_one(tmp_path: Path) -> None:
    for name, inside in (("model.bin", "model/data.pkl"), ("M.BIN", "m/DATA.PKL")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inside, b"")
        assert is_pickle(tmp_path / name)
    (tmp_path / "torn.bin").write_bytes(b"PK\3\4 and no end")
    assert not is_pickle(tmp_path / "torn.bin")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 64,
        b"GGUF\3\0\0\0",
        b"\x02\0\0\0\0\0\0\0{}",
        b"N. America and S. America\n",
        b"I am a camel.\nYou are not.\n",
        b"(a list) of things.",
        b"V" + b"x" * HEAD,
        b'{"model": {"vocab": {}}}',
    ],
)
def test_other_bytes_are_no_pickle(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    assert not is_pickle(tmp_path / "model.bin")
