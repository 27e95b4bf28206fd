"""One file from a server that breaks off, lies, changes, throttles, redirects, or is not there."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.core.console import progress
from cameleer.core.download import (
    Expected,
    Patience,
    Served,
    client,
    download,
    probe,
    require_room,
    web_address,
)
from cameleer.core.errors import UserError
from tests.loopback import Act, Handler, Loopback, hang_up, loopback, refuse, serve, slowly

BODY = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
NOTHING = Expected()
QUICK = Patience(tries=3, wait=0.001, longest=2.0, timeout=5.0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with loopback() as server:
        server.files["/camel.bin"] = BODY
        yield server


def get(
    server: Loopback, to: Path, expected: Expected = NOTHING, patience: Patience = QUICK
) -> Served:
    with client(patience) as http:
        return download(http, f"{server.address}/camel.bin", to, expected, patience)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_and_nothing_left_beside_it(server: Loopback, tmp_path: Path) -> None:
    to = tmp_path / "deep" / "camel.bin"
    served = get(server, to)
    assert to.read_bytes() == BODY
    assert left(to.parent) == ["camel.bin"]
    assert (served.bytes, served.sha256, served.etag) == (len(BODY), SHA256, '"one"')
    assert server.gets()[0]["accept-encoding"] == "identity"


def test_probe_asks_for_no_content(server: Loopback) -> None:
    with client(QUICK) as http:
        assert probe(http, f"{server.address}/camel.bin").bytes == len(BODY)
        assert probe(http, f"{server.address}/none.bin").bytes is None
        assert probe(http, "http://127.0.0.1:9/camel.bin").bytes is None
    assert server.sent == 0


def test_taken_up_where_it_broke_off(server: Loopback, tmp_path: Path) -> None:
    server.acts.extend([serve(cut=70_000), serve(cut=50_000)])
    get(server, tmp_path / "camel.bin")
    assert (tmp_path / "camel.bin").read_bytes() == BODY
    assert [asked.get("range") for asked in server.gets()] == [
        None,
        "bytes=70000-",
        "bytes=120000-",
    ]
    assert server.gets()[1]["if-range"] == '"one"'
    assert server.sent == len(BODY)  # not one byte twice


def test_a_break_that_brings_something_costs_no_try(server: Loopback, tmp_path: Path) -> None:
    server.acts.extend([serve(cut=10_000)] * 9)
    get(server, tmp_path / "camel.bin")
    assert server.sent == len(BODY)


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"one"'}], ids=["no version", "weak version"])
def test_no_rest_is_asked_for_without_a_version(
    server: Loopback, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.headers = headers
    server.acts.append(serve(cut=70_000))
    get(server, tmp_path / "camel.bin")
    assert [asked.get("range") for asked in server.gets()] == [None, None]
    assert (tmp_path / "camel.bin").read_bytes() == BODY


def test_a_known_hash_lets_a_rest_be_asked_for(server: Loopback, tmp_path: Path) -> None:
    server.headers = {}
    server.acts.append(serve(cut=70_000))
    get(server, tmp_path / "camel.bin", Expected(sha256=SHA256))
    assert server.sent == len(BODY)


MISHAPS = st.one_of(
    st.builds(serve, cut=st.integers(0, len(BODY) - 1), ranges=st.booleans()),
    st.sampled_from([hang_up, refuse(503), refuse(429, Retry_After="0"), serve(claim=1 << 20)]),
)


@settings(max_examples=20)
@given(mishaps=st.lists(MISHAPS, max_size=6), etag=st.sampled_from(['"one"', 'W/"one"', ""]))
def test_whatever_happens_on_the_way_the_file_is_the_same(mishaps: list[Act], etag: str) -> None:
    patient = Patience(tries=9, wait=0.0, timeout=5.0)
    with loopback() as server, tempfile.TemporaryDirectory() as folder:
        server.files["/camel.bin"] = BODY
        server.headers = {"ETag": etag} if etag else {}
        server.acts.extend(mishaps)
        get(server, Path(folder) / "camel.bin", patience=patient)
        assert (Path(folder) / "camel.bin").read_bytes() == BODY
        assert left(Path(folder)) == ["camel.bin"]


def test_a_date_is_a_version(server: Loopback, tmp_path: Path) -> None:
    date = "Wed, 01 Nov 2023 10:00:00 GMT"
    server.headers = {"Last-Modified": date}
    server.acts.append(serve(cut=70_000))
    get(server, tmp_path / "camel.bin")
    assert server.gets()[1]["if-range"] == date
    assert server.sent == len(BODY)


def change(body: bytes, etag: str) -> Act:
    """The file is another one from here on; this request is answered as if by a careful server."""

    def act(handler: Handler) -> None:
        handler.server.files["/camel.bin"] = body
        handler.server.headers = {"ETag": etag}
        handler.serve()

    return act


def test_from_its_start_when_the_file_changed(
    server: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = BODY[::-1]
    server.acts.extend([serve(cut=70_000), change(other, '"two"')])
    assert get(server, tmp_path / "camel.bin").etag == '"two"'
    assert (tmp_path / "camel.bin").read_bytes() == other
    assert "from its start again" in capsys.readouterr().err


def test_from_its_start_when_the_server_sends_the_rest_of_another_file(
    server: Loopback, tmp_path: Path
) -> None:
    def careless(handler: Handler) -> None:
        """If-Range is not looked at: the rest of the new file comes."""
        handler.server.files["/camel.bin"] = BODY[::-1]
        handler.server.headers = {"ETag": '"two"'}
        handler.headers.replace_header("If-Range", '"two"')
        handler.serve()

    server.acts.extend([serve(cut=70_000), careless])
    get(server, tmp_path / "camel.bin")
    assert (tmp_path / "camel.bin").read_bytes() == BODY[::-1]


def test_from_its_start_when_ranges_are_ignored(server: Loopback, tmp_path: Path) -> None:
    server.acts.extend([serve(cut=70_000), serve(ranges=False)])
    get(server, tmp_path / "camel.bin")
    assert (tmp_path / "camel.bin").read_bytes() == BODY
    assert server.sent == len(BODY) + 70_000


def test_a_server_that_always_starts_anew_and_breaks_off_is_given_up(
    server: Loopback, tmp_path: Path
) -> None:
    server.acts.extend([serve(ranges=False, cut=70_000)] * 9)
    with pytest.raises(UserError, match=r"70.0 kB came and are kept"):
        get(server, tmp_path / "camel.bin")
    assert len(server.gets()) == 4  # the first brought something, three brought nothing new


def test_a_length_that_is_too_long_is_a_break(server: Loopback, tmp_path: Path) -> None:
    server.acts.extend([serve(claim=len(BODY) + 5)] * 9)
    with pytest.raises(UserError, match=r"camel.bin: .*3 times"):
        get(server, tmp_path / "camel.bin")
    assert not (tmp_path / "camel.bin").exists()


def test_a_length_that_is_too_short_is_found_out(server: Loopback, tmp_path: Path) -> None:
    server.acts.extend([serve(claim=len(BODY) - 5)] * 9)
    with pytest.raises(UserError, match=f"the server has {len(BODY) - 5} bytes, but its card"):
        get(server, tmp_path / "camel.bin", Expected(bytes=len(BODY)))
    with pytest.raises(UserError, match=f"but its card says SHA-256 {SHA256}"):
        get(server, tmp_path / "camel.bin", Expected(sha256=SHA256))
    assert left(tmp_path) == []


def test_more_than_expected_is_not_written_for_ever(server: Loopback, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.close_connection = True
        handler.answer(200, {"Transfer-Encoding": "chunked"})
        for _ in range(100):
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    server.acts.append(endless)
    with pytest.raises(UserError, match="more than 200000 bytes come"):
        get(server, tmp_path / "camel.bin", Expected(bytes=200_000))
    assert not (tmp_path / "camel.bin").exists()


def test_a_wrong_hash_is_tried_once_more(server: Loopback, tmp_path: Path) -> None:
    server.acts.append(lambda handler: handler.answer(200, {"Content-Length": "4"}, b"gnu!"))
    get(server, tmp_path / "camel.bin", Expected(sha256=SHA256))
    assert (tmp_path / "camel.bin").read_bytes() == BODY


def test_a_wrong_hash_twice_is_told_and_not_kept(server: Loopback, tmp_path: Path) -> None:
    expected = Expected(len(BODY), "0" * 64, by="fetched.json", hint="remove its entry")
    with pytest.raises(UserError) as told:
        get(server, tmp_path / "camel.bin", expected)
    said = str(told.value)
    assert f"{server.address}/camel.bin: {len(BODY)} bytes with SHA-256 {SHA256} came" in said
    assert f"fetched.json says {len(BODY)} bytes and SHA-256 {'0' * 64} (remove its entry)" in said
    assert left(tmp_path) == []
    assert len(server.gets()) == 2


def test_a_wrong_rest_is_thrown_away(server: Loopback, tmp_path: Path) -> None:
    server.headers = {}
    server.acts.extend([serve(cut=70_000), change(BODY[::-1], '"two"')])
    server.acts.append(change(BODY, '"three"'))
    get(server, tmp_path / "camel.bin", Expected(sha256=SHA256))
    assert (tmp_path / "camel.bin").read_bytes() == BODY


def test_throttled(server: Loopback, tmp_path: Path) -> None:
    server.acts.append(refuse(429, Retry_After="1"))
    start = time.monotonic()
    get(server, tmp_path / "camel.bin")
    assert time.monotonic() - start >= 1.0


def test_a_date_to_come_back_at(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("cameleer.core.download.time.sleep", waits.append)
    monkeypatch.setattr("cameleer.core.download.time.time", lambda: 1698832800.0)
    server.acts.append(refuse(503, Retry_After="Wed, 01 Nov 2023 10:00:02 GMT"))
    get(server, tmp_path / "camel.bin")
    assert waits == [2.0]


def test_too_long_a_wait_is_left_to_the_user(server: Loopback, tmp_path: Path) -> None:
    server.acts.append(refuse(503, Retry_After="3600"))
    with pytest.raises(UserError, match="answers 503 Service Unavailable, to wait 3600 s"):
        get(server, tmp_path / "camel.bin")
    assert len(server.gets()) == 1


def test_waits_grow(server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("cameleer.core.download.time.sleep", waits.append)
    server.acts.extend([refuse(500)] * 9)
    with pytest.raises(UserError, match=r"500 Internal Server Error .and so 5 times. .check the"):
        get(server, tmp_path / "camel.bin", patience=Patience(wait=10.0))
    assert len(waits) == 4
    for wait, base in zip(waits, (10, 20, 40, 80), strict=True):
        assert 0.75 * base <= wait <= 1.25 * base


@pytest.mark.parametrize("status", [404, 410, 403])
def test_what_is_not_there_is_told_at_once(server: Loopback, tmp_path: Path, status: int) -> None:
    server.acts.append(refuse(status))
    with pytest.raises(UserError, match=f"camel.bin answers {status} .*put it at {tmp_path}"):
        get(server, tmp_path / "camel.bin")
    assert len(server.gets()) == 1


def test_hung_up(server: Loopback, tmp_path: Path) -> None:
    server.acts.append(hang_up)
    get(server, tmp_path / "camel.bin")
    server.acts.extend([hang_up] * 9)
    with pytest.raises(UserError, match="give the same command again"):
        get(server, tmp_path / "llama.bin")


def test_nobody_there(tmp_path: Path) -> None:
    with (
        client(QUICK) as http,
        pytest.raises(UserError, match=r":9/a: 127\.0\.0\.1 cannot be reached: .*refused"),
    ):
        download(http, "http://127.0.0.1:9/a", tmp_path / "a", patience=QUICK)


def test_slow_is_no_failure_but_silence_is(server: Loopback, tmp_path: Path) -> None:
    quick = Patience(tries=2, wait=0.001, timeout=0.25)
    server.acts.append(slowly(0.1, pieces=5))
    get(server, tmp_path / "camel.bin", patience=quick)
    assert len(server.gets()) == 1
    server.acts.append(slowly(0.6, pieces=1))
    get(server, tmp_path / "llama.bin", patience=quick)
    assert len(server.gets()) == 3


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, "a web page comes"),
        ({"Content-Encoding": "gzip"}, "it comes packed, as gzip"),
    ],
)
def test_something_that_is_not_the_file(
    server: Loopback, tmp_path: Path, headers: dict[str, str], said: str
) -> None:
    server.headers |= headers
    with pytest.raises(UserError, match=said):
        get(server, tmp_path / "camel.bin")
    assert not (tmp_path / "camel.bin").exists()


def test_an_empty_file_is_no_file(server: Loopback, tmp_path: Path) -> None:
    server.files["/camel.bin"] = b""
    with pytest.raises(UserError, match="0 bytes with SHA-256"):
        get(server, tmp_path / "camel.bin")
    assert left(tmp_path) == []


def test_a_redirect_to_another_host_takes_no_token_along(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/datasets/desert/camels/resolve/v1/data/camel.bin"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/")
    with loopback() as store:
        store.files["/signed?s=1"] = BODY
        linked = {"X-Linked-Size": str(len(BODY)), "X-Linked-Etag": f'"{SHA256}"'}
        linked["X-Repo-Commit"] = "c0ffee"
        server.redirects[path] = f"http://localhost:{store.server_address[1]}/signed?s=1", linked
        url = "hf://datasets/desert/camels@v1/data/camel.bin"
        with client(QUICK) as http:
            assert probe(http, url).bytes == len(BODY)
            assert store.asked == []  # the hub has said all: a signed address is not tried
            served = download(http, url, tmp_path / "camel.bin", patience=QUICK)
        assert "authorization" not in store.gets()[0]
        assert server.gets()[0]["authorization"] == "Bearer hf_secret"
        assert served.final_url.endswith("/signed")
        assert (served.sha256, served.revision) == (SHA256, "c0ffee")


def test_what_the_hub_links_to_must_be_what_comes(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    linked = {"X-Linked-Size": str(len(BODY)), "X-Linked-Etag": f'"{"1" * 64}"'}
    path = "/datasets/desert/camels/resolve/main/camel.bin"
    server.redirects[path] = "/camel.bin", linked
    url = "hf://datasets/desert/camels/camel.bin"
    with client(QUICK) as http:
        with pytest.raises(UserError, match=f"but the server says .* SHA-256 {'1' * 64}"):
            download(http, url, tmp_path / "camel.bin", patience=QUICK)
        with pytest.raises(UserError, match="the server has one with SHA-256 1111"):
            download(http, url, tmp_path / "camel.bin", Expected(sha256=SHA256), QUICK)
    assert left(tmp_path) == []


def test_no_token_for_anyone_but_the_hub(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(server, tmp_path / "camel.bin")
    assert "authorization" not in server.gets()[0]


def test_the_hub_wants_a_token(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    server.acts.append(refuse(401))
    with client(QUICK) as http, pytest.raises(UserError, match=r"401 .*set HF_TOKEN"):
        download(http, "hf://datasets/desert/camels/a", tmp_path / "a", patience=QUICK)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTP_PROXY", "nonsense://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/no/such/file.pem"),
    ],
)
def test_an_environment_that_cannot_be_used_is_told(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="what the environment says of the network"):
        client(QUICK)


def test_redirects_without_end(server: Loopback, tmp_path: Path) -> None:
    server.redirects["/camel.bin"] = "/camel.bin", {}
    with pytest.raises(UserError, match="redirects more than 10 times"):
        get(server, tmp_path / "camel.bin")


def test_a_proxy_of_the_environment_is_used(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.address)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    url = "http://camels.example/camel.bin"
    server.files[url] = BODY  # a proxy is asked for the whole address
    with client(QUICK) as http:
        download(http, url, tmp_path / "camel.bin", patience=QUICK)
    assert (tmp_path / "camel.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://a.example/x?y=1", "https://a.example/x?y=1"),
        ("hf://datasets/a/b/c/d.json", "https://hub.example/datasets/a/b/resolve/main/c/d.json"),
        ("hf://datasets/a/b@r2/d.json", "https://hub.example/datasets/a/b/resolve/r2/d.json"),
    ],
)
def test_addresses(url: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    assert web_address(url) == address


def test_an_address_that_is_no_file_of_the_hub() -> None:
    with pytest.raises(UserError, match="write it hf://datasets/ORG/NAME/FILE"):
        web_address("hf://models/a/b")


KILLED = """
import sys
from pathlib import Path
from cameleer.core.download import client, download
with client() as http:
    download(http, sys.argv[1], Path(sys.argv[2]))
