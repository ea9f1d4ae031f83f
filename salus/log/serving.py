"""Serving one small application on a socket of this process, until a signal ends it.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import uvloop
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.server.embed import Server

from salus.log.http import Application
from salus.problem import Problem
from salus.settings import bracketed

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
    _port_is_free(where.host, where.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving(app, where, ready, told))


async def serving(
    app: Application,
    where: Listening,
    ready: Callable[[], None],
    told: Callable[[str], None],
) -> None:
    """The same, in a loop that runs."""
    cert, key = where.tls or (None, None)
    server = Server(
        app,
        address=where.host,
        port=where.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        runtime_threads=1,
        websockets=False,
        log_enabled=False,
        ssl_cert=cert,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    stopped = asyncio.Event()

    def stop() -> None:
        server.stop()  # type: ignore[no-untyped-call]
        stopped.set()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    running = asyncio.create_task(server.serve())
    await _answering(where, running)
    following = asyncio.create_task(_follow(server, where, told))
    ready()
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    following.cancel()
    await asyncio.wait({running}, timeout=GRACE_SECONDS)
    running.cancel()
    if not stopped.is_set():
        raise Problem("The HTTP server ended by itself; please report this")


async def _follow(server: Server, where: Listening, told: Callable[[str], None]) -> None:
    """Serve another certificate once it is there, as `salus serve` does."""
    if where.tls is None:
        return
    from salus import tls

    cert, key = where.tls

    def renewed() -> None:
        server.build_ssl_context(cert, key, None, SSLProtocols.tls12, None, [], False)
        server.reload()  # type: ignore[no-untyped-call]

    await tls.follow(where.tls, renewed, told)


async def _answering(where: Listening, running: asyncio.Task[None]) -> None:
    """Wait until the port accepts connections."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 10
    while loop.time() < until and not running.done():
        try:
            _, writer = await asyncio.open_connection(where.host, where.port)
        except OSError:
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return
    raise Problem(f"Cannot listen on {where.host}:{where.port}")


def _port_is_free(host: str, port: int) -> None:
    """Granian would share a port that another process of this user listens on; so ask first."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Problem(f"{host} is not an address of this machine: {error.strerror}") from None
    with closing(socket.socket(family, kind)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Problem(
                f"Cannot listen on {host}:{port} ({error.strerror}): choose another with --listen"
            ) from None
