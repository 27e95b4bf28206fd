"""Building mixtures: what is taken, how it is written, and what is recorded about it."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_jsonl
from cameleer.data.mix.build import build, mix_stage, plan
from cameleer.data.mix.config import MixConfig, Part
from cameleer.data.mix.filters import Filters


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with 30 records of Alpaca and 20 of Dolly, and a file of 10 conversations."""
    folder = tmp_path / "data"
    for name in ("stanford_alpaca", "dolly"):
        (folder / "instruct" / name).mkdir(parents=True)
    rows = [{"instruction": f"i{n}", "input": "", "output": f"o{n}"} for n in range(30)]
    (folder / "instruct/stanford_alpaca/alpaca_data.json").write_text(json.dumps(rows))
    write_jsonl(
        folder / "instruct/dolly/databricks-dolly-15k.jsonl",
        ({"instruction": f"i{n}", "context": "", "response": "ab"} for n in range(20)),
    )
    turns = (Message("user", "q"), Message("assistant", "a")) * 2
    chats = (Conversation(str(n), "unnamed", turns).to_row() for n in range(10))
    write_jsonl(folder / "mine.jsonl", chats)
    return folder


def made(data: Path, folder: Path, *parts: Part, seed: int = 1) -> tuple[list[Any], dict[str, Any]]:
    config = MixConfig(name="m", about="test", seed=seed, parts=list(parts))
    stage = mix_stage(config, data, folder)
    assert build(config, data, stage) == folder
    outcome = read_json(folder / "manifest.json")["outcome"]
    return list(read_conversations(folder / "conversations.jsonl")), outcome


ALPACA = Part(source="stanford_alpaca", count=12)
DOLLY = Part(source="dolly", fraction=0.25)


def test_parts_are_taken_and_counted(data: Path, tmp_path: Path) -> None:
    mine = Part(file=data / "mine.jsonl")
    found, outcome = made(data, tmp_path / "mix", ALPACA, DOLLY, mine)
    assert outcome["conversations"] == len(found) == 12 + 5 + 10
    sources = outcome["sources"]
    assert [sources[name]["taken"] for name in ("stanford_alpaca", "dolly", "mine")] == [12, 5, 10]
    assert [one["read"] for one in sources.values()] == [30, 20, 10]
    assert [one["messages"] for one in sources.values()] == [24, 10, 40]
    assert sum(one["share"] for one in sources.values()) == pytest.approx(1)
    assert sum(one["answer_share"] for one in sources.values()) == pytest.approx(1)
    assert sources["mine"]["share"] == pytest.approx(10 / 27)
    letters = sum(len(one.messages[1].content) for one in found if one.source == "stanford_alpaca")
    assert sources["dolly"]["answer_share"] == pytest.approx(10 / (letters + 10 + 20))
    assert len({(one.source, one.id) for one in found}) == 27
    assert {one.source for one in found} == {"stanford_alpaca", "dolly", "mine"}
    names = [one.source for one in found]
    assert names != sorted(names)
    assert sorted(path.name for path in (tmp_path / "mix").iterdir()) == [
        "MIXTURE.md",
        "conversations.jsonl",
        "manifest.json",
    ]


def picks(found: list[Any], source: str) -> set[str]:
    return {one.id for one in found if one.source == source}


def test_a_further_part_changes_no_other_picks(data: Path, tmp_path: Path) -> None:
    alone = made(data, tmp_path / "a", ALPACA)[0]
    both = made(data, tmp_path / "b", DOLLY, ALPACA)[0]
    assert picks(alone, "stanford_alpaca") == picks(both, "stanford_alpaca")


def test_seeds_decide(data: Path, tmp_path: Path) -> None:
    one = made(data, tmp_path / "a", ALPACA)[0]
    same = made(data, tmp_path / "b", ALPACA)[0]
    other = made(data, tmp_path / "c", ALPACA, seed=2)[0]
    assert one == same
    assert picks(one, "stanford_alpaca") != picks(other, "stanford_alpaca")


def test_everything_in_another_order(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "a", Part(source="stanford_alpaca"))[0]
    numbers = [int(one.id.rpartition("_")[2]) for one in found]
    assert numbers != sorted(numbers) == list(range(30))


def test_more_than_there_is(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"31 of 'stanford_alpaca' are asked for, it gives 30"):
        made(data, tmp_path / "mix", Part(source="stanford_alpaca", count=31))
    assert not (tmp_path / "mix").exists()


