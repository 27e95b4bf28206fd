"""The command contract: help with an example, one JSON object, one line for the user's mistakes."""

import errno
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
import typer.main

from cameleer import cli
from cameleer.data.miniature import Miniature, make, miniature_stage

SMALL = Miniature(
    cot=20,
    code_alpaca=8,
    stanford_alpaca=8,
    sharegpt=4,
    gsm=4,
    codex_humaneval=4,
    mmlu_per_subject=2,
)


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that stdout holds."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def mistake(self) -> str:
        """The one line on stderr that tells the user of a mistake."""
        assert self.code == 2, (self.code, self.err)
        assert self.out == ""
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("error: ").rstrip("\n")


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, in an empty folder, with no data folder set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CAMELEER_DATA", raising=False)

    def one(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        code = ended.value.code
        return Done(code if isinstance(code, int) else int(bool(code)), *capsys.readouterr())

    return one


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature world of a handful of records."""
    return make(SMALL, miniature_stage(SMALL, tmp_path_factory.mktemp("cli") / "world"))


@pytest.fixture(scope="module")
def tiny(tiny_model: Callable[[str], Path]) -> Path:
    """A random model's folder; its tokenizer serves as TOKENIZER."""
    return tiny_model("llama")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


CONVERSATION = {
    "id": "camel",
    "source": "own",
    "messages": [
        {"role": "user", "content": "Where does the camel live?"},
        {"role": "assistant", "content": "In the desert."},
    ],
}


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(CONVERSATION) + "\n")
    return path


# ---- help


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its full name."""
    for group_name, group in typer.main.get_group(cli.app).commands.items():
        if not hasattr(group, "commands"):
            yield group_name, group
        for name, command in getattr(group, "commands", {}).items():
            yield f"{group_name} {name}", command


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_has_help_with_an_example_of_itself(run: Run, name: str) -> None:
    shown = run(*name.split(), "--help")
    assert shown.code == 0
    assert f"cameleer {name}" in shown.out.split("Example:")[1]


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_answers_in_json(name: str) -> None:
    options = {option for p in dict(commands())[name].params for option in p.opts}
    assert "--json" in options


CONTRACT = {
    "models": ["ls", "get"],
    "data": ["ls", "fetch", "convert", "stats", "render", "show", "overlap"],
    "mix": ["ls", "plan", "build"],
    "train": ["plan", "run", "proof"],
    "eval": ["ls", "prompts", "run", "grade", "show", "diff"],
    "study": ["plan", "run", "status", "report"],
}


def test_the_contract_names_these_commands() -> None:
    wanted = {f"{group} {verb}" for group, verbs in CONTRACT.items() for verb in verbs}
    assert wanted <= {name for name, _ in commands()}


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, atexit\n"
        "heavy = ('torch', 'transformers', 'scipy', 'altair', 'numpy')\n"
        "atexit.register(lambda: print(*(n for n in heavy if n in sys.modules), file=sys.stderr))\n"
        "from cameleer.cli import main\n"
        "main(['--help'])\n"
    )
    took = []
    for _ in range(3):  # the best of three: other processes may be at work
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        took.append(time.monotonic() - began)
        assert done.returncode == 0
        assert done.stderr.strip() == ""
    assert min(took) < 1.0


def test_version(run: Run) -> None:
    assert run("--version").out.startswith("cameleer 0.")


# ---- what commands do, on the miniature world


def test_data_convert(run: Run, world: Path, tmp_path: Path) -> None:
    facts = run("data", "convert", "cot", "--from", world, "-o", "deep/cot.jsonl", "--json").json
    found = rows(tmp_path / "deep/cot.jsonl")
    assert facts["read"] == facts["kept"] == len(found) == SMALL.cot
    assert found[0].keys() == {"id", "source", "messages"}
    assert [turn["role"] for turn in found[0]["messages"]] == ["user", "assistant"]


def test_data_convert_stops_at_the_limit(run: Run, world: Path, tmp_path: Path) -> None:
    run("data", "convert", "cot", "--from", world, "-o", "cot.jsonl", "--limit", 3)
    assert len(rows(tmp_path / "cot.jsonl")) == 3


@pytest.fixture
def partly_broken(tmp_path: Path) -> Path:
    """Alpaca's file with three records, of which the second, on line 3, is broken."""
    folder = tmp_path / "alpaca"
    folder.mkdir()
    records = [json.dumps({"instruction": f"i{n}", "input": "", "output": "o"}) for n in range(3)]
    text = "[\n" + ",\n".join(records) + "\n]"
    (folder / "alpaca_data.json").write_text(text.replace('"i1"', '"i1'))
    return folder


