"""Serving: the application on a socket of this one process, until a signal ends it.

One process holds the port, the data folder's lock and all threads: what ends it ends everything
(https://hl7.org/fhir/R4/http.html is spoken by the application).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import NamedTuple
from urllib.parse import urlsplit

import uvloop
from fastapi import FastAPI
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from salus import memory, tls
from salus.advice import NOT_ADMINISTERED, nameless_proxy, weakened
from salus.folders import exposed, options
from salus.operator.requests import First, FirstStart
from salus.operator.running import announce, withdraw
from salus.program import called
from salus.settings import Settings, bracketed
from salus.wire.listener import Listener, bind
from smart_auth.authority import SIGN_IN

GRACE_SECONDS = 10.0  # what requests under way get after a signal, before the store closes
_ELSEWHERE = "another program may have it: choose another with --port or SALUS_PORT"

_SCOPE = "system/*.rs"
OPENED = (
    "OPEN: no authorization. Anybody on this machine can read and change everything in this server."
)


def serve(
    settings: Settings, console: Console, add: Callable[[FastAPI], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT; `add` gives the application more pages. Problem, and
    StoreError from the store."""
    context = tls.context_of(settings.tls) if settings.tls else None
    bound = bind(settings.host, settings.port, _ELSEWHERE)
    with bound, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bar = Progress(console=console, transient=True)  # appears only when indexing anew
        app = _application(settings, bar)
        add(app)

        def ready(first: First) -> None:
            bar.stop()
            _started(settings, first, str(app.state.product.log.verifier), console)

        def told(text: str) -> None:
            console.print(escape(text), highlight=False, soft_wrap=True)

        runner.run(_serve(app, settings, _Where(bound, context), ready, told))
    console.print("Stopped; everything acknowledged is on disk.")


def _application(settings: Settings, bar: Progress) -> FastAPI:
    """Imported here: commands that do not serve start without it."""
    from salus.app import create_app

    def progress(done: int, total: int) -> None:
        bar.start()
        task = bar.tasks[0].id if bar.tasks else bar.add_task("indexing anew")
        bar.update(task, completed=done, total=total)

    return create_app(settings, progress)


class _Where(NamedTuple):
    """The port, and what is spoken there."""

    bound: socket.socket
    tls: ssl.SSLContext | None


async def _serve(
    app: FastAPI,
    settings: Settings,
    where: _Where,
    ready: Callable[[First], None],
    told: Callable[[str], None],
) -> None:
    stopped = asyncio.Event()
    async with app.router.lifespan_context(app):
        memory.settle()
        _on_signals(stopped.set)
        listener = await Listener.listen(app, where.bound, where.tls)
        announce(settings.data, _nearby(settings))
        following = asyncio.create_task(_follow(settings, where.tls, told))
        try:
            ready(await _first(app, settings))
            await stopped.wait()
        finally:
            following.cancel()
            withdraw(settings.data)
            await listener.close(GRACE_SECONDS)


async def _follow(
    settings: Settings, context: ssl.SSLContext | None, told: Callable[[str], None]
) -> None:
    """Serve another certificate once it is there."""
    if settings.tls is not None and context is not None:
        await tls.follow(settings.tls, context, told)


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


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)


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
