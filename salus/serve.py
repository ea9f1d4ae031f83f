"""Serving: the application on a socket of this one process, until a signal ends it.

Granian runs embedded, so that one process holds the port, the data folder's lock and all threads:
what ends it ends everything (https://hl7.org/fhir/R4/http.html is spoken by the application).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

import uvloop
from fastapi import FastAPI
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from salus import tls
from salus.advice import NOT_ADMINISTERED, nameless_proxy, weakened
from salus.folders import exposed, options
from salus.operator.requests import First, FirstStart
from salus.operator.running import announce, withdraw
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings, bracketed
from smart_auth.authority import SIGN_IN

GRACE_SECONDS = 10.0  # what requests under way get after a signal, before the store closes
BACKLOG = 2048  # connections that may wait to be accepted
HEADER_BYTES = 64 * 1024  # of a request's line and headers; of headers there may be 100
HEADER_SECONDS = 30  # in which they must have come, so that nobody holds connections for nothing
# Objects made since the last collection before the next: the default of 700 walks the trees of a
# parsed Bundle over and over (measured: parsing takes up to three times as long).
COLLECT_AFTER = (20_000, 50, 100)

_SCOPE = "system/*.rs"
OPENED = (
    "OPEN: no authorization. Anybody on this machine can read and change everything in this server."
)


class CannotServe(Problem):
    """The server cannot start; the text says what to do."""


def serve(
    settings: Settings, console: Console, add: Callable[[FastAPI], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT; `add` gives the application more pages. CannotServe, and
    StoreError from the store."""
    if settings.tls:
        tls.check(settings.tls)
    _port_is_free(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bar = Progress(console=console, transient=True)  # appears only when indexing anew
        app = _application(settings, bar)
        add(app)

        def ready(first: First) -> None:
            bar.stop()
            _started(settings, first, str(app.state.product.log.verifier), console)

        def told(text: str) -> None:
            console.print(escape(text), highlight=False, soft_wrap=True)

        runner.run(_serve(app, settings, ready, told))
    console.print("Stopped; everything acknowledged is on disk.")


def _application(settings: Settings, bar: Progress) -> FastAPI:
    """Imported here: commands that do not serve start without it."""
    from salus.app import create_app

    def progress(done: int, total: int) -> None:
        bar.start()
        task = bar.tasks[0].id if bar.tasks else bar.add_task("indexing anew")
        bar.update(task, completed=done, total=total)

    return create_app(settings, progress)


async def _serve(
    app: FastAPI,
    settings: Settings,
    ready: Callable[[First], None],
    told: Callable[[str], None],
) -> None:
    """The application's lifespan is run here and not by Granian, whose embedded form swallows why
    a start failed."""
    async with app.router.lifespan_context(app):
        _settle_memory()
        server = _server(app, settings)
        stopped = asyncio.Event()

        def stop() -> None:
            server.stop()  # type: ignore[no-untyped-call]
            stopped.set()

        _on_signals(stop)
        serving = asyncio.create_task(server.serve())
        await _listening(settings, serving)
        announce(settings.data, _nearby(settings))
        following = asyncio.create_task(_follow(server, settings, told))
        try:
            ready(await _first(app, settings))
            await _until_stopped(serving, stopped)
        finally:
            following.cancel()
            withdraw(settings.data)


def _server(app: FastAPI, settings: Settings) -> Server:
    cert, key = settings.tls or (None, None)
    return Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=HEADER_BYTES
        ),
        runtime_threads=1,
        backlog=BACKLOG,
        log_enabled=False,
        ssl_cert=cert,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
    )


async def _follow(server: Server, settings: Settings, told: Callable[[str], None]) -> None:
    """Serve another certificate once it is there: a new listener joins on the same port, and the
    one of before ends when it has answered what it accepted."""
    if settings.tls is None:
        return
    cert, key = settings.tls

    def renewed() -> None:
        server.build_ssl_context(cert, key, None, SSLProtocols.tls12, None, [], False)
        server.reload()  # type: ignore[no-untyped-call]

    await tls.follow((cert, key), renewed, told)


async def _first(app: FastAPI, settings: Settings) -> First:
    """The first administrator, made where nobody can sign in yet and somebody is to."""
    if settings.open:
        return First(None, None)
    from salus.operator.users import first

    return await first(app.state.product, FirstStart())


