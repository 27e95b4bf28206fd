"""Conversions spread over processes: the same bytes, counts and bad records as by one reader."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message
from cameleer.core import parts
from cameleer.core.errors import UserError
from cameleer.core.files import to_json
from cameleer.data import convert as converting
from cameleer.data.convert import stream, to_line
from cameleer.data.encode import instructions, jsonl_rows
from cameleer.data.source import Convert, Draws, Made, all_sources, located, source_named
from tests.data import mutate
from tests.data.test_fuzz import SHAPES, Shape, invented, layout, write

Result = tuple[list[bytes], Counter[str], list[tuple[Path | str | None, int | None]]]


def run(source: Any, folder: Path, limit: int | None = None, **settings: Any) -> Result:
    bad: list[UserError] = []
    job = Convert(folder, on_bad=bad.append, **settings)
    lines = list(stream(source, job, to_line, limit))
    return lines, +job.counts, [(error.file, error.line) for error in bad]


def plain(source: Any, folder: Path, **settings: Any) -> Result:
    """By one reader, which knows nothing of parts."""
    return run(source, folder, converting.FEW - 1, **settings)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        converting,
        "PARTS",
        {
            "array": partial(parts.array_parts, size=2500),
            "lines": partial(parts.line_parts, size=900),
        },
    )


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch, small_parts: None) -> None:
    monkeypatch.setattr(converting, "LARGE", 0)
    monkeypatch.setattr(converting, "cores", lambda: 2)


def broken(draw: Random, records: list[str], kinds: list[str], count: int) -> list[bytes]:
    """Thirty records, of which some are mutated; not the first, whose key says how records begin,
    nor so many that it matters how far a reader can look ahead."""
    chosen = draw.choices(records, k=30)
    made = [text.encode() for text in chosen]
    for place in draw.sample(range(1, 30), count):
        made[place] = (mutate.IN_JSON | mutate.IN_TEXT)[draw.choice(kinds)](draw, chosen[place])
    return made


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.source}-{shape.layout}")
def test_parts_of_broken_files(shape: Shape, tmp_path: Path) -> None:
    records = invented(shape, 20)
    json_kinds = [] if shape.layout == "text" else [*mutate.IN_JSON]
    for number in range(8):
        draw = Random(f"{shape} {number}")
        made = broken(draw, records, [*json_kinds, *mutate.IN_TEXT], (0, 1, 2, 3)[number % 4])
        write(shape, tmp_path, layout(draw, shape).file(made))
        rule = shape.rule or draw.choice(["paper", "fixed"])
        source = source_named(shape.source)
        expected = plain(source, tmp_path, rule=rule)
        assert run(source, tmp_path, rule=rule) == expected
        assert run(source, tmp_path, 10**6, rule=rule) == expected


def dolly(folder: Path, count: int, extra: dict[int, str] | None = None) -> Path:
    lines = [
        json.dumps({"instruction": f"i{n}", "context": "c" * (n % 2), "response": f"r{n}"})
        for n in range(count)
    ]
    for place, text in (extra or {}).items():
        lines[place] = text
    folder.mkdir(exist_ok=True)
    (folder / "databricks-dolly-15k.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.usefixtures("two_processes")
def test_two_processes(tmp_path: Path) -> None:
    """Bad records and lines that hold two shift the numbers of those behind them."""
    twice = '{"instruction": "a", "context": "", "response": "b"}' * 2
    extra = {70: "{", 150: twice, 151: "", 220: '{"instruction": 3}', 299: '{"instruction'}
    folder, source = dolly(tmp_path, 300, extra), source_named("dolly")
    lines, counts, bad = expected = plain(source, folder)
    assert (len(lines), counts["dropped: bad record"]) == (297, 3)
    assert [line for _, line in bad] == [71, 221, 300]
    assert run(source, folder) == expected
    with pytest.raises(UserError, match=r"jsonl:71: broken JSON"):
        run(source, folder, strict=True)


@pytest.mark.usefixtures("two_processes")
def test_an_id_that_was_given_in_another_part(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q" * 80}, {"role": "assistant", "content": "a"}]
    rows = [{"id": n % 17 if n > 60 else n, "messages": turns} for n in range(120)]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "two.json").write_text(json.dumps(rows[:70]))
    source = source_named("jsonl")
    lines, counts, _ = expected = plain(source, tmp_path)
    assert counts["mended: id given before"] == 59 + 70
    assert len({json.loads(line)["id"] for line in lines}) == 190
    assert run(source, tmp_path) == expected


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("limit", [1, 40, 41, 299])
def test_a_limit_stops_reading_there(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, source = dolly(tmp_path, 300, {5: "{", 40: "{", 41: "{"}), source_named("dolly")
    expected = run(source, folder, limit)
    assert len(expected[0]) == min(limit, 297)
    monkeypatch.setattr(converting, "FEW", 0)
    assert run(source, folder, limit) == expected


@pytest.mark.usefixtures("two_processes")
def test_a_source_that_is_no_module_of_a_file(tmp_path: Path) -> None:
    """Nothing can be told of it to another process, so this one does the work."""

    def made(job: Convert) -> Iterator[Made]:
        path = job.folder / "databricks-dolly-15k.jsonl"
        fields = ("instruction", "context", "response")
        return instructions(job, "dolly", jsonl_rows(job, path), fields)

    folder = dolly(tmp_path, 99)
    expected = plain(source_named("dolly"), folder)
    assert run(SimpleNamespace(convert=made, CARD=None), folder) == expected
    double = ModuleType("a_double")
    double.__dict__["convert"] = made
    assert run(double, folder) == expected


def test_what_depends_on_others_is_said_to_be_made_by_one_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gsm8k_train.tsv").write_text("q\t1\tw\n" * 3)
    source = source_named("cot")
    assert len(run(source, tmp_path)[0]) == 3
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(converting, "LARGE", 0)
    monkeypatch.setattr(converting, "cores", lambda: 2)
    assert len(run(source, tmp_path)[0]) == 3
    assert capsys.readouterr().err.count("made by one core") == 1


@given(st.lists(st.text(max_size=9), min_size=3, max_size=7))
def test_a_line_is_the_conversation_as_json(texts: list[str]) -> None:
    said = tuple(Message("user", text) for text in texts[2:])
    conversation = Conversation(texts[0], texts[1], said)
    assert to_line(conversation).decode() == to_json(conversation.to_row()) + "\n"


@pytest.mark.parametrize("seed", [0, 42])
def test_draws_are_those_of_one_stream_at_any_place(seed: int) -> None:
    stream_, draws = Random(seed), Draws(seed)
    expected = [stream_.random() for _ in range(50)]
    for place in (0, 1, 7, 49, 48, 3, 3, 20):
        assert draws.at(place) == expected[place]


@pytest.mark.real_data
@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize("name", all_sources())
def test_parts_of_real_files(name: str, rule: Any, real_data: Path, small_parts: None) -> None:
    from tests.contracts.test_sources import FOLDERS

    try:
        folder = located(name, real_data / FOLDERS.get(name, ""))
        expected = plain(source_named(name), folder, rule=rule)
    except UserError as error:
        pytest.skip(f"the slice cannot serve: {error}")
    assert run(source_named(name), folder, rule=rule) == expected


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_kill_leaves_no_output_and_no_process(tmp_path: Path) -> None:
    dolly(tmp_path / "dolly", 60_000)
    code = (
        "from cameleer.data import convert as c; from cameleer.core import cores\n"
        "c.LARGE, c.cores = 0, lambda: 2\n"
        "if __name__ == '__main__':\n"
        "    import sys; from cameleer.cli import main; sys.exit(main())\n"
    )
    (tmp_path / "go.py").write_text(code)
    out = tmp_path / "out.jsonl"
    work = subprocess.Popen(
        [sys.executable, "go.py", "data", "convert", "dolly", "--from", "dolly", "-o", str(out)],
        cwd=tmp_path,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not [*tmp_path.glob(".out.jsonl*")] and time.monotonic() < until:
        time.sleep(0.05)
    work.send_signal(signal.SIGKILL)
    work.wait()
    assert not out.exists()
    while time.monotonic() < until:
        try:
            os.killpg(work.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("its processes go on")
