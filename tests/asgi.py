"""An ASGI app served on the loopback address, in a thread that ends with the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from cameleer.human.serving import bind


@contextmanager
def in_thread(app: Any, before_the_end: Callable[[], object] = lambda: None) -> Iterator[str]:
    """The app's address; before_the_end: ends what would keep its connections open."""
    with bind("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            before_the_end()
            server.should_exit = True
            thread.join(20)
