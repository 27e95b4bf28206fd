"""Open Assistant 1: which paths of a tree become conversations, by both rules."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.encode import Row
from cameleer.data.source import Convert
from cameleer.data.sources import oasst1

RELEASE = "2023-04-12_oasst_ready.trees.jsonl"


def node(text: str, /, *replies: Any, **changes: Any) -> dict[str, Any]:
    """A message; one whose text begins with a capital is a prompt, as in "Q1"."""
    role = "prompter" if text[:1].isupper() else "assistant"
    labels = {"quality": {"value": len(text) / 10, "count": 3}}
    values = {"text": text, "role": role, "deleted": False, "labels": labels}
    return {**values, "replies": list(replies), **changes}


def gone(text: str, *replies: Any) -> dict[str, Any]:
    return node(text, *replies, deleted=True)


def write(root: Path, *prompts: Any, name: str = RELEASE) -> Path:
    rows = [{"message_tree_id": str(n), "prompt": prompt} for n, prompt in enumerate(prompts)]
    (root / name).write_text("\n".join(map(json.dumps, rows)))
    return root


def read(
    root: Path, rule: Rule = "fixed"
) -> tuple[list[Conversation], Counter[str], list[UserError]]:
    bad: list[UserError] = []
    stream, counts = convert("oasst1", root, rule, on_bad=bad.append)
    return list(stream), counts, bad


def shown(found: list[Conversation]) -> list[str]:
    """Each conversation as its texts; the roles must be those of the texts."""
    for one in found:
        roles = ["user" if turn.content[:1].isupper() else "assistant" for turn in one.messages]
        assert [turn.role for turn in one.messages] == roles
    return ["/".join(turn.content for turn in one.messages) for one in found]


QUESTION = "a question without an answer"
DELETED = "a deleted message"
REPEATED = "its answers stand in another conversation"
EMPTY = "an empty message"
TWICE = "speakers do not alternate"


@pytest.mark.parametrize(
    ("tree", "paper", "paper_dropped", "fixed", "fixed_dropped"),
    [
        (node("Q", node("a")), ["Q/a"], {}, ["Q/a"], {}),
        (node("Q", node("low"), node("higher")), ["Q/low", "Q/higher"], {},
         ["Q/low", "Q/higher"], {}),
        (node("Q"), [], {QUESTION: 1}, [], {QUESTION: 1}),
        # the paper loses an answer that is followed by questions which nobody answered
        (node("Q", node("a", node("R"))), [], {QUESTION: 1}, ["Q/a"], {}),
        (node("Q", node("a", node("R"), node("S"))), [], {QUESTION: 2}, ["Q/a"], {REPEATED: 1}),
        # but where another question was answered, nothing is lost and nothing is repeated
        (node("Q", node("a", node("R"), node("S", node("b")))), ["Q/a/S/b"], {QUESTION: 1},
         ["Q/a/S/b"], {REPEATED: 1}),
        (node("Q", node("a", node("R", node("b", node("S"))), node("T", node("c")))),
         ["Q/a/T/c"], {QUESTION: 1}, ["Q/a/R/b", "Q/a/T/c"], {}),
        # deleted messages
        (gone("Q", node("a")), [], {DELETED: 1}, [], {DELETED: 1}),
        (node("Q", gone("a"), node("b")), ["Q/b"], {DELETED: 1}, ["Q/b"], {DELETED: 1}),
        (node("Q", node("a", gone("R", node("b")))), [], {DELETED: 1}, ["Q/a"], {}),
        (node("Q", node("a", node("R", gone("b")), gone("S"))), [], {DELETED: 2},
         ["Q/a"], {REPEATED: 1}),
        # empty messages, and one that speaks twice: as they are, or an end
        (node("Q", node("")), ["Q/"], {}, [], {EMPTY: 1}),
        (node("Q", node("a", node("R", node(" ")))), ["Q/a/R/ "], {}, ["Q/a"], {}),
        (node("Q", node("a", node("b"))), ["Q/a/b"], {}, ["Q/a"], {}),
        (node("Q", node("a", node("b", node("R", node("c"))), node("S", node("d")))),
         ["Q/a/b/R/c", "Q/a/S/d"], {}, ["Q/a/S/d"], {REPEATED: 1}),
        (node("a", node("Q", node("b"))), ["a/Q/b"], {}, [], {TWICE: 1}),
    ],
)  # fmt: skip
def test_paths(
    tmp_path: Path,
    tree: Any,
    paper: list[str],
    paper_dropped: dict[str, int],
    fixed: list[str],
    fixed_dropped: dict[str, int],
) -> None:
    write(tmp_path, tree)
    for rule, kept, dropped in (("paper", paper, paper_dropped), ("fixed", fixed, fixed_dropped)):
        found, counts, bad = read(tmp_path, rule)  # type: ignore[arg-type]
        assert shown(found) == kept
        reasons = {
            key.removeprefix("dropped: "): n for key, n in counts.items() if "dropped" in key
        }
        assert reasons == dropped
        assert not bad
        assert counts["read"] == len(kept) + sum(dropped.values())


def test_golden(tmp_path: Path) -> None:
    """Three trees of the release's shape, the ids, and the same paths under the same id."""
    first = node(
        "Where do camels live? ",
        node("in deserts, mostly.", node("Which?", node("the Sahara."), node("the Gobi.\n"))),
        node("in zoos.", node("Really?")),
    )
    second = node("Tell me a joke.", gone("spam"), node("no."))
    third = node("Is anybody there?")
    write(tmp_path, first, second, third)
    begin = ["Where do camels live?", "in deserts, mostly.", "Which?"]
    fixed, counts, _ = read(tmp_path)
    assert {one.id: [turn.content for turn in one.messages] for one in fixed} == {
        "oasst1_0_0": [*begin, "the Sahara."],
        "oasst1_0_1": [*begin, "the Gobi."],
        "oasst1_0_2": ["Where do camels live?", "in zoos."],
        "oasst1_1_1": ["Tell me a joke.", "no."],
    }
    assert counts == {
        "trees": 3,
        "read": 6,
        "kept": 4,
        "cut back to the last answer": 1,
        f"dropped: {DELETED}": 1,
        f"dropped: {QUESTION}": 1,
    }
    paper = read(tmp_path, "paper")[0]
    assert [one.id for one in paper] == ["oasst1_0_0", "oasst1_0_1", "oasst1_1_1"]
    assert paper[1].messages[0].content == "Where do camels live? "
    assert paper[1].messages[-1].content == "the Gobi.\n"


