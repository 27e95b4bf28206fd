"""Bundles: what goes in, the same bytes each time, and that whatever is changed in one is named."""

from __future__ import annotations

import errno
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cameleer
from cameleer.cli import bundling
from cameleer.core.artifact import Stage
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, sha256_file, write_json
from cameleer.evals.judge.outcome import annotation_rows, rates
from cameleer.evals.judge.outputs import Pair
from cameleer.release.bundle import make_bundle
from cameleer.release.verify import verify_bundle
from cameleer.results.judgements import write_judgements
from cameleer.results.records import Judgement


@pytest.fixture(scope="session")
def made(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "bundle"
    return make_bundle(small_study, out, bundling.derive()).path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def problems(bundle: Path) -> list[str]:
    return [str(one) for one in verify_bundle(bundle, bundling.derive()).problems]


def rehash(bundle: Path) -> None:
    """As who changes a file and its hash along."""
    index = read_json(bundle / "bundle.json")
    for name, facts in index["files"].items():
        facts["sha256"] = sha256_file(bundle / name)
    write_json(bundle / "bundle.json", index)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_bundle_holds_all_but_weights_and_data_and_verifies(made: Path) -> None:
    index = read_json(made / "bundle.json")
    data = {"mix/m/conversations.jsonl", "touched/m/matches.html"}
    assert set(index["left_out"]) == {*data, "train/m/model.safetensors"}
    weights = index["left_out"]["train/m/model.safetensors"]
    assert (weights["bytes"], weights["why"]) == (700, "weights")
    there = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert there == {*index["files"], "bundle.json"}
    expected = {"study.json", "eval/m-gsm/samples.jsonl", "train/m/manifest.json"}
    assert expected | {"report/tables/scores.csv", "report/report.html"} <= there
    found = verify_bundle(made, bundling.derive())
    assert not found.problems
    assert found.files == len(index["files"])
    assert found.numbers > 300
    assert found.fingerprint == sha256_file(made / "bundle.json")


def test_one_digit_of_a_score_is_named_even_with_a_new_hash(bundle: Path) -> None:
    file = bundle / "eval/m-gsm/scores.json"
    value = read_json(file)["value"]
    edit(file, f'"value": {value}', f'"value": {value + 0.01}')
    first = problems(bundle)
    assert any("eval/m-gsm/scores.json: its bytes were changed" in one for one in first)
    rehash(bundle)
    told = f"eval/m-gsm/scores.json: value: says {value + 0.01}, re-derived {value}"
    assert told in problems(bundle)


def test_an_interval_of_a_group_and_of_a_metric_are_derived(bundle: Path) -> None:
    file = bundle / "eval/m-mmlu/scores.json"
    scores = read_json(file)
    scores["groups"]["law"]["low"] -= 0.001
    scores["metrics"]["strict"]["high"] += 0.001
    write_json(file, scores)
    rehash(bundle)
    fields = [one.split(": ")[1] for one in problems(bundle)]
    assert fields[:2] == ["groups.law.low", "metrics.strict.high"]


def test_a_sample_that_scored_otherwise_moves_scores_and_tables(bundle: Path) -> None:
    edit(bundle / "eval/m-gsm/samples.jsonl", '"score": 0.0', '"score": 1.0')
    rehash(bundle)
    files = {one.split(": ")[0] for one in problems(bundle)}
    tables = {f"report/tables/{name}" for name in ("scores.csv", "scores.md", "differences.csv")}
    assert tables | {"eval/m-gsm/scores.json", "report/report.html"} <= files


def test_one_byte_of_an_output_is_a_changed_file(bundle: Path) -> None:
    edit(bundle / "eval/base-gsm/samples.jsonl", "answer 1", "answer 2")
    assert problems(bundle)[0].startswith("eval/base-gsm/samples.jsonl: its bytes were changed")


@pytest.mark.parametrize(
    "name", ["report/tables/scores.csv", "report/tables/differences.csv", "report/tables/scores.md"]
)
def test_a_digit_of_a_table_is_named_with_its_line(bundle: Path, name: str) -> None:
    lines = (bundle / name).read_text().split("\n")
    where = max(index for index, line in enumerate(lines) if "0" in line)
    at = lines[where].index("0")
    lines[where] = lines[where][:at] + "9" + lines[where][at + 1 :]
    (bundle / name).write_text("\n".join(lines))
    rehash(bundle)
    (told,) = problems(bundle)
    assert told.startswith(f"{name}: line {where + 1}")
    assert "says" in told


def test_missing_added_and_renamed_files_are_told_apart(bundle: Path) -> None:
    (bundle / "train/m/config.json").unlink()
    (bundle / "notes.txt").write_text("hello")
    (bundle / "mix/m/manifest.json").rename(bundle / "mix/m/manifest.bak")
    told = problems(bundle)
    assert "train/m/config.json: is missing" in told
    assert "notes.txt: was added: it is not in bundle.json" in told
    assert "mix/m/manifest.json: was renamed to mix/m/manifest.bak" in told


def test_the_last_digits_of_another_machine_are_told_as_such(bundle: Path) -> None:
    file = bundle / "eval/m-gsm/scores.json"
    scores = read_json(file)
    write_json(file, scores | {"low": scores["low"] * (1 + 1e-12)})
    found = verify_bundle(bundle, bundling.derive())
    assert "eval/m-gsm/scores.json: 1 numbers differ in their last digits" in str(found.given)
    (only,) = found.problems
    assert only.what.startswith("its bytes were changed")


def test_a_file_that_the_report_does_not_have_is_named(bundle: Path) -> None:
    """As who lists it in bundle.json too; so is one that the report has and the bundle has not."""
    (bundle / "report/tables/best.csv").write_text("m\n1.0\n")
    index = read_json(bundle / "bundle.json")
    index["files"]["report/tables/best.csv"] = {"bytes": 6, "sha256": ""}
    del index["files"]["report/tables/scores.tex"]
    (bundle / "report/tables/scores.tex").unlink()
    write_json(bundle / "bundle.json", index)
    rehash(bundle)
    assert problems(bundle) == [
        "report/tables/best.csv: is not derived from anything",
        "report/tables/scores.tex: is missing, and can be derived",
    ]


def test_one_byte_of_a_figure_and_of_the_card_is_told(bundle: Path) -> None:
    (figure,) = (bundle / "report/figures").glob("scores.svg")
    edit(figure, "</svg>", "<g/></svg>")
    edit(bundle / "README.md", "95 %", "99 %")
    picture = figure.with_suffix(".png")
    picture.write_bytes(picture.read_bytes() + b"1")
    rehash(bundle)
    found = verify_bundle(bundle, bundling.derive())
    assert sorted({one.file for one in found.problems}) == [
        "README.md",
        "report/figures/scores.svg",
    ]
    assert any("scores.png: not the picture that this machine draws" in one for one in found.given)


def test_weights_that_were_left_out_are_still_those_of_the_training(bundle: Path) -> None:
    name = "train/m/model.safetensors"
    index = read_json(bundle / "bundle.json")
    index["left_out"][name]["sha256"] = "0" * 64
    write_json(bundle / "bundle.json", index)
    assert problems(bundle) == [f"{name}: is not as its stage wrote it"]


def test_an_outcome_that_was_changed_breaks_its_seal(bundle: Path) -> None:
    edit(bundle / "train/m/manifest.json", '"final_loss": 2.5', '"final_loss": 1.5')
    rehash(bundle)
    told = "train/m/manifest.json: seal: was changed after the work was finished"
    assert told in problems(bundle)


def test_a_link_is_no_file_of_a_bundle(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "train/m/config.json"
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    assert problems(bundle)[0] == "train/m/config.json: is a link, no file of a bundle"


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("train/m/manifest.json", "2e-05", "3e-05", "fingerprint: says"),
        ("eval/m-gsm/manifest.json", '"limit": 40', '"limit": 41', "fingerprint: says"),
        ("mix/m/manifest.json", '"share": 0.75', '"share": 0.5', "sources.dolly.share: says 0.5"),
        ("eval/m-gsm/samples.jsonl", "{", "", "eval/m-gsm/samples.jsonl: line 1: broken JSON"),
        ("study.json", '"eval/m-gsm"', '"eval/base-gsm"', "answers of another model"),
        ("study.json", '"cells"', '"sells"', "study.json: cells: is missing"),
        (
            "touched/m/labels.jsonl",
            '"touched": true',
            '"touched": false',
            "touched/m/summary.json: benchmarks.gsm.touched: says 7, re-derived 6",
        ),
        (
            "touched/m/manifest.json",
            '"mixture": "',
            '"mixture": "f',
            "test items were looked for in another mixture than m",
        ),
        ("eval/m-gsm/scores.json", '"macro"', '"mac"', "cannot be read: KeyError: 'macro'"),
    ],
)
def test_what_was_changed_with_its_hash_is_found_out(
    bundle: Path, name: str, old: str, new: str, told: str
) -> None:
    edit(bundle / name, old, new)
    rehash(bundle)
    assert any(told in one for one in problems(bundle)), problems(bundle)


