"""A user's own files: which shapes are read, what becomes of ids and sources, and the command."""

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cameleer import cli
from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.source import Convert, all_sources

SOURCES = all_sources()
Read = Callable[..., tuple[list[Conversation], dict[str, int]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Converts rows, written as lines to `own.jsonl`, and checks that the counts add up."""

    def one(
        source: str, rows: list[Any], rule: Rule = "fixed", **more: Any
    ) -> tuple[list[Conversation], dict[str, int]]:
        file = tmp_path / "own.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        stream, counts = convert(source, file, rule, **more)
        found = list(stream)
        dropped = sum(n for reason, n in counts.items() if reason.startswith("dropped: "))
        assert counts["read"] == counts["kept"] + dropped == len(found) + dropped
        return found, {key: n for key, n in counts.items() if n}

    return one


def told(conversation: Conversation) -> str:
    """Each message as its role's first letter and its text."""
    return " | ".join(f"{turn.role[0]}: {turn.content}" for turn in conversation.messages)


def turns(*texts: str, keys: tuple[str, str] = ("role", "content")) -> list[dict[str, str]]:
    return [dict(zip(keys, text.split(": ", 1), strict=True)) for text in texts]


SHAREGPT = ("from", "value")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": turns("user: q", "assistant: a")}, "u: q | a: a"),
        ({"messages": turns("system: s", "user: q", "assistant: a")}, "s: s | u: q | a: a"),
        ({"messages": turns("human: q", "gpt: a", keys=SHAREGPT)}, "u: q | a: a"),
        ({"conversations": turns("human: q", "gpt: a", keys=SHAREGPT)}, "u: q | a: a"),
        ({"conversation": turns("User: q", "Assistant: a")}, "u: q | a: a"),
        ({"conversations": turns("human: q", "gpt: a", keys=SHAREGPT), "system": "s"},
         "s: s | u: q | a: a"),
        ({"prompt": "q", "completion": "a"}, "u: q | a: a"),
        ({"prompt": "q", "response": "a"}, "u: q | a: a"),
        ({"prompt": "q", "completion": "a", "system": ""}, "u: q | a: a"),
        ({"prompt": turns("system: s", "user: q"), "completion": turns("assistant: a")},
         "s: s | u: q | a: a"),
        ({"messages": turns("user: q", "assistant: a"), "prompt": "p", "response": "r"},
         "u: q | a: a"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_shapes(read: Read, rule: Rule, row: Any, expected: str) -> None:
    [one], counts = read("jsonl", [row], rule)
    assert told(one) == expected
    assert counts == {"read": 1, "kept": 1}


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ({}, None, "has none of messages"),
        ({"prompt": "q"}, None, "has none of messages"),
        ({"messages": None}, "messages", "not a list"),
        ({"messages": {"role": "user"}}, "messages", "not a list"),
        ({"messages": ["q"]}, "messages.0", "not an object"),
        ({"messages": [{}]}, "messages.0.from", "unknown role None"),
        ({"messages": turns("tool: x")}, "messages.0.role", "unknown role 'tool'"),
        ({"messages": [{"role": ["user"], "content": "q"}]}, "messages.0.role", "unknown role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "not text"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "not text"),
        ({"conversations": [{"from": "gpt", "value": 3}]}, "conversations.0.value", "not text"),
        ({"prompt": None, "completion": "a"}, "prompt", "not text"),
        ({"prompt": "q", "completion": {"a": 1}}, "completion", "not text"),
        ({"messages": turns("user: q", "gpt: a"), "system": 3}, "system", "not text"),
        ({"messages": turns("user: q", "gpt: a"), "source": [1]}, "source", "not text"),
        (["messages"], None, "not a JSON object"),
    ],
)
def test_records_that_are_no_conversation(read: Read, row: Any, field: Any, says: str) -> None:
    bad: list[UserError] = []
    good = {"prompt": "q", "completion": "a"}
    found, counts = read("jsonl", [good, row, good], on_bad=bad.append)
    assert [one.id for one in found] == ["own_0", "own_2"]
    assert counts["dropped: bad record"] == 1
    [error] = bad
    assert (error.line, error.field) == (2, field)
    assert says in str(error)


def test_instructions_are_told_of_alpaca(read: Read) -> None:
    bad: list[UserError] = []
    read("jsonl", [{"instruction": "i", "output": "o"}], on_bad=bad.append)
    assert "cameleer data convert alpaca" in str(bad[0])


def test_ids_and_sources(read: Read) -> None:
    def row(**more: Any) -> dict[str, Any]:
        return {"prompt": "q", "completion": "a", **more}

    rows = [
        row(id="a", source="mine"),
        row(id=7, dataset="theirs"),
        row(id="a"),
        row(id="a", source=""),
        row(id=None),
        row(id=True),
        row(id={"x": 1}),
        row(id="\udc00"),
    ]
    found, counts = read("jsonl", rows)
    assert [(one.id, one.source) for one in found] == [
        ("a", "mine"),
        ("7", "theirs"),
        ("a-2", "own"),
        ("a-3", "own"),
        ("own_4", "own"),
        ("own_5", "own"),
        ("own_6", "own"),
        ("\ufffd", "own"),
    ]
    assert counts["mended: id given before"] == 2
    assert counts["mended: half a character"] == 1


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "a-2-2", "b"])))
def test_ids_are_unique_and_kept_where_they_can_be(wanted: list[str]) -> None:
    job = Convert(Path())
    given_out = [job.once(one) for one in wanted]
    assert len(set(given_out)) == len(wanted)
    assert all(
        got == one or got.startswith(f"{one}-") for got, one in zip(given_out, wanted, strict=True)
    )
    mended = sum(got != one for got, one in zip(given_out, wanted, strict=True))
    assert job.counts["mended: id given before"] == mended


