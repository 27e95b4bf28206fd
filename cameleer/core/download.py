"""Downloading one file of any size: resumed where it broke off, checked, whole or not there."""

from __future__ import annotations

import email.utils
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
from rich.filesize import decimal

import cameleer
from cameleer.core.artifact import disk_full_named
from cameleer.core.console import Ticker, note, progress
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, sha256_file, write_json

HOPS = 10  # redirects that are followed
PROBE = 10.0  # seconds that a size may take to come: it is only for show
SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
LATER = (408, 425, 429)  # answers after which, as after 5xx, it is worth asking again


@dataclass(frozen=True)
class Patience:
    """How long a server is borne with.

    tries: requests in a row that bring nothing new; wait: seconds before the second of them,
    doubled for each further one; longest: seconds that a server may ask us to wait; timeout:
    seconds without a byte.
    """

    tries: int = 5
    wait: float = 1.0
    longest: float = 300.0
    timeout: float = 60.0


PATIENCE = Patience()


@dataclass(frozen=True)
class Served:
    """What a server says of a file before it sends it; None is what it does not say.

    url: as asked for; final_url: after redirects, without its query (which may be a signature);
    bytes: the whole file's; sha256: hex, and revision: a commit, both said by the hub alone.
    """

    url: str
    final_url: str
    bytes: int | None = None
    sha256: str | None = None
    revision: str | None = None
    etag: str | None = None
    last_modified: str | None = None

    def same_file(self, other: Served) -> bool:
        """Whether the hashes are the same or, without them, nothing tells the two apart."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        mine, theirs = ((one.url, one.bytes, one.etag, one.last_modified) for one in (self, other))
        return all(a == b or None in (a, b) for a, b in zip(mine, theirs, strict=True))


@dataclass(frozen=True)
class Expected:
    """What a file must be: bytes and hex SHA-256 where they are known, and who says so.

    hint: what the user can do if it is something else.
    """

    bytes: int | None = None
    sha256: str | None = None
    by: str = "its card"
    hint: str = "the file there has changed, or something on the way alters it"


class _TryError(Exception):
    """A try that came to nothing, though another may not; `wait`: seconds that the server asks."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        self.wait = wait
        super().__init__(message)


def hub_address() -> str:
    """Where the Hugging Face hub is: `HF_ENDPOINT`, else its own address."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


HUB_FILE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")


def web_address(url: str) -> str:
    """The web address of `url`; `hf://datasets/ORG/NAME[@REVISION]/FILE` is a file of the hub."""
    if not url.startswith("hf://"):
        return url
    found = HUB_FILE.fullmatch(url)
    if found is None:
        raise UserError(
            f"'{url}' is no file of the hub", hint="write it hf://datasets/ORG/NAME/FILE"
        )
    name, revision, file = found.groups()
    return f"{hub_address()}/datasets/{name}/resolve/{revision or 'main'}/{file}"


def client(patience: Patience = PATIENCE) -> httpx2.Client:
    """A client for `probe` and `download`; proxies and certificates by the usual variables."""
    headers = {"User-Agent": f"cameleer/{cameleer.__version__}", "Accept-Encoding": "identity"}
    try:
        return httpx2.Client(headers=headers, timeout=patience.timeout, follow_redirects=False)
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
        hint = "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        raise UserError(f"what the environment says of the network: {error}", hint=hint) from None


def probe(http: httpx2.Client, url: str) -> Served:
    """What the server says of a file, by one HEAD request; little or nothing if it fails."""
    try:
        with _answer(http, "HEAD", url, {}) as (response, said):
            return Served(url, said.final_url) if response.is_error else said
    except httpx2.TransportError:
        return Served(url, web_address(url))


def download(
    http: httpx2.Client,
    url: str,
    to: Path,
    expected: Expected = Expected(),
    patience: Patience = PATIENCE,
    record: Callable[[Served, Path], None] | None = None,
) -> Served:
    """Bring a file to `to`, which is replaced; returns what is then known of it, with its SHA-256.

    record: is called when the file is whole and right, with what is known of it and where it still
    lies, before it gets its name: so that no file is ever there unrecorded.

    What has come stays in `.NAME.part` beside `to` if this breaks off, however it does, and the
    next call goes on from there as long as the server still has the same file. One process at a
    time may bring a file. Raises UserError if the server does not have it, sends something else
    than is expected, or brings nothing new in `patience.tries` tries.
    """
    part = _Part(to, url)
    fruitless, most, refused = 0, part.size, set[str]()
    with progress(to.name, expected.bytes, most, in_bytes=True) as ticker:
        while True:
            try:
                served = part.whole() or _receive(http, part, expected, ticker)
                served = part.checked(served, expected, refused)
                if record is not None:
                    record(served, part.path)
                part.finish()
                return served
            except (httpx2.TransportError, _TryError) as error:
                fruitless = 0 if part.size > most else fruitless + 1
                most = max(most, part.size)
                said = _said(error)
                if fruitless >= patience.tries:
                    raise _given_up(part, said, fruitless) from None
                wait = patience.wait * 2 ** max(0, fruitless - 1) * random.uniform(0.75, 1.25)
                asked = error.wait if isinstance(error, _TryError) else 0.0
                if asked > patience.longest:
                    raise _given_up(part, f"{said}, to wait {asked:.0f} s", 1) from None
                wait = max(wait, asked)
                note(f"{to.name}: {said}; {decimal(part.size)} are here; again in {wait:.1f} s")
                time.sleep(wait)


def require_room(folder: Path, needed: int) -> None:
    """Raise UserError unless so many bytes are free where `folder` is or will be."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        message = f"{decimal(needed)} are needed here, {decimal(free)} are free"
        raise UserError(message, file=folder, hint="make room, or give another folder")


def part_of(to: Path) -> Path:
    """Where what has come of `to` lies until it is whole."""
    return to.with_name(f".{to.name}.part")


class _Part:
    """What has come of a file, and beside it of which version of the file it is a part."""

    def __init__(self, to: Path, url: str) -> None:
        self.to, self.url = to, url
        self.path = part_of(to)
        self.facts = to.with_name(f".{to.name}.part.json")
        to.parent.mkdir(parents=True, exist_ok=True)
        if self.size and not self.begun():
            self.clear()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begun(self) -> Served | None:
        """Of which file the part is; None if that is not known, or it is another one."""
        try:
            begun = Served(**read_json(self.facts))
        except (UserError, TypeError):  # no such file, or not ours: nothing to build upon
            return None
        return begun if begun.url == self.url else None

    def whole(self) -> Served | None:
        """The facts, if all bytes are here: the last call was ended before it could finish."""
        begun = self.begun()
        return begun if begun and begun.bytes and begun.bytes == self.size else None

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)

    def request(self, checked: bool) -> dict[str, str]:
        """Headers that ask for what is missing, if the server still has the same file.

        checked: the hash of the whole is known, so that a wrong rest would be found out.
        """
        begun = self.begun()
        if not self.size or begun is None:
            return {}
        weak = begun.etag is None or begun.etag.startswith("W/")
        version = begun.last_modified if weak else begun.etag
        if version is None and not checked:
            return {}
        rest = {"Range": f"bytes={self.size}-"}
        return {**rest, "If-Range": version} if version else rest

    def checked(self, served: Served, expected: Expected, refused: set[str]) -> Served:
        """The facts with size and hash, if they are right; refused: hashes that came before."""
        digest, size = sha256_file(self.path), self.size
        right = size == (expected.bytes or served.bytes or size)
        right &= digest == (expected.sha256 or served.sha256 or digest)
        if not right or not size:
            self.clear()
            message = f"{size} bytes with SHA-256 {digest} came"
            if digest in refused:
                raise _other_file(self.url, message, expected, served)
            refused.add(digest)
            raise _TryError(f"{message}, which is not the file")
        return replace(served, bytes=size, sha256=digest)

    def finish(self) -> None:
        """Give the file its name."""
        with self.path.open("rb") as handle:
            os.fsync(handle.fileno())
        self.path.replace(self.to)
        self.facts.unlink(missing_ok=True)


def _receive(http: httpx2.Client, part: _Part, expected: Expected, ticker: Ticker) -> Served:
    """Ask for what is missing of a part and add what comes; returns what the server said."""
    headers = part.request(checked=expected.sha256 is not None)
    with _answer(http, "GET", part.url, headers) as (response, served):
        _require_file(response, served, part, expected)
        if response.status_code == 206:
            _require_rest(response, served, part)
        else:
            if part.size:
                note(f"{part.to.name}: the server sends it from its start again")
            part.clear()
            write_json(part.facts, asdict(served))
        if served.bytes is None and "transfer-encoding" not in response.headers:
            note(f"{part.to.name}: the server does not say how long it is, so nor do we")
        limit = expected.bytes or served.bytes
        ticker.restate(limit, part.size)
        with disk_full_named(part.path), part.path.open("ab") as handle:
            for chunk in response.iter_raw():
                handle.write(chunk)
                ticker.advance(len(chunk))
                if limit is not None and ticker.count > limit:
                    message = f"more than {limit} bytes come"
                    raise _other_file(part.url, message, expected, served)
    return served


def _require_rest(response: httpx2.Response, served: Served, part: _Part) -> None:
    """Raise unless the answer continues the part; then the next try takes the file anew."""
    begun, found = part.begun(), CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if begun is None or not served.same_file(begun):
        part.clear()
        raise _TryError("the file there has changed")
    if found is None or int(found[1]) != part.size:
        part.clear()
        raise _TryError("the server sends another part than it was asked for")


def _require_file(
    response: httpx2.Response, served: Served, part: _Part, expected: Expected
) -> None:
    """Raise unless the answer brings the file that is expected, from where it was asked."""
    status = response.status_code
    if status in LATER or status >= 500:
        raise _TryError(f"the server answers {_status(response)}", retry_after(response))
    if status == 416:
        part.clear()
        raise _TryError("the server has less than has come")
    if status not in (200, 206):
        raise _refused(part, response)
    kind = response.headers.get("content-type", "")
    if kind.startswith("text/html") and not part.to.name.endswith((".html", ".htm")):
        raise _other_file(part.url, "a web page comes", expected, served)
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity" and not part.to.name.endswith(("gz", "bz2", "xz", "zst")):
        raise _other_file(part.url, f"it comes packed, as {encoding}", expected, served)
    if None not in (served.bytes, expected.bytes) and served.bytes != expected.bytes:
        raise _other_file(part.url, f"the server has {served.bytes} bytes", expected, served)
    if None not in (served.sha256, expected.sha256) and served.sha256 != expected.sha256:
        message = f"the server has one with SHA-256 {served.sha256}"
        raise _other_file(part.url, message, expected, served)


@contextmanager
def _answer(
    http: httpx2.Client, method: str, url: str, headers: dict[str, str]
) -> Iterator[tuple[httpx2.Response, Served]]:
    """The answer after redirects. The user's token goes to the hub's own address alone."""
    address, hub = httpx2.URL(web_address(url)), httpx2.URL(hub_address())
    linked: dict[str, Any] = {}
    for _ in range(HOPS):
        at_hub, token = _origin(address) == _origin(hub), os.environ.get("HF_TOKEN", "").strip()
        more = {"Authorization": f"Bearer {token}"} if at_hub and token else {}
        wait = PROBE if method == "HEAD" else http.timeout
        with http.stream(method, address, headers=headers | more, timeout=wait) as response:
            if at_hub:
                linked |= _linked(response)
            enough = method == "HEAD" and "bytes" in linked  # signed addresses may refuse a HEAD
            if enough or not response.has_redirect_location:
                yield response, _served(url, response, linked)
                return
            try:
                target = address.join(response.headers["location"])
            except httpx2.InvalidURL as error:
                raise UserError(f"{address} redirects to no address: {error}") from None
        if address.scheme == "https" and target.scheme != "https":
            raise UserError(f"{address} redirects to an address without TLS, {target}")
        address = target
    raise UserError(f"{url} redirects more than {HOPS} times")


def _origin(address: httpx2.URL) -> tuple[str, str, int | None]:
    return address.scheme, address.host, address.port


def _linked(response: httpx2.Response) -> dict[str, Any]:
    """What the hub says of a file that another host serves: its size, SHA-256 and commit."""
    said: dict[str, Any] = {}
    if (size := response.headers.get("x-linked-size", "")).isdecimal():
        said["bytes"] = int(size)
    if found := SHA256.fullmatch(response.headers.get("x-linked-etag", "")):
        said["sha256"] = found[1]
    if revision := response.headers.get("x-repo-commit"):
        said["revision"] = revision
    return said


def _served(url: str, response: httpx2.Response, linked: dict[str, Any]) -> Served:
    size = response.headers.get("content-length", "")
    if found := CONTENT_RANGE.fullmatch(response.headers.get("content-range", "")):
        size = found[2]
    facts = {
        "bytes": int(size) if size.isdecimal() else None,
        "etag": response.headers.get("etag"),
        "last_modified": response.headers.get("last-modified"),
        **linked,
    }
    return Served(url, str(response.url.copy_with(query=None)), **facts)


def retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks us to wait, given as such or as a date."""
    said = response.headers.get("retry-after", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 0.0


def _said(error: Exception) -> str:
    """What went wrong, with the host that it is about if that was not even reached."""
    said = str(error) or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return f"{error.request.url.host} cannot be reached: {said}"
    return said


def _status(response: httpx2.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".rstrip()


def _refused(part: _Part, response: httpx2.Response) -> UserError:
    hint = f"check the address, or get the file elsewhere and put it at {part.to}"
    at_hub = _origin(response.url) == _origin(httpx2.URL(hub_address()))
    if at_hub and response.status_code in (401, 403):
        hint = "accept its terms on the hub, and set HF_TOKEN to a token of yours"
    return UserError(f"{part.url} answers {_status(response)}", hint=hint)


def _other_file(url: str, message: str, expected: Expected, served: Served) -> UserError:
    says: Expected | Served = expected if expected.bytes or expected.sha256 else served
    by = expected.by if says is expected else "the server"
    facts = [f"{says.bytes} bytes"] * bool(says.bytes)
    facts += [f"SHA-256 {says.sha256}"] * bool(says.sha256)
    wanted = f", but {by} says {' and '.join(facts)}" if facts else ""
    return UserError(f"{url}: {message}{wanted}", hint=expected.hint)


def _given_up(part: _Part, said: str, tries: int) -> UserError:
    times = f" (and so {tries} times)" if tries > 1 else ""
    kept = f"; {decimal(part.size)} came and are kept" if part.size else ""
    return UserError(
        f"{part.url}: {said}{times}{kept}",
        hint="check the network (HTTPS_PROXY, SSL_CERT_FILE), then give the same command again: "
        "it goes on from there",
    )