def test_data_convert_lists_bad_records(run: Run, partly_broken: Path, tmp_path: Path) -> None:
    convert = ("data", "convert", "stanford_alpaca", "--from", partly_broken, "-o", "o.jsonl")
    done = run(*convert, "--json")
    facts, file = done.json, partly_broken / "alpaca_data.json"
    assert [facts[name] for name in ("read", "kept", "dropped: bad record")] == [3, 2, 1]
    assert facts["bad_records"] == "o.bad.jsonl"
    [bad] = rows(tmp_path / "o.bad.jsonl")
    assert (bad["file"], bad["line"], bad["field"]) == (str(file), 3, None)
    assert "broken JSON" in bad["reason"]
    assert f"{file}:3" in done.err
    assert [row["id"] for row in rows(tmp_path / "o.jsonl")] == [
        "stanford_alpaca_0",
        "stanford_alpaca_2",
    ]
    file.write_text(file.read_text().replace('"i1', '"i1"'))
    assert "bad_records" not in run(*convert, "--json").json
    assert not (tmp_path / "o.bad.jsonl").exists()


def test_data_convert_strict_stops_at_the_first(
    run: Run, partly_broken: Path, tmp_path: Path
) -> None:
    convert = ("data", "convert", "stanford_alpaca", "--from", partly_broken, "-o", "o.jsonl")
    said = run(*convert, "--strict").mistake
    assert said.startswith(f"{partly_broken / 'alpaca_data.json'}:3: broken JSON")
    assert not list(tmp_path.glob("*.jsonl"))


