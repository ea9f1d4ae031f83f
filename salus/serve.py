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

import uvloop
from fastapi import FastAPI
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from salus.folders import exposed
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings

GRACE_SECONDS = 10.0  # what requests under way get after a signal, before the store closes
BACKLOG = 2048  # connections that may wait to be accepted
# Objects made since the last collection before the next: the default of 700 walks the trees of a
# parsed Bundle over and over (measured: parsing takes up to three times as long).
COLLECT_AFTER = (20_000, 50, 100)

OPENED = (
    "OPEN: no authorization. Anybody on this machine can read and change everything in this server."
)


class CannotServe(Problem):
    """The server cannot start; the text says what to do."""


def serve(settings: Settings, console: Console) -> None:
    """Serve until SIGTERM or SIGINT. CannotServe, and StoreError from the store."""
    _port_is_free(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bar = Progress(console=console, transient=True)  # appears only when indexing anew
        app = _application(settings, bar)

        def ready() -> None:
            bar.stop()
            _started(settings, console)

        runner.run(_serve(app, settings, ready))
    console.print("Stopped; everything acknowledged is on disk.")


def _application(settings: Settings, bar: Progress) -> FastAPI:
    """Imported here: commands that do not serve start without it."""
    from salus.app import create_app

    def progress(done: int, total: int) -> None:
        bar.start()
        task = bar.tasks[0].id if bar.tasks else bar.add_task("indexing anew")
        bar.update(task, completed=done, total=total)

    return create_app(settings, progress)


async def _serve(app: FastAPI, settings: Settings, ready: Callable[[], None]) -> None:
    """The application's lifespan is run here and not by Granian, whose embedded form swallows why
    a start failed."""
    async with app.router.lifespan_context(app):
        _settle_memory()
        server = Server(
            app,
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            runtime_threads=1,
            backlog=BACKLOG,
            log_enabled=False,
        )
        stopped = asyncio.Event()

        def stop() -> None:
            server.stop()  # type: ignore[no-untyped-call]
            stopped.set()

        _on_signals(stop)
        serving = asyncio.create_task(server.serve())
        await _listening(settings, serving)
        ready()
        await _until_stopped(serving, stopped)


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


def _started(settings: Settings, console: Console) -> None:
    age = _age_seconds()
    took = f" in {age:.1f} s" if age else ""
    console.print(f"[bold green]Salus is up[/]{took}  (process {os.getpid()}, Ctrl-C stops it)")
    for name, place in (
        ("FHIR API", settings.fhir_base),
        ("data", settings.data),
        ("keys", settings.keys),
        ("health", f"{settings.base_url}/health/ready"),
        ("metrics", f"{settings.base_url}/metrics"),
    ):
        console.print(f"  {name:<9}{place}", highlight=False, soft_wrap=True)
    console.print(f"[bold white on red] {OPENED} [/]", soft_wrap=True)
    for each in exposed(settings):
        console.print(
            f"[bold yellow]Warning:[/] {escape(each.wrong)}: {escape(each.remedy)}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"Try next:\n  curl {settings.fhir_base}/metadata\n"
        f"  {called()} load FILE.ndjson.gz --url {settings.fhir_base}",
        highlight=False,
        soft_wrap=True,
    )