def test_a_finished_mixture_is_left_alone(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "mix", ALPACA)
    before = (tmp_path / "mix/conversations.jsonl").stat().st_mtime_ns
    made(data, tmp_path / "mix", ALPACA)
    assert (tmp_path / "mix/conversations.jsonl").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds another run"):
        made(data, tmp_path / "mix", ALPACA, DOLLY)


def test_what_a_killed_run_left_does_no_harm(data: Path, tmp_path: Path) -> None:
    config = MixConfig(name="m", seed=1, parts=[ALPACA])
    stage = mix_stage(config, data, tmp_path / "mix")
    stage.partial.mkdir()
    (stage.partial / "begun.json").write_text(json.dumps({"fingerprint": stage.fingerprint}))
    (stage.partial / "spool.jsonl").write_text('{"half')
    build(config, data, stage)
    whole = made(data, tmp_path / "other", ALPACA)[0]
    assert list(read_conversations(tmp_path / "mix/conversations.jsonl")) == whole


def test_fingerprint_is_of_contents_not_places(data: Path, tmp_path: Path) -> None:
    def mark(root: Path, part: Part, **change: Any) -> str:
        fields: dict[str, Any] = {"name": "m", "seed": 1, "parts": [part], **change}
        return mix_stage(MixConfig(**fields), root, tmp_path / "mix").fingerprint

    first = mark(data, ALPACA)
    moved = data.rename(tmp_path / "moved")
    elsewhere = Part.model_validate(
        {"source": "stanford_alpaca", "count": 12, "from": moved / "instruct/stanford_alpaca"}
    )
    assert mark(moved, ALPACA, about="words", name="n") == first
    assert mark(tmp_path, elsewhere) == first
    assert mark(moved, ALPACA, seed=2) != first
    assert mark(moved, Part(source="stanford_alpaca", count=12, rule="paper")) != first
    native = moved / "instruct/stanford_alpaca/alpaca_data.json"
    native.write_text(native.read_text().replace("o3", "x3"))
    assert mark(moved, ALPACA) != first


def test_inputs_are_named_by_part_and_file(data: Path, tmp_path: Path) -> None:
    config = MixConfig(name="m", parts=[ALPACA, Part(file=data / "mine.jsonl")])
    inputs = mix_stage(config, data, tmp_path / "mix").inputs
    assert list(inputs) == ["stanford_alpaca/alpaca_data.json", "mine/mine.jsonl"]
    native = (data / "instruct/stanford_alpaca/alpaca_data.json").read_bytes()
    assert inputs["stanford_alpaca/alpaca_data.json"] == hashlib.sha256(native).hexdigest()


def test_missing_inputs(data: Path, tmp_path: Path) -> None:
    for part, says in (
        (Part(source="dollie"), "did you mean 'dolly'"),
        (Part(file=tmp_path / "no.jsonl"), "no such file"),
        (Part(source="sharegpt"), "no file of 'sharegpt'"),
    ):
        with pytest.raises(UserError, match=says):
            made(data, tmp_path / "mix", part)


def test_repeats_have_ids_of_their_own(data: Path, tmp_path: Path) -> None:
    thrice = Part(source="dolly", count=4, repeat=3)
    found, outcome = made(data, tmp_path / "mix", thrice, ALPACA)
    facts = outcome["sources"]["dolly"]
    assert (facts["taken"], facts["repeats"]) == (12, 8)
    ids = [one.id for one in found if one.source == "dolly"]
    assert len(set(ids)) == 12
    plain = {one for one in ids if "#" not in one}
    assert set(ids) == {one + end for one in plain for end in ("", "#2", "#3")}
    texts = {one.id: one.messages for one in found}
    assert all(texts[one] == texts[one.partition("#")[0]] for one in ids)
    assert outcome["warnings"] == []


def test_a_repeat_of_repeats_finds_ids_that_are_free(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "one", Part(source="dolly", count=4, repeat=2))
    again = Part(file=tmp_path / "one/conversations.jsonl", repeat=2)
    ids = [one.id for one in made(data, tmp_path / "two", again)[0]]
    assert len(set(ids)) == len(ids) == 16


