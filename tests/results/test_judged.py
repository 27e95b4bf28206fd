"""Whose answers judgements speak of: names, runs of a study, texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.results.judged import Judged, study_names
from cameleer.results.records import Judgement
from cameleer.results.store import Cell, Evaluation, Study


def told(*models: str) -> Judged:
    rows = [Judgement("x/1", "ref", model, 2.0, "gpt", "judge") for model in models]
    judged = Judged(rows)
    for model in models:
        judged.hear(model, [("x/1", "Why?", f"said by {model}")])
    return judged


def test_models_get_the_names_that_are_known_and_texts_with_them() -> None:
    found, strange = told("flan", "dolly-7b").named({"flan": "flan, seed 1"}, {})
    assert {one.b for one in found.judgements} == {"flan, seed 1", "dolly-7b"}
    assert strange == ["dolly-7b", "ref"]
    assert found.outputs["x/1", "flan, seed 1"] == "said by flan"


def test_the_user_may_say_who_is_who() -> None:
    found, strange = told("Flan").named({"flan": "flan, seed 1"}, {"Flan": "flan"})
    assert {one.b for one in found.judgements} == {"flan, seed 1"}
    assert strange == ["ref"]
    # Of two names in judgements alone, one may be taken for the other.
    found, _ = told("tulu_65B", "tulu-65b").named({}, {"tulu_65B": "tulu-65b"})
    assert {one.b for one in found.judgements} == {"tulu-65b"}


@pytest.mark.parametrize(
    ("same", "said"),
    [
        ({"flann": "flan"}, "unknown judged model 'flann' (did you mean 'flan'?"),
        ({"flan": "flam"}, "unknown model 'flam' (did you mean 'flan'?"),
    ],
)
def test_names_that_nobody_has_are_the_users_mistake(same: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as error:
        told("flan").named({}, same)
    assert said in str(error.value)


def cell(base: str, mixture: str | None, seed: int | None, mark: str, **more: bool) -> Cell:
    run = Evaluation(Path(f"eval/{base}--{mixture}--s{seed}--alpaca_eval-greedy-0a1b2c3d"))
    run.__dict__["manifest"] = {"config": {"engine": {"model": mark}}}
    return Cell(base, mixture, seed, None, None, {"alpaca_eval:greedy": run}, None, **more)


def study(*cells: Cell, bases: tuple[str, ...] = ("smol",)) -> Study:
    return Study(Path("s"), "s", "", "", dict.fromkeys(bases, ""), {}, [], list(cells))


def test_a_studys_runs_go_by_label_folder_generator_and_if_alone_by_the_rows_name() -> None:
    alone, twice = cell("smol", "flan", 1, "f1"), [cell("smol", "cot", n, f"c{n}") for n in (1, 2)]
    base, other = cell("smol", None, None, "b"), cell("gpt", None, None, "g", reference=True)
    names, models = study_names(study(alone, *twice, base, other))
    assert names["flan"] == names["f1"] == names["smol--flan--s1"] == "smol · flan, seed 1"
    assert names["smol · cot, seed 2"] == names["c2"] == "smol · cot, seed 2"
    assert "cot" not in names  # two runs: which one?
    assert models["smol · cot, seed 1"] == models["smol · cot, seed 2"] == "cot"
    assert names["base, untuned"] == "smol · untuned"
    assert names["gpt"] == models["gpt"] == "gpt"


def test_of_several_bases_a_row_is_told_with_its_base() -> None:
    names, _ = study_names(
        study(cell("a", "flan", 1, "x"), cell("b", "flan", 1, "x"), bases=("a", "b"))
    )
    assert names["a: flan"] == "a · flan, seed 1"
    assert "x" not in names  # the same generator twice says nothing
