"""What is supported, told by the tests that show it: their parameters are the cells."""

from __future__ import annotations

import contextlib
import io
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from docs.markdown import table

ROOT = Path(__file__).parents[1]
ABOUT = """A cell is filled by a test of this repository, never by hand: `python -m docs.generate`
collects the tests named below and reads for what they are parametrised. An empty cell says that no
test shows it, no more."""


@dataclass(frozen=True)
class Claim:
    """A test, `folder/file::test` within tests/, and the parameters of it that are meant."""

    test: str
    only: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return "tests/" + self.test.partition("::")[0]

    @property
    def name(self) -> str:
        return self.test.partition("::")[2]


TRAINED = "train/test_loop.py::test_every_family_learns"
MERGED = "model/test_adapters.py::test_merged_is_the_model_with_adapters"
FAMILIES = {
    "trained whole": Claim(TRAINED, {"way": "full"}),
    "LoRA": Claim(TRAINED, {"way": "LoRA"}),
    "QLoRA": Claim(TRAINED, {"way": "QLoRA"}),
    "merged": Claim(MERGED, {"load": "plain"}),
    "4 bits merged": Claim(MERGED, {"load": "quantised"}),
    "packed = unpacked": Claim(
        "train/test_families.py::test_the_loss_of_a_packed_row_is_that_of_its_documents"
    ),
    "shared prefixes": Claim(
        "model/test_attention.py::test_segments_have_prefixes_of_their_own_that_may_be_chains"
    ),
    "answers = generate": Claim(
        "engines/test_transformers.py::test_greedy_is_generate_on_each_prompt_alone"
    ),
}
REFUSED = Claim("model/test_packing.py::test_these_would_be_wrong_without_a_word")

LOCAL, VLLM = "engines/test_transformers.py::test_", "engines/test_vllm.py::test_"
API, SERVED = "engines/test_openai.py::test_", "engines/test_openai_real.py::test_"
ENGINES = {
    "greedy outputs, held against another engine": {
        "transformers": Claim(LOCAL + "greedy_is_generate_on_each_prompt_alone"),
        "vllm": Claim(VLLM + "it_answers_as_transformers_does_in_float32"),
        "openai": Claim(SERVED + "greedy_outputs_are_the_local_engines"),
    },
    "outputs by item": {
        "transformers": Claim(LOCAL + "outputs_of_different_lengths_in_one_batch"),
        "vllm": Claim(VLLM + "batches_are_of_neighbours_and_of_one_make_up"),
        "openai": Claim(API + "plain_prompts_go_to_completions"),
        "replay": Claim("engines/test_replay.py::test_each_item_gets_what_the_file_holds"),
    },
    "stop texts": {
        "transformers": Claim(LOCAL + "a_stop_text_ends_an_output_and_is_cut_off"),
        "vllm": Claim(VLLM + "outputs_end_at_the_first_stop_and_are_drawn_by_seed_and_key"),
        "openai": Claim(API + "stop_texts_that_the_server_leaves_in_or_cannot_take"),
    },
    "samples drawn by seed and item": {
        "transformers": Claim(LOCAL + "a_sample_is_told_by_seed_key_and_number"),
        "vllm": Claim(VLLM + "outputs_end_at_the_first_stop_and_are_drawn_by_seed_and_key"),
        "openai": Claim(API + "seeds_differ_between_items_and_runs_are_alike"),
    },
    "choices by their letter": {
        "transformers": Claim(LOCAL + "choices_are_a_plain_forward_pass"),
        "vllm": Claim(VLLM + "choices_of_one_token_each_are_asked_at_once"),
        "openai": Claim(API + "letters_among_the_likeliest_tokens"),
    },
    "whole answers scored": {
        "transformers": Claim(LOCAL + "whole_choices_are_the_sum_of_a_plain_forward_pass"),
        "vllm": Claim(VLLM + "sums_over_choices_are_of_their_own_tokens"),
        "openai": Claim(API + "whole_answers_are_scored_where_prompts_are_echoed"),
    },
    "common beginnings computed once": {
        "transformers": Claim(LOCAL + "every_common_beginning_is_computed_once"),
    },
    "chats in the model's own template": {
        "transformers": Claim(
            "engines/test_talk.py::test_a_prompt_is_that_of_the_models_own_template"
        ),
        "openai": Claim(SERVED + "a_chat_in_the_models_own_template"),
    },
    "no room in the context is told": {
        "transformers": Claim(LOCAL + "what_the_context_has_no_room_for_is_counted_and_told"),
        "vllm": Claim(VLLM + "what_does_not_fit_is_said_and_what_hardly_fits_is_clipped"),
        "openai": Claim(API + "a_context_without_room"),
    },
    "killed, it goes on to the same answers": {
        "transformers": Claim(LOCAL + "what_a_killed_run_goes_on_with_is_the_same_to_the_bit"),
        "openai": Claim(API + "kill_9_loses_no_answer"),
    },
    "a budget": {"openai": Claim(API + "a_budget_of_dollars_is_never_passed")},
}
STAND_INS = {"tests/engines/test_vllm.py", "tests/engines/test_openai.py"}
"""Files whose tests put something in place of the library or the server, unless they may skip."""

RANKS = Claim("train/test_parallel.py::test_two_ranks_learn_what_one_learns")
KILLED = Claim("train/test_resume.py::test_killed_again_and_again")
GPU = Claim("model/test_kernels.py::test_on_a_gpu_as_on_the_cpu")
ON_CUDA = """Nothing of it has run on CUDA yet. FlashAttention and flex attention, FSDP2 over NCCL,
QLoRA's kernels, paged and offloaded optimizers, Liger's kernels, `torch.compile` and vLLM on a GPU
are written from their documented interfaces and tested on CPUs: several ranks with gloo, 4 bits
with bitsandbytes' CPU kernels, vLLM with a stand-in. On a machine with a GPU this waits:"""


