"""A hub on this machine: as much of the Hub's API as an upload of small files asks for."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Held:
    """What the hub has got. breaks: how many commits end in an error of the server."""

    url: str = ""
    private: bool | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    breaks: int = 0


@contextmanager
def fake_hub() -> Iterator[Held]:
    """A hub that answers on the loopback address while the block runs."""
    held = Held()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            held.tokens.add(self.headers.get("Authorization", ""))
            if self.path == "/api/repos/create":
                self._created(json.loads(body))
            elif self.path == "/api/validate-yaml":
                self._say({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                asked = [one["path"] for one in json.loads(body)["files"]]
                how = {"uploadMode": "regular", "shouldIgnore": False}
                self._say({"files": [{"path": path, **how} for path in asked]})
            elif "/commit/" in self.path:
                self._commit([json.loads(line) for line in body.splitlines()])
            else:
                self._say({"error": self.path}, 404)

        def do_GET(self) -> None:
            if "/tree/" in self.path:
                files = held.files.items()
                entry = {"type": "file", "oid": "0" * 40}
                self._say([{**entry, "path": path, "size": len(it)} for path, it in files])
            else:
                self._say({"id": "me/x", "sha": "0" * 40, "private": held.private, "siblings": []})

        def _created(self, asked: dict[str, Any]) -> None:
            if held.private is not None:
                self._say({"error": "there", "url": f"{held.url}/me/x"}, 409)
                return
            held.private = asked.get("private", asked.get("visibility") == "private")
            self._say({"url": f"{held.url}/me/x", "name": "me/x"})

        def _commit(self, lines: list[dict[str, Any]]) -> None:
            if held.breaks:
                held.breaks -= 1
                self._say({"error": "the hub is tired"}, 400)
                return
            for line in lines:
                if line["key"] == "file":
                    file = line["value"]
                    held.files[file["path"]] = base64.b64decode(file["content"])
            url = f"{held.url}/me/x/commit/{'1' * 40}"
            self._say({"success": True, "commitOid": "1" * 40, "commitUrl": url})

        def _say(self, value: Any, code: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
