"""Checking a bundle offline: every file's hash, and every number anew from the samples in it.

Hashes tell that files are those that were bundled; who can write new hashes can change both. So all
scores, intervals, differences and tables are derived again, every stage's fingerprint is worked out
from its configuration, and each stage must have read what the one before it wrote. The fingerprint
of bundle.json, printed in a paper, holds all of it fast.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.artifact import MANIFEST, seal
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, sha256_file
from cameleer.core.jsonl import read_jsonl
from cameleer.release.bundle_card import bundle_card
from cameleer.release.findings import Findings, Problem, compare_files, compare_texts, lines
from cameleer.results.stats import mean_interval
from cameleer.results.store import STUDY, Cell, read_study
from cameleer.results.touched import LABELS

BUNDLE, REPORT, CARD = "bundle.json", "report", "README.md"
FORMAT = 1
BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError)
OF_SAMPLES = ("prompt_tokens", "new_tokens")
AS_GIVEN = ("dropped_shots", "too_long")
"""Of scores.json: counts that samples do not hold."""


@dataclass(frozen=True)
class Derive:
    """What the bundle's numbers are derived with, besides the statistics.

    report: writes the report of the study in the first folder into the second; judging: what
    result.json of the judging in a folder should say, as far as its judgements tell.
    """

    report: Callable[[Path, Path], object]
    judging: Callable[[Path], dict[str, Any]]


class Damage(Problem):
    """A problem that no other version of cameleer explains: what was bundled is not what is here.

    Of what merely comes out otherwise when it is derived anew, that cannot be said.
    """


@dataclass
class Checked(Findings):
    """What the check of a whole bundle found; made_by: the version that made it."""

    made_by: str = ""

    def error(self, place: Path) -> UserError:
        """What is wrong in one line: changed files, or numbers that another version derives."""
        first = self.problems[0]
        if any(isinstance(one, Damage) for one in self.problems):
            count = len(self.problems)
            about = f"bundle tampered with, or broken: {count} problems, first {first}"
            hint = "ask its authors for the bundle they published"
            return UserError(about, file=place, hint=hint)
        about = (
            f"all files have their hashes, but {len(self.problems)} numbers or texts are not what "
            f"this version derives ({self.versions}), first {first}"
        )
        hint = f"check it with cameleer {self.made_by}" if self.of_another else "ask its authors"
        return UserError(about, file=place, hint=hint)

    @property
    def of_another(self) -> bool:
        """Whether another version made it."""
        return self.made_by != cameleer.__version__

    @property
    def versions(self) -> str:
        return f"made by cameleer {self.made_by}, checked by {cameleer.__version__}"


def verify_bundle(place: Path, derive: Derive, expected: str | None = None) -> Checked:
    """Check a bundle, a folder or a .tar; `expected`: the fingerprint that was published.

    Raises UserError for what is no bundle at all; whatever is wrong with one is in `problems`.
    """
    if expected is not None and not re.fullmatch("[0-9a-fA-F]{8,64}", expected):
        hint = "give 8 or more hex digits of what `release bundle` printed"
        raise UserError(f"'{expected}' is no fingerprint", field="fingerprint", hint=hint)
    with opened(place) as root:
        index = _index(root, place)
        findings = check_files(root, index)
        if expected is not None and not findings.fingerprint.startswith(expected.lower()):
            about = f"its fingerprint is {findings.fingerprint}, not {expected}"
            findings.problems.insert(0, Damage(BUNDLE, about))
        if findings.of_another:
            about = "where both differ in layout, pages and tables do too"
            findings.given.append(f"{findings.versions}: {about}")
        numbers = check_numbers(root, derive)
        findings.problems += [*numbers.problems, *check_written(root, index)]
        findings.numbers, findings.given = numbers.numbers, findings.given + numbers.given
        for name, count in numbers.near.items():
            about = f"{name}: {count} numbers differ in their last digits, as between two machines"
            findings.given.append(about)
        return findings


def _take_out(tar: tarfile.TarFile, one: tarfile.TarInfo, folder: Path, place: Path) -> None:
    """Write a member below the folder, if it is a plain file there; its rights are not taken."""
    inside = folder / one.name
    if not (one.isfile() or one.isdir()) or ".." in inside.parts or inside == Path(one.name):
        raise UserError(f"holds '{one.name}', which is no plain file of its own", file=place)
    if one.isdir():
        inside.mkdir(parents=True, exist_ok=True)
        return
    inside.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(one)
    assert source is not None  # tarfile has None for what is no file
    with source, inside.open("xb") as target:
        shutil.copyfileobj(source, target)


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """The folder of a bundle; a tar is unpacked into a temporary one, plain files only."""
    if place.is_dir():
        yield place
        return
    if not place.is_file():
        raise UserError("no such bundle", file=place, hint="check the path")
    with tempfile.TemporaryDirectory(prefix="cameleer-bundle-") as temporary:
        try:
            with tarfile.open(place, "r:") as tar:
                for one in tar:
                    _take_out(tar, one, Path(temporary), place)
        except (tarfile.TarError, OSError) as error:
            hint = "is it whole? give a folder or the .tar of `cameleer release bundle`"
            raise UserError(f"cannot be unpacked: {error}", file=place, hint=hint) from None
        inside = list(Path(temporary).iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            raise UserError("is not one folder: no bundle of ours", file=place)
        yield inside[0]


def _index(root: Path, place: Path) -> dict[str, Any]:
    """What bundle.json holds, of a layout that we know."""
    if not (root / BUNDLE).is_file():
        hint = "`cameleer release bundle` makes one"
        raise UserError(f"no bundle: {BUNDLE} is missing", file=place, hint=hint)
    index = read_json(root / BUNDLE)
    if not isinstance(index, dict) or not isinstance(index.get("files"), dict):
        raise UserError(f"{BUNDLE} names no files: bundle tampered with", file=place)
    if index.get("bundle") != FORMAT:
        about = f"is a bundle of layout {index.get('bundle')}, we know {FORMAT}"
        raise UserError(about, file=place, hint="check it with a newer cameleer")
    return index


def check_files(root: Path, index: Mapping[str, Any]) -> Checked:
    """Whether the files are those of bundle.json, byte by byte."""
    listed: dict[str, Any] = index["files"]
    there = {
        file.relative_to(root).as_posix(): file
        for file in sorted(root.rglob("*"))
        if file.is_symlink() or not file.is_dir()
    }
    there.pop(BUNDLE, None)
    links = {name for name, file in there.items() if file.is_symlink()}
    hashes = {name: sha256_file(file) for name, file in there.items() if name not in links}
    found = Checked(files=len(listed), fingerprint=sha256_file(root / BUNDLE))
    found.made_by = str(index.get("cameleer"))
    told = found.problems
    told += [Damage(name, "is a link, no file of a bundle") for name in sorted(links)]
    added = {name for name in hashes if name not in listed}
    for name, facts in listed.items():
        expected = facts.get("sha256") if isinstance(facts, dict) else None
        if name in hashes:
            if hashes[name] != expected:
                told.append(Damage(name, f"its bytes were changed: sha256 is {hashes[name]}"))
        elif name not in links:
            moved = sorted(other for other in added if hashes[other] == expected)
            added -= set(moved[:1])
            told.append(Damage(name, f"was renamed to {moved[0]}" if moved else "is missing"))
    told += [Damage(name, "was added: it is not in bundle.json") for name in sorted(added)]
    return found


def check_written(root: Path, index: Mapping[str, Any]) -> list[Problem]:
    """Whether the files, those left out with them, are what the manifests say was written."""
    found = Findings()
    hashes = {**index["files"], **index.get("left_out", {})}
    for manifest in sorted(root.rglob(MANIFEST)):
        with _told(found, root, manifest):
            for name, facts in (read_json(manifest).get("files") or {}).items():
                inside = (manifest.parent / name).relative_to(root).as_posix()
                if hashes.get(inside, {}).get("sha256") != facts["sha256"]:
                    about = "is not as its stage wrote it" if inside in hashes else "is missing"
                    found.problems.append(Damage(inside, about))
    return found.problems


def check_numbers(root: Path, derive: Derive) -> Findings:
    """Derive every number of the bundle in a folder, and compare."""
    found = Findings()
    for file in sorted(root.rglob(MANIFEST)):
        with _told(found, root, file):
            _check_stage(found, root, file.parent, derive)
    if (root / STUDY).is_file():
        with _told(found, root, root / STUDY):
            study = read_study(root)
            for cell in study.cells:
                _check_chain(found, root, cell)
                _check_searched(found, root, cell, study.touched.get(cell.mixture or ""))
        with _told(found, root, root / STUDY):
            _check_report(found, root, derive)
    with _told(found, root, root / CARD):
        compare_texts(found, CARD, lines(root / CARD), bundle_card(root).split("\n"))
    return found


@contextmanager
def _told(found: Findings, root: Path, file: Path) -> Iterator[None]:
    """What cannot be read is a problem of the bundle, not of the reader."""
    name = file.relative_to(root).as_posix()
    try:
        yield
    except UserError as error:
        at = Path(error.file) if error.file else file
        inside = at.is_relative_to(root)
        where = f"line {error.line}" if error.line else error.field or ""
        name = at.relative_to(root).as_posix() if inside else name
        problem = Damage(name, error.message, where)
        if problem not in found.problems:  # what scores are of, the report is of as well
            found.problems.append(problem)
    except BROKEN as error:
        found.problems.append(Damage(name, f"cannot be read: {type(error).__name__}: {error}"))


def _check_stage(found: Findings, root: Path, folder: Path, derive: Derive) -> None:
    manifest = read_json(folder / MANIFEST)
    name = (folder / MANIFEST).relative_to(root).as_posix()
    said = manifest["fingerprint"]
    if said != stage_fingerprint(manifest):
        about = f"says {said}, but its kind, config and inputs give {stage_fingerprint(manifest)}"
        found.problems.append(Damage(name, about, "fingerprint"))
    if manifest.get("seal") not in (None, seal(manifest)):
        found.problems.append(Damage(name, "was changed after the work was finished", "seal"))
    found.numbers += 1
    if manifest["kind"] == "eval":
        _check_evaluation(found, root, folder, manifest)
    elif manifest["kind"] == "judge":
        derived = derive.judging(folder)
        result = (folder / "result.json").relative_to(root).as_posix()
        told = read_json(folder / "result.json")
        found.compare(result, {key: told.get(key) for key in derived}, derived)
        outcome = manifest["outcome"]
        anew = told | derived
        found.compare(name, outcome, {key: anew.get(key) for key in outcome}, "outcome")
    elif manifest["kind"] == "mix":
        _check_mixture(found, name, manifest["outcome"])
    elif manifest["kind"] == "touched":
        _check_touched(found, root, folder, manifest["outcome"])


def stage_fingerprint(manifest: Mapping[str, Any]) -> str:
    """A stage's fingerprint, by the version that ran it (see `cameleer.core.artifact`)."""
    version = (manifest.get("environment") or {}).get("cameleer", cameleer.__version__)
    inputs = dict(sorted(manifest["inputs"].items()))
    facts = [manifest["kind"], version, manifest["config"], inputs]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _check_mixture(found: Findings, name: str, outcome: Mapping[str, Any]) -> None:
    """Shares of conversations from the numbers taken."""
    sources = outcome.get("sources") or {}
    if not sources or any("share" not in facts for facts in sources.values()):
        return
    total = sum(facts["taken"] for facts in sources.values())
    found.compare(name, outcome["conversations"], total, "outcome.conversations")
    for source, facts in sources.items():
        where = f"outcome.sources.{source}.share"
        found.compare(name, facts["share"], facts["taken"] / total, where)


