"""The verb `cameleer judge replay`: released verdicts scored again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import Json, out_file
from cameleer.core.console import emit_json, note, table, warn
from cameleer.core.errors import UserError
from cameleer.core.files import replacing

if TYPE_CHECKING:
    from cameleer.evals.judge.outputs import Outputs
    from cameleer.evals.judge.replay import Replay, Row
    from cameleer.results.unique_tokens import Correlation, Point


def replay(
    annotations: Annotated[
        list[Path], typer.Argument(help="annotations.json of AlpacaEval, one for each model.")
    ],
    outputs: Annotated[
        list[Path] | None,
        typer.Option(help="Answers of a model, a file or a folder; can be given again."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Answers of the reference, a file or a folder.")
    ] = None,
    leaderboard: Annotated[
        Path | None, typer.Option(help="A leaderboard of AlpacaEval (CSV) to compare with.")
    ] = None,
    gamed: Annotated[
        Path | None,
        typer.Option(help="AlpacaEval's df_gamed.csv, for its length-controlled win rate."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", help="Whose tokens to count. [default: words and marks]"),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw win rate against unique tokens, an SVG file.")
    ] = None,
    json: Json = False,
) -> None:
    """Score released verdicts again: win rates as AlpacaEval counts them, and at equal length.

    Example: `cameleer judge replay results/*/alpaca_eval_gpt4/annotations.json --figure unique.svg`
    """
    from cameleer.evals.judge import replay as replaying
    from cameleer.evals.judge.outputs import read_annotations, read_outputs
    from cameleer.results.length_control import read_gamed

    board = replaying.read_leaderboard(leaderboard) if leaderboard else {}
    given = _by_name(outputs or [])
    split, tokens = _splitter(tokenizer)
    scored = replaying.replay(
        [read_annotations(path) for path in annotations],
        given,
        read_outputs(reference) if reference else None,
        read_gamed(gamed) if gamed else None,
        split,
    )
    dots = replaying.points(scored, given, board, split)
    if figure:
        _write_picture(figure, dots, tokens)
    _tell(json, scored, board, dots, tokens)


def _by_name(paths: Sequence[Path]) -> dict[str, Outputs]:
    """Files of answers by the name of their model."""
    from cameleer.evals.judge.outputs import read_outputs

    found: dict[str, Outputs] = {}
    for path in paths:
        one = read_outputs(path)
        if one.generator in found:
            said = f"holds answers of {one.generator}, as does {found[one.generator].path}"
            raise UserError(said, file=one.path)
        found[one.generator] = one
    return found


def _splitter(tokenizer: str | None) -> tuple[Callable[[str], Sequence[Hashable]], str]:
    """What makes tokens of a text, and what to call them."""
    from cameleer.results.unique_tokens import WORDS_SAID, words

    if tokenizer is None:
        return words, WORDS_SAID
    from cameleer.model.load import load_tokenizer

    loaded = load_tokenizer(tokenizer)

    @cache  # the reference's answers are asked for with every model
    def split(text: str) -> list[int]:
        ids: list[int] = loaded(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    return split, f"those of {tokenizer}"


def _tell(
    json: bool,
    replays: Sequence[Replay],
    board: Mapping[str, Row],
    points: Sequence[Point],
    tokens: str,
) -> None:
    """Show scores, what the leaderboard says of them, and the correlation over models."""
    from cameleer.evals.judge.replay import compared
    from cameleer.results.unique_tokens import pearson, said_of

    checks = [compared(one, board.get(one.annotations.b, {})) for one in replays]
    found = pearson([p.unique for p in points], [p.win_rate for p in points])
    both = [(one.dummy, one.tallied.win_rate) for one in replays if one.dummy is not None]
    dummy = pearson([rate for rate, _ in both], [rate for _, rate in both])
    if json:
        emit_json(_object(replays, board, checks, points, (found, dummy), tokens))
        return
    rows = [
        [str(cell) for cell in _cells(one, board.get(one.annotations.b), check, bool(board))]
        for one, check in zip(replays, checks, strict=True)
    ]
    columns = ["model", "win rate", "95 %", "se", "wins", "draws", "losses", "of", "length",
               "at equal length", "tokens", "unique", "dummy"]  # fmt: skip
    table("", [*columns, "leaderboard", "its LC"] if board else columns, rows)
    noted: dict[str, list[str]] = {}
    for one in replays:
        for said in one.notes:
            noted.setdefault(said, []).append(one.annotations.b)
    for said, names in noted.items():
        warn(f"{', '.join(names)}: {said}")
    if silent := {one.annotations.b: n for one in replays if (n := one.tallied.n_null)}:
        told = ", ".join(f"{n} of {name}" for name, n in silent.items())
        note(f"Rows without a verdict, which are in no number: {told}.")
    note(f"Tokens are {tokens}.")
    if len(points) > 1:
        note(f"Win rate against unique tokens: {said_of(found)}")
    if dummy:
        note(f"Win rate against the dummy judge's: {said_of(dummy)}")


def _write_picture(path: Path, points: Sequence[Point], tokens: str) -> None:
    """Write the picture of win rate against unique tokens as an SVG file."""
    from cameleer.results.unique_tokens import pearson, picture

    if path.suffix.lower() != ".svg":
        raise UserError("does not end in .svg", file=path, field="figure")
    if not points:
        raise UserError("no model has both answers and a win rate: nothing to draw", field="figure")
    found = pearson([p.unique for p in points], [p.win_rate for p in points])
    with replacing(out_file(path)) as handle:
        handle.write(picture(points, found, tokens).svg)
    note(f"wrote {path}")


def _cells(one: Replay, printed: Row | None, check: dict[str, bool], beside: bool) -> list[Any]:
    """A model's row of the table."""
    told, facts = one.tallied, one.facts()
    lc, joint = facts["lc_win_rate"], facts["lc_joint"]
    spread = "" if facts["lc_fit"] != "joint" else f" [{joint['low']:.1f}, {joint['high']:.1f}]"
    cells = [
        one.annotations.b,
        f"{told.win_rate:.2f}",
        f"[{told.low:.1f}, {told.high:.1f}]",
        "-" if told.standard_error is None else f"{told.standard_error:.2f}",
        told.n_wins,
        told.n_draws,
        told.n_losses,
        told.n_total,
        "-" if one.avg_length is None else one.avg_length,
        "-" if lc is None else f"{lc:.2f}{spread}",
        "-" if one.counts is None else f"{one.counts.tokens:.1f}",
        "-" if one.counts is None else f"{one.counts.unique:.1f}",
        "-" if one.dummy is None else f"{one.dummy:.1f}",
    ]
    if not beside:
        return cells
    controlled = (printed or {}).get("length_controlled_winrate")
    its = f"{float(controlled):.2f}" if controlled else "-"
    return [*cells, _verdict(one, printed, check), its]


