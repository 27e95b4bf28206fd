"""A server's answer while it is written: events of a stream, put together to what comes whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2

from cameleer.core.text import whole
from cameleer.engines.engine import Hear

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
"""What a request says besides, so that its answer is streamed, and tells its tokens at the end."""

LAST = "[DONE]"
TOLD = ("model", "usage", "error")


def is_stream(response: httpx2.Response) -> bool:
    """Whether it comes in events; a server may answer whole all the same."""
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


async def streamed(
    response: httpx2.Response, hear: Hear, patience: asyncio.Timeout, seconds: float
) -> dict[str, Any]:
    """The JSON that would have come whole, for one text; `hear` is told of it as it grows.

    patience: is put off to `seconds` after each event. An error among the events ends it, and is
    all that is returned. Raises ValueError for an event that is none of the API's.
    """
    written, finish = "", None
    payload: dict[str, Any] = {}
    async for event in httpx2.EventSource(response):
        patience.reschedule(asyncio.get_running_loop().time() + seconds)
        if event.data == LAST:
            break
        told = json.loads(event.data)
        if event.event == "error":
            told = {"error": told}
        if not isinstance(told, dict):
            raise ValueError("no object")
        payload |= {name: told[name] for name in TOLD if told.get(name)}
        if "error" in payload:
            return payload
        for part in told.get("choices") or []:
            more, finish = _piece(part), part.get("finish_reason") or finish
            if more:
                written += more
                hear(whole(written))
    return payload | {"choices": [{"text": written, "finish_reason": finish}]}


def _piece(part: Any) -> str:
    """What an event adds to the text."""
    try:
        more = part["delta"].get("content") if "delta" in part else part.get("text")
    except (TypeError, AttributeError):
        raise ValueError("no piece of a text") from None
    if not isinstance(more, str | None):
        raise ValueError("no text")
    return more or ""
