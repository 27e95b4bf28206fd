"""Verbs of `cameleer train`. Fine-tuning."""

from __future__ import annotations

from pathlib import Path

from cameleer.cli.options import (
    Json,
    Output,
    Overrides,
    group,
    out_folder,
    rounded,
    show,
)

app = group("Fine-tuning.")


@app.command("run")
def train_run(
    config: Path, output: Output, overrides: Overrides = None, json: Json = False
) -> None:
    """Fine-tune; give the same command again to resume.

    Example: `cameleer train run sft.yaml learning_rate=1e-5 -o models/dolly`
    """
    from cameleer.core.config import load_config
    from cameleer.core.files import read_json
    from cameleer.train.config import TrainConfig

    read = load_config(config, TrainConfig, overrides or ())
    from cameleer.train.loop import train as fine_tune

    folder = fine_tune(read, out_folder(output))
    outcome = read_json(folder / "manifest.json")["outcome"]
    outcome.pop("counts", None)
    show(json, {"folder": str(folder), **outcome}, "", [rounded(outcome)])
