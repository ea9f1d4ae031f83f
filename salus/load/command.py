"""`salus load`: the progress bar and the summary around a load.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fhir_server.audit.event import Caller
from salus.load.run import Load, Report, load
from salus.load.sources import LoadError, files
from salus.load.targets import HttpTarget, ServerTarget, Target
from salus.operator.ask import ask
from salus.operator.requests import IssueToken, Token
from salus.operator.running import serves
from salus.settings import Settings
from smart_auth.grant import Grant

_MINUTES = 24 * 60  # that the operator's own token lives


def load_into(
    paths: Sequence[Path],
    settings: Settings,
    url: str | None,
    failed: Path | None,
    in_flight: int,
    console: Console,
    token: str | None = None,
) -> Report:
    """Load files into the server at `url`, or into the data folder of the settings where that is
    None. `token`: what to show there; without one, the operator's own is shown to the server of
    the settings' data folder. LoadError, StoreError."""
    found = files(paths)
    aside = failed or Path(f"{_stem(paths[0])}.failed.ndjson")
    if aside.resolve() in {path.resolve() for path in found}:
        raise LoadError(f"{aside} is to be loaded; name another file for failures with --failed")
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoadError(f"{aside.parent} cannot hold the failures: {error.strerror}") from None
    opened = (
        _over_http(url, in_flight, token or _own_token(settings, url))
        if url
        else _in_process(settings)
    )
    report = asyncio.run(_load(found, opened, aside, in_flight, console))
    _summary(report, aside, console)
    return report


async def _load(
    found: Sequence[Path],
    opened: AbstractAsyncContextManager[Target],
    failed: Path,
    in_flight: int,
    console: Console,
) -> Report:
    async with opened as target:
        with _bar(console) as bar:
            task = bar.add_task("", total=sum(path.stat().st_size for path in found), rate="")

            def progress(read: int, stored: int) -> None:
                seconds = bar.tasks[0].elapsed or 0.001
                bar.update(task, advance=read, rate=f"{stored:,} ({stored / seconds:,.0f}/s)")

            return await load(found, Load(target, failed, in_flight, progress))


@contextlib.asynccontextmanager
async def _over_http(url: str, in_flight: int, token: str | None) -> AsyncIterator[Target]:
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        target = HttpTarget(url, client, token)
        await target.probe()
        yield target


def _own_token(settings: Settings, url: str) -> str | None:
    """A token of the operator's for a server on this machine whose data and keys we can read, so
    that whoever may read everything anyway need not ask for one. Problem."""
    if settings.open or not serves(settings, url):
        return None
    asked = IssueToken(client=None, scope="system/*.cruds", minutes=_MINUTES)
    return ask(settings, asked, Token).token


@contextlib.asynccontextmanager
async def _in_process(settings: Settings) -> AsyncIterator[Target]:
    from salus.app import open_server

    async with open_server(settings) as server:
        caller = Caller(Grant.operator("salus load"), "127.0.0.1", settings.base_url)
        yield ServerTarget(server, caller)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("loading"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]} resources"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )


def _summary(report: Report, failed: Path, console: Console) -> None:
    table = Table(show_header=False)
    for name, value in (
        ("files", f"{report.files:,}"),
        ("lines", f"{report.lines:,}"),
        ("resources stored, now or before", f"{report.resources:,}"),
        ("failures", f"{report.failures:,}"),
        ("seconds", f"{report.seconds:,.1f}"),
        ("resources a second", f"{report.resources / max(report.seconds, 0.001):,.0f}"),
    ):
        table.add_row(name, value)
    console.print(table)
    for mark, text in _remarks(report, failed):
        console.print(f"[bold red]{mark}[/] {escape(text)}", soft_wrap=True, highlight=False)


def _remarks(report: Report, failed: Path) -> Iterator[tuple[str, str]]:
    """What was not stored and what to do, each with its mark."""
    if report.failures:
        yield "Failures:", f"{failed} has them, with the reasons; mend it and load that file"
    for each in report.unreadable:
        yield "Unreadable:", each
    if report.stopped:
        yield "Stopped before the end:", report.stopped
    if report.interrupted:
        yield "Interrupted:", "run the same command again: it goes on where it stopped"


def _stem(path: Path) -> str:
    return path.resolve().name.removesuffix(".gz").rsplit(".", 1)[0]