def test_which_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, node("Q", node("a")), name="en_tree.jsonl")
    assert shown(read(tmp_path)[0]) == ["Q/a"]
    write(tmp_path, node("Q", node("b")))
    assert shown(read(tmp_path)[0]) == ["Q/b"]
    packed = json.dumps({"prompt": node("Q", node("c"))})
    (tmp_path / f"{RELEASE}.gz").write_bytes(gzip.compress(packed.encode()))
    assert shown(read(tmp_path)[0]) == ["Q/c"]


@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (None, ""),
        ("text", ""),
        (node("b", text=None), ".text"),
        (node("b", role="bot"), ".role"),
        (node("b", role=["assistant"]), ".role"),
        (node("b", replies=None), ".replies"),
        (node("b", deleted="no"), ".deleted"),
    ],
)
def test_a_broken_message_goes_with_what_it_leads_to(
    tmp_path: Path, rule: Rule, broken: Any, field: str
) -> None:
    write(tmp_path, node("Q", node("a")), node("Q", node("a", node("R", broken, node("c")))))
    found, counts, [error] = read(tmp_path, rule)
    assert shown(found) == ["Q/a", "Q/a/R/c"]
    assert counts["read"] == 3
    place = f"prompt.replies.0.replies.0.replies.0{field}"
    assert (error.file, error.line, error.field) == (tmp_path / RELEASE, 2, place)


