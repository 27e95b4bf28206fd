"""GGUF: the converter is found and driven, and what it wrote is read before it is believed."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cameleer.core.errors import UserError
from cameleer.release.gguf_file import COMMANDS, find_converter

Run = Callable[..., tuple[int, str, str]]
CONVERTER = """
import os, sys
from gguf import GGUFWriter
from safetensors.numpy import load_file

folder, _, out, _, kind = sys.argv[1:]
assert os.environ["HF_HUB_OFFLINE"] == "1"
writer = GGUFWriter(out, "llama")
writer.add_chat_template(open(folder + "/chat_template.jinja").read(){less})
for name, tensor in load_file(folder + "/model.safetensors").items():
    writer.add_tensor(name, tensor.astype("float16" if kind == "f16" else "float32"))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    tensors = {"embed": np.ones((32, 8), "float32"), "norm": np.ones(8, "float32")}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.fixture
def converter(tmp_path: Path) -> Callable[[str], str]:
    """Writes a script that takes a converter's arguments."""

    def write(text: str) -> str:
        path = tmp_path / "convert_hf_to_gguf.py"
        path.write_text(text)
        return str(path)

    return write


def test_a_model_is_written_and_read_again(
    model: Path, tmp_path: Path, converter: Callable[[str], str], run_release: Run
) -> None:
    out = tmp_path / "x.gguf"
    given = ("--converter", converter(CONVERTER.format(less="")), "--outtype", "f16")
    code, said, err = run_release("gguf", str(model), "-o", str(out), *given, "--json")
    assert code == 0, err
    assert json.loads(said) == {
        "tensors": 2,
        "numbers": 264,
        "model_tensors": 2,
        "model_numbers": 264,
        "architecture": "llama",
        "same_template": True,
        "output": str(out),
    }
    magic, version, tensors = struct.unpack("<4sIQ", out.read_bytes()[:16])
    assert (magic, version, tensors) == (b"GGUF", 3, 2)
    code, _, err = run_release("gguf", str(model), "-o", str(out), *given)
    assert (code, "is there already" in err) == (2, True)


def test_another_template_and_another_count_are_told(
    model: Path, tmp_path: Path, converter: Callable[[str], str], run_release: Run
) -> None:
    text = CONVERTER.format(less=" + 'x'").replace(".items():", ".items():\n  if name != 'norm':")
    given = ("-o", str(tmp_path / "x.gguf"), "--converter", converter(text))
    code, _, err = run_release("gguf", str(model), *given)
    assert code == 0, err
    assert "the model has 2 tensors, 264 numbers" in err
    assert "its chat template is not the model's" in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise SystemExit('Model BloomX is not supported')", "BloomX is not supported"),
        ("import sentencepieces", "No module named 'sentencepieces'"),
        ("", "the converter wrote no file"),
        ("import sys; open(sys.argv[3], 'w').write('not it')", "cannot be read as GGUF"),
        (
            "import sys; open(sys.argv[3], 'wb').write(b'GGUF' + bytes([3]) + bytes(19))",
            "without tensors",
        ),
    ],
)
def test_a_converter_that_fails_leaves_no_file(
    model: Path,
    tmp_path: Path,
    converter: Callable[[str], str],
    run_release: Run,
    text: str,
    told: str,
) -> None:
    out = tmp_path / "out"
    given = ("-o", str(out / "x.gguf"), "--converter", converter(text))
    code, _, err = run_release("gguf", str(model), *given)
    assert code == 2
    assert told in err
    assert "Traceback" not in err.splitlines()[-1]
    assert list(out.iterdir()) == []


def test_the_converter_is_found_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no converter: convert_hf_to_gguf.py or .* --converter"):
        find_converter(None)
    script = tmp_path / COMMANDS[0]
    script.write_text("")
    script.chmod(0o755)
    assert find_converter(None) == [sys.executable, str(script)]
    program = script.rename(tmp_path / COMMANDS[1])
    assert find_converter(None) == [str(program)]


def test_weights_that_are_cut_off_are_told_before_anything_runs(
    model: Path, tmp_path: Path, run_release: Run
) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    code, _, err = run_release("gguf", str(model), "-o", str(tmp_path / "x.gguf"))
    assert code == 2
    assert "model.safetensors: cannot be read as safetensors, is it cut off?" in err


@pytest.mark.slow
@pytest.mark.embedded
def test_llama_cpps_own_converter(embedded_model: Path, tmp_path: Path, run_release: Run) -> None:
    if not any(map(shutil.which, COMMANDS)):
        pytest.skip("llama.cpp's converter is not on PATH")
    out = tmp_path / "x.gguf"
    code, said, err = run_release("gguf", str(embedded_model), "-o", str(out), "--json")
    assert code == 0, err
    made = json.loads(said)
    assert made["numbers"] == made["model_numbers"] == 134_515_008
    assert made["same_template"] is True