def test_a_tar_has_the_same_bytes_each_time_and_verifies(small_study: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a/camels.tar", tmp_path / "b/camels.tar"
    for out in (first, second):
        out.parent.mkdir()
        marks = make_bundle(small_study, out, bundling.derive(), weights=True)
    assert first.read_bytes() == second.read_bytes()
    assert list(marks.left_out) == ["mix/m/conversations.jsonl", "touched/m/matches.html"]
    assert list(tmp_path.glob("*/.*")) == []
    found = verify_bundle(first, bundling.derive(), marks.fingerprint)
    assert not found.problems
    other = verify_bundle(first, bundling.derive(), "0" * 64)
    assert "its fingerprint is" in str(other.problems[0])
    with pytest.raises(UserError, match="is no fingerprint"):
        verify_bundle(first, bundling.derive(), "")


def test_a_tar_cut_short_or_with_a_link_is_refused(small_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "camels.tar"
    make_bundle(small_study, out, bundling.derive())
    cut = tmp_path / "cut.tar"
    cut.write_bytes(out.read_bytes()[:30000])
    with pytest.raises(UserError, match="cannot be unpacked"):
        verify_bundle(cut, bundling.derive())
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        info = tarfile.TarInfo("camels/up")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    with pytest.raises(UserError, match="no plain file"):
        verify_bundle(tmp_path / "link.tar", bundling.derive())


def test_what_does_not_follow_from_its_samples_is_not_bundled(
    small_study: Path, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(small_study, tmp_path / "study"))
    file = study / "eval/m-gsm/scores.json"
    scores = read_json(file)
    write_json(file, scores | {"value": 0.99})
    with pytest.raises(UserError, match=r"eval/m-gsm/scores.json: value: says 0.99, re-derived"):
        make_bundle(study, tmp_path / "out", bundling.derive())
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_older_tables_are_told_and_written_anew(small_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(small_study, tmp_path / "study"))
    (study / "report/tables").mkdir(parents=True)
    (study / "report/tables/scores.csv").write_text("old")
    yaml = tmp_path / "study.yaml"
    yaml.write_text("name: camels\n")
    done = make_bundle(study, tmp_path / "out", bundling.derive(), added=[yaml])
    assert done.stale == ["tables/scores.csv"]
    assert (done.path / "added/study.yaml").read_text() == "name: camels\n"
    with pytest.raises(UserError, match="is there already"):
        make_bundle(study, tmp_path / "out", bundling.derive())


def test_an_evaluation_alone_is_a_bundle_too(small_study: Path, tmp_path: Path) -> None:
    alone = make_bundle(small_study / "eval/m-gsm", tmp_path / "one", bundling.derive())
    names = set(read_json(alone.path / "bundle.json")["files"])
    stage = {f"m-gsm/{name}" for name in ("manifest.json", "samples.jsonl", "scores.json")}
    assert names == stage | {"README.md"}
    several = make_bundle(small_study / "eval", tmp_path / "all", bundling.derive())
    assert several.files == 13
    assert not verify_bundle(several.path, bundling.derive()).problems
    with pytest.raises(UserError, match="holds no study and no finished evaluation"):
        make_bundle(small_study / "train", tmp_path / "none", bundling.derive())


def judged(folder: Path) -> None:
    """A judging of twelve pairs, as `judge run` leaves it."""
    pairs = [Pair(f"x/{i}", f"say {i}", "a" * (i + 1), "b" * (20 - i)) for i in range(12)]
    verdicts = [
        Judgement(pair.item, "A", "B", 1.0 if i % 3 else 2.0, "j", "judge", b_first=i % 2 == 0)
        for i, pair in enumerate(pairs)
    ]

    def work(partial: Path) -> dict[str, Any]:
        write_judgements(partial / "judgements.jsonl", verdicts)
        write_json(partial / "annotations.json", annotation_rows(verdicts, pairs))
        result = {"judge": "j", **rates(verdicts, pairs)}
        write_json(partial / "result.json", result)
        return {name: result[name] for name in ("win_rate", "n", "no_verdict")}

    Stage("judge", folder, {"judge": "j"}, {"pairs": "3" * 64}).run(work)


def test_a_judging_is_derived_from_its_judgements(tmp_path: Path) -> None:
    judged(tmp_path / "j")
    out = make_bundle(tmp_path / "j", tmp_path / "out", bundling.derive()).path
    assert not problems(out)
    edit(out / "j/judgements.jsonl", '"preference": 2.0', '"preference": 1.0')
    rehash(out)
    told = problems(out)
    assert "j/result.json: wins: says 4, re-derived 3" in told
    assert any(one.startswith("j/manifest.json: outcome.win_rate.value: says") for one in told)


def test_verify_on_the_command_line_says_what_and_leaves_with_2(
    bundle: Path, run_release: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, said = run_release("verify", str(bundle), "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["verified"] is True
    assert facts["problems"] == []
    edit(bundle / "eval/m-gsm/scores.json", '"n": 40', '"n": 41')
    code, out, said = run_release("verify", str(bundle))
    assert code == 2
    assert "eval/m-gsm/scores.json: n: says 41, re-derived 40" in said
    assert "bundle tampered with" in said
    code, out, said = run_release("verify", str(bundle / "nowhere"))
    assert code == 2
    assert "no such bundle" in said


def test_bundle_on_the_command_line(
    small_study: Path, tmp_path: Path, run_release: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "x.tar"
    code, said, _ = run_release("bundle", str(small_study), "-o", str(out), "--json")
    assert code == 0
    assert json.loads(said)["bundle"] == str(out)
    assert out.is_file()


def test_a_bundle_is_not_written_into_what_it_holds(
    small_study: Path, tmp_path: Path, run_release: Callable[..., tuple[int, str, str]]
) -> None:
    study = Path(shutil.copytree(small_study, tmp_path / "study"))
    before = sorted(study.rglob("*"))
    code, _, said = run_release("bundle", str(study), "-o", str(study / "inner"))
    assert code == 2
    assert "lies in" in said.replace("\n", " ")
    with pytest.raises(UserError, match="give an -o outside of it"):
        make_bundle(study / "eval/m-gsm", study / "eval/m-gsm/x.tar", bundling.derive())
    assert sorted(study.rglob("*")) == before


def test_a_bundle_that_cannot_be_written_goes_by_the_name_that_was_asked_for(
    small_study: Path, tmp_path: Path
) -> None:
    for out in (Path("/proc/q.tar"), tmp_path / f"{'x' * 250}.tar"):
        with pytest.raises(UserError, match="cannot be written: ") as caught:
            make_bundle(small_study, out, bundling.derive())
        assert caught.value.file == out


def in_other_words(bundle: Path) -> None:
    """As a version that words its card otherwise leaves a bundle: all hashes agree."""
    edit(bundle / "README.md", "95 %", "ninety-five %")
    index = read_json(bundle / "bundle.json")
    write_json(bundle / "bundle.json", index | {"cameleer": "0.0.1"})
    rehash(bundle)


def test_other_words_of_another_version_are_no_tampering(
    bundle: Path, run_release: Callable[..., tuple[int, str, str]]
) -> None:
    in_other_words(bundle)
    code, _, said = run_release("verify", str(bundle))
    said = " ".join(said.split())
    assert code == 2
    assert "tampered" not in said
    assert f"1 numbers or texts are not what this version derives (made by cameleer 0.0.1, checked by {cameleer.__version__}), first README.md: line" in said  # fmt: skip  # noqa: E501
    assert "(check it with cameleer 0.0.1)" in said


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("eval/m-gsm/samples.jsonl", '"score": 0.0', '"score": 1.0'),
        ("train/m/manifest.json", '"final_loss": 2.5', '"final_loss": 1.5'),
        ("study.json", '"eval/m-gsm"', '"eval/base-gsm"'),
    ],
)
def test_what_another_version_does_not_explain_is_tampering(
    bundle: Path, name: str, old: str, new: str
) -> None:
    in_other_words(bundle)
    edit(bundle / name, old, new)
    rehash(bundle)
    found = verify_bundle(bundle, bundling.derive())
    assert "tampered with, or broken" in str(found.error(bundle))
    found.problems = [one for one in found.problems if one.file == "README.md"]
    assert "tampered" not in str(found.error(bundle))


def test_a_changed_byte_or_fingerprint_is_tampering(bundle: Path) -> None:
    in_other_words(bundle)
    other = verify_bundle(bundle, bundling.derive(), "0" * 64)
    assert "tampered with" in str(other.error(bundle))
    (bundle / "README.md").write_text("mine")
    assert "tampered with" in str(verify_bundle(bundle, bundling.derive()).error(bundle))


@pytest.mark.parametrize("lost", [True, False])
def test_samples_that_cannot_be_read_do_not_blame_the_study(bundle: Path, lost: bool) -> None:
    file = bundle / "eval/m-gsm/samples.jsonl"
    if lost:
        file.unlink()
    else:
        file.write_text(file.read_text()[1:])
    told = problems(bundle)
    assert not [one for one in told if one.startswith(("study.json", "report/"))]
    what = "no such file" if lost else "line 1: broken JSON"
    assert len([one for one in told if what in one]) == 1
    assert f"eval/m-gsm/samples.jsonl: {what}" in " ".join(told)


def test_a_file_that_may_not_be_read_is_not_said_to_be_written(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_release: Callable[..., tuple[int, str, str]],
) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("cameleer.release.verify.sha256_file", denied)
    code, _, said = run_release("verify", str(bundle))
    assert code == 2
    assert "cannot be read or written (check the rights)" in " ".join(said.split())
