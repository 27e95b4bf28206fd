"""What README and docs say is so: links lead somewhere, commands and configurations can be read."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cameleer.cli import app
from cameleer.core.config import load_config
from cameleer.data.mix.config import MixConfig
from cameleer.data.source import all_sources
from cameleer.evals.benchmark import all_benchmarks
from cameleer.evals.suite import Suite
from cameleer.study.study import load_study
from cameleer.train.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)?[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def blocks(page: Path, *kinds: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text()) if kind in kinds]


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_reference_is_what_the_code_says() -> None:
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(BLOCK.sub("", page.read_text()))
    for link in links:
        if not link.startswith("https://"):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_page_can_be_reached() -> None:
    found, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in found or page.suffix != ".md":
            continue
        found.add(page)
        links = LINK.findall(page.read_text())
        todo += [
            (page.parent / link.partition("#")[0]).resolve()
            for link in links
            if not link.startswith("https://")
        ]
    assert set(PAGES) - {ROOT / "CONTRIBUTING.md"} <= found


def commands() -> Iterator[tuple[str, str]]:
    """Every command line of cameleer's that stands in a page's block, with the page's name."""
    for page in PAGES:
        for body in blocks(page, "sh", "console"):
            for line in body.replace("\\\n", " ").splitlines():
                text = line.removeprefix("$ ").partition(" #")[0].strip()
                if text.startswith("cameleer "):
                    yield names(page), text


def mentions() -> Iterator[tuple[str, str]]:
    """Commands in the running text, which may be cut short."""
    for page in PAGES:
        for text in re.findall(r"`(cameleer [^`]+)`", page.read_text()):
            yield names(page), text


def words_of(text: str) -> list[str]:
    """The words after `cameleer`, up to a pipe, a redirection or another command."""
    return shlex.split(re.split(r" (?:[>|]|2>|&&|;) ?", text)[0])[1:]


@pytest.mark.parametrize(("page", "text"), sorted(set(commands())))
def test_commands_can_be_given(page: str, text: str) -> None:
    """Every argument and option is there, with a value that it takes, and none is missing."""
    del page
    command: Any = typer.main.get_group(app)
    words = words_of(text)
    while hasattr(command, "commands") and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    if "--help" not in words:
        command.make_context(None, words)


@pytest.mark.parametrize(("page", "text"), sorted(set(mentions())))
def test_commands_and_options_are_there(page: str, text: str) -> None:
    del page
    words = words_of(text)
    groups = typer.main.get_group(app).commands
    if words[0].startswith("-"):
        return
    assert words[0] in groups
    if len(words) == 1 or words[1] == "…":
        return
    group: Any = groups[words[0]]
    verbs = getattr(group, "commands", {words[1]: group})  # some commands stand by themselves
    for verb in words[1].split("|") if hasattr(group, "commands") else words[1:2]:
        assert verb in verbs
        known = {option for param in verbs[verb].params for option in param.opts} | {"--help"}
        given = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert given <= known


def test_commands_were_found() -> None:
    assert len(set(commands())) > 100
    assert len(set(mentions())) > 40


def configurations() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for body in blocks(page, "yaml"):
            yield names(page), body
        for text in re.findall(r"^echo '(\{.*\})' > \S+\.yaml$", page.read_text(), re.MULTILINE):
            yield names(page), text


@pytest.mark.parametrize(("page", "text"), list(configurations()))
def test_configurations_can_be_read(page: str, text: str, tmp_path: Path) -> None:
    del page
    file = tmp_path / "config.yaml"
    file.write_text(text)
    fields = yaml.safe_load(text)
    if "bases" in fields:
        load_study(file)
    elif "parts" in fields:
        load_config(file, MixConfig)
    elif "averages" in fields:
        load_config(file, Suite)
    else:
        load_config(file, TrainConfig)


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.yaml")), ids=names)
def test_studies_can_be_read(file: Path) -> None:
    assert load_study(file).name == file.stem


def test_the_rules_page_names_every_source_and_benchmark() -> None:
    text = (ROOT / "docs/rules.md").read_text()
    for name in [*all_sources(), *(one.name for one in all_benchmarks())]:
        assert f"`{name}" in text, name


def test_make_targets_are_there() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        quoted = "\n".join(re.findall(r"`[^`]+`", BLOCK.sub("", page.read_text())))
        said = set(re.findall(r"\bmake (\w+)\b", quoted))
        assert said <= targets | {"make"}, page