class Collected:
    """The tests that pytest finds in these files: by name, their parameters and needs."""

    def __init__(self, files: Sequence[str]) -> None:
        self.items: list[Any] = []
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            options = ["--collect-only", "-qq", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
            code = pytest.main([*options, *(str(ROOT / file) for file in files)], plugins=[self])
        if code != 0:
            raise SystemExit(f"the tests cannot be collected:\n{said.getvalue()}")

    def pytest_collection_finish(self, session: Any) -> None:
        self.items = list(session.items)

    def of(self, claim: Claim) -> list[dict[str, str]]:
        """The parameters, as text, of each case of the test; there must be one."""
        cases = [self._case(item) for item in self._items(claim)]
        found = [case for case in cases if claim.only.items() <= case.items()]
        if not found:
            raise SystemExit(f"docs/support.py: there is no tests/{claim.test} for {claim.only}")
        return found

    def needs(self, claim: Claim) -> str:
        """Why the test is skipped where it is, else ""."""
        reasons = [mark.kwargs["reason"] for item in self._items(claim) for mark in
                   item.iter_markers("skipif")]  # fmt: skip
        return str(reasons[0]) if reasons else ""

    def _items(self, claim: Claim) -> list[Any]:
        file = ROOT / claim.file
        return [one for one in self.items if one.originalname == claim.name and one.path == file]

    def _case(self, item: Any) -> dict[str, str]:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        return {name: getattr(value, "__name__", str(value)) for name, value in given.items()}


def support_parts() -> Iterator[str]:
    """The page's lines, but for its title."""
    engines = [claim for cells in ENGINES.values() for claim in cells.values()]
    claims = [*FAMILIES.values(), REFUSED, *engines, RANKS, KILLED, GPU]
    tests = Collected(sorted({claim.file for claim in claims}))
    yield from _families(tests)
    yield from _engines(tests)
    yield from _machines(tests)


def _families(tests: Collected) -> Iterator[str]:
    cells = {name: _cases(tests, claim) for name, claim in FAMILIES.items()}
    yield from ("## Families of models", "")
    yield "By the `model_type` of config.json; where layers attend otherwise there is another row."
    yield ""
    rows = [
        [family, *("yes" if family in found else "" for found in cells.values())]
        for family in cells["packed = unpacked"]
    ]
    yield from table(["family", *FAMILIES], rows)
    refused = ", ".join(f"`{family}`" for family in _cases(tests, REFUSED))
    yield f"Refused in one line, as packed rows would be wrong without a word: {refused}."
    yield from ("", *_shown(FAMILIES.items()))


def _cases(tests: Collected, claim: Claim) -> list[str]:
    """The families of a test, in order: the parameter `family`, or the fixture that has it."""
    named = ("family", "pair", "name")
    found = [case[key] for case in tests.of(claim) for key in named if key in case]
    return list(dict.fromkeys(found))


def _engines(tests: Collected) -> Iterator[str]:
    names = list(dict.fromkeys(name for cells in ENGINES.values() for name in cells))
    yield from ("## Engines", "")
    yield "*stand-in*: the test has a stand-in for the library or the server. *where it is*: the"
    yield "test runs with the real one, and is skipped where that is not installed."
    yield ""
    rows = [
        [feature, *(_how(tests, cells.get(name)) for name in names)]
        for feature, cells in ENGINES.items()
    ]
    yield from table(["", *names], rows)
    claims = [
        (f"{name}, {what}", one) for what, cells in ENGINES.items() for name, one in cells.items()
    ]
    yield from _shown(claims)


def _how(tests: Collected, claim: Claim | None) -> str:
    if claim is None:
        return ""
    tests.of(claim)
    if tests.needs(claim):
        return "where it is"
    return "stand-in" if claim.file in STAND_INS else "yes"


def _machines(tests: Collected) -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    language = "Programming Language :: Python :: "
    versions = [one.removeprefix(language) for one in project["classifiers"] if language in one]
    yield from ("## Machines", "")
    rows = [
        ["Linux, CPU", "all tests"],
        ["several ranks (gloo)", f"{_link(RANKS)}: {_values(tests, RANKS, 'kind')}"],
        ["killed and taken up again", f"{_link(KILLED)}: {_values(tests, KILLED, 'kind')}"],
        ["CUDA", f"{_link(GPU)}: {len(tests.of(GPU))} cases; it {tests.needs(GPU)}"],
        [
            "Python",
            f"tests run on {', '.join(versions)}; {project['requires-python']} is asked for",
        ],
        ["macOS, Windows", "no test runs there; the sandbox needs Linux"],
    ]
    yield from table(["", "shown by"], rows)
    yield from ("### CUDA", "", ON_CUDA, "", f"- {_link(GPU)}")


def _values(tests: Collected, claim: Claim, name: str) -> str:
    return "; ".join(dict.fromkeys(case[name] for case in tests.of(claim)))


def _shown(claims: Any) -> Iterator[str]:
    """What shows each of the cells, folded away."""
    yield from ("<details markdown><summary>The tests</summary>", "")
    yield from (f"- {name}: {_link(claim)}" for name, claim in claims)
    yield from ("", "</details>", "")


def _link(claim: Claim) -> str:
    only = "".join(f", {value}" for value in claim.only.values())
    return f"`tests/{claim.test}`{only}"
