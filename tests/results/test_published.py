"""The published numbers against the paper's own averages, and against a list of what is unsure."""

from collections import Counter
from statistics import mean

import pytest

from cameleer.core.errors import UserError
from cameleer.data.mix.config import named_mixtures
from cameleer.data.source import all_sources
from cameleer.evals.benchmark import all_benchmarks
from cameleer.results.published.rows import Published, published, sources

SIX = (
    "mmlu:0-shot",
    "gsm:cot",
    "bbh:cot",
    "tydiqa:gold",
    "codex_humaneval:pass@10",
    "alpaca_eval",
)
CELLS = {
    "table-3": 14 * 7 + 5,
    "table-4": 4,
    "table-5": 43,
    "table-6": 2,
    "table-7": 21,
    "figure-3": 4,
    "figure-4": 9,
    "cards": 4 * 12 + 7 + 8 + 8,
    "tulu-2": 20 + 4 + 6,
}
# Restated: cells that no source confirms, as (table, model, benchmarks).
UNSURE = [
    *(
        ("table-4", f"Tülu {base}", SIX)
        for base in ("Pythia 6.9B", "OPT 6.7B", "7B")
    ),
    ("table-4", "Tülu-1.1 7B", SIX),
    ("table-5", "LLaMA 7B", SIX[1:]),
    ("table-5", "LLaMA 30B", SIX),
    ("table-5", "LLaMA 65B", SIX[1:]),
    ("table-5", "ShareGPT 65B", (*SIX[1:5], "average")),
    ("table-5", "Human mix 65B", (*SIX[:5], "average")),
    ("table-5", "Tülu 7B", SIX[1:5]),
    ("table-5", "Tülu 30B", (*SIX[:5], "average")),
    ("table-5", "Tülu 65B", SIX[1:5]),
    ("table-5", "Tülu-1.1 7B", ("tydiqa:gold", "alpaca_eval")),
    ("table-5", "Tülu-1.1 13B", ("alpaca_eval",)),
    ("table-5", "GPT-4", SIX),
    ("table-6", "ChatGPT", ("truthfulqa:generation",)),
    ("table-6", "GPT-4", ("toxigen:generation", "truthfulqa:generation")),
    ("table-6", "Tülu 13B", ("truthfulqa:generation",)),
    *(
        ("table-6", f"{name} {size}", ("toxigen:generation", "truthfulqa:generation"))
        for name in ("LLaMA", "SuperNI", "CoT", "Flan V2", "GPT4-Alpaca", "ShareGPT", "Human mix")
        for size in ("7B", "13B")
    ),
    *(
        ("table-7", f"{name} 7B", ("alpaca_eval",))
        for name in ("SuperNI", "CoT", "Flan V2", "Dolly", "Open Assistant 1", "Self-Instruct")
    ),
    *(
        ("table-7", f"{name} 7B", ("alpaca_eval",))
        for name in ("Unnatural Instructions", "Alpaca", "Code-Alpaca", "GPT4-Alpaca", "Baize")
    ),
    ("table-7", "Human mix 7B", ("alpaca_eval",)),
    ("table-7", "Human mix 30B", ("alpaca_eval",)),
    ("cards", "Tülu 65B", (*SIX, "alpaca_farm", "average")),
    (
        "cards",
        "Tülu 13B",
        ("tydiqa:closed", "codex_humaneval:pass@1", SIX[4], "alpaca_farm", "average"),
    ),
    ("cards", "Open Assistant 1 13B", ("codex_humaneval:pass@1", "average")),
    ("cards", "Baize 13B", ("tydiqa:gold", "tydiqa:closed", "alpaca_farm", "average")),
]  # fmt: skip


def cells(*tables: str) -> dict[tuple[str, str, str], float]:
    return {
        (row.table, row.model, row.benchmark): row.value
        for row in published(*tables)
        if not row.against
    }


def test_so_many_cells_are_verified() -> None:
    assert Counter(row.table for row in published()) == CELLS
    assert sum(CELLS.values()) == 287


def test_nothing_unsure_is_among_them() -> None:
    found = cells()
    for table, model, benchmarks in UNSURE:
        for benchmark in benchmarks:
            assert (table, model, benchmark) not in found


@pytest.mark.parametrize("table", ["table-3", "table-5"])
def test_averages_are_the_mean_of_the_six(table: str) -> None:
    found, checked = cells(table), 0
    for _, model, benchmark in found:
        six = [found.get((table, model, one)) for one in SIX]
        there = [value for value in six if value is not None]
        if benchmark == "average" and len(there) == 6:
            assert mean(there) == pytest.approx(found[table, model, "average"], abs=0.0501)
            checked += 1
    assert checked == {"table-3": 14, "table-5": 2}[table]


def test_averages_of_the_cards_are_over_six_tasks() -> None:
    found = cells("cards")
    models = [model for _, model, benchmark in found if benchmark == "average"]
    assert models == ["Tülu 7B", "Tülu 30B", "Tülu Pythia 6.9B", "Unnatural Instructions 13B"]
    for model in models:
        own = {name: value for (_, of, name), value in found.items() if of == model}
        average, farm = own.pop("average"), own.pop("alpaca_farm")
        tasks: dict[str, list[float]] = {}
        for name, value in own.items():
            tasks.setdefault(name.partition(":")[0], []).append(value)
        assert [len(of) for of in tasks.values()] == [2] * 5
        over = mean([*map(mean, tasks.values()), farm])
        assert over == pytest.approx(average, abs=0.0501)


def test_tables_agree_where_they_print_the_same_cell() -> None:
    known: dict[tuple[str, str], set[float]] = {}
    for (table, model, benchmark), value in cells().items():
        if table.startswith("table"):
            known.setdefault((model, benchmark), set()).add(value)
    assert len(known) > 100
    assert {name: values for name, values in known.items() if len(values) > 1} == {}


def test_wins_ties_and_losses_are_all_there_is() -> None:
    rows = published("figure-4")
    for against in ("ChatGPT", "Tülu 7B", "Human mix 65B"):
        of = {row.metric: row.value for row in rows if row.against == against}
        assert list(of) == ["win", "tie", "lose"]
        assert sum(of.values()) == pytest.approx(100, abs=0.11)


def test_names_are_ours() -> None:
    labels = {one.label for one in all_benchmarks()}
    known = labels | {label.partition(":")[0] for label in labels} | {"average", "alpaca_farm"}
    data = {*all_sources(), *named_mixtures(), ""}
    for row in published():
        assert row.benchmark in known
        assert row.data in data
        assert set(row.source.split()) <= sources().keys()
        assert 0 <= row.value <= 100
        assert row.base


def test_one_cell_is_read_as_it_stands() -> None:
    assert published("table-7")[0] == Published(
        table="table-7",
        model="SuperNI 13B",
        base="LLaMA 13B",
        data="super_ni",
        benchmark="alpaca_eval",
        metric="",
        against="",
        value=4.2,
        source="S1",
    )


def test_an_unknown_table_is_told() -> None:
    with pytest.raises(UserError, match="table-8"):
        published("table-8")