@pytest.mark.parametrize(
    ("messages", "paper", "fixed", "counted"),
    [
        (["user:  q ", "assistant: a\n"], "u:  q  | a: a\n", "u: q | a: a", None),
        (["system: ", "user: q", "assistant: a"], "s:  | u: q | a: a", "u: q | a: a",
         "cut: empty system message"),
        (["user: q", "assistant: a", "user: r"], "u: q | a: a | u: r", "u: q | a: a",
         "cut: message after the last answer"),
        (["user: q"], "u: q", None, "dropped: no answer"),
        (["user: q", "assistant:  "], "u: q | a:  ", None, "dropped: an empty message"),
        (["user: ", "assistant: a"], "u:  | a: a", None, "dropped: an empty message"),
    ],
)  # fmt: skip
def test_the_two_rules(
    read: Read, messages: list[str], paper: str, fixed: str | None, counted: str | None
) -> None:
    row = {"messages": turns(*messages)}
    [one], counts = read("jsonl", [row], "paper")
    assert (told(one), counts) == (paper, {"read": 1, "kept": 1})
    found, counts = read("jsonl", [row])
    assert [told(one) for one in found] == ([fixed] if fixed else [])
    assert counted is None or counts[counted] == 1


def test_no_message_at_all(read: Read) -> None:
    assert read("jsonl", [{"messages": []}])[1]["dropped: no answer"] == 1
    assert read("jsonl", [{"messages": []}], "paper")[1]["dropped: no message"] == 1


ALPACAS = [
    {"instruction": "Name it.", "input": "", "output": "Camel"},
    {"id": 9, "source": "zoo", "instruction": " Name it. ", "input": "humps\n", "output": " Two"},
    {"instruction": "Name it.", "response": "Camel", "input": None},
    {"instruction": "Name it.", "output": ""},
    {"instruction": " ", "output": "Camel"},
]


def test_alpaca_as_it_was_written(read: Read) -> None:
    found, counts = read("alpaca", ALPACAS)
    assert [(one.id, one.source, told(one)) for one in found] == [
        ("own_0", "own", "u: Name it. | a: Camel"),
        ("9", "zoo", "u: Name it.\n\nhumps | a: Two"),
        ("own_2", "own", "u: Name it. | a: Camel"),
    ]
    dropped = {"dropped: an empty message": 1, "dropped: empty question": 1}
    assert counts == {"read": 5, "kept": 3, **dropped}


def test_alpaca_by_the_papers_rule_is_stanford_alpaca(tmp_path: Path) -> None:
    rows = [{"instruction": f"i{n}", "input": "x" * (n % 2), "output": "o"} for n in range(40)]
    (tmp_path / "alpaca_data.json").write_text(json.dumps(rows))
    own, native = (
        [one.messages for one in convert(name, tmp_path, "paper")[0]]
        for name in ("alpaca", "stanford_alpaca")
    )
    assert own == native


