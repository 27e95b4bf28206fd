"""Weight diffs give the tuned model back to the bit, and say what is wrong before they write."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from cameleer.cli import app
from cameleer.core.errors import UserError
from cameleer.release.diff import diff, recover

DTYPES = {torch.float32: 4, torch.float16: 2, torch.bfloat16: 2, torch.int64: 8, torch.uint8: 1}


def model(folder: Path, *shards: dict[str, Tensor]) -> Path:
    """A folder with these tensors, one file each with an index if there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", {"format": "pt"})
        return folder
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / name)
        where |= dict.fromkeys(shard, name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def bits(data: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)


def same_files(one: Path, other: Path) -> None:
    """Every file of `one`, its manifest apart, is in `other` to the byte."""
    for file in (file for file in one.rglob("*") if file.name != "manifest.json"):
        assert (other / file.relative_to(one)).read_bytes() == file.read_bytes(), file.name


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A base and a model tuned on it: two files, two added tokens, one tensor each of its own."""
    made = torch.Generator().manual_seed(0)
    a, b = torch.randn(30, 8, generator=made), torch.randn(8, 8, generator=made)
    more = torch.randn(2, 8, generator=made)
    raw = model(tmp_path / "raw", {"embed": a, "layer": b, "freq": torch.arange(4.0)})
    added = {"embed": torch.cat([a * 1.01, more]), "head": torch.ones(2, 2)}
    tuned = model(tmp_path / "tuned", {"layer": b + 0.01}, added)
    (tuned / "tokenizer.json").write_text("{}")
    (tuned / "chat_template.jinja").write_text("{{ messages }}")
    (tuned / "metrics.jsonl").write_text("{}\n")
    return raw, tuned


@settings(max_examples=25)
@given(data=st.data())
def test_any_bits_come_back(data: Any) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shards: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for number in range(data.draw(st.integers(1, 3))):
            shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))
            dtype = data.draw(st.sampled_from(list(DTYPES)))
            size = int(np.prod(shape)) * DTYPES[dtype]
            for shard in shards:
                one = data.draw(st.binary(min_size=size, max_size=size))
                shard[f"t{number}"] = (
                    bits(one, dtype, shape) if size else torch.zeros(shape, dtype=dtype)
                )
        for shard in shards:
            shard["much"] = torch.full((64,), float(shard is shards[0]))
        raw, tuned = model(folder / "raw", shards[0]), model(folder / "tuned", shards[1])
        assert diff(raw, tuned, folder / "diff").whole_bytes == 0
        recover(raw, folder / "diff", folder / "back")
        same_files(tuned, folder / "back")


SPECIAL = [float("nan"), -0.0, 0.0, float("inf"), -float("inf"), 1e-40, 65504.0, -1.0]


@pytest.mark.parametrize("to", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("of", [torch.float32, torch.float16, torch.bfloat16])
def test_the_base_may_be_in_another_dtype(of: torch.dtype, to: torch.dtype, tmp_path: Path) -> None:
    raw = model(tmp_path / "raw", {"w": torch.tensor([SPECIAL]).to(of)})
    tuned = model(tmp_path / "tuned", {"w": torch.tensor([SPECIAL[::-1]]).to(to)})
    assert diff(raw, tuned, tmp_path / "diff").whole() == []
    recover(raw, tmp_path / "diff", tmp_path / "back")
    same_files(tuned, tmp_path / "back")


def test_payloads_of_nan_and_the_sign_of_zero_come_back(tmp_path: Path) -> None:
    odd = np.array([0x7FC01234, 0xFF800001, 0x80000000, 0x00000001], np.uint32)
    raw = model(tmp_path / "raw", {"w": torch.tensor([1.0, float("nan"), 0.0, -0.0])})
    tuned = model(tmp_path / "tuned", {"w": torch.from_numpy(odd.view(np.float32))})
    diff(raw, tuned, tmp_path / "diff")
    recover(raw, tmp_path / "diff", tmp_path / "back")
    same_files(tuned, tmp_path / "back")


def test_what_a_diff_holds(pair: tuple[Path, Path], tmp_path: Path) -> None:
    raw, tuned = pair
    made = diff(raw, tuned, tmp_path / "diff")
    base = load_file(raw / "model.safetensors")
    own: dict[str, Tensor] = {}
    stored: dict[str, Tensor] = {}
    for number in (1, 2):
        name = f"model-{number:05}-of-00002.safetensors"
        own |= load_file(tuned / name)
        stored |= load_file(tmp_path / "diff" / "weights" / name)
    integers = {
        name: one.view(torch.int32) for name, one in stored.items()
    }  # an independent restatement, by torch
    assert torch.equal(
        integers["layer"], own["layer"].view(torch.int32) ^ base["layer"].view(torch.int32)
    )
    assert torch.equal(
        integers["embed"][:30],
        own["embed"][:30].view(torch.int32) ^ base["embed"].view(torch.int32),
    )
    assert torch.equal(stored["embed"][30:], own["embed"][30:])  # added tokens
    assert torch.equal(stored["head"], own["head"])
    assert made.whole() == ["head"]
    assert made.whole_bytes == 2 * 8 * 4 + 2 * 2 * 4
    assert made.only_raw == ["freq"]
    assert made.left_out == ["metrics.jsonl"]
    assert set(made.companions) == {
        "config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json",
    }  # fmt: skip
    for name, one in own.items():
        assert made.tensors[name].tuned == hashlib.sha256(one.numpy().tobytes()).hexdigest()
        assert made.tensors[name].diff == hashlib.sha256(stored[name].numpy().tobytes()).hexdigest()
    for name, one in base.items():
        assert made.raw[name].sha256 == hashlib.sha256(one.numpy().tobytes()).hexdigest()


def test_the_base_may_lie_in_other_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    raw, tuned = pair
    diff(raw, tuned, tmp_path / "diff")
    tensors = load_file(raw / "model.safetensors")
    apart = model(tmp_path / "apart", {"embed": tensors["embed"]}, {"layer": tensors["layer"]})
    recover(apart, tmp_path / "diff", tmp_path / "back")
    same = [one for one in tuned.iterdir() if one.name != "metrics.jsonl"]
    for file in same:
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def other_numbers(raw: Path) -> None:
    tensors = load_file(raw / "model.safetensors")
    tensors["layer"][3, 3] += 1e-3
    save_file(tensors, raw / "model.safetensors")


def other_dtype(raw: Path) -> None:
    tensors = load_file(raw / "model.safetensors")
    save_file({k: v.half() for k, v in tensors.items()}, raw / "model.safetensors")


def fewer(raw: Path) -> None:
    tensors = load_file(raw / "model.safetensors")
    del tensors["layer"]
    save_file(tensors, raw / "model.safetensors")


def evil_name(given: Path) -> None:
    text = (given / "manifest.json").read_text()
    (given / "manifest.json").write_text(text.replace('"tokenizer.json"', '"../../x.json"'))


def no_sums(given: Path) -> None:
    facts = json.loads((given / "manifest.json").read_text())
    del facts["outcome"]["tensors"]["layer"]["tuned"]
    (given / "manifest.json").write_text(json.dumps(facts))


W2 = "weights/model-00002-of-00002.safetensors"
BROKEN: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "cut diff": (lambda raw, given: cut(given / W2), "00002.safetensors: cannot be read as"),
    "edited diff": (lambda raw, given: flip(given / W2), "'head' is not as it was written"),
    "lost file": (lambda raw, given: (given / W2).unlink(), "is missing"),
    "edited tokenizer": (
        lambda raw, given: (given / "model/tokenizer.json").write_text("{ }"),
        "tokenizer.json: is not as it was written",
    ),
    "cut base": (lambda raw, given: cut(raw / "model.safetensors"), "cannot be read as"),
    "other base": (lambda raw, given: other_numbers(raw), "'layer' holds other numbers"),
    "base in fp16": (lambda raw, given: other_dtype(raw), "is F16 [8, 8], not F32 [8, 8]"),
    "base lacks one": (lambda raw, given: fewer(raw), "it lacks 'layer'"),
    "outside": (lambda raw, given: evil_name(given), "names the file '../../x.json'"),
    "no sums": (lambda raw, given: no_sums(given), "outcome.tensors.layer.tuned"),
    "no diff": (lambda raw, given: shutil.rmtree(given), "is no weight diff"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said_before_anything_is_written(
    case: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, tuned = pair
    diff(raw, tuned, tmp_path / "diff")
    spoil, said = BROKEN[case]
    spoil(raw, tmp_path / "diff")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        recover(raw, tmp_path / "diff", tmp_path / "back")
    assert said in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_that_was_not_tuned_from_the_base_is_refused(tmp_path: Path) -> None:
    raw = model(tmp_path / "raw", {"a": torch.ones(4, 4), "norm": torch.ones(4)})
    other = model(tmp_path / "other", {"a": torch.ones(8, 8), "norm": torch.ones(4)})
    with pytest.raises(UserError, match=r"is not the base of .* only 5%"):
        diff(raw, other, tmp_path / "diff")
    assert not list(tmp_path.glob("*diff*"))


def test_an_index_that_lies_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    raw, tuned = pair
    index = tuned / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"layer"', '"other"'))
    with pytest.raises(UserError, match="says that 'other' is in"):
        diff(raw, tuned, tmp_path / "diff")
    (tuned / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="is missing"):
        diff(raw, tuned, tmp_path / "diff")


def test_what_a_killed_call_left_does_no_harm(pair: tuple[Path, Path], tmp_path: Path) -> None:
    raw, tuned = pair
    whole = diff(raw, tuned, tmp_path / "diff")
    (tmp_path / "diff").rename(tmp_path / ".diff.partial")
    (tmp_path / ".diff.partial" / "manifest.json").rename(tmp_path / "facts.json")
    facts = json.loads((tmp_path / "facts.json").read_text())
    begun = {key: facts[key] for key in ("fingerprint", "config", "inputs")}
    (tmp_path / ".diff.partial" / "begun.json").write_text(json.dumps(begun))
    left = tmp_path / ".diff.partial" / "weights"
    (left / ".model-00001-of-00002.safetensors.1.tmp").write_bytes(b"half")
    assert diff(raw, tuned, tmp_path / "diff") == whole
    assert sorted(one.name for one in (tmp_path / "diff" / "weights").iterdir()) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip


def test_verbs(pair: tuple[Path, Path], tmp_path: Path) -> None:
    raw, tuned = map(str, pair)
    run = CliRunner().invoke
    made = run(app, ["release", "diff", raw, tuned, "-o", str(tmp_path / "d"), "--json"])
    assert made.exit_code == 0
    facts = json.loads(made.stdout)
    assert (facts["tensors"], facts["whole"], facts["only_raw"]) == (3, ["head"], ["freq"])
    back = ["release", "recover", raw, str(tmp_path / "d"), "-o", str(tmp_path / "b")]
    assert run(app, back).exit_code == 0
    again = run(app, [*back, "--json"])  # it is there: nothing is done
    assert json.loads(again.stdout)["bytes"] == (32 * 8 + 8 * 8 + 4) * 4


def test_a_folder_that_holds_something_is_left_alone(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, tuned = pair
    diff(raw, tuned, tmp_path / "diff")
    for verb, second in ((recover, tmp_path / "diff"), (diff, raw)):
        with pytest.raises(UserError, match="-o"):
            verb(raw, second, tuned)
    assert sorted(one.name for one in tuned.iterdir())[0] == "chat_template.jinja"


PEAK = """
import sys
from pathlib import Path
from cameleer.release.diff import diff, recover

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024

before = peak()
raw, tuned, made, back = map(Path, sys.argv[1:])
diff(raw, tuned, made)
recover(raw, made, back)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    sizes = [(4096, 4096), (1024, 4096), (1024, 4096)]  # 64, 16 and 16 MiB
    folders = [
        model(tmp_path / name, *({f"w{n}": torch.full(s, by)} for n, s in enumerate(sizes)))
        for name, by in (("raw", 1.0), ("tuned", 1.5))
    ]
    command = [sys.executable, "-c", PEAK, *map(str, folders)]
    command += [str(tmp_path / "diff"), str(tmp_path / "back")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 48  # MiB: some pieces of 4, where the largest tensor has 64
    same_files(folders[1], tmp_path / "back")


def test_a_place_inside_what_is_read_is_refused(tmp_path: Path) -> None:
    raw = model(tmp_path / "raw", {"a": torch.zeros(4, 4)})
    tuned = model(tmp_path / "tuned", {"a": torch.ones(4, 4)})
    diff(raw, tuned, tmp_path / "d")
    before = sorted(tmp_path.rglob("*"))
    for folder in (raw, tuned):
        with pytest.raises(UserError, match=r"lies in .*, which is read"):
            diff(raw, tuned, folder / "deep" / "in")
    for folder in (raw, tmp_path / "d"):
        with pytest.raises(UserError, match=r"lies in .*, which is read"):
            recover(raw, tmp_path / "d", folder / "in")
    assert sorted(tmp_path.rglob("*")) == before
