"""What every command shares: where it prints, how its options look, how it says what went wrong.

https://typer.tiangolo.com
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from inspect import cleandoc
from typing import Any

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from fhir_server.storage.store import StoreError
from salus.folders import sentence
from salus.problem import Problem
from salus.program import owner_only

out = Console()
err = Console(stderr=True)

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it


def group(name: str, help: str, **more: Any) -> typer.Typer:
    """A command that has others below it."""
    return typer.Typer(
        name=name,
        help=help,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        add_completion=False,
        **more,
    )


def option(*names: str, help: str, **more: Any) -> Any:
    """An option whose help may have square brackets, which are no markup."""
    return typer.Option(*names, help=escape(help), **more)


def command(
    of: typer.Typer, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose help is its docstring, each paragraph as wide as the terminal."""

    def made(work: Callable[..., None]) -> Callable[..., None]:
        paragraphs = cleandoc(work.__doc__ or "").split("\n\n")
        text = "\n\n".join(each.replace("\n", " ") for each in paragraphs)
        return of.command(name, help=text)(work)

    return made


def listing(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows, of which nothing is ever cut: a table in a terminal, elsewhere lines with a tab between
    their fields."""
    if not out.is_terminal:
        for row in (columns, *rows):
            print("\t".join(" ".join(field.split()) for field in row))
        return
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def listed_as_json(found: Sequence[Struct]) -> None:
    """What was answered, for programs."""
    print(msgspec.json.format(msgspec.json.encode(found)).decode())


@contextmanager
def explained() -> Iterator[None]:
    """Why a command cannot go on is a sentence, not a traceback; its exit code is 2, and 130 after
    Ctrl-C. What it makes meanwhile is its owner's only."""
    code = 2
    try:
        with owner_only():
            yield
    except (Problem, StoreError) as problem:
        said = str(problem)
    except OSError as problem:
        said = sentence(problem)
    except KeyboardInterrupt:
        said, code = "Interrupted", INTERRUPTED
    else:
        return
    err.print(f"[bold red]salus:[/] {escape(said)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)