"""


def test_kill_9_then_the_same_again(server: Loopback, tmp_path: Path) -> None:
    to, part = tmp_path / "camel.bin", tmp_path / ".camel.bin.part"
    server.acts.append(slowly(0.1, pieces=100))
    command = [sys.executable, "-c", KILLED, f"{server.address}/camel.bin", str(to)]
    process = subprocess.Popen(command)
    while not part.exists() or part.stat().st_size < 3000:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    came = part.stat().st_size
    assert 3000 <= came < len(BODY)
    assert not to.exists()
    subprocess.run(command, check=True, capture_output=True)
    assert to.read_bytes() == BODY
    assert server.gets()[1]["range"] == f"bytes={came}-"
    assert left(tmp_path) == ["camel.bin"]


def test_recorded_before_it_has_its_name(server: Loopback, tmp_path: Path) -> None:
    to = tmp_path / "camel.bin"
    seen: list[tuple[str | None, bytes, bool]] = []

    def record(served: Served, part: Path) -> None:
        seen.append((served.sha256, part.read_bytes(), to.exists()))

    with client(QUICK) as http:
        download(http, f"{server.address}/camel.bin", to, NOTHING, QUICK, record)
    assert seen == [(SHA256, BODY, False)]


def test_killed_when_all_had_come(server: Loopback, tmp_path: Path) -> None:
    url = f"{server.address}/camel.bin"
    facts = {"url": url, "final_url": url, "bytes": len(BODY)}
    (tmp_path / ".camel.bin.part").write_bytes(BODY)
    (tmp_path / ".camel.bin.part.json").write_text(json.dumps(facts))
    assert get(server, tmp_path / "camel.bin").sha256 == SHA256
    assert server.asked == []


@pytest.mark.parametrize("facts", ["", "[]", "{}", '{"url": "http://a", "final_url": "http://a"}'])
def test_a_part_of_something_else_is_not_built_upon(
    server: Loopback, tmp_path: Path, facts: str
) -> None:
    (tmp_path / ".camel.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / ".camel.bin.part.json").write_text(facts)
    get(server, tmp_path / "camel.bin")
    assert (tmp_path / "camel.bin").read_bytes() == BODY


def test_a_part_that_is_too_long_is_not_built_upon(server: Loopback, tmp_path: Path) -> None:
    url = f"{server.address}/camel.bin"
    facts = {"url": url, "final_url": url, "bytes": len(BODY), "etag": '"one"'}
    (tmp_path / ".camel.bin.part").write_bytes(BODY + b"more")
    (tmp_path / ".camel.bin.part.json").write_text(json.dumps(facts))
    get(server, tmp_path / "camel.bin")
    assert (tmp_path / "camel.bin").read_bytes() == BODY


def test_memory_holds_a_piece_and_not_the_file(server: Loopback, tmp_path: Path) -> None:
    import tracemalloc

    server.files["/camel.bin"] = bytes(30 << 20)
    tracemalloc.start()
    get(server, tmp_path / "camel.bin")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "camel.bin").stat().st_size == 30 << 20
    assert peak < 8 << 20


def test_a_full_disk_is_told_with_the_file(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.core.download._Part.clear", lambda part: None)
    (tmp_path / ".camel.bin.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"\.camel\.bin\.part: the disk is full"):
        get(server, tmp_path / "camel.bin")


def test_where_there_is_no_terminal_a_line_now_and_then_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("cameleer.core.console.time.monotonic", lambda: clock[0])
    with progress("camel.bin", None, in_bytes=True) as ticker:
        clock[0] += 16
        ticker.advance(3_000_000)
        ticker.restate(10_000_000, 2_000_000)
        clock[0] += 16
        ticker.advance(4_000_000)
    said = capsys.readouterr().err.splitlines()
    assert said == ["camel.bin: 3.0 MB", "camel.bin: 6.0 MB/10.0 MB, 16 s left"]


def test_room(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "there", 1)
    with pytest.raises(UserError, match=r"are needed here, .* are free"):
        require_room(tmp_path / "not" / "there", 1 << 60)
