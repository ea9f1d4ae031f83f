"""`salus load`: the progress bar and the summary around a load.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from salus import memory
from salus.load.run import Load, Report, load
from salus.load.sources import LoadError, files
from salus.load.targets import HttpTarget, Target
from salus.operator.ask import ask
from salus.operator.requests import IssueToken, Token
from salus.operator.running import address, holder, serves
from salus.problem import Problem
from salus.settings import Settings, is_loopback
from salus.tls import trusting
from smart_auth.grant import Grant

_MINUTES = 24 * 60  # that the operator's own token lives


class Goal(NamedTuple):
    """A FHIR base. `token`: what to show there; `ca`: a certificate to trust beside the usual."""

    url: str
    token: str | None = None
    ca: Path | None = None


def goal(
    settings: Settings, url: str | None, named: bool, token: str | None, ca: Path | None
) -> Goal | None:
    """Where to load: at the address, or by the server that has the data folder, or straight into
    that folder (None). `named`: the command names the folder. Without a token, the operator's own
    is shown to the server of the folder. Problem."""
    here = address(settings.data)
    if url is None and here is None and named:
        return None
    target = url or (f"{here}/fhir" if here else settings.fhir_base)
    if token is None and not settings.open:
        ours = _belongs(settings, target) if named else serves(settings, target)
        token = own_token(settings) if ours else None
    return Goal(target, token, ca or settings.tls_cert)


def _belongs(settings: Settings, url: str) -> bool:
    """Whether an address that was named together with a data folder is to be shown a token of that
    folder's server. Problem where no server has the folder."""
    if holder(settings.data) is None:
        raise Problem(
            f"No server has {settings.data} open: start it, or leave --url away to load straight "
            "into the folder"
        )
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def load_into(
    paths: Sequence[Path],
    settings: Settings,
    goal: Goal | None,
    failed: Path | None,
    in_flight: int,
    console: Console,
) -> Report:
    """Load files into a server, or into the data folder of the settings where `goal` is None.
    LoadError, StoreError."""
    found = files(paths)
    aside = failed or Path(f"{_stem(paths)}.failed.ndjson")
    if aside.resolve() in {path.resolve() for path in found}:
        raise LoadError(f"{aside} is to be loaded; name another file for failures with --failed")
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoadError(f"{aside.parent} cannot hold the failures: {error.strerror}") from None
    opened = _over_http(goal, in_flight) if goal else _in_process(settings)
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
async def _over_http(goal: Goal, in_flight: int) -> AsyncIterator[Target]:
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    trusted = trusting(goal.ca)
    async with httpx.AsyncClient(limits=limits, trust_env=False, verify=trusted) as client:
        target = HttpTarget(goal.url, client, goal.token)
        await target.probe()
        yield target


def own_token(settings: Settings) -> str:
    """A token of the operator's for a server on this machine whose data and keys we can read, so
    that whoever may read everything anyway need not ask for one. Problem."""
    asked = IssueToken(client=None, scope="system/*.cruds", minutes=_MINUTES)
    return ask(settings, asked, Token).token


@contextlib.asynccontextmanager
async def _in_process(settings: Settings) -> AsyncIterator[Target]:
    from fhir_server.audit.event import Caller
    from salus.app import open_server
    from salus.load.inside import ServerTarget

    async with open_server(settings) as server:
        caller = Caller(Grant.operator("salus load"), "127.0.0.1", settings.base_url)
        memory.settle()
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
    for each in report.first:
        yield "Not stored:", each
    if report.failures:
        yield "Failures:", f"{failed} has them, with the reasons; mend it and load that file"
    for each in report.unreadable:
        yield "Unreadable:", each
    if report.stopped:
        yield "Stopped before the end:", report.stopped
    if report.interrupted:
        yield "Interrupted:", "run the same command again: it goes on where it stopped"


def _stem(paths: Sequence[Path]) -> str:
    """What the file of failures is named for: the file or folder, if it is one."""
    if len(paths) > 1:
        return "salus-load"
    return paths[0].resolve().name.removesuffix(".gz").rsplit(".", 1)[0]
