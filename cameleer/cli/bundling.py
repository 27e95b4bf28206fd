"""Verbs of `cameleer release` that hand on results: cards, bundles, and the check of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cameleer.cli.options import Json, out_folder
from cameleer.core.console import emit_json, err, note, warn
from cameleer.core.errors import UserError


def card(
    place: Annotated[
        Path, typer.Argument(help="Folder of a training, a merge, a diff or a mixture.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write. [default: the folder]")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base model's name on the hub. [default: the study's]")
    ] = None,
    base_licence: Annotated[
        str | None, typer.Option(help="The base model's licence. [default: of embedded ones known]")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of this release. [default: the strictest]")
    ] = None,
    mix: Annotated[
        Path | None, typer.Option(help="The mixture it was trained on. [default: the study's]")
    ] = None,
    evals: Annotated[
        list[Path] | None, typer.Option(help="An evaluation of it; again for more.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The title. [default: the folder's]")] = None,
    url: Annotated[str | None, typer.Option(help="Where a data set will be found.")] = None,
    json: Json = False,
) -> None:
    """Write the card of a model or of a mixture from manifests, and check its licences.

    A model's is README.md as Hugging Face reads it; a mixture's has croissant.json beside it. A
    training in a study's folder brings its mixture, its evaluations and its base along.

    Example: `cameleer release card runs/quickstart/train/CELL --base-licence Apache-2.0`
    """
    from cameleer.core.files import replacing, write_json
    from cameleer.data.mix.provenance import asks
    from cameleer.release import card as cards
    from cameleer.release.croissant import croissant
    from cameleer.release.licences import check, parts_of_mixture

    for option, said in (("--licence", licence), ("--base-licence", base_licence)):
        if said is not None and not said.strip():
            raise UserError("is empty", field=option, hint="name a licence, or leave it out")
    out, title = output or place, name or place.resolve().name
    kind = cards.kind_of(place)
    readme = out / "README.md"
    if kind != "mix":
        model = cards.read_trained(place, mix, evals or ())
        stated = base_licence or _embedded_licence(base, model.base, model.own_base)
        checked = check(cards.parts_of(model, base, stated, asks), licence, asks)
        text = cards.model_card(model, title, base, checked, _hub_name)
    else:
        outcome = cards.outcome_of(place)
        checked = check(parts_of_mixture(outcome), licence, asks)
        text = cards.data_card(place, title, checked)
        write_json(out_folder(out / "croissant.json"), croissant(place, title, checked, url))
    with replacing(out_folder(readme)) as handle:
        handle.write(text)
    for problem in checked.problems:
        warn(problem)
    if json:
        facts = {"card": str(readme), "kind": kind, "licence": checked.licence}
        emit_json(facts | {"asked": checked.asked, "problems": checked.problems})
        return
    note(f"licence {checked.licence}; the parts ask: {', '.join(checked.asked) or 'nothing known'}")
    note(f"card: {readme}")


def _embedded_licence(*names: str | None) -> str | None:
    """The licence of a base that comes with us, if one of its names is such a one's."""
    from cameleer.model.embedded import EMBEDDED, PREFIX

    known = [(name or "").removeprefix(PREFIX) for name in names]
    return next((EMBEDDED[name].licence for name in known if name in EMBEDDED), None)


def _hub_name(source: str) -> str | None:
    """A source's name on the hub, if its card gives an address there."""
    from cameleer.data.source import all_sources

    module = all_sources().get(source)
    _, there, name = (module.CARD.origin if module else "").partition("huggingface.co/datasets/")
    return name.rstrip("/") if there else None


def bundle(
    place: Annotated[Path, typer.Argument(help="Folder of a study, an evaluation or several.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A folder that is not there, or a .tar.")
    ],
    weights: Annotated[
        bool, typer.Option("--weights", help="With weights and tokenizers.")
    ] = False,
    data: Annotated[
        bool, typer.Option("--data", help="With the conversations of the mixtures.")
    ] = False,
    add: Annotated[
        list[Path] | None,
        typer.Option(help="A further file, such as the study's YAML; again for more."),
    ] = None,
    json: Json = False,
) -> None:
    """Pack manifests, samples, judgements and tables with their hashes, for others to check.

    Example: `cameleer release bundle runs/quickstart -o quickstart.tar`
    """
    from cameleer.release.bundle import make_bundle

    made = make_bundle(place, output, derive(), weights=weights, data=data, added=add or ())
    for name in made.stale:
        warn(f"{place}/report/{name} is older than the samples; the bundle's was written anew")
    left = [facts["bytes"] for facts in made.left_out.values()]
    if json:
        facts = {"bundle": str(made.path), "fingerprint": made.fingerprint, "files": made.files}
        emit_json(facts | {"bytes": made.bytes, "left_out": made.left_out, "stale": made.stale})
        return
    note(f"{made.files} files, {made.bytes:,} bytes: {made.path}")
    if left:
        kinds = ", ".join(sorted({facts["why"] for facts in made.left_out.values()}))
        about = f"{len(left)} files, {sum(left):,} bytes ({kinds})"
        note(f"left out, but named with their hashes: {about}")
    note(f"fingerprint: {made.fingerprint}")
    note(f"others check it with `cameleer release verify {made.path.name}`")


def verify(
    place: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder or .tar.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="The bundle's fingerprint as it was published.")
    ] = None,
    json: Json = False,
) -> None:
    """Check every hash of a bundle and derive every number anew, offline; exit 2 if one differs.

    Example: `cameleer release verify quickstart.tar`
    """
    from cameleer.release.verify import verify_bundle

    found = verify_bundle(place, derive(), fingerprint)
    if json:
        facts: dict[str, Any] = {"verified": not found.problems, "fingerprint": found.fingerprint}
        told = [{"file": one.file, "field": one.field, "what": one.what} for one in found.problems]
        counts = {"files": found.files, "numbers": found.numbers}
        emit_json(facts | counts | {"problems": told, "taken_as_given": found.given})
    for one in [] if json else found.given:
        note(f"taken as given: {one}")
    for problem in [] if json else found.problems:
        err.print(str(problem), style="red", markup=False)
    if found.problems:
        raise found.error(place)
    if not json:
        note(
            f"{found.files} files have their hashes; {found.numbers:,} numbers derived again agree"
        )
        note(f"fingerprint: {found.fingerprint}")


def derive() -> Any:
    """What bundles are checked with: the report's tables and the judges' rates."""
    from cameleer.release.verify import Derive
    from cameleer.report.page import write_report

    return Derive(report=write_report, judging=_rates)


def _rates(folder: Path) -> dict[str, Any]:
    """What judgements and the texts in annotations.json give for result.json."""
    from cameleer.core.files import read_json
    from cameleer.evals.judge.outcome import rates
    from cameleer.evals.judge.outputs import Pair
    from cameleer.results.judged import ANNOTATIONS
    from cameleer.results.judgements import read_judgements

    judgements = read_judgements(folder)
    items = dict.fromkeys(one.item for one in judgements)
    rows = read_json(folder / ANNOTATIONS)
    pairs = [
        Pair(item, row["instruction"], row["output_1"], row["output_2"], row["dataset"])
        for item, row in zip(items, rows, strict=True)
    ]
    return rates(judgements, pairs)
