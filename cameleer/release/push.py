"""Pushing to a hub: what would be sent and what stands against it; and, only when told, sending it.

`look` reads nothing but the folder and sends nothing. What stands against it is told file by file:
pickles, secrets, paths that name a user, a missing card, a licence that forbids, a bundle that does
not verify. `send` makes the repository, private unless told otherwise, and uploads; hash by hash
the hub takes what it has not got yet, so a broken upload goes on by the same call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from cameleer.core.artifact import MANIFEST, file_facts, require_unchanged
from cameleer.core.console import progress
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.release.bundle import write_tar
from cameleer.release.card import CARD, PARTS, WITH_CARDS, front_of, hub_licence, listed_parts
from cameleer.release.findings import Problem
from cameleer.release.leaks import is_pickle, leaks
from cameleer.release.licences import Asks, Check, check
from cameleer.release.verify import BUNDLE, Derive, opened, verify_bundle
from cameleer.results.store import STUDY

PICKLE = "is a pickle, which runs code where it is loaded: give safetensors"
Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Cargo:
    """What is to leave. files: by their names in the repository; inside: the files that are looked
    at, those of a bundle's tar one by one; staying: files that are not sent, hidden ones among
    them; problems: what is wrong with it as a whole."""

    kind: Kind
    files: dict[str, Path]
    inside: dict[str, Path]
    staying: list[str]
    problems: list[Problem]


@dataclass(frozen=True)
class Found:
    """What a look at a cargo found. facts: size and hash by file; card: the card's front matter;
    licence: None where the card does not tell the licences of base and data; refused: what stands
    against the push; accepted: findings that the user has looked at."""

    facts: dict[str, dict[str, Any]]
    card: dict[str, Any]
    licence: Check | None
    refused: list[Problem]
    accepted: list[Problem]


class Hub(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def create_repo(
        self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool
    ) -> object: ...

    def repo_info(self, repo_id: str, *, repo_type: str) -> Any: ...

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, repo_type: str, commit_message: str
    ) -> object: ...

    def list_repo_files(self, repo_id: str, *, repo_type: str) -> list[str]: ...


@contextmanager
def cargo(place: Path, derive: Derive, without: Collection[str] = ()) -> Iterator[Cargo]:
    """What a folder or a bundle holds for a hub. A bundle leaves as one tar beside its card.

    without: files or folders of a folder that stay. Raises UserError for a folder that is none of
    both, or whose files were changed since they were made.
    """
    if not (place.is_file() or (place / BUNDLE).is_file()):
        yield _folder(place, without)
        return
    if without:
        hint = "make it again without them"
        raise UserError("a bundle leaves whole, or not", field="--without", hint=hint)
    with opened(place) as root, tempfile.TemporaryDirectory(prefix="cameleer-push-") as made:
        problems = verify_bundle(root, derive).problems
        tar = place if place.is_file() else Path(made) / f"{place.resolve().name}.tar"
        if place.is_dir():
            write_tar(root, tar)
        inside, _ = _files(root)
        card = {CARD: root / CARD} if CARD in inside else {}
        yield Cargo("dataset", card | {tar.name: tar}, inside, [], problems)


def _folder(place: Path, without: Collection[str]) -> Cargo:
    if not place.is_dir():
        raise UserError("no such folder or bundle", file=place, hint="check the path")
    if (place / STUDY).is_file():
        hint = "`cameleer release bundle` makes one that others can check"
        raise UserError(
            "is a study: push a bundle of it, or one of its models", file=place, hint=hint
        )
    manifest = read_json(place / MANIFEST) if (place / MANIFEST).is_file() else {}
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind:
        require_unchanged(place, weights=True)
    files, staying = _files(place)
    for name in without:
        below = [one for one in files if Path(one).is_relative_to(name)]
        if not below:
            raise UserError(f"'{name}' is no file or folder of it", field="--without")
        staying += below
    files = {name: file for name, file in files.items() if name not in staying}
    if not files:
        raise UserError("holds no files", file=place)
    data = kind in ("mix", "eval", "judge", "miniature")
    return Cargo("dataset" if data else "model", files, files, staying, [])


def _files(root: Path) -> tuple[dict[str, Path], list[str]]:
    """(file by name, names of hidden ones)."""
    files = {
        file.relative_to(root).as_posix(): file
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }
    hidden = [name for name in files if name.startswith(".") or "/." in name]
    return {name: file for name, file in files.items() if name not in hidden}, hidden


def look(load: Cargo, asks: Asks, accept: Collection[str] = ()) -> Found:
    """Hash every file, and find what stands against sending them.

    asks: see `licences`; accept: files in which a person has looked at what was found. Pickles are
    not accepted. Raises UserError for a name in `accept` that is no file's.
    """
    for name in accept:
        if name not in load.inside:
            raise UserError(f"'{name}' is no file of it", field="--accept", hint="see the list")
    refused, accepted = list(load.problems), list[Problem]()
    for name, file in load.inside.items():
        if is_pickle(file):
            refused.append(Problem(name, PICKLE))
        found = [Problem(name, one.what, f"line {one.line}") for one in leaks(name, file)]
        (accepted if name in accept else refused).extend(found)
    card = front_of(load.files[CARD]) if CARD in load.files else {}
    if not card.get("license"):
        what = "states no licence" if card else _no_card(load)
        refused.append(Problem(CARD, what))
    licence = _licence(card, asks)
    if licence:
        refused += [Problem(CARD, one, "licence") for one in licence.forbidden]
    return Found(_hashed(load.files), card, licence, refused, accepted)


def _hashed(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Size and hash of each file."""
    facts = {}
    size = sum(file.stat().st_size for file in files.values())
    with progress("hashing", size, in_bytes=True) as ticker:
        for name, file in files.items():
            facts[name] = file_facts(file)
            ticker.advance(facts[name]["bytes"])
    return facts