def test_the_same_source_twice_is_said(data: Path, tmp_path: Path) -> None:
    more = Part(source="dolly", name="again")
    found, outcome = made(data, tmp_path / "mix", Part(source="dolly"), more)
    assert len({one.id for one in found}) == 40
    assert sum(one.id.endswith("#2") for one in found) == 20
    assert outcome["warnings"] == [
        "20 conversations have source and id of another; they end in #2, #3, …"
    ]
    assert outcome["sources"]["again"]["repeats"] == 0


def test_duplicates_go_within_a_part_or_across_all(data: Path, tmp_path: Path) -> None:
    """The file's ten conversations are one; Dolly's prompts differ by template and number."""
    exact = Filters(drop_duplicates="exact")
    mine, theirs = (
        Part(file=data / "mine.jsonl", filters=exact),
        Part(file=data / "mine.jsonl", name="b"),
    )
    sources = made(data, tmp_path / "a", mine, theirs)[1]["sources"]
    assert [one["taken"] for one in sources.values()] == [1, 10]
    assert sources["mine"]["dropped: duplicate"] == 9
    config = MixConfig(name="m", parts=[mine, theirs, ALPACA], filters=exact)
    with pytest.raises(UserError, match=r"part 'b' gives no conversation .*10 dropped: duplicate"):
        plan(config, data)
    fewer = MixConfig(name="m", parts=[theirs, ALPACA], filters=exact)
    sources = plan(fewer, data)["sources"]
    assert [one["taken"] for one in sources.values()] == [1, 12]
    assert sources["b"]["kept"] == 1
    assert sources["b"]["read"] == 10


def test_filters_are_counted_and_fractions_are_of_what_is_left(data: Path, tmp_path: Path) -> None:
    ids = data / "ids.txt"
    ids.write_text("dolly_3\nstanford_alpaca_5\nnobody\n")
    part = Part(source="dolly", fraction=0.5, filters=Filters(drop=ids, max_turns=2))
    config = MixConfig(name="m", parts=[part])
    build(config, data, mix_stage(config, data, tmp_path / "mix"))
    outcome = read_json(tmp_path / "mix/manifest.json")["outcome"]
    facts = outcome["sources"]["dolly"]
    assert (facts["read"], facts["kept"], facts["taken"]) == (20, 19, 10)
    assert facts["dropped: in the file of ids to drop"] == 1
    assert outcome["warnings"] == [f"2 of the 3 ids of {ids} were not met in dolly"]


def test_what_decides_is_in_the_fingerprint(data: Path, tmp_path: Path) -> None:
    ids = data / "ids.txt"
    ids.write_text("1\n")
    marks = []

    def mark(*parts: Part, **fields: Any) -> None:
        config = MixConfig(name="m", parts=list(parts), **fields)
        marks.append(mix_stage(config, data, tmp_path / "mix").fingerprint)

    file = data / "mine.jsonl"
    mark(Part(file=file))
    mark(Part(file=file, repeat=2))
    mark(Part(file=file, weight=2))
    mark(Part(file=file, weight=2), total=9)
    mark(Part(file=file, seed=1))
    mark(Part(file=file, max_count=1))
    mark(Part(file=file, licence="MIT"))
    mark(Part(file=file, filters=Filters(drop=ids)))
    mark(Part(file=file), filters=Filters(drop=ids))
    mark(Part(file=file, filters=Filters(min_turns=2)))
    mark(Part(mix=MixConfig(name="mine", parts=[Part(file=file)])))
    mark(Part(mix=MixConfig(name="mine", seed=1, parts=[Part(file=file)])))
    mark(Part(source="dolly", rule="paper"))
    mark(Part(source="dolly"))
    assert len(set(marks)) == len(marks)
    ids.write_text("2\n")
    mark(Part(file=file, filters=Filters(drop=ids)))
    assert marks.count(marks[-1]) == 1
    mark(Part(source="dolly"), rule="paper")
    mark(Part(file=file), seed=42)
    assert (marks[-2], marks[-1]) == (marks[12], marks[0])


def test_a_tree_reads_as_its_leaves(data: Path, tmp_path: Path) -> None:
    inner = MixConfig(name="inner", parts=[ALPACA, DOLLY])
    found, outcome = made(data, tmp_path / "mix", Part(mix=inner, count=6), Part(source="dolly"))
    assert list(outcome["sources"]) == ["stanford_alpaca", "inner/dolly", "dolly"]
    taken = [one["taken"] for one in outcome["sources"].values()]
    assert taken[0] + taken[1] == 6
    asked = [one["asked"] for one in outcome["sources"].values()]
    assert asked == ["12; of inner 6", "0.25 of it; of inner 6", "all"]
    assert len(found) == 26


