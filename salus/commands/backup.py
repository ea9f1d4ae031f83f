"""`salus backup` and `salus restore`: the data as one file, and a data folder from it.

https://typer.tiangolo.com
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from salus.commands.asking import Data, Keys
from salus.operator.requests import Done, NoteBackup
from salus.program import called
from salus.settings import read_settings
from salus.terminal import explained, option, out

if TYPE_CHECKING:
    from salus.backup.make import Made
    from salus.backup.restore import Restored

Told = Callable[[str, int, int], None]


def backup(
    to: Annotated[
        Path, typer.Argument(help="File to write, or a folder to write one in, named by the time.")
    ],
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Write the data to one file, while its server goes on or without it.

    The file holds one state: every version, event and kept record, sealed as they lie, and the log
    that proves them. Indexes are not in it, nor any key: without the key folder nobody can read it,
    so save that too, apart from it and after it, with `salus keys backup`. The audit tells of it.

    [bold]Examples[/]

      salus backup /mnt/backups

      salus backup /mnt/backups/monday.backup --data ./data --keys ~/salus-keys
    """
    from salus.backup.make import backup as run
    from salus.backup.make import destination
    from salus.operator.ask import ask
    from salus.operator.running import needs_data

    with explained():
        settings = read_settings(data=data, keys=keys)
        needs_data(settings)
        destination(settings, to, 0)  # what is refused is not told to the audit
        ask(settings, NoteBackup(), Done)
        with _bar() as told:
            made = run(settings, to, lambda *at: told("backing up", *at))
    _saved(made)


def restore(
    backup: Annotated[Path, typer.Argument(help="A file that `salus backup` wrote.")],
    data: Annotated[Path, option(help="Folder to restore into: empty, or not there yet.")],
    keys: Keys = None,
    log_of: Annotated[
        Path | None,
        option(help="Newer data folder of the same server, whose log names what was erased since."),
    ] = None,
) -> None:
    """Make a data folder from a backup: rows copied, indexes built anew, every record proven.

    What was erased since the backup stays erased: what is sealed under keys that were destroyed is
    removed, and what the log of a newer folder says, when there is one. Interrupted, it leaves a
    folder that no command opens; the same command begins anew.

    Exit code 0: everything is as it was backed up; 1: restored, but something was wrong already; 2:
    nothing was restored.

    [bold]Examples[/]

      salus restore monday.backup --data ./restored --keys ~/salus-keys

      salus restore monday.backup --data ./restored --log-of ./data
    """
    from salus.backup.restore import restore as run

    with explained(), _bar() as told:
        made = run(read_settings(data=data, keys=keys), backup, log_of, told)
    _back(made, data)
    if not made.well:
        raise typer.Exit(1)


@contextmanager
def _bar() -> Iterator[Told]:
    """A bar for each thing that is done, one after the other."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,}"),
        TimeElapsedColumn(),
        console=out,
        refresh_per_second=4,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield told


def _line(text: str, mark: str = "") -> None:
    out.print(f"{mark}{escape(text)}", highlight=False, soft_wrap=True)


def _saved(made: Made) -> None:
    tables = made.manifest.tables
    _line(f"Saved {made.file} ({made.size:,} bytes)", "[bold green]Done.[/] ")
    _line(
        f"  In it: {tables['resource']:,} resources, {tables['old']:,} older versions, "
        f"{tables['event']:,} events, {tables['kept']:,} kept records"
    )
    _line(f"  Log: {made.manifest.leaves:,} leaves, root {made.manifest.root}")
    _line(f"  SHA-256: {made.digest.hex()}")
    _line(f"  No key is in it: save those apart from it with `{called()} keys backup`")


def _back(made: Restored, data: Path) -> None:
    removed, report = made.removed, made.report
    _line(f"Restored {data} as it was at {made.manifest.when}", "[bold green]Done.[/] ")
    _line(f"  In it: {made.resources:,} resources and {made.events:,} events, indexed anew")
    if any(removed) or made.patients:
        _line(
            f"  Removed, since it was erased after the backup: {removed.versions:,} versions, "
            f"{removed.events:,} events, and what {removed.details:,} events had apart; "
            f"{made.patients:,} patients have nothing any more"
        )
    if made.log_of is None:
        _line("  Erasures were taken from the keys; --log-of a newer folder names them all")
    proven = report.records + report.notices
    _line(
        f"  Proven: {proven:,} records against the log of {report.size:,} leaves, which begins "
        f"with the {made.manifest.leaves:,} that were backed up (root {made.manifest.root})"
    )
    if made.name:
        _line(f"  More was signed than the backup has: the log is now {made.name}, with a new key")
    for false in made.false:
        _line(false, "[bold red]Wrong:[/] ")
    for each in report.findings[:20]:
        _line(f"{each.record or 'the log'}: {each.text}", "[bold red]Wrong:[/] ")
    if len(report.findings) > 20:
        _line(f"and {len(report.findings) - 20:,} more: see `{called()} audit verify`", "  ")
    _line(f"  Next: `{called()} serve --data {data}`")
