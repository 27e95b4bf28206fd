"""A study on disk as attribution takes it: base by base, way by way, what is missing told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.results.attribution import attribution, attributions, effect_rows
from cameleer.results.store import read_study
from tests.results.on_disk import study


def test_a_study_on_disk(tmp_path: Path) -> None:
    """Lower is better here: effects are told upward; what is not finished is left out and told."""
    folder = study(
        tmp_path / "s",
        {None: [[1.0, 1.0, 0.0, 1.0]], "x": [[0.0, 0.0, 0.0, 1.0]], "y": [[1.0] * 4, []]},
    )
    found = attribution(read_study(folder), "b")
    assert {e.source: e.value for e in found.effects} == pytest.approx({"x": 0.5, "y": -0.25})
    assert found.notes[-1] == "1 models are not finished, or failed: they are left out."
    only = attribution(read_study(folder), "b", only=["x"])
    assert only.sources == ("x",)
    with pytest.raises(UserError, match="no tuned model of 'c' is finished"):
        attribution(read_study(folder), "c")


def test_each_way_of_training_has_effects_of_its_own(tmp_path: Path) -> None:
    """LoRA's x helps (lower is better here) by 0.75 and full fine-tuning's by 0.25: no mean of both
    is told. Where one mixture cannot tell its effects, the other way's stand."""
    scores = {
        None: [[1.0, 1.0, 1.0, 1.0]],
        "x (full)": [[0.0, 1.0, 1.0, 1.0]],
        "x (lora)": [[0.0, 0.0, 0.0, 1.0]],
    }
    folder = study(tmp_path / "s", scores, ("full", "lora"))
    told = attributions(read_study(folder))
    assert [(one.title, one.why) for one in told] == [("b, full", ""), ("b, lora", "")]
    values = [row["value"] for one in told if one.found for row in effect_rows(one.found)]
    assert values == pytest.approx([0.25, 0.75])
    record = json.loads((folder / "study.json").read_text())
    record["mixtures"][0]["sources"] = {"x": 10, "y": 5}
    (folder / "study.json").write_text(json.dumps(record))
    full, lora = attributions(read_study(folder))
    assert full.found is None
    assert full.why.startswith("too few mixtures to tell the effects of sources apart: 1 for 2")
    assert lora.found is not None


def test_rows_are_in_order_of_the_sources_and_marked_where_clear(tmp_path: Path) -> None:
    right = [0.0] * 12  # lower is better
    folder = study(tmp_path / "s", {None: [[1.0] * 12], "x": [right], "y": [[1.0] * 11 + [0.0]]})
    rows = effect_rows(attribution(read_study(folder), "b"))
    assert [(row["source"], row["benchmark"]) for row in rows] == [("x", "t"), ("y", "t")]
    assert [row["clear"] for row in rows] == [True, False]