def _check_touched(found: Findings, root: Path, folder: Path, outcome: Mapping[str, Any]) -> None:
    """The counts of test items that a mixture holds, from the labels of the items."""
    name = folder.relative_to(root).as_posix()
    rows = [row for _, row in read_jsonl(folder / LABELS) if row["touched"]]
    summary = read_json(folder / "summary.json")
    for benchmark, said in summary["benchmarks"].items():
        own = [row for row in rows if row["item"].partition("/")[0] == benchmark]
        kinds = Counter(row["kind"] for row in own)
        derived = {
            "touched": len(own),
            "answer_seen": sum(bool(row["answer_seen"]) for row in own),
            "kinds": {kind: kinds[kind] for kind in said["kinds"]},
        }
        where = f"benchmarks.{benchmark}"
        found.compare(f"{name}/summary.json", {key: said[key] for key in derived}, derived, where)
    found.compare(f"{name}/{MANIFEST}", outcome, summary, "outcome")
    found.given.append(f"{name}/{LABELS}: which items it holds is found in data that is not here")


def _check_evaluation(
    found: Findings, root: Path, folder: Path, manifest: Mapping[str, Any]
) -> None:
    scores = read_json(folder / "scores.json")
    rows = [row for _, row in read_jsonl(folder / "samples.jsonl")]
    name = (folder / "scores.json").relative_to(root).as_posix()
    derived = _of_rows(rows, scores)
    found.compare(name, {key: scores.get(key) for key in derived}, derived)
    outcome = manifest["outcome"]
    file = (folder / MANIFEST).relative_to(root).as_posix()
    found.compare(file, outcome, {key: (scores | derived).get(key) for key in outcome}, "outcome")
    for key in AS_GIVEN:
        if scores.get(key):
            found.given.append(f"{name}: {key} {scores[key]}: samples do not hold it")
    if "lm_eval" in scores:
        found.given.append(f"{name}: groups and metrics are lm-eval's own")