@pytest.mark.parametrize(
    ("row", "field"),
    [({"output": "o"}, "instruction"), ({"instruction": "i"}, "response"),
     ({"instruction": "i", "output": "o", "input": 3}, "input")],
)  # fmt: skip
def test_broken_alpacas(read: Read, row: Any, field: str) -> None:
    bad: list[UserError] = []
    assert read("alpaca", [row], on_bad=bad.append)[0] == []
    assert [error.field for error in bad] == [field]


# --- whatever a record holds

KEYS: tuple[str, ...] = (
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
)
KEYS += ("role", "content", "from", "value", "system", "id", "source", "instances", "constraints")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
LEAVES |= st.sampled_from(
    ["user", "assistant", "human", "gpt", "system", "bing", "q", "", "\ud800"]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
        | st.lists(
            st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]), "value": inner}),
            max_size=4,
        )
    ),
    max_leaves=12,
)
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
NAMES = {
    "jsonl": "own.jsonl",
    "alpaca": "own.jsonl",
    "sharegpt": "own.jsonl",
    "self_instruct": "seed_tasks.jsonl",
    "unnatural_instructions": "core_data.jsonl",
}


class Characters:
    """A tokenizer of one token a character."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[str]]:
        return {"input_ids": texts}


@pytest.mark.parametrize("name", NAMES)
@given(rows=st.lists(ROWS, min_size=1, max_size=5), rule=st.sampled_from(["paper", "fixed"]))
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_any_record_is_kept_or_counted(
    tmp_path: Path, name: str, rows: list[Any], rule: Rule
) -> None:
    if name == "self_instruct":
        rule = "fixed"
    (tmp_path / NAMES[name]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    root = tmp_path / NAMES[name] if SOURCES[name].CARD.any_file else tmp_path
    bad: list[UserError] = []
    stream, counts = convert(
        name, root, rule, on_bad=bad.append, tokenizer=Characters(), max_tokens=20
    )
    found = list(stream)
    assert len({(one.source, one.id) for one in found}) == len(found)
    json.dumps([one.to_row() for one in found], ensure_ascii=False).encode()
    dropped = sum(n for reason, n in counts.items() if reason.startswith("dropped: "))
    assert counts["read"] == len(found) + dropped >= len(rows)
    assert counts["dropped: bad record"] == len(bad)
    assert all(1 <= (error.line or 0) <= len(rows) for error in bad)


# --- files


def test_files_of_every_form_in_a_folder(tmp_path: Path) -> None:
    def row(text: str) -> dict[str, str]:
        return {"prompt": "q", "completion": text}

    (tmp_path / "d.json").write_text(json.dumps([row("1"), row("2")], indent=2))
    (tmp_path / "c.jsonl").write_text("\ufeff" + json.dumps(row("0")) + "\r\n")
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(json.dumps(row("3")).encode()))
    (tmp_path / "f.json").write_text(json.dumps(row("4")))
    (tmp_path / "g.json.gz").write_bytes(gzip.compress(json.dumps([row("5")]).encode()))
    (tmp_path / "fetched.json").write_text("{}")
    (tmp_path / "old.bad.jsonl").write_text("{}")
    (tmp_path / "notes.txt").write_text("not read")
    stream, counts = convert("jsonl", tmp_path)
    found = [(one.id, one.source, one.messages[1].content) for one in stream]
    assert found == [(f"{n}_{p}", n, str(p)) for p, n in enumerate("cddefg")]
    assert counts["kept"] == 6
    assert [one.source for one in convert("jsonl", tmp_path / "g.json.gz")[0]] == ["g"]


@pytest.mark.parametrize("text", ["", " \n", "[]"])
def test_a_file_without_records_is_the_users_mistake(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="no record in it"):
        list(convert("jsonl", tmp_path)[0])


@pytest.mark.parametrize("value", [{"data": [ALPACAS[0]]}, ALPACAS[0]])
def test_one_object_over_many_lines(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(value, indent=2))
    with pytest.raises(UserError, match=r"a\.json: is one JSON object over many lines"):
        list(convert("alpaca", file)[0])
    file.write_text(json.dumps(ALPACAS[0]))
    assert len(list(convert("alpaca", file)[0])) == 1


def test_a_gzip_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_text("{}")
    bad: list[UserError] = []
    stream, _ = convert("jsonl", tmp_path, on_bad=bad.append)
    assert list(stream) == []
    assert len(bad) == 1


@pytest.mark.real_data
def test_real_files(real_data: Path) -> None:
    """Rows of a published mixture come out as they are but for white space at the ends."""
    folder = real_data / "instruct/tulu_v2_converted_sample"
    rows = [
        json.loads(line)
        for line in (folder / "tulu_v2_converted_sample.jsonl").read_text().strip().split("\n")
    ]
    stream, counts = convert("jsonl", folder)
    found = list(stream)
    assert len(found) == len(rows) == counts["kept"] == 200
    for one, row in zip(found, rows, strict=True):
        assert (one.id, one.source) == (row["id"], row["dataset"])
        expected = [turn["content"].strip() for turn in row["messages"]]
        assert [turn.content for turn in one.messages] == expected
    # 495 parts, of which 3 hold no answer and 2 an empty message.
    stream, counts = convert("jsonl", real_data / "instruct/sharegpt")
    assert (len(list(stream)), counts["dropped: no answer"]) == (490, 3)


# --- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "q", "completion": "a" * (n != 1)} for n in range(4)]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"prompt": "q"}\n')
    return file


def test_convert_tells_the_counts_to_people(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "convert", "jsonl", "--from", own, "-o", "deep/o.jsonl")
    assert code == 0
    rows = [line.split("  ") for line in out.splitlines()[2:]]
    assert [" ".join("".join(f"{cell} " for cell in row if cell).split()) for row in rows] == [
        "read 5 100.0%",
        "kept 3 60.0%",
        "dropped: an empty message 1 20.0%",
        "dropped: bad record 1 20.0%",
    ]
    assert "own.jsonl:5: has none of" in err
    assert [one.id for one in read_conversations(Path("deep/o.jsonl"))] == [
        "own_0",
        "own_2",
        "own_3",
    ]


def test_convert_stops_at_the_limit(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "convert", "jsonl", "--from", own, "-o", "o.json", "--limit", 2, "--json"
    )
    assert (code, json.loads(out)["kept"]) == (0, 2)
    assert len(list(read_conversations(Path("o.json")))) == 2


@pytest.mark.embedded
def test_convert_splits_with_a_tokenizer(
    own: Path, embedded_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"from": who, "value": "camel " * 10} for who in ("human", "gpt") * 3]
    own.write_text(json.dumps({"id": "c", "conversations": turns}))
    split = ("convert", "sharegpt", "--from", own, "-o", "o.jsonl", "-t", embedded_model)
    code, out, _ = run(capsys, *split, "--max-tokens", 80, "--json")
    assert (code, json.loads(out)["kept"], json.loads(out)["conversations"]) == (0, 2, 1)
    found = list(read_conversations(Path("o.jsonl")))
    assert [(one.id, len(one.messages)) for one in found] == [
        ("sharegpt_c_0", 4),
        ("sharegpt_c_4", 2),
    ]


@pytest.mark.parametrize(("given", "output"), [("own.jsonl", "own.jsonl"), (".", "new.jsonl")])
def test_the_output_is_never_its_own_input(
    own: Path, capsys: pytest.CaptureFixture[str], given: str, output: str
) -> None:
    before = own.read_bytes()
    code, _, err = run(capsys, "convert", "jsonl", "--from", given, "-o", output)
    assert (code, own.read_bytes()) == (2, before)
    assert "would be read as a file of 'jsonl'" in err
    assert err.count("\n") == 1


def test_ls_says_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAMELEER_DATA", str(tmp_path))
    (tmp_path / "instruct/dolly").mkdir(parents=True)
    (tmp_path / "instruct/dolly/databricks-dolly-15k.jsonl").touch()
    rows = json.loads(run(capsys, "ls", "--json")[1])["sources"]
    assert [row["source"] for row in rows if row["here"]] == ["dolly"]
    [own] = [row for row in rows if row["source"] == "jsonl"]
    assert own["instances"] is None
    lines = run(capsys, "ls")[1].splitlines()
    assert [line.split()[0] for line in lines if " yes " in line] == ["dolly"]


@pytest.mark.slow
def test_an_interrupt_leaves_no_half_file(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "q" * 100, "completion": "a"})
    (tmp_path / "own.jsonl").write_text('{"prompt": "bad"}\n' + f"{row}\n" * 400_000)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "cameleer.cli", "data", "convert", "jsonl"]
    process = subprocess.Popen(
        [*command, "--from", "own.jsonl", "-o", "out/o.jsonl"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list((tmp_path / "out").iterdir())) < 2:  # the temporary file, the bad record
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode not in (0, 1)
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []
