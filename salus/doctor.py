"""`salus doctor`: what is where, what is wrong, and what to do about it.

https://man7.org/linux/man-pages/man1/df.1.html and the store itself are asked.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, runtime_checkable

import apsw
import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from fhir_server.erasure.patient import waiting
from fhir_server.server import Server
from fhir_server.storage.sqlite.folder import LOCK
from fhir_server.storage.sqlite.schema import DAMAGED, FILE, cipher_of
from fhir_server.storage.store import StoreError
from fhir_server.times import instant
from salus.advice import advice, urgent
from salus.bench.machine import filesystem
from salus.building import summary
from salus.deep import disagreements
from salus.folders import Finding, exposed, named
from salus.keyring import protection, tighter, unopened
from salus.log.condition import condition
from salus.operator.running import address, holder
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings

SPARE_BYTES = 1024**3  # less free space than this is said
WAIT_SECONDS = 1.0  # for the server to answer
PACKAGES = ("apsw-sqlite3mc", "httptools", "uvloop", "msgspec", "fastapi")
VOLATILE = frozenset({"tmpfs", "ramfs"})
SHOWN = 50  # disagreements printed
LARGEST = 10  # tables listed
MODES = "(700 for folders, 600 for files)"
_NAME_OR_START = "name another with --data or SALUS_DATA, or start a server with `{} serve`"
RESTORE = "restore the last backup, and keep a copy of this folder for finding out why"


@runtime_checkable
class Examined(Protocol):
    """An engine that can say what is in it and what is wrong with it."""

    def check(self) -> Iterator[str]: ...

    def sizes(self) -> dict[str, int]: ...


def examine(settings: Settings, deep: bool, console: Console) -> bool:
    """Print what is where and what is wrong; whether nothing is. Problem when `deep` is asked of a
    folder that a running server has."""
    console.print(_places(settings))
    findings = [*exposed(settings), *_space(settings), *urgent(settings)]
    if locked := unopened(settings):
        findings.append(_closed(locked))
    if found := holder(settings.data):
        _in_use(settings, found, deep, console)
    elif not locked:
        findings += _inside(settings, deep, console)
    if not locked:
        findings += _log(settings, console)
    for each in findings:
        _print("[bold red]Wrong:[/]", each, console)
    if not findings:
        for each in _advice(settings):
            _print("[bold yellow]Could be tighter:[/]", each, console)
        console.print("[bold green]Nothing is wrong.[/]")
    return not findings


def _log(settings: Settings, console: Console) -> list[Finding]:
    """Say how far the log is signed; of data that does not open, others say so."""
    try:
        told, wrong = condition(settings)
    except (Problem, StoreError, apsw.Error):
        return []
    console.print(f"Log: {escape(told)}", highlight=False, soft_wrap=True)
    return wrong


def _print(mark: str, finding: Finding, console: Console) -> None:
    console.print(f"{mark} {escape(finding.wrong)}", highlight=False, soft_wrap=True)
    console.print(f"  Remedy: {escape(finding.remedy)}", highlight=False, soft_wrap=True)


def _advice(settings: Settings) -> list[Finding]:
    """What could be tighter in a store that is there; nothing where its server does not answer."""
    if not (settings.data / LOCK).is_file():
        return []
    try:
        return [*advice(settings), *tighter(settings, time.time())]
    except Problem:
        return []


def _places(settings: Settings) -> Table:
    table = Table(Column(), Column(overflow="fold"), show_header=False, title="What is where")
    table.add_row("salus", f"{version('salus-fhir')}, Python {platform.python_version()}")
    table.add_row("with", ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    for name, folder in named(settings):
        table.add_row(name, f"{folder} ({_size(folder)})")
    if (settings.data / FILE).is_file():
        with suppress(StoreError):  # which is said when it is opened
            table.add_row("pages", f"encrypted by {cipher_of(settings.data)}")
    for name, text in protection(settings):
        table.add_row(name, text)
    answers = _answers(settings) or "no server answers"
    table.add_row("FHIR base", f"{_base(settings)}/fhir ({answers})")
    return table


def _size(folder: Path) -> str:
    if not folder.is_dir():
        return "a file, not a folder" if folder.exists() else "not there yet"
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return f"{len(files)} files, {_amount(size)}"


def _amount(size: int) -> str:
    value, units = float(size), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def _base(settings: Settings) -> str:
    """Where the server of the data folder listens, or would by the settings."""
    return address(settings.data) or settings.base_url


def _answers(settings: Settings) -> str | None:
    """What the server says; None when nothing answers."""
    try:
        # Whether something serves there is asked, not who it is.
        reply = httpx.get(
            f"{_base(settings)}/health/ready",
            timeout=WAIT_SECONDS,
            trust_env=False,
            verify=False,
        )
    except httpx.HTTPError:
        return None
    return "a server answers" if reply.status_code == 200 else f"answers {reply.status_code}"


def _space(settings: Settings) -> Iterator[Finding]:
    """Whether the data has room, and lies where it lasts."""
    if not settings.data.is_dir():
        return
    free = shutil.disk_usage(settings.data).free
    if free < SPARE_BYTES:
        yield Finding(
            f"Only {_amount(free)} are free where the data is",
            "free some space: nothing can be written without it",
        )
    kind = filesystem(settings.data)
    if kind in VOLATILE:
        yield Finding(
            f"The data is on a {kind} file system, which forgets everything when the machine stops",
            "move it to a disk and name it with --data or SALUS_DATA",
        )


def _in_use(settings: Settings, holder: str, deep: bool, console: Console) -> None:
    """A folder that a server has is in order as far as can be seen beside it."""
    if deep:
        raise Problem(
            f"--deep compares what nobody changes, but {settings.data} is in use by {holder}: "
            "stop that, then run the same command again"
        )
    answers = (
        "which answers" if _answers(settings) else f"which does not answer at {_base(settings)}"
    )
    console.print(
        f"{escape(str(settings.data))} is in use by {escape(holder)}, {answers}; "
        "stop it to look inside and for --deep",
        highlight=False,
        soft_wrap=True,
    )


def _inside(settings: Settings, deep: bool, console: Console) -> list[Finding]:
    if settings.data.exists() and not settings.data.is_dir():
        return []
    if not settings.data.exists() or not any(settings.data.iterdir()):
        if "data" in settings.model_fields_set:
            return [
                Finding(f"There is no data in {settings.data}", _NAME_OR_START.format(called()))
            ]
        console.print(f"There is no data yet: `{called()} serve` makes the folders.")
        return []
    findings: list[Finding] = []
    try:
        asyncio.run(_opened(settings, deep, console, findings))
    except StoreError as error:
        findings.append(_closed(error))
    except apsw.Error as error:
        findings.append(_damaged(error))
    return findings


def _closed(error: StoreError) -> Finding:
    """A store that does not open. Its error says what is wrong and then what to do, except where
    the database itself refused."""
    if isinstance(error.__cause__, apsw.Error):
        wrong = str(error).removesuffix(f": {DAMAGED}")
        return Finding(f"The store does not open: {wrong}", RESTORE)
    if isinstance(error.__context__, OSError):
        return Finding(f"The store does not open: {error}", f"make it yours: chown, chmod {MODES}")
    for mark in (". ", "; ", ": "):
        wrong, found, remedy = str(error).rpartition(mark)
        if found:
            return Finding(f"The store does not open: {wrong}", remedy)
    return Finding(f"The store does not open: {error}", RESTORE)


def _damaged(error: apsw.Error) -> Finding:
    return Finding(f"The database cannot be read whole ({type(error).__name__}: {error})", RESTORE)


async def _opened(
    settings: Settings, deep: bool, console: Console, findings: list[Finding]
) -> None:
    """Add what is wrong inside. Damage in one place does not keep the others from being seen."""
    from salus.app import open_server

    async with open_server(settings) as server:
        store = server.store
        if not isinstance(store, Examined):
            return
        rows = None
        try:
            sizes = store.sizes()
            rows = sizes.get("rows resource")
            console.print(_contents(sizes))
        except apsw.Error as error:
            findings.append(_damaged(error))
        findings += _checked(store)
        findings += await _unfinished(server)
        findings += _packages(server, console)
        for each in await summary(server):
            console.print(escape(each), highlight=False, soft_wrap=True)
        if deep:
            findings += await _deep(server, rows, console)


async def _unfinished(server: Server) -> list[Finding]:
    """Erasures that were begun; those that only wait for a legal hold are as they should be."""
    try:
        found = [each for each in await server.store.transaction(waiting) if not each.left]
    except StoreError:
        text = "What is left to be done of an erasure cannot be read"
        return [Finding(text, RESTORE)]
    return [
        Finding(
            f"The erasure that began at {instant(each.at)} is not finished",
            f"start the server, which finishes it: `{called()} serve`; its log says why",
        )
        for each in found
    ]


def _packages(server: Server, console: Console) -> list[Finding]:
    """Say which packages are installed; those that cannot be opened are wrong."""
    guides = server.core.guides
    found = [each.label for each in guides.current.packages.packages]
    console.print(f"Packages: {escape(', '.join(found))}", highlight=False, soft_wrap=True)
    remedy = f"install it again: `{called()} package install FILE.tgz`"
    return [Finding(f"The package {each} is damaged", remedy) for each in guides.damaged]


def _checked(store: Examined) -> Iterator[Finding]:
    try:
        for each in store.check():
            yield Finding(each, RESTORE)
    except apsw.Error as error:
        yield _damaged(error)


async def _deep(server: Server, total: int | None, console: Console) -> list[Finding]:
    """What is being indexed is finished first: until then it does not agree."""
    found: list[Finding] = []
    if server.parameters is not None:
        await server.parameters.finish()
    remedy = "report this with the versions above; a backup from before may be restored"
    with Progress(console=console) as bar:
        task = bar.add_task("comparing indexes with resources", total=total)
        compared = disagreements(
            server.store, server.core.index, lambda done: bar.update(task, completed=done)
        )
        async for each in compared:
            if len(found) < SHOWN:
                found.append(Finding(each, remedy))
        bar.update(task, total=1, completed=1)  # the total before was of rows, not of resources
    return found


def _contents(sizes: dict[str, int]) -> Table:
    """Rows and files, and the largest tables."""
    table = Table("In the store", "", title="Contents")
    table.columns[1].justify = "right"
    tables = sorted((size, name) for name, size in sizes.items() if name.startswith("table "))
    for name, size in sizes.items():
        if not name.startswith("table "):
            table.add_row(name, f"{size:,}" if name.startswith("rows ") else _amount(size))
    table.add_section()
    for size, name in reversed(tables[-LARGEST:]):
        table.add_row(name, _amount(size))
    return table
