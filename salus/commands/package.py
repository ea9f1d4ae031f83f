"""`salus package`: implementation guides and other FHIR packages that the server goes by.

https://hl7.org/fhir/packages.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from salus.commands.asking import Data, Json, Keys, answered
from salus.commands.clients import day
from salus.operator import requests
from salus.problem import Problem
from salus.settings import Settings, read_settings
from salus.terminal import command, explained, group, listed_as_json, listing, option, out

if TYPE_CHECKING:
    from conformance.packages import Package

app = group("package", "Install implementation guides, and list and remove them.")

PIECE = 32 * 1024  # bytes: what a message of the operator's channel has room for, twice in base64
_SHOWN = 4  # types of resources that are counted one by one


@command(app)
def install(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Packages (.tgz), folders of one, or folders of .tgz files."),
    ],
    strict: Annotated[
        bool, option("--strict", help="Refuse a package whose dependencies are not there.")
    ] = False,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Install packages: profiles, value sets, code systems and search parameters of R4.

    Several versions of one package lie side by side. What a package depends on and is not there is
    named, with what cannot be checked for lack of it; install that before or after. A package that
    is installed again replaces itself. A running server goes by it at once. Of several, those that
    can be are installed; exit code 2 says that one could not be, and why is told of each.

    [bold]Examples[/]

      salus package install hl7.fhir.us.core-6.1.0.tgz

      salus package install hl7.terminology.r4-7.0.1.tgz hl7.fhir.us.core-7.0.0.tgz --strict

      salus package install ./packages --data ./data --keys ~/salus-keys
    """
    from salus.operator.running import needs_data

    with explained():
        settings = read_settings(data=data, keys=keys)
        needs_data(settings)
        refused: dict[str, None] = {}  # in order, each once
        for path in _found(paths):
            try:
                with _Bar() as bar:
                    made = _installed(settings, path, strict, bar)
            except Problem as problem:
                refused[str(problem)] = None
                continue
            _print(made)
        if refused:
            raise Problem("\n".join(refused))


@command(app, "list")
def list_(data: Data = None, keys: Keys = None, json: Json = False) -> None:
    """List what is installed, with what each package lacks.

    [bold]Examples[/]

      salus package list

      salus package list --json
    """
    with explained():
        found = answered(data, keys, requests.ListPackages(), requests.PackagesShown).packages
        if json:
            listed_as_json(found)
            return
        listing(
            ("package", "title", "holds", "bytes", "installed", "lacks"),
            [
                (
                    f"{each.name}#{each.version}",
                    each.title,
                    f"{sum(count for _, count in each.counts):,} resources",
                    f"{each.size:,}",
                    "built in" if each.installed is None else day(each.installed),
                    "\n".join(_lacks(each, found)),
                )
                for each in found
            ],
        )


def _lacks(package: requests.PackageShown, there: Sequence[requests.PackageShown]) -> list[str]:
    """What a package depends on and is not there, with the versions that are."""
    found = []
    for each in package.missing:
        name = each.partition("#")[0]
        others = [other.version for other in there if other.name == name]
        found.append(f"{each} (there is {', '.join(others)})" if others else each)
    return found


