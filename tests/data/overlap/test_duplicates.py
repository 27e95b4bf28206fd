"""Duplicates: beside comparing every pair, planted ones, and what is kept of a group."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.data.encode import WITH_INPUT, WITHOUT_INPUT
from cameleer.data.overlap.duplicates import Duplicates, find_duplicates, unframed

WORDS = [f"w{number}" for number in range(400)]


def write(path: Path, texts: list[str], source: str = "s", answer: str = "") -> Path:
    with path.open("w") as handle:
        for number, text in enumerate(texts):
            messages = [{"role": "user", "content": text}]
            if answer:
                messages.append({"role": "assistant", "content": f"{answer} {number}"})
            row = {"id": f"{source}_{number}", "source": source, "messages": messages}
            handle.write(json.dumps(row) + "\n")
    return path


def restated(texts: list[str]) -> dict[int, tuple[int, str]]:
    """Place to (place that is kept, kind), by comparing every text with all before it."""
    sets = []
    for text in texts:
        said = text.lower().split()
        sets.append({tuple(said[i : i + 5]) for i in range(len(said) - 4)})
    gone: dict[int, tuple[int, str]] = {}
    for place, text in enumerate(texts):
        same = [one for one in range(place) if texts[one].lower() == text.lower()]
        if same:
            gone[place] = (gone.get(same[0], (same[0], ""))[0], "exact")
            continue
        likes = [
            (len(sets[one] & sets[place]) / len(sets[one] | sets[place]), -one)
            for one in range(place)
            if one not in gone and sets[one] | sets[place]
        ]
        if likes and max(likes)[0] >= 0.7:
            gone[place] = (-max(likes)[1], "near")
    return gone


def as_dict(found: Duplicates) -> dict[int, tuple[int, str]]:
    return {one.record: (g.kept, one.kind) for g in found.groups for one in g.members}


def corpus(seed: int, size: int) -> list[str]:
    """Texts of which some are changed copies of earlier ones, by one word, or in case alone."""
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(size):
        kind = draw.random()
        if kind < 0.6 or not texts:
            texts.append(" ".join(draw.choices(WORDS, k=draw.randint(1, 80))))
        elif kind < 0.7:
            texts.append(draw.choice(texts).upper())
        else:
            said = draw.choice(texts).split()
            for _ in range(draw.randint(1, 2)):
                said[draw.randrange(len(said))] = draw.choice(WORDS)
            texts.append(" ".join(said))
    return texts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_as_comparing_every_pair(seed: int, tmp_path: Path) -> None:
    texts = corpus(seed, 400)
    wanted = restated(texts)
    found = find_duplicates([write(tmp_path / "a.jsonl", texts)])
    got = as_dict(found)
    assert {place for place, (_, kind) in got.items() if kind == "exact"} == {
        place for place, (_, kind) in wanted.items() if kind == "exact"
    }
    assert len(wanted) > 60
    differing = {place for place in wanted.keys() | got if wanted.get(place) != got.get(place)}
    assert len(differing) <= len(wanted) / 50  # MinHash may miss one now and then


def test_a_group_tells_where_its_members_are(tmp_path: Path) -> None:
    text = " ".join(WORDS[:40])
    near = f"{' '.join(WORDS[:39])} other"
    files = [
        write(tmp_path / "a.jsonl", [text, "unlike anything else that is said"], "a"),
        write(tmp_path / "b.jsonl", [text.upper(), near, near], "b"),
    ]
    found = find_duplicates(files)
    (row,) = found.rows()
    assert row["kept"] == {"file": str(files[0]), "source": "a", "id": "a_0"}
    assert [(m["id"], m["kind"], m["similarity"]) for m in row["members"]] == [
        ("b_0", "exact", 1.0),
        ("b_1", "near", round(35 / 37, 4)),
        ("b_2", "exact", round(35 / 37, 4)),
    ]
    assert found.pairs() == {("a", "b", "exact"): 2, ("a", "b", "near"): 1}
    assert found.repeats() == {2: "exact", 3: "near", 4: "exact"}
    assert found.counts["read"] == 5


def test_short_ones_are_compared_as_wholes(tmp_path: Path) -> None:
    found = find_duplicates([write(tmp_path / "a.jsonl", ["Hi!", "hi", "hi you", ""])])
    assert as_dict(found) == {1: (0, "exact")}
    assert found.counts["short"] == 4


def test_prompts_alone_without_their_templates(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.jsonl", ["Name three large cities."], "a", "answer of a"),
        write(tmp_path / "b.jsonl", ["Task: Name three large cities.\n\nAnswer:"], "b", "of b"),
    ]
    assert not find_duplicates(files).groups
    assert as_dict(find_duplicates(files, "prompt")) == {1: (0, "exact")}


@given(
    st.sampled_from([template[0] for template in WITH_INPUT]),
    st.sampled_from([template[0] for template in WITHOUT_INPUT]),
)
def test_every_template_is_left_out(one: str, other: str) -> None:
    said, given_ = "Add the two numbers.", "three and four"
    assert unframed(one.format(instruction=said, input=given_)) == [
        *("add", "the", "two", "numbers"),
        *("three", "and", "four"),
    ]
    assert unframed(other.format(instruction=said)) == ["add", "the", "two", "numbers"]


def test_nothing_but_a_template_stays_as_it_is() -> None:
    assert unframed("Task:") == ["task"]


def test_processes_change_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", corpus(4, 1200))
    assert list(find_duplicates([file], cores=2).rows()) == list(find_duplicates([file]).rows())


def test_many_that_are_alike_are_one_group(tmp_path: Path) -> None:
    texts = [f"{' '.join(WORDS[:60])} number{n}" for n in range(3000)]
    found = find_duplicates([write(tmp_path / "a.jsonl", texts)])
    assert len(found.groups) == 1
    assert found.counts["near"] == 2999


def test_no_conversation_at_all(tmp_path: Path) -> None:
    assert find_duplicates([write(tmp_path / "a.jsonl", [])]).counts["read"] == 0


@pytest.mark.real_data
def test_all_shared_prompts_of_two_real_sources_are_found(real_data: Path, tmp_path: Path) -> None:
    from cameleer.core.files import write_jsonl
    from cameleer.data.convert import convert

    files = []
    for name in ("stanford_alpaca", "gpt4_alpaca"):
        files.append(tmp_path / f"{name}.jsonl")
        write_jsonl(files[-1], (one.to_row() for one in convert(name, real_data)[0]))

    def asked(file: str) -> list[str]:
        rows = json.loads((real_data / "instruct" / file).read_text())
        return [" ".join(f"{r['instruction']} {r['input']}".lower().split()) for r in rows]

    first = asked("stanford_alpaca/alpaca_data.json")
    second = asked("gpt4_alpaca/alpaca_gpt4_data.json")
    shared = len(set(first) & set(second))
    assert shared > 20
    pairs = find_duplicates(files, "prompt").pairs()
    assert pairs["stanford_alpaca", "gpt4_alpaca", "exact"] >= shared
