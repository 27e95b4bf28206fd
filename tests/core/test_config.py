"""Configuration: every mistake names its file, line and field, and what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from cameleer.core.config import Config, FolderName, PlainName, load_config
from cameleer.core.errors import UserError


class Inner(Config):
    r: int = 64
    dropout: float = 0.1


class Outer(Config):
    model: str
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["linear", "constant"] = "linear"
    lora: Inner | None = None
    parts: tuple[Inner, ...] = ()
    named: dict[str, Inner] | None = None


def load(folder: Path, text: str, *overrides: str) -> Outer:
    path = folder / "run.yaml"
    path.write_text(text)
    return load_config(path, Outer, overrides)


def test_values_and_overrides(tmp_path: Path) -> None:
    text = "model: a/b\nlearning_rate: 1e-4\nlora:\n  r: 8\n"
    config = load(tmp_path, text)
    assert config == Outer(model="a/b", learning_rate=1e-4, lora=Inner(r=8))
    changed = load(tmp_path, text, "lora.dropout=0.0", "schedule=constant", "model=c")
    assert changed.lora == Inner(r=8, dropout=0.0)
    assert (changed.schedule, changed.model) == ("constant", "c")
    assert load(tmp_path, text, "lora=null").lora is None
    assert load(tmp_path, "model: a\n", "lora.r=2").lora == Inner(r=2)
    assert load(tmp_path, "model: a\nlora:\n", "lora.r=2").lora == Inner(r=2)
    assert load(tmp_path, "model: a\n", "parts=[{r: 1}, {r: 2}]").parts == (Inner(r=1), Inner(r=2))


def test_a_configuration_does_not_change() -> None:
    config = Outer(model="a")
    with pytest.raises(ValidationError):
        config.model = "b"


@pytest.mark.parametrize(
    ("text", "line", "field", "says"),
    [
        ("model: a\nlearnin_rate: 1\n", 2, "learnin_rate", "did you mean 'learning_rate'"),
        ("model: a\nxyz: 1\n", 2, "xyz", "known: learning_rate, lora, model, named, parts"),
        ("model: a\nlora:\n  r: 1\n  droput: 0\n", 4, "lora.droput", "did you mean 'dropout'"),
        ("model: a\nparts:\n- r: 1\n- R: 1\n", 4, "parts.1.R", "known: dropout, r"),
        ("model: a\nnamed:\n  x:\n    drop: 1\n", 4, "named.x.drop", "did you mean 'dropout'"),
        ("model: a\nlora:\n  r: many\n", 3, "lora.r", "valid integer"),
        ("model: a\nlearning_rate: -1\n", 2, "learning_rate", "greater than 0"),
        ("model: a\nschedule: cosine\n", 2, "schedule", "'linear' or 'constant'"),
        ("model: [a]\n", 1, "model", "valid string"),
        ("lora:\n  r: 1\n", None, "model", "field required"),
        ("model: a\nmodel: b\n", 2, "model", "is given twice"),
        ("model: a\nlora:\n  r: 1\n  r: 2\n", 4, "lora.r", "is given twice"),
        ("model: a\n  lora: 1\n", 2, None, "broken YAML"),
        ("model: 'a\n", 2, None, "broken YAML"),
        ("model: &a [*a]\n", 1, "model.0", "holds itself"),
        ("model: a\nlora: &l\n  r: *l\n", 2, "lora.r", "holds itself"),
        ("model: a\nlearning_rate: .inf\n", 2, "learning_rate", "finite number"),
        ("- model\n", 1, None, "is not a mapping"),
        ("", 1, None, "is not a mapping"),
    ],
)
def test_mistakes_in_the_file(
    tmp_path: Path, text: str, line: int | None, field: str | None, says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        load(tmp_path, text)
    error = caught.value
    assert (error.file, error.line, error.field) == (tmp_path / "run.yaml", line, field)
    where = f"{tmp_path / 'run.yaml'}:{line}: " if line else ""
    assert str(error).startswith(where)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learning_rate", "has no '='"),
        ("model.name=x", "into a field that is not a mapping"),
        ("learning_rate=[", "broken YAML"),
        ("learning_rate=fast", "field 'learning_rate'.*valid number"),
        ("learnin_rate=1", "field 'learnin_rate'.*did you mean 'learning_rate'"),
        ("lora.dropot=1", "field 'lora.dropot'.*did you mean 'dropout'"),
    ],
)
def test_mistakes_in_an_override_do_not_blame_the_file(
    tmp_path: Path, override: str, says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        load(tmp_path, "model: a\nlearning_rate: 1\n", override)
    assert (caught.value.file, caught.value.line) == (None, None)


def test_a_mistake_in_the_file_beside_a_right_override(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="valid number") as caught:
        load(tmp_path, "model: a\nlearning_rate: fast\n", "lora.r=2", "schedule=constant")
    assert caught.value.line == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "none.yaml", Outer)


def test_aliases_of_aliases_do_not_take_for_ever(tmp_path: Path) -> None:
    """Forty levels of two stand for a million million values."""
    levels = "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40))
    with pytest.raises(UserError, match="is not known"):
        load(tmp_path, f"model: a\nx0: &x0 [1]\n{levels}")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\\b", "..", ".", ".a", "a\nb", "a\0b"])
def test_no_name_leads_out_of_its_folder(name: str) -> None:
    for kind in (FolderName, PlainName):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(name)


def test_names_may_have_spaces_where_no_command_holds_them() -> None:
    assert TypeAdapter(FolderName).validate_python("cot ünd code") == "cot ünd code"
    assert TypeAdapter(PlainName).validate_python("a-1.b_c") == "a-1.b_c"
    with pytest.raises(ValidationError):
        TypeAdapter(PlainName).validate_python("cot and code")


def test_the_training_defaults_are_the_papers() -> None:
    """arXiv 2306.04751, Appendix D: 2 epochs, 2e-5 falling linearly after 3 %, no weight decay."""
    from cameleer.train.config import TrainConfig

    config = TrainConfig(model="m", data=Path("d"))
    found: tuple[Any, ...] = (config.num_train_epochs, config.learning_rate, config.warmup_ratio)
    assert found == (2, 2e-5, 0.03)
    assert (config.lr_scheduler_type, config.weight_decay) == ("linear", 0.0)
    assert (config.max_seq_length, config.on_long) == (2048, "cut")