def test_data_convert_of_nothing_that_can_be_used(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "alpaca_data.json"
    convert = ("data", "convert", "stanford_alpaca", "--from", "a", "-o", "o.jsonl")
    file.write_text('[{"instruction": 3}, {}]')
    done = run(*convert)
    assert done.code == 2
    assert "error: o.bad.jsonl: none of 2 records could be used" in done.err
    assert len(rows(tmp_path / "o.bad.jsonl")) == 2
    for text in ("", " \n", "[]", '{"instruction": "i"}', "[" + "[" * 100_000):
        file.write_text(text)
        assert run(*convert).code == 2
    for data in (gzip.compress(b'[{"instruction": "i"')[:-9], b"\xff\xfe[\0", b"\0" * 99):
        file.write_bytes(data)
        assert run(*convert).code == 2
    file.unlink()
    file.mkdir()
    assert "is a folder" in run(*convert).mistake
    file.rmdir()
    file.symlink_to(file)
    assert run(*convert).mistake
    assert not (tmp_path / "o.jsonl").exists()


def test_native_files_are_found_by_environment(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMELEER_DATA", str(world))
    assert run("data", "convert", "sharegpt", "-o", "s.jsonl", "--json").json["read"] == 4


def test_data_render_and_stats(run: Run, conversations: Path, tiny: Path, tmp_path: Path) -> None:
    run("data", "render", conversations, "-t", tiny, "-o", "ids.jsonl")
    [row] = rows(tmp_path / "ids.jsonl")
    assert row.keys() == {"id", "input_ids", "supervised"}
    assert len(row["input_ids"]) == len(row["supervised"])
    assert row["input_ids"][-1] == 1  # </s>
    assert row["supervised"][-1] == 1
    [facts] = run("data", "stats", conversations, "-t", tiny, "--json").json["files"]
    assert facts["instances"] == facts["rounds"] == 1
    assert facts["completion_tokens"] == sum(row["supervised"]) - 1  # the end token does not count


def test_data_show(run: Run, conversations: Path, tiny: Path, tmp_path: Path) -> None:
    shown = run("data", "show", conversations, "-t", tiny)
    assert "⟦In the desert.</s>⟧" in shown.out
    facts = run("data", "show", conversations, "-t", tiny, "--html", "page.html", "--json").json
    assert facts["conversations"][0]["id"] == "camel"
    assert "<h1>What is learned</h1>" in (tmp_path / "page.html").read_text()


def test_mix_build(run: Run, world: Path, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(
        "name: both\nparts: [{source: cot, count: 6}, {source: code_alpaca, fraction: 0.5}]\n"
    )
    build = ("mix", "build", "mix.yaml", "--data", world, "-o", "both")
    facts = run(*build, "--json").json
    assert facts["sources"]["cot"]["taken"] == 6
    assert facts["sources"]["code_alpaca"]["taken"] == SMALL.code_alpaca / 2
    assert len(rows(tmp_path / "both/conversations.jsonl")) == facts["conversations"] == 10
    before = (tmp_path / "both/manifest.json").stat().st_mtime_ns
    assert run(*build).code == 0
    assert (tmp_path / "both/manifest.json").stat().st_mtime_ns == before


def test_a_folder_that_holds_something_else_is_left_alone(
    run: Run, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "mix.yaml").write_text("name: one\nparts: [{source: cot}]\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    done = run("mix", "build", "mix.yaml", "--data", world, "-o", "mine")
    assert "mine: holds other files" in done.mistake
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"


def test_eval_prompts(run: Run, world: Path, tmp_path: Path) -> None:
    run("eval", "prompts", "gsm:cot", "--data", world, "--limit", 3, "-o", "p.jsonl")
    found = rows(tmp_path / "p.jsonl")
    assert len(found) == 3
    for row in found:
        assert row.keys() == {"item", "prompt"}
        assert row["prompt"].startswith("<|user|>\nAnswer the following questions.\n\nQuestion: ")
        assert row["prompt"].endswith("\n<|assistant|>\nAnswer:")
    facts = run("eval", "prompts", "mmlu", "--data", world, "-o", "m.jsonl", "--json").json
    assert facts["prompts"] == 3 * SMALL.mmlu_per_subject


def test_eval_grade(run: Run, world: Path, tmp_path: Path) -> None:
    gold = rows(world / "eval/gsm/test.jsonl")[0]["answer"].split("#### ")[1]
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "\n".join(
            json.dumps(row)
            for row in (
                {"item": "gsm/0", "output": f"So the answer is {gold}."},
                {"item": "gsm/1", "output": "I do not know."},
                {"item": "gsm/other", "output": "It is -3.50", "target": "-3.5"},
            )
        )
    )
    grade = ("eval", "grade", "gsm:cot", "--answers", answers, "--data", world)
    found = [json.loads(line) for line in run(*grade).out.splitlines()]
    assert [row["score"] for row in found] == [1.0, 0.0, 1.0]
    assert [row["extracted"] for row in found] == [gold, None, "-3.5"]
    facts = run(*grade, "--json").json
    assert facts["rows"] == found
    assert facts["score"] == pytest.approx(2 / 3)


def test_train_and_eval_run(run: Run, world: Path, tiny: Path, tmp_path: Path) -> None:
    run("data", "convert", "code_alpaca", "--from", world, "-o", "code.jsonl")
    (tmp_path / "sft.yaml").write_text(f"model: {tiny}\ndata: code.jsonl\nmax_seq_length: 256\n")
    facts = run("train", "run", "sft.yaml", "max_steps=2", "-o", "model", "--json").json
    assert facts["steps"] == len(rows(tmp_path / "model/metrics.jsonl")) == 2
    assert (tmp_path / "model/model.safetensors").is_file()
    evaluate = ("eval", "run", "model", "mmlu:0-shot", "--data", world, "-o", "evals", "--json")
    [score] = run(*evaluate).json["scores"]
    assert score["n"] == len(rows(tmp_path / "evals/mmlu-0-shot/samples.jsonl"))
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    before = (tmp_path / "evals/mmlu-0-shot/samples.jsonl").stat().st_mtime_ns
    assert run(*evaluate).json["scores"] == [score]
    assert (tmp_path / "evals/mmlu-0-shot/samples.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("what", ["models", "data", "eval"])
def test_lists(run: Run, what: str) -> None:
    listed = run(what, "ls", "--json").json
    assert listed
    assert all(listed.values())
    assert run(what, "ls").code == 0


def test_data_miniature_is_the_same_for_the_same_seed(run: Run, tmp_path: Path) -> None:
    for place in ("a", "b"):
        run("data", "miniature", "-o", place)
    names = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(names) > 10
    for name in names:
        if name.name != "manifest.json" and (tmp_path / "a" / name).is_file():
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# ---- mistakes: exit 2, one line that names file, line and field, no traceback


def test_out_of_memory_is_no_bug(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> str:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr("cameleer.train.page.training_page", full)
    assert run("train", "show", tmp_path).mistake.startswith("out of memory (make room")


@pytest.mark.parametrize(
    ("second_line", "field", "says"),
    [
        ('{"messages": [', None, "broken JSON"),
        ("[1, 2]", None, "is not a JSON object"),
        ('{"id": "x"}', "messages", "is missing or not a list"),
        ('{"messages": []}', "messages", "at least one message"),
        ('{"messages": [{"role": "robot", "content": ""}]}', "messages.0.role", "'robot'"),
        ('{"messages": [{"role": "user", "content": 5}]}', "messages.0.content", "not text"),
        ('{"messages": ["hello"]}', "messages.0", "is not an object"),
    ],
)
def test_broken_conversations(
    run: Run, tiny: Path, tmp_path: Path, second_line: str, field: str | None, says: str
) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps(CONVERSATION) + "\n" + second_line + "\n")
    for verb in (("render", "own.jsonl", "-o", "out.jsonl"), ("stats", "own.jsonl")):
        said = run("data", *verb, "-t", tiny).mistake
        assert said.startswith("own.jsonl:2: ")
        assert says in said
        assert field is None or f"field '{field}'" in said
    assert not (tmp_path / "out.jsonl").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["own.jsonl"]  # no temporary file stays


def test_text_that_is_not_utf8(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_bytes(json.dumps(CONVERSATION).encode() + b"\n\xff\xfe\n")
    said = run("data", "stats", "own.jsonl", "-t", tiny).mistake
    assert said.startswith("own.jsonl:2: is not UTF-8 text")


UNKNOWN = [
    ("data convert dollly --from {world} -o o.jsonl", "source 'dollly'", "'dolly'"),
    ("eval prompts gms --data {world} -o o.jsonl", "benchmark 'gms'", "'gsm'"),
    ("eval prompts gsm:cott --data {world} -o o.jsonl", "setting of gsm 'cott'", "'cot'"),
    ("eval grade gms --answers o.jsonl --data {world}", "benchmark 'gms'", "'gsm'"),
    ("eval run {tiny} mlmu --data {world} -o o", "benchmark 'mlmu'", "'mmlu'"),
    ("eval run {tiny} mmlu --data {world} -o o --engine transformer", "engine", "'transformers'"),
    ("data render own.jsonl -t {tiny} --template tuluu -o o.jsonl", "template 'tuluu'", "'tulu'"),
    ("models get smollm2-135m-instrct", "embedded model", "'smollm2-135m-instruct'"),
    ("data stats own.jsonl -t embedded:smollm", "embedded model 'smollm'", "cameleer models ls"),
]


@pytest.mark.parametrize(("command", "what", "guess"), UNKNOWN)
def test_unknown_names(
    run: Run, world: Path, tiny: Path, conversations: Path, command: str, what: str, guess: str
) -> None:
    assert conversations.exists()
    said = run(*command.format(world=world, tiny=tiny).split()).mistake
    assert "unknown" in said
    assert what in said
    assert guess in said


MISSING = [
    ("data stats none.jsonl -t {tiny}", "none.jsonl: no such file"),
    ("data render none.jsonl -t {tiny} -o o.jsonl", "none.jsonl: no such file"),
    ("data show none.jsonl -t {tiny}", "none.jsonl: no such file"),
    ("data stats own.jsonl -t none", "no model 'none'"),
    ("data show own.jsonl -t {tiny} --id nobody", "no conversation 'nobody'"),
    ("data convert dolly --from {world} -o o.jsonl", "databricks-dolly-15k.jsonl"),
    ("data convert dolly --from none -o o.jsonl", "none: no data folder for 'dolly'"),
    ("mix build none.yaml -o o", "none.yaml: no such file"),
    ("train run none.yaml -o o", "none.yaml: no such file"),
    ("eval run none mmlu --data {world} -o o", "no model 'none'"),
    ("eval run {world} mmlu --data {world} -o o", "config.json is missing"),
    ("eval prompts mmlu --data none -o o.jsonl", "none: no data folder for 'mmlu'"),
    ("eval grade gsm --answers none.jsonl --data {world}", "none.jsonl: no such file"),
    ("study plan none.yaml", "none.yaml: no such file"),
    ("study report {world}", "study.json is missing"),
]


@pytest.mark.parametrize(("command", "says"), MISSING)
def test_what_is_not_there(
    run: Run, world: Path, tiny: Path, conversations: Path, command: str, says: str
) -> None:
    assert conversations.exists()
    assert says in run(*command.format(world=world, tiny=tiny).split()).mistake


def test_command_lines_that_cannot_be_read(run: Run) -> None:
    assert "Missing option" in run("data", "render", "own.jsonl").mistake
    assert "--limit" in run("data", "convert", "cot", "-o", "o", "--limit", "0").mistake
    assert "No such command 'tarin'" in run("tarin").mistake
    assert "--rule" in run("data", "convert", "cot", "-o", "o", "--rule", "papre").mistake


MIX = "name: m\nseed: 1\nparts:\n  - source: cot\n"
TRAIN = "model: embedded:smollm2-135m-instruct\ndata: own.jsonl\n"
STUDY = """\
name: s
miniature: {}
bases:
  - {name: b, model: nowhere}
mixtures:
  - name: m
    parts: [{source: cot}]
benchmarks:
  - gsm:cot
"""
CONFIGS = [  # command, text, what to replace by what, line and field of the mistake, what is said
    ("mix build", MIX, ("seed", "sead"), 2, "sead", "did you mean 'seed'?"),
    ("mix build", MIX, ("cot", "cot\n    cuont: 3"), 5, "parts.0.cuont", "count"),
    ("mix build", MIX, ("cot", "cot\n    count: 0"), 5, "parts.0.count", "greater than 0"),
    ("mix build", MIX, ("cot", "cot\n    file: x.jsonl"), 4, "parts.0", "'source', 'file'"),
    ("mix build", MIX, ("seed: 1", "name: n"), 2, "name", "is given twice"),
    ("train run", TRAIN, ("own.jsonl", "own.jsonl\nepochs: 3"), 3, "epochs", "known: "),
    ("train run", TRAIN, ("own.jsonl", "own.jsonl\nseeed: 3"), 3, "seeed", "did you mean 'seed'?"),
    ("train run", TRAIN, ("data", "learning_rate: fast\ndata"), 2, "learning_rate", "valid number"),
    ("train run", TRAIN, ("data", "lora: {rank: 8}\ndata"), 2, "lora.rank", "known: "),
    ("study plan", STUDY, ("miniature", "abuot: x\nminiature"), 2, "abuot", "'about'?"),
    ("study plan", STUDY, ("gsm:cot", "gms:cot"), 9, "benchmarks.0", "did you mean 'gsm'?"),
    ("study plan", STUDY, ("nowhere", "x, train: {epochs: 1}"), 4, "bases.0.train", "'epochs'"),
    ("study plan", STUDY, ("{}", "{gms: 5}"), 2, "miniature.gms", "did you mean 'gsm'?"),
    ("study plan", STUDY, ("name: s", "name: a/b"), 1, "name", "pattern"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "text", "change", "line", "field", "says"), CONFIGS)
def test_configurations(
    run: Run,
    tmp_path: Path,
    command: str,
    text: str,
    change: tuple[str, str],
    line: int,
    field: str,
    says: str,
) -> None:
    (tmp_path / "config.yaml").write_text(text.replace(*change, 1))
    said = run(*command.split(), "config.yaml", "-o", "out").mistake
    assert said.startswith(f"config.yaml:{line}: field '{field}': ")
    assert says in said


def test_a_configuration_names_the_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(MIX + "  - sorce: dolly\n")
    assert run("mix", "build", "mix.yaml", "-o", "o").mistake.startswith("mix.yaml:5: ")
    (tmp_path / "mix.yaml").write_text(MIX + "  - [dolly\n")
    assert "broken YAML" in run("mix", "build", "mix.yaml", "-o", "o").mistake


def test_overrides(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sft.yaml").write_text(TRAIN)
    train = ("train", "run", "sft.yaml", "-o", "o")
    assert "did you mean 'learning_rate'?" in run(*train, "learnig_rate=1").mistake
    assert "has no '='" in run(*train, "learning_rate").mistake
    assert "greater than 0" in run(*train, "learning_rate=-1").mistake


def test_more_than_there_is(run: Run, world: Path, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text("name: m\nparts: [{source: cot, count: 21}]\n")
    said = run("mix", "build", "mix.yaml", "--data", world, "-o", "o")
    assert said.code == 2
    assert "21 of 'cot' are asked for, it gives 20" in said.err.splitlines()[-1]
    assert not (tmp_path / "o").exists()


def test_an_over_long_conversation(
    run: Run, tiny: Path, conversations: Path, tmp_path: Path
) -> None:
    text = f"model: {tiny}\ndata: {conversations}\nmax_seq_length: 16\non_long: error\n"
    (tmp_path / "sft.yaml").write_text(text)
    said = run("train", "run", "sft.yaml", "-o", "o").mistake
    assert "own.jsonl: field 'max_seq_length': conversation 'camel' has" in said
    assert "over the limit of 16" in said


def test_grading_names_the_line(run: Run, world: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"item": "gsm/0", "output": 5}\n')
    grade = ("eval", "grade", "gsm", "--answers", "answers.jsonl", "--data", world)
    assert run(*grade).mistake.startswith("answers.jsonl:1: field 'output': ")
    answers.write_text('{"item": "gsm/999", "output": ""}\n')
    assert "unknown item 'gsm/999'" in run(*grade).mistake


# ---- places that cannot be written


def test_output_is_a_folder_or_no_plain_file(run: Run, world: Path, tmp_path: Path) -> None:
    """A file is renamed into place: whatever else stands there would be gone."""
    (tmp_path / "there").mkdir()
    os.mkfifo(tmp_path / "pipe")
    convert = ("data", "convert", "cot", "--from", world, "-o")
    assert "there: field 'output': is a folder" in run(*convert, "there").mistake
    assert "pipe: field 'output': is no plain file" in run(*convert, "pipe").mistake
    assert (tmp_path / "pipe").is_fifo()


def test_output_below_a_file(run: Run, world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "mix.yaml").write_text("name: m\nparts: [{source: cot}]\n")
    for command in (
        ("data", "convert", "cot", "--from", world, "-o", "file/o.jsonl"),
        ("mix", "build", "mix.yaml", "--data", world, "-o", "file/o"),
        ("mix", "build", "mix.yaml", "--data", world, "-o", "file"),
        ("data", "miniature", "-o", "file/o"),
    ):
        said = run(*command).mistake
        assert "file" in said
        assert "folder" in said


def full_disk(what: int) -> Callable[..., IO[Any]]:
    """Opens no file for writing."""

    def refuse(self: Path, mode: str = "r", *arguments: Any, **named: Any) -> IO[Any]:
        if "r" not in mode:
            raise OSError(what, os.strerror(what), str(self))
        return open(self, mode, *arguments, **named)  # noqa: PTH123

    return refuse


@pytest.mark.parametrize(
    ("what", "says"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be written")],
)
def test_a_disk_that_takes_no_more(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: int, says: str
) -> None:
    (tmp_path / "mix.yaml").write_text("name: m\nparts: [{source: cot}]\n")
    monkeypatch.setattr(Path, "open", full_disk(what))
    convert = run("data", "convert", "cot", "--from", world, "-o", "o.jsonl").mistake
    assert "o.jsonl" in convert
    assert says in convert
    assert says in run("mix", "build", "mix.yaml", "--data", world, "-o", "m").mistake
    assert not (tmp_path / "o.jsonl").exists()
    assert not (tmp_path / "m").exists()


def test_a_disk_that_is_full_halfway_leaves_the_old_file(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o.jsonl").write_text("what was there before\n")
    calls = []

    def fill(conversation: Any) -> bytes:
        calls.append(conversation)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return b"{}\n"

    monkeypatch.setattr("cameleer.data.convert.to_line", fill)
    said = run("data", "convert", "cot", "--from", world, "-o", "o.jsonl").mistake
    assert "the disk is full" in said
    assert (tmp_path / "o.jsonl").read_text() == "what was there before\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.jsonl"]


# ---- bugs and interruptions


def test_a_bug_says_that_it_is_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cameleer.data import source

    monkeypatch.setattr(source, "all_sources", lambda: 1 / 0)
    done = run("data", "ls")
    assert done.code == 1
    assert "ZeroDivisionError" in done.err
    assert "please report it" in done.err


def test_ctrl_c(tmp_path: Path) -> None:
    program = (
        "from cameleer.data import source\n"
        "def interrupted(): raise KeyboardInterrupt\n"
        "source.all_sources = interrupted\n"
        "from cameleer.cli import main\n"
        "main(['data', 'ls'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted; the same command goes on from here\n"


def test_as_a_program(world: Path, tmp_path: Path) -> None:
    """The installed entry point: JSON alone on stdout, notes on stderr."""
    (tmp_path / "mix.yaml").write_text("name: m\nparts: [{source: cot}]\n")
    command = [sys.executable, "-m", "cameleer.cli", "mix", "build", "mix.yaml", "--json"]
    done = subprocess.run(
        [*command, "--data", str(world), "-o", "m"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["conversations"] == SMALL.cot
    assert done.stderr.startswith("cot: 20 conversations\n")
    environment = {**os.environ, "CAMELEER_DATA": "", "CAMELEER_CACHE": str(tmp_path / "empty")}
    wrong = subprocess.run(
        [*command, "-o", "n"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