def _of_rows(rows: Sequence[dict[str, Any]], scores: Mapping[str, Any]) -> dict[str, Any]:
    """The part of scores.json that samples tell."""
    notes = Counter(row["note"] for row in rows if row["note"])
    ends = Counter(how for row in rows for how in row["finish"])
    derived: dict[str, Any] = {"n": len(rows), "finish": dict(ends)}
    derived |= {key: sum(row[key] for row in rows) for key in OF_SAMPLES}
    if "lm_eval" in scores:
        whole = all(row["score"] is not None for row in rows) and "value" in scores
        return derived | (estimates(rows, False, parts=False) if whole else {})
    derived |= {"notes": dict(notes), "no_answer": notes["no answer found"]}
    if "value" in scores:
        return derived | estimates(rows, bool(scores["macro"]))
    groups = Counter(row["group"] for row in rows)
    return derived | {"groups": {group: {"n": n} for group, n in groups.items()}}


def estimates(rows: Sequence[dict[str, Any]], macro: bool, parts: bool = True) -> dict[str, Any]:
    """The score of rows with its interval; parts: with those of groups and further metrics."""

    def estimate(of: Sequence[dict[str, Any]], metric: str = "") -> dict[str, Any]:
        values = [row["values"].get(metric, row["score"]) for row in of]
        weights = [row.get("weight", 1.0) for row in of]
        clusters = [row.get("cluster", "") for row in of]
        strata = [row["group"] for row in of] if macro else None
        return asdict(mean_interval(values, weights=weights, clusters=clusters, strata=strata))

    if not parts:
        return estimate(rows)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    metrics = sorted({name for row in rows for name in row["values"]})
    return {
        **estimate(rows),
        "groups": {group: estimate(of) for group, of in groups.items() if group},
        "metrics": {metric: estimate(rows, metric) for metric in metrics},
    }


