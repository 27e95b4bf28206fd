"""What a mixture's file may say, mistakes in it, and mixtures inside mixtures."""

from pathlib import Path

import pytest

from cameleer.core.config import load_config
from cameleer.core.errors import UserError
from cameleer.data.mix.config import MixConfig, Part, expand, load_mixture, named_mixtures


@pytest.mark.parametrize(
    ("yaml", "line", "says"),
    [
        ("name: m\nparts: []\n", 2, "at least 1"),
        ("name: m\nparts:\n- source: dolly\n  counts: 3\n", 4, "did you mean 'count'"),
        ("name: m\nparts:\n- source: dolly\n- count: 3\n", 4, "one of 'source', 'file' and 'mix'"),
        (
            "name: m\nparts:\n- source: dolly\n  count: 3\n  fraction: 0.5\n",
            3,
            "one of 'count', 'fraction'",
        ),
        ("name: m\nparts:\n- file: a\n  from: b\n", 3, "'from' goes with 'source'"),
        ("name: m\nparts:\n- file: a\n  rule: paper\n", 3, "'rule' goes with 'source'"),
        ("name: m\nparts:\n- source: dolly\n  fraction: 1.5\n", 4, "less than or equal to 1"),
        ("name: m\nparts:\n- source: dolly\n  count: 0\n", 4, "greater than 0"),
        ("name: m\nparts:\n- source: dolly\n- source: dolly\n", None, "2 parts are named 'dolly'"),
        ("name: m\nparts:\n- source: dolly\n  rule: new\n", 4, "'paper' or 'fixed'"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, yaml: str, line: int | None, says: str) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(yaml)
    with pytest.raises(UserError) as caught:
        load_config(path, MixConfig)
    assert says in str(caught.value)
    assert caught.value.line == line


def test_a_file_with_from(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("name: m\nparts:\n- source: dolly\n  from: /x\n  count: 3\n")
    [part] = load_config(path, MixConfig).parts
    assert (part.folder, part.count, part.rule) == (Path("/x"), 3, None)


def read(tmp_path: Path, yaml: str) -> MixConfig:
    path = tmp_path / "mix.yaml"
    path.write_text(yaml)
    return load_config(path, MixConfig)


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("- {source: a, weight: 1}\n- {source: b}", "part 'b' has no 'weight'"),
        ("- {source: a, weight: 1, count: 2}", "one of 'count', 'fraction' and 'weight'"),
        ("- {source: a, weight: 1, repeat: 2}", "'repeat' does not go with 'weight'"),
        ("- {source: a}\ntotal: 5", "'total' goes with"),
        ("- {source: a}\nweigh: tokens", "'weigh' goes with"),
        ("- {source: a, filters: {min_turns: 3, max_turns: 2}}", "nothing would be left"),
        ("- {source: a, filters: {max_turn: 2}}", "did you mean 'max_turns'"),
        ("- {source: a, filters: {drop_duplicates: near}}", "'exact'"),
        ("- {mix: human, licence: MIT}", "'licence' goes with"),
        ("- {source: a, file: b.jsonl}", "one of 'source', 'file' and 'mix'"),
        ("- {source: a, name: b/c}", "match pattern"),
        ("- {mix: 7}", "field 'parts.0.mix': is neither a name"),
    ],
)
def test_fields_that_do_not_go_together(tmp_path: Path, yaml: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, f"name: m\nparts:\n{yaml}\n")
    assert says in str(caught.value)


def test_mistakes_in_a_mixture_in_place_have_their_line(tmp_path: Path) -> None:
    yaml = "name: m\nparts:\n- mix:\n    name: x\n    parts:\n    - source: a\n      counts: 1\n"
    with pytest.raises(UserError) as caught:
        read(tmp_path, yaml)
    assert (caught.value.line, caught.value.field) == (7, "parts.0.mix.parts.0.counts")
    assert caught.value.hint == "did you mean 'count'?"


def test_parts_are_named_by_what_they_are(tmp_path: Path) -> None:
    parts = read(
        tmp_path,
        "name: m\nparts:\n- source: dolly\n- file: x/own.jsonl\n- mix: human\n- mix: y/part.yaml\n"
        "- mix: {name: inside, parts: [{source: cot}]}\n- {source: dolly, name: again}\n",
    ).parts
    assert [part.name for part in parts] == ["dolly", "own", "human", "part", "inside", "again"]


def test_the_papers_mixtures() -> None:
    """Section 3.3 of the paper: what each holds, and nothing sampled or weighted."""
    human = {"flan_v2", "cot", "dolly", "oasst1"}
    held = {name: expand(load_mixture(name)) for name in named_mixtures()}
    inner = held["tulu"].parts[0].mix
    assert isinstance(inner, MixConfig)
    assert {part.source for part in held["human"].parts} == human
    assert {part.source for part in inner.parts} == human
    assert {part.source for part in held["tulu"].parts[1:]} == {
        "gpt4_alpaca",
        "code_alpaca",
        "sharegpt",
    }
    assert all(part.asked == "all" for mix in held.values() for part in (*mix.parts, *inner.parts))


def test_what_is_asked_in_words() -> None:
    assert Part(source="a", fraction=0.25, repeat=2).asked == "0.25 of it, 2 times"
    assert Part(source="a", count=1500, max_tokens=10_000).asked == "1,500, at most 10,000 tokens"
    assert Part(source="a", weight=2, max_count=3).asked == "weight 2, at most 3"


def test_overrides_reach_a_named_mixture() -> None:
    assert load_mixture("tulu", ["rule=paper", "seed=7"]).rule == "paper"


def test_unknown_mixtures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown mixture 'tulo' \(did you mean 'tulu'\?"):
        load_mixture("tulo")
    with pytest.raises(UserError, match="no such file"):
        load_mixture(str(tmp_path / "no.yaml"))


def test_files_of_mixtures_in_mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner.yaml").write_text("name: in\nparts: [{source: dolly}, {mix: human}]\n")
    whole = expand(read(tmp_path, "name: out\nparts: [{mix: inner.yaml}, {mix: human}]\n"))
    [first, second] = whole.parts
    assert isinstance(first.mix, MixConfig)
    assert isinstance(second.mix, MixConfig)
    assert (first.name, first.mix.name, second.mix.name) == ("inner", "in", "human")
    assert first.mix.parts[1].mix == second.mix
    assert expand(whole) == whole


def test_mixtures_that_hold_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("name: a\nparts: [{mix: b.yaml}]\n")
    (tmp_path / "b.yaml").write_text("name: b\nparts: [{source: dolly}, {mix: a.yaml}]\n")
    with pytest.raises(UserError, match=r"'b.yaml' holds itself: b.yaml > a.yaml > b.yaml"):
        expand(load_mixture("a.yaml"))


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("weigh: tokens\nparts: [{source: a, weight: 1}]", "mixture 'm' counts tokens"),
        ("parts: [{source: a, max_tokens: 5}]", "part 'a' counts tokens"),
        ("parts: [{source: a, filters: {min_tokens: 5}}]", "part 'a' counts tokens"),
        ("filters: {max_tokens: 5}\nparts: [{source: a}]", "mixture 'm' counts tokens"),
        (
            "parts: [{mix: {name: i, weigh: tokens, parts: [{source: a, weight: 1}]}}]",
            "mixture 'i' counts tokens, and 'm' names no tokenizer",
        ),
        (
            "tokenizer: x\nparts: [{mix: {name: i, tokenizer: y, parts: [{source: a}]}}]",
            "mixture 'i' counts tokens with another 'tokenizer' than 'm'",
        ),
    ],
)
def test_one_tokenizer_counts(tmp_path: Path, yaml: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        expand(read(tmp_path, f"name: m\n{yaml}\n"))
    assert says in str(caught.value)
