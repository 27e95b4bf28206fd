"""The number of weights, from the heads of files alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from cameleer.model.size import parameters


def test_weights_of_all_files_are_counted(tmp_path: Path) -> None:
    one = {"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16)}
    save_file(one, tmp_path / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    save_file({"c": np.zeros((2, 2, 2), np.float32)}, tmp_path / "model-00002-of-00002.safetensors")
    save_file({"d": np.zeros(99, np.float32)}, tmp_path / "adapter_model.safetensors")
    assert parameters(tmp_path) == 12 + 5 + 8


def test_what_does_not_tell_is_none(tmp_path: Path) -> None:
    assert parameters(tmp_path / "nowhere") is None
    file = tmp_path / "model.safetensors"
    save_file({"packed": np.zeros(8, np.uint8)}, file)
    assert parameters(tmp_path) is None
    file.write_bytes(b"\xff" * 20)
    assert parameters(tmp_path) is None
    file.write_bytes(file.read_bytes()[:4])
    assert parameters(tmp_path) is None