def _check_chain(found: Findings, root: Path, cell: Cell) -> None:
    """Whether a cell's model was trained on its mixture, and its answers are this model's."""
    if cell.train is None:
        return
    name = cell.train.folder.relative_to(root).as_posix()
    trained = cell.train.manifest
    if cell.mix is not None:
        data = read_json(cell.mix / MANIFEST)["fingerprint"]
        if trained["inputs"].get("data") != data:
            about = f"was trained on other data than {cell.mix.name}"
            found.problems.append(Damage(f"{name}/{MANIFEST}", about, "inputs.data"))
    for run in cell.evals.values():
        model = ((run.manifest.get("config") or {}).get("engine") or {}).get("model")
        if re.fullmatch("[0-9a-f]{64}", str(model)) and model != trained["fingerprint"]:
            file = (run.folder / MANIFEST).relative_to(root).as_posix()
            about = f"these are answers of another model than {name}"
            found.problems.append(Damage(file, about, "config.engine.model"))


def _check_searched(found: Findings, root: Path, cell: Cell, touched: Path | None) -> None:
    """Whether test items were looked for in the cell's own mixture."""
    if cell.mix is None or touched is None:
        return
    searched = read_json(touched / MANIFEST)["inputs"].get("mixture")
    if searched != read_json(cell.mix / MANIFEST)["fingerprint"]:
        file = (touched / MANIFEST).relative_to(root).as_posix()
        about = f"test items were looked for in another mixture than {cell.mix.name}"
        found.problems.append(Damage(file, about, "inputs.mixture"))


def _check_report(found: Findings, root: Path, derive: Derive) -> None:
    """Write the report again, beside links to all that it is written from, and compare."""
    with tempfile.TemporaryDirectory(prefix="cameleer-report-") as temporary:
        twin = Path(temporary)
        for entry in root.iterdir():
            if entry.name != REPORT:
                (twin / entry.name).symlink_to(entry.resolve())
        written = False
        with _told(found, twin, twin / STUDY):  # what it cannot read goes by its name in the bundle
            derive.report(twin, twin / REPORT)
            written = True
        if not written:
            return
        for name in sorted(_below(twin) | _below(root)):
            if not (root / name).is_file():
                found.problems.append(Problem(name, "is missing, and can be derived"))
            elif not (twin / name).is_file():
                found.problems.append(Problem(name, "is not derived from anything"))
            else:
                compare_files(found, name, root / name, twin / name)


def _below(root: Path) -> set[str]:
    """The names of a report's files."""
    files = (file for file in (root / REPORT).rglob("*") if file.is_file())
    return {file.relative_to(root).as_posix() for file in files}
