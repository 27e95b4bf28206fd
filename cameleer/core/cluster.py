"""Ray, where it is asked for: joined or started, in silence, and with nothing sent home."""

from __future__ import annotations

import importlib
import os
import secrets
import socket
import sys
from typing import Any

from cameleer.core.cores import cores
from cameleer.core.errors import UserError

STORE = 100_000_000  # bytes of a store that we start: what goes through it is small
OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way to say that it keeps to 127.0.0.1
    "RAY_AUTH_MODE": "token",  # other users of this machine stay out
    "RAY_worker_niceness": "0",  # as without Ray
}


def ray_at(address: str | None, field: str, **how: Any) -> Any:
    """Ray's module, connected to the cluster at `address`; UserError, about `field`, if it cannot.

    None starts one of this machine alone, which nobody else reaches and which ends with us. how:
    further words for `ray.init`.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None and "ray" not in sys.modules:  # which reads them when it is imported
        os.environ |= OWN | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UserError(
            "ray is not installed", field=field, hint="pip install 'cameleer[ray]'"
        ) from None
    try:
        if address is None:
            how |= {"include_dashboard": False, "num_cpus": cores(), "object_store_memory": STORE}
        else:
            _require_listener(address)
        ray.init(address=address or "local", logging_level="warning", **how)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no Ray cluster at '{address or 'local'}': {reason}", field=field
        ) from None
    return ray


def _require_listener(address: str) -> None:
    """OSError where nobody listens at a `host:port`; Ray would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()