def test_strict_stops_at_a_broken_message(tmp_path: Path) -> None:
    write(tmp_path, node("Q", node("a")), node("Q", node("b", text=None), node("c")))
    stream, _ = convert("oasst1", tmp_path, strict=True)
    assert next(stream).id == "oasst1_0_0"
    with pytest.raises(UserError, match=r":2: field 'prompt\.replies\.0\.text'"):
        next(stream)


def test_a_broken_prompt_is_one_bad_record(tmp_path: Path) -> None:
    write(tmp_path, None, node("Q", node("a")))
    found, counts, [error] = read(tmp_path)
    assert [one.id for one in found] == ["oasst1_1_0"]
    assert (counts["read"], error.field) == (2, "prompt")


def test_a_tree_as_deep_as_json_can_be(tmp_path: Path) -> None:
    deep = node("Q")
    for number in range(400):
        deep = node("a" if number % 2 == 0 else "Q", deep)
    write(tmp_path, node("Q", deep) if deep["role"] == "assistant" else deep)
    found, _, bad = read(tmp_path)
    assert not bad
    assert len(found[0].messages) == 400


TEXTS = st.sampled_from(["Q", "a", "", " "])
TREES = st.recursive(
    st.builds(node, TEXTS, deleted=st.booleans()),
    lambda below: st.builds(
        lambda text, replies: node(text, *replies), TEXTS, st.lists(below, max_size=3)
    ),
    max_leaves=12,
)


def every_answer(tree: dict[str, Any], before: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """The place of each answer that can be learned by the fixed rule, stated by recursion."""
    right = ("prompter", "assistant")[len(before) % 2]
    if tree["deleted"] or tree["role"] != right or not tree["text"].strip():
        return []
    here = [before] if right == "assistant" else []
    return here + [
        place
        for number, reply in enumerate(tree["replies"])
        for place in every_answer(reply, (*before, number))
    ]


@given(TREES)
def test_every_answer_is_learned_and_no_conversation_begins_another(tree: dict[str, Any]) -> None:
    job = Convert(Path(), "fixed")
    row = Row(Path("x"), 1, 0, {"prompt": tree})
    made = list(oasst1._tree(job, row))
    found = [one for one in made if isinstance(one, Conversation)]
    answers = every_answer(tree)
    last = [a for a in answers if not any(b != a and b[: len(a)] == a for b in answers)]
    assert sorted(len(one.messages) for one in found) == sorted(len(a) + 1 for a in last)
    paper = list(oasst1._tree(Convert(Path(), "paper"), row))
    assert len(paper) == len(made)


@pytest.mark.real_data
def test_real_trees(real_data: Path) -> None:
    """Counts from the file by recursion: 276 leaves are answers, 140 are questions."""
    path = real_data / "instruct/oasst1/en_100_tree.jsonl"
    trees = [json.loads(line)["prompt"] for line in path.read_text().strip().split("\n")]

    def leaves(tree: dict[str, Any]) -> list[str]:
        below = [leaf for reply in tree["replies"] for leaf in leaves(reply)]
        return below or [tree["role"]]

    ends = Counter(end for tree in trees for end in leaves(tree))
    paper, counts, bad = read(real_data, "paper")
    assert (len(trees), counts["trees"], bad) == (70, 70, [])
    assert counts["kept"] == ends["assistant"] == 276
    assert counts[f"dropped: {QUESTION}"] == ends["prompter"] == 140
    fixed, fixed_counts, _ = read(real_data)
    answers = [a for tree in trees for a in every_answer(tree)]
    by_tree = [every_answer(tree) for tree in trees]
    last = [a for group in by_tree for a in group
            if not any(b != a and b[: len(a)] == a for b in group)]  # fmt: skip
    assert len(fixed) == len(last) == 276 + fixed_counts["cut back to the last answer"]
    assert len(answers) == 475
    assert {one.id for one in paper} <= {one.id for one in fixed}
