"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

# Below those that the system gives to connections, which any test may be given meanwhile.
_FIRST, _END = 10_000, 32_000
_random = random.SystemRandom()  # not of the seed that tests share


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and another process of the tests hardly asks
    for."""
    while True:
        port = _random.randrange(_FIRST, _END)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
