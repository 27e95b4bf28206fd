"""The socket that the rating app listens on."""

from __future__ import annotations

import socket

from cameleer.human.serving import bind


def test_pages_are_sent_at_once() -> None:
    """Who is let in has the listening socket's settings: small answers wait for no other."""
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
