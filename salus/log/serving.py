"""Serving one small application on a socket of this process, until a signal ends it.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvloop

from salus.log.http import Application
from salus.problem import Problem
from salus.settings import bracketed
from salus.wire.listener import Listener, bind

_ELSEWHERE = "choose another with --listen"
GRACE_SECONDS = 2.0  # what requests under way get after a signal


class Listening(NamedTuple):
    """Where to listen, and the certificate with its key where https is spoken."""

    host: str
    port: int
    tls: tuple[Path, Path] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{bracketed(self.host)}:{self.port}"


def listening(text: str, cert: Path | None, key: Path | None) -> Listening:
    """From `HOST:PORT`. Problem."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Problem(f"{text} is no address to listen on: write HOST:PORT")
    if (cert is None) != (key is None):
        raise Problem("--tls-cert and --tls-key belong together: name both, or none")
    pair = (cert, key) if cert and key else None
    if pair:
        from salus import tls  # which knows clients of https too: not needed without

        tls.check(pair)
    return Listening(host.removeprefix("[").removesuffix("]"), int(port), pair)


def serve(
    app: Application,
    where: Listening,
    ready: Callable[[], None],
    told: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT. Problem."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving(app, where, ready, told))


async def serving(
    app: Application,
    where: Listening,
    ready: Callable[[], None],
    told: Callable[[str], None],
) -> None:
    """The same, in a loop that runs."""
    stopped = asyncio.Event()
    with bind(where.host, where.port, _ELSEWHERE) as bound:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stopped.set)
        following: asyncio.Task[None] | None = None
        if where.tls is None:
            listener = await Listener.listen(app, bound)
        else:
            from salus import tls

            context = tls.context_of(where.tls)
            listener = await Listener.listen(app, bound, context)
            following = asyncio.create_task(tls.follow(where.tls, context, told))
        ready()
        await stopped.wait()
        if following is not None:
            following.cancel()
        await listener.close(GRACE_SECONDS)
