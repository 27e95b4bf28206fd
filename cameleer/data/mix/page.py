"""MIXTURE.md: what is in a mixture, for people, from the outcome that its manifest holds."""

from __future__ import annotations

from typing import Any

from cameleer.data.mix.provenance import NONE_STATED, strictest

COLUMNS = (
    ("part", "part"),
    ("asked for", "asked"),
    ("read", "read"),
    ("kept", "kept"),
    ("taken", "taken"),
    ("of those again", "repeats"),
    ("messages", "messages"),
    ("share of conversations", "share"),
    ("share of the assistant's characters", "answer_share"),
    ("supervised tokens", "supervised_tokens"),
    ("share of supervised tokens", "token_share"),
    ("nothing to learn", "without_answer"),
    ("licence", "licence"),
)


def page(outcome: dict[str, Any]) -> str:
    """The whole page as Markdown."""
    sources: dict[str, dict[str, Any]] = outcome["sources"]
    measured = "supervised tokens" if outcome["measure"] == "supervised_tokens" else "characters"
    parts = [
        f"# {outcome['name']}",
        outcome["about"],
        f"{outcome['conversations']:,} conversations of {len(sources)} parts. Weights in the loss "
        f"are told by {measured}"
        + ("." if measured != "characters" else ": no tokenizer was named to count tokens with."),
        _parts(sources),
        "## What was dropped",
        _dropped(sources) or "Nothing.",
        "## Licences",
        _licences(outcome),
        "## To know",
        "\n".join(f"- {warning}" for warning in outcome["warnings"]) or "Nothing.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _parts(sources: dict[str, dict[str, Any]]) -> str:
    rows = [{"part": name, **facts} for name, facts in sources.items()]
    shown = [(head, key) for head, key in COLUMNS if any(row.get(key) for row in rows)]
    return _table(
        [head for head, _ in shown], [[_cell(row.get(key, "")) for _, key in shown] for row in rows]
    )


def _dropped(sources: dict[str, dict[str, Any]]) -> str:
    rows = [
        [name, reason.partition(": ")[2], _cell(count)]
        for name, facts in sources.items()
        for reason, count in facts.items()
        if reason.startswith("dropped: ")
    ]
    return _table(["part", "reason", "conversations"], rows) if rows else ""


def _licences(outcome: dict[str, Any]) -> str:
    stated: dict[str, str] = outcome["licences"]
    rows = [
        [
            licence,
            asked,
            ", ".join(
                name
                for name, facts in outcome["sources"].items()
                if licence in facts["licence"].split("; ")
            ),
        ]
        for licence, asked in stated.items()
    ]
    said = []
    if NONE_STATED in stated:
        said.append("Of some data no licence is stated, which is the most doubtful case of all.")
    if others := stated.keys() - {NONE_STATED}:
        most = strictest(others)
        said.append(f"The strictest that is stated is {most}: {stated[most]}.")
    notice = "This sorts what the releases state; it is no legal advice."
    return "\n\n".join((" ".join(said), _table(["licence", "asks", "parts"], rows), notice))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])