@command(app)
def remove(
    packages: Annotated[list[str], typer.Argument(help="NAME#VERSION, as the list has it.")],
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Remove packages. Resources that claim their profiles stay as they are.

    [bold]Examples[/]

      salus package remove hl7.fhir.us.core#3.1.1
    """
    with explained():
        for each in packages:
            if "#" not in each:
                raise Problem(_versions(each, data, keys))
        for each in packages:
            name, _, version = each.partition("#")
            answered(data, keys, requests.RemovePackage(name, version), requests.Done)
            out.print(f"[bold green]Removed[/] {escape(each)}", highlight=False)


def _versions(name: str, data: Path | None, keys: Path | None) -> str:
    """That a version must be named, and those that there are."""
    there = answered(data, keys, requests.ListPackages(), requests.PackagesShown).packages
    found = [f"{each.name}#{each.version}" for each in there if each.name == name]
    if not found:
        return f"There is no package {name}: `salus package list` shows all of them"
    return f"Name the version too: {' or '.join(found)}"


class _Bar:
    """A bar for reading a package and one for sending it."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=out,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, what: str, done: int, total: int) -> None:
        """How far something has come."""
        if what not in self._tasks:
            self._progress.start()  # not before there is something to show: it leaves a line
            self._tasks[what] = self._progress.add_task(escape(what), total=total)
        self._progress.update(self._tasks[what], completed=done)


def _found(paths: list[Path]) -> Iterator[Path]:
    """The packages that are meant. Problem for what is not there."""
    for path in paths:
        if not path.exists():
            raise Problem(f"There is no {path}: packages are files (.tgz), see docs/packages.md")
        inside = sorted(path.glob("*.tgz")) if path.is_dir() else []
        yield from inside or [path]


def _installed(
    settings: Settings, path: Path, strict: bool, bar: _Bar
) -> requests.PackageInstalled:
    from fhir_server.packages.installed import new_upload
    from salus.operator.ask import ask_in_turn

    data = _read(path, bar).data
    upload, pieces = new_upload(), -(-len(data) // PIECE)

    def sent() -> Iterator[requests.AddPiece]:
        for number in range(pieces):
            part = data[number * PIECE : (number + 1) * PIECE]
            yield requests.AddPiece(upload, number, part)
            bar.told(f"installing {path.name}", number + 1, pieces)

    last = requests.InstallPackage(upload=upload, pieces=pieces, strict=strict)
    return ask_in_turn(settings, sent(), last, requests.PackageInstalled)


def _read(path: Path, bar: _Bar) -> Package:
    """Problem for what is no package, or not for this server, before anything is sent."""
    from conformance.packages import PackageError, read, read_folder
    from conformance.packages.archive import BOUNDS
    from fhir_server.packages.acceptance import require_installable

    what = f"reading {path.name}"
    try:
        if path.is_dir():
            size = sum(each.stat().st_size for each in path.rglob("*.json"))
            package = read_folder(path, watch=lambda done: bar.told(what, done, size))
        else:
            size = path.stat().st_size
            if size > BOUNDS.packed:
                raise PackageError(f"A package has at most {BOUNDS.packed} bytes")
            package = read(path.read_bytes(), watch=lambda done: bar.told(what, done, size))
        bar.told(what, size, size)
        require_installable(package)
    except PackageError as error:
        text = str(error)
        raise Problem(text if text.startswith(f"{path} ") else f"{path}: {text}") from None
    return package


def _print(made: requests.PackageInstalled) -> None:
    """What was installed, and what it lacks."""
    done = "Replaced" if made.replaced else "Installed"
    out.print(
        f"[bold green]{done}[/] {escape(f'{made.name}#{made.version}')}: {_counted(made.counts)}",
        highlight=False,
        soft_wrap=True,
    )
    for name, version, other in made.dependencies:
        instead = f" (there is {other})" if other else ""
        _line(f"depends on {name}#{version}, which is not here{instead}")
    for what, lacking in (("value sets", made.value_sets), ("profiles", made.profiles)):
        for below, count in lacking:
            counted = f"{count:,} {what if count > 1 else what[:-1]}"
            _line(f"not checked: {counted} below {below}, which no package here has")


def _line(text: str) -> None:
    out.print(f"  [yellow]{escape(text)}[/]", highlight=False, soft_wrap=True)


def _counted(counts: tuple[tuple[str, int], ...]) -> str:
    most = sorted(counts, key=lambda each: -each[1])
    told = [f"{count:,} {type}" for type, count in most[:_SHOWN]]
    rest = sum(count for _, count in most[_SHOWN:])
    return ", ".join([*told, f"{rest:,} others"] if rest else told)