def _verdict(one: Replay, printed: Row | None, check: dict[str, bool]) -> str:
    """Whether the leaderboard's numbers are ours, and which are not."""
    from cameleer.evals.judge.replay import COMPARED

    if printed is None:
        return "not on it"
    if not check:
        return "says nothing"
    other = [column for column, equal in check.items() if not equal]
    if not other:
        return f"same, {len(check)} of {len(check)}"
    facts = one.facts()
    return "; ".join(f"{name} {printed[name]}, not {facts[COMPARED[name]]}" for name in other)


def _object(
    replays: Sequence[Replay],
    board: Mapping[str, Row],
    checks: Sequence[dict[str, bool]],
    points: Sequence[Point],
    correlations: tuple[Correlation | None, Correlation | None],
    tokens: str,
) -> dict[str, Any]:
    """The one JSON object: of one file its scores, of several a list of them."""
    facts = []
    for one, check in zip(replays, checks, strict=True):
        row = one.facts()
        if board:
            printed = board.get(one.annotations.b)
            row["leaderboard"] = printed and {"row": printed, "same": check}
        facts.append(row)
    shared: dict[str, Any] = {"tokens_are": tokens}
    if len(facts) == 1:
        return facts[0] | shared
    found, dummy = (one and asdict(one) for one in correlations)
    dots = [asdict(point) for point in points]
    shared |= {"points": dots, "correlation": found, "dummy_correlation": dummy}
    return {"models": facts, **shared}
