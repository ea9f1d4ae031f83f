"""`salus doctor`: what is where, what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import platform
import shutil
import stat
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from fhir_server.server import Server
from fhir_server.storage.store import StoreError
from salus.bench.machine import filesystem
from salus.deep import disagreements
from salus.settings import Settings

SPARE_BYTES = 1024**3  # less free space than this is said
WAIT_SECONDS = 1.0  # for the server to answer
PACKAGES = ("apsw-sqlite3mc", "granian", "msgspec", "fastapi")
VOLATILE = frozenset({"tmpfs", "ramfs"})
SHOWN = 50  # disagreements printed
LARGEST = 10  # tables listed


@runtime_checkable
class Examined(Protocol):
    """An engine that can say what is in it and what is wrong with it."""

    def check(self) -> Iterator[str]: ...

    def sizes(self) -> dict[str, int]: ...


class Finding(NamedTuple):
    """Something that is wrong, and what to do."""

    wrong: str
    remedy: str


def examine(settings: Settings, deep: bool, console: Console) -> bool:
    """Print what is where and what is wrong; whether nothing is."""
    console.print(_places(settings))
    findings = [*_folders(settings), *_inside(settings, deep, console)]
    for each in findings:
        console.print(f"[bold red]Wrong:[/] {escape(each.wrong)}", highlight=False, soft_wrap=True)
        console.print(f"  Remedy: {escape(each.remedy)}", highlight=False, soft_wrap=True)
    if not findings:
        console.print("[bold green]Nothing is wrong.[/]")
    return not findings


def _places(settings: Settings) -> Table:
    table = Table(show_header=False, title="What is where")
    table.add_row("salus", f"{version('salus-fhir')}, Python {platform.python_version()}")
    table.add_row("with", ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    for name, folder in (("data", settings.data), ("keys", settings.keys)):
        table.add_row(name, f"{folder} ({_size(folder)})")
    table.add_row("FHIR base", f"{settings.fhir_base} ({_answers(settings)})")
    return table


def _size(folder: Path) -> str:
    if not folder.is_dir():
        return "not there yet"
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return f"{len(files)} files, {_amount(size)}"


def _amount(size: int) -> str:
    value, units = float(size), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def _answers(settings: Settings) -> str:
    try:
        reply = httpx.get(
            f"{settings.base_url}/health/ready", timeout=WAIT_SECONDS, trust_env=False
        )
    except httpx.HTTPError:
        return "no server answers"
    return "a server answers" if reply.status_code == 200 else f"answers {reply.status_code}"


def _folders(settings: Settings) -> Iterator[Finding]:
    """What can be seen without opening the store."""
    for name, folder in (("data", settings.data), ("keys", settings.keys)):
        if folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
            yield Finding(
                f"Other users of this machine can look into the {name} folder {folder}",
                f"chmod 700 {folder}",
            )
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


def _inside(settings: Settings, deep: bool, console: Console) -> list[Finding]:
    if not settings.data.is_dir() or not any(settings.data.iterdir()):
        console.print("There is no data yet: `salus serve` makes the folders.")
        return []
    try:
        return asyncio.run(_opened(settings, deep, console))
    except StoreError as error:
        return [Finding(f"The store does not open: {error}", "see the sentence above, then again")]


async def _opened(settings: Settings, deep: bool, console: Console) -> list[Finding]:
    from salus.app import open_server

    async with open_server(settings) as server:
        store = server.store
        if not isinstance(store, Examined):
            return []
        sizes = store.sizes()
        console.print(_contents(sizes))
        restore = "restore the last backup, and keep a copy of this folder for finding out why"
        findings = [Finding(each, restore) for each in store.check()]
        if deep:
            findings += await _deep(server, sizes.get("rows resource"), console)
        return findings


async def _deep(server: Server, total: int | None, console: Console) -> list[Finding]:
    found: list[Finding] = []
    remedy = "report this with the versions above; a backup from before may be restored"
    with Progress(console=console) as bar:
        task = bar.add_task("comparing indexes with resources", total=total)
        compared = disagreements(
            server.store, server.core.index, lambda done: bar.update(task, completed=done)
        )
        async for each in compared:
            if len(found) < SHOWN:
                found.append(Finding(each, remedy))
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