class Loader:
    """Gives a tokenizer, and counts how often it was asked for one."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.asked = tokenizer, list[str]()

    def __call__(self, name: str) -> Any:
        self.asked.append(name)
        return self.tokenizer


def learned(one: Conversation, tokenizer: Any, most: int | None = None) -> int:
    """Supervised tokens of one conversation, as rendering for training gives them."""
    made = render([one], tokenizer, template_named("tulu"), max_tokens=most)
    return sum(sum(rendered.supervised) for rendered in made)


def test_weights_by_supervised_tokens(data: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
    long = data / "long.jsonl"
    turns = (Message("user", "q"), Message("assistant", "xyzw " * 10))
    alone = (Message("user", "nobody answers"),)
    rows = [Conversation(str(n), "long", turns if n else alone).to_row() for n in range(11)]
    write_jsonl(long, rows)
    config = MixConfig(
        name="m",
        weigh="tokens",
        tokenizer="t",
        total=400,
        parts=[Part(source="dolly", weight=1), Part(file=long, weight=1)],
    )
    load = Loader(tiny_tokenizer)
    folder = build(config, data, mix_stage(config, data, tmp_path / "mix", load), load)
    outcome = read_json(folder / "manifest.json")["outcome"]
    assert outcome["measure"] == "supervised_tokens"
    tokens = Counter[str]()
    for one in read_conversations(folder / "conversations.jsonl"):
        tokens[one.source] += learned(one, tiny_tokenizer)
    for name, facts in outcome["sources"].items():
        assert facts["supervised_tokens"] == tokens[name]
        assert facts["token_share"] == pytest.approx(tokens[name] / tokens.total())
        assert tokens[name] == pytest.approx(200, abs=30)
    assert outcome["sources"]["dolly"]["repeats"] > 0  # its answers are three tokens each
    whole = config.model_copy(
        update={"parts": [config.parts[1].model_copy(update={"weight": None})]}
    )
    whole = whole.model_copy(update={"weigh": "examples", "total": None})
    assert plan(whole, data, load)["sources"]["long"]["without_answer"] == 1


def test_tokens_are_counted_up_to_the_cut(data: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
    load = Loader(tiny_tokenizer)
    part = Part(source="dolly")
    counted = {}
    for most in (None, 40):
        config = MixConfig(name="m", tokenizer="t", max_seq_length=most, parts=[part])
        stage = mix_stage(config, data, tmp_path / f"mix{most}", load)
        found = list(read_conversations(build(config, data, stage, load) / "conversations.jsonl"))
        facts = read_json(stage.folder / "manifest.json")["outcome"]["sources"]["dolly"]
        counted[most] = facts["supervised_tokens"]
        assert counted[most] == sum(learned(one, tiny_tokenizer, most) for one in found)
    assert 0 < counted[40] < counted[None]


def test_the_tokenizer_decides_too(data: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    config = MixConfig(name="m", tokenizer="t", parts=[DOLLY])
    core = tiny_tokenizer.backend_tokenizer
    other = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<s>")
    marks = [
        mix_stage(config, data, tmp_path / "m", Loader(one)).fingerprint
        for one in (tiny_tokenizer, other, tiny_tokenizer)
    ]
    assert marks[0] == marks[2] != marks[1]


def test_no_tokenizer_is_loaded_where_none_is_named(data: Path, tmp_path: Path) -> None:
    load = Loader(None)
    config = MixConfig(name="m", parts=[DOLLY])
    build(config, data, mix_stage(config, data, tmp_path / "m", load), load)
    assert load.asked == []
    text = (tmp_path / "m/MIXTURE.md").read_text()
    assert "no tokenizer was named" in text


def test_planning_says_what_building_does(data: Path, tmp_path: Path) -> None:
    config = MixConfig(name="m", about="test", seed=1, parts=[ALPACA, DOLLY])
    outcome = made(data, tmp_path / "mix", ALPACA, DOLLY)[1]
    before = sorted(tmp_path.rglob("*"))
    assert json.loads(json.dumps(plan(config, data))) == outcome
    assert sorted(tmp_path.rglob("*")) == before


def test_licences_and_origins(data: Path, tmp_path: Path) -> None:
    """Cards speak for sources, and for files of their conversations; own words come first."""
    rows = [Conversation("1", name, (Message("user", "a"),)).to_row() for name in ("dolly", "me")]
    write_jsonl(data / "both.jsonl", rows)
    parts = [
        Part(source="stanford_alpaca"),
        Part(file=data / "both.jsonl"),
        Part(file=data / "mine.jsonl", licence="MIT"),
    ]
    outcome = made(data, tmp_path / "mix", *parts)[1]
    stated = {name: facts["licence"] for name, facts in outcome["sources"].items()}
    assert stated == {
        "stanford_alpaca": "CC BY-NC 4.0",
        "both": "CC BY-SA 3.0; none stated",
        "mine": "MIT",
    }
    assert outcome["strictest"] == "none stated"
    assert set(outcome["licences"]) == {"CC BY-NC 4.0", "CC BY-SA 3.0", "none stated", "MIT"}
    page = (tmp_path / "mix/MIXTURE.md").read_text()
    assert "| none stated | no permission is stated: ask, or leave the data out | both |" in page


def test_the_page_holds_what_the_manifest_does(data: Path, tmp_path: Path) -> None:
    few = Part(source="dolly", count=3, filters=Filters(max_characters=15))
    outcome = made(data, tmp_path / "mix", few, Part(file=data / "mine.jsonl", name="a|b"))[1]
    page = (tmp_path / "mix/MIXTURE.md").read_text()
    lines = page.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables[:4]}) == 1
    dropped = outcome["sources"]["dolly"]["dropped: over 15 characters"]
    assert f"| dolly | over 15 characters | {dropped} |" in lines
    assert f"{outcome['conversations']} conversations of 2 parts." in page


def test_bad_records_are_counted(data: Path, tmp_path: Path) -> None:
    native = data / "instruct/dolly/databricks-dolly-15k.jsonl"
    native.write_text(native.read_text() + '{"instruction": 7}\n{broken\n')
    facts = made(data, tmp_path / "mix", Part(source="dolly"))[1]["sources"]["dolly"]
    assert facts["dropped: bad record"] == 2
    assert facts["read"] == facts["kept"] + 2 == 22


def test_bad_lines_of_a_file_are_counted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data / "mine.jsonl"
    lines = file.read_text().splitlines()
    lines[3:3] = ["{broken", '{"messages": []}', '{"messages": 3}', '{"id": 1}', "text"]
    file.write_text("\n".join(lines) + "\n")
    found, outcome = made(data, tmp_path / "mix", Part(file=file))
    assert [one.id for one in found if one.source == "mine"].count("3") == 1
    facts = outcome["sources"]["mine"]
    assert facts["dropped: bad record"] == 4
    assert facts["passed over: text between records"] == 1
    assert facts["read"] == facts["kept"] + 4 == 14
    told = capsys.readouterr().err
    assert told.count("warning: dropped: ") == 3
    assert f"mine: 5 bad records dropped; `cameleer data convert jsonl --from {file}`" in told
    config = MixConfig(name="m", about="test", parts=[Part(file=file)])
    with pytest.raises(UserError, match=r"mine\.jsonl:4: broken JSON"):
        build(config, data, mix_stage(config, data, tmp_path / "strict"), strict=True)
    with pytest.raises(UserError, match=r"mine\.jsonl:4: broken JSON"):
        plan(config, data, strict=True)


@pytest.mark.real_data
def test_real_slices(real_data: Path, tmp_path: Path) -> None:
    """Equal weights over four real slices; what the paper calls the human part, doubled."""
    names = ("dolly", "code_alpaca", "gpt4_alpaca", "cot")
    parts = [Part(source=name, weight=1) for name in names]
    config = MixConfig(name="m", total=2000, parts=parts)
    stage = mix_stage(config, real_data, tmp_path / "mix")
    build(config, real_data, stage)
    outcome = read_json(stage.folder / "manifest.json")["outcome"]
    assert [facts["taken"] for facts in outcome["sources"].values()] == [500] * 4
    assert outcome["sources"]["dolly"]["repeats"] == 100  # 400 records are there
    ids = [(one.source, one.id) for one in read_conversations(stage.folder / "conversations.jsonl")]
    assert len(set(ids)) == len(ids) == 2000