def _no_card(load: Cargo) -> str:
    """That there is no card, and who writes one: of what others made, the user does."""
    manifest = load.files.get(MANIFEST)
    facts = read_json(manifest) if manifest else None
    if isinstance(facts, dict) and facts.get("kind") in WITH_CARDS:
        return "no card: `cameleer release card` writes one"
    return "no card: write one that begins with `license: …` between two lines of `---`"


def _licence(card: Mapping[str, Any], asks: Asks) -> Check | None:
    """The card's licence against those of base and data that it lists."""
    if not card.get(PARTS):
        return None
    listed = [replace(one, licence=hub_licence(one.licence)) for one in listed_parts(card, asks)]
    own = str(card.get("license"))
    return check(listed, None if own == "other" else own, asks)


def hub() -> Hub:
    """The hub, with the user's token. Raises UserError where it is switched off, or no token is."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        hint = "unset it to upload"
        raise UserError("HF_HUB_OFFLINE is set: nothing is sent", hint=hint)
    if not (token := get_token()):
        hint = "set HF_TOKEN, or log in with `hf auth login`"
        raise UserError("no token for the hub", hint=hint)
    return HfApi(token=token)


def require_name(repo: str) -> None:
    """Raise UserError for what cannot be a repository's name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(str(error).rstrip("."), field="REPO", hint="give USER/NAME") from None


def send(load: Cargo, repo: str, kind: Kind, api: Hub, public: bool = False) -> None:
    """Upload the files; the repository is made if it is not there.

    Raises UserError if the hub refuses, if it cannot be reached, if not all has arrived, or if the
    repository is a public one and `public` does not say so.
    """
    from httpx2 import HTTPError

    try:
        api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True)
        if not public and not api.repo_info(repo, repo_type=kind).private:
            raise UserError(f"'{repo}' is there and public", field="REPO", hint="give --public")
        with _only(load.files) as folder:
            told = f"Upload {len(load.files)} files"
            api.upload_folder(repo_id=repo, folder_path=folder, repo_type=kind, commit_message=told)
        missing = sorted(load.files.keys() - set(api.list_repo_files(repo, repo_type=kind)))
    except (HTTPError, OSError) as error:
        hint = "give the same command again: what has arrived is not sent twice"
        raise UserError(f"the hub did not take it: {error}", field=repo, hint=hint) from None
    if missing:
        about = f"{len(missing)} files did not arrive, first {missing[0]}"
        raise UserError(about, field=repo, hint="give the same command again")


@contextmanager
def _only(files: Mapping[str, Path]) -> Iterator[Path]:
    """A folder that holds these files and nothing else, by links: what was listed is sent."""
    with tempfile.TemporaryDirectory(prefix="cameleer-push-") as temporary:
        for name, file in files.items():
            link = Path(temporary) / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
        yield Path(temporary)
