"""Where a model's answers lie: files of evaluations, and of AlpacaEval's releases."""

from __future__ import annotations

from pathlib import Path

from cameleer.core.errors import UserError

OUTPUTS, MODEL_OUTPUTS, SAMPLES = "outputs.json", "model_outputs.json", "samples.jsonl"


def answers_file(path: Path) -> Path:
    """The file of answers in a folder, or the file itself; UserError for a folder without one."""
    if not path.is_dir():
        return path
    for name in (OUTPUTS, MODEL_OUTPUTS):
        if (path / name).is_file():
            return path / name
    hint = "an evaluation whose answers people or a judge compare has one"
    raise UserError(f"holds neither {OUTPUTS} nor {MODEL_OUTPUTS}", file=path, hint=hint)