def _nearby(settings: Settings) -> str:
    """Where commands on this machine reach the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    scheme, path = "https" if settings.tls else "http", urlsplit(settings.base_url).path
    return f"{scheme}://{bracketed(host)}:{settings.port}{path}"


async def _until_stopped(serving: asyncio.Task[None], stopped: asyncio.Event) -> None:
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not stopped.is_set():
        raise CannotServe("The HTTP server ended by itself; please report this")
    await asyncio.wait({serving}, timeout=GRACE_SECONDS)
    serving.cancel()


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)


async def _listening(settings: Settings, serving: asyncio.Task[None]) -> None:
    """Wait until the port accepts connections."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 10
    while loop.time() < until and not serving.done():
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return
    raise CannotServe(f"Cannot listen on {settings.host}:{settings.port}")


def _port_is_free(host: str, port: int) -> None:
    """Granian would share a port that another process of this user listens on: requests would
    reach either. So ask first, without sharing."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CannotServe(f"{host} is not an address of this machine: {error.strerror}") from None
    with closing(socket.socket(family, kind)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise CannotServe(
                f"Cannot listen on {host}:{port} ({error.strerror}); "
                "another program may have it: choose another with --port or SALUS_PORT"
            ) from None


def _settle_memory() -> None:
    """What start-up made lives until the end: the collector need never look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _age_seconds() -> float | None:
    """How long this process has lived; None where /proc does not tell."""
    try:
        began = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    except OSError:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")


def _started(settings: Settings, first: First, key: str, console: Console) -> None:
    age = _age_seconds()
    took = f" in {age:.1f} s" if age else ""
    console.print(f"[bold green]Salus is up[/]{took}  (process {os.getpid()}, Ctrl-C stops it)")
    for name, place in (
        ("FHIR API", settings.fhir_base),
        ("sign-in", f"{settings.base_url}{SIGN_IN}"),
        ("data", settings.data),
        ("keys", settings.keys),
        ("health", f"{settings.base_url}/health/ready"),
        ("metrics", f"{settings.base_url}/metrics"),
        ("log key", key),
    ):
        console.print(f"  {name:<9}{place}", highlight=False, soft_wrap=True)
    if settings.open:
        console.print(f"[bold white on red] {OPENED} [/]", soft_wrap=True)
    for each in (*exposed(settings), *nameless_proxy(settings), *weakened(settings)):
        console.print(
            f"[bold yellow]Warning:[/] {escape(each.wrong)}: {escape(each.remedy)}",
            highlight=False,
            soft_wrap=True,
        )
    if first.link:
        console.print(
            f"[bold]Nobody can sign in yet.[/] This link, good for once and for a week, makes you "
            f"[bold]{first.name}[/], the administrator:\n  {escape(first.link)}",
            highlight=False,
            soft_wrap=True,
        )
    if not first.administered:
        console.print(
            f"[bold yellow]Warning:[/] {NOT_ADMINISTERED}: "
            f"{escape(called())} user add NAME --admin{escape(options(settings))}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(_next(settings), highlight=False, markup=False, soft_wrap=True)


def _next(settings: Settings) -> str:
    """What to try."""
    salus, folders = called(), options(settings)
    far = settings.base_url != _nearby(settings)  # by its address alone it is not known as ours
    trust = _trust(settings)
    curl, ca = (f"curl --cacert {trust}", f" --ca {trust}") if trust else ("curl", "")
    token = f" -H \"Authorization: Bearer $({salus} token --scope '{_SCOPE}'{folders})\""
    return (
        f"Try next:\n  {curl} {settings.fhir_base}/metadata\n"
        f"  {curl}{'' if settings.open else token} {settings.fhir_base}/Patient\n"
        f"  {salus} load FILE.ndjson.gz --url {settings.fhir_base}{options(settings, far)}{ca}"
    )


def _trust(settings: Settings) -> str | None:
    """The certificate that a client must be told to trust, since nobody else vouches for it."""
    if settings.tls is None or not tls.vouches_for_itself(settings.tls[0]):
        return None
    return quote(str(settings.tls[0]))
