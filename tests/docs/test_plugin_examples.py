"""The plug-in files of the how-to pages, in packages of their own, do what the pages say."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cameleer import cli
from cameleer.chat.conversation import Conversation, Message
from cameleer.core.errors import UserError
from cameleer.core.plugins import plugins
from cameleer.data import encode
from cameleer.data.source import Convert, Dropped, Made

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to"
Install = Callable[[str], str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a page's Python file and entry point where an installed package would have them."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)

    def one(page: str) -> str:
        text = (HOW_TO / page).read_text()
        [(name, code)] = re.findall(r"^```python (\w+)\.py\n(.*?)^```$", text, re.DOTALL | re.M)
        [(group, point)] = re.findall(
            r'^\[project\.entry-points\."([^"]+)"\]\n(.+)$', text, re.MULTILINE
        )
        # A name that no other module has: tests of other packages may load one of this name.
        (site / f"example_{name}.py").write_text(code)
        metadata = site / f"example_{name}-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: example-{name}\nVersion: 1\n"
        )
        point = point.replace('"', "").replace(f"= {name}", f"= example_{name}")
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{point}\n")
        plugins.cache_clear()
        return str(name)

    yield one
    plugins.cache_clear()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_source(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install("add-a-source.md") == "haiku"
    (tmp_path / "haikus").mkdir()
    file = tmp_path / "haikus/haiku.tsv"
    file.write_text("winter\tA poem.\tSnow / falls\nspring\tAnother.\t\n")
    convert = ("data", "convert", "haiku", "--from", "haikus", "-o", "haiku.jsonl", "--json")
    code, out, err = run(capsys, *convert)
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["read"], facts["kept"], facts["dropped: empty answer"]) == (2, 1, 1)
    [row] = rows(tmp_path / "haiku.jsonl")
    assert (row["id"], row["source"]) == ("haiku_0", "haiku")
    assert [turn["content"] for turn in row["messages"]] == [
        "A poem. It is winter.",
        "Snow\nfalls",
    ]
    assert "haiku" in run(capsys, "data", "ls")[1]
    file.write_text("winter\tA poem.\n")
    code, out, err = run(capsys, *convert, "--strict")
    assert (code, out) == (2, "")
    assert err == "error: haikus/haiku.tsv:1: has 2 fields, 3 are needed\n"


def test_the_pieces_that_the_sources_page_names_are_there() -> None:
    text = (HOW_TO / "add-a-source.md").read_text()
    pieces = set(re.findall(r"^\|.*?`(\w+)\((?:job|path|source)[,)]", text, re.MULTILINE))
    assert pieces == {
        "jsonl_rows",
        "array_rows",
        "read_lines",
        "exchange",
        "dialogue",
        "instructions",
    }
    assert pieces - {"read_lines"} <= vars(encode).keys()
    [project] = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    settings = tomllib.loads(project)
    assert settings["tool"]["setuptools"]["py-modules"] == [settings["project"]["name"]]


def test_a_source_of_chats_as_the_page_says_it(tmp_path: Path) -> None:
    """The pieces for a list of texts by turns, which is LIMA's shape."""
    file = tmp_path / "train.jsonl"
    rows = [["q", " a "], ["q", "a", "q", "a", "q"], ["q"], ["q", 3], "q", []]
    file.write_text("".join(json.dumps({"conversations": row}) + "\n" for row in rows))
    bad: list[UserError] = []
    job = Convert(tmp_path, on_bad=bad.append)

    def chat(row: encode.Row) -> Iterator[Made]:
        texts = enumerate(row.texts(job, "conversations"))
        messages = [Message(("user", "assistant")[place % 2], text) for place, text in texts]
        yield encode.dialogue(job, f"lima_{row.number}", "lima", messages)

    made = list(job.each(encode.jsonl_rows(job, file), chat))
    assert [one.id for one in made if isinstance(one, Conversation)] == ["lima_0", "lima_1"]
    assert [one.reason for one in made if isinstance(one, Dropped)] == ["no answer"] * 2
    assert [len(one.messages) for one in made if isinstance(one, Conversation)] == [2, 4]
    assert [error.field for error in bad] == ["conversations.1", "conversations"]


def test_a_benchmark(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install("add-a-benchmark.md") == "capitals"
    folder = tmp_path / "world/eval/capitals"
    folder.mkdir(parents=True)
    countries = [("Egypt", "Cairo", "Africa"), ("Oman", "Muscat", "Asia")]
    (folder / "capitals.jsonl").write_text(
        "".join(
            json.dumps({"country": country, "capital": capital, "continent": continent}) + "\n"
            for country, capital, continent in countries
        )
    )
    data = ("--data", "world")
    code, _, err = run(capsys, "eval", "prompts", "capitals:1-shot", *data, "-o", "prompts.jsonl")
    assert code == 0, err
    assert rows(tmp_path / "prompts.jsonl")[1] == {
        "item": "capitals/1",
        "prompt": "<|user|>\nQuestion: What is the capital of France?\nAnswer: Paris\n\n"
        "Question: What is the capital of Oman?\n\n<|assistant|>\nAnswer:",
    }
    (tmp_path / "answers.jsonl").write_text(
        '{"item": "capitals/0", "output": " cairo.\\nQuestion:"}\n'
        '{"item": "capitals/1", "output": ""}\n'
    )
    _, out, _ = run(
        capsys, "eval", "grade", "capitals", "--answers", "answers.jsonl", *data, "--json"
    )
    graded = json.loads(out)
    assert [row["score"] for row in graded["rows"]] == [1.0, 0.0]
    assert "capitals:0-shot" in run(capsys, "eval", "ls")[1]
