"""`salus audit`: what proves that the audit, and every version of a resource, is as it was written.

https://www.rfc-editor.org/rfc/rfc9162, https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from salus.commands import expire, witness
from salus.commands.asking import Data, Json, Keys
from salus.settings import Settings, read_settings
from salus.terminal import command, explained, group, option, out

if TYPE_CHECKING:
    from salus.log.verifying import Asked, Verified

SHOWN = 50  # findings printed; --json has all

app = group("audit", "Prove that the audit, and every version of a resource, is as it was written.")


@command(app)
def verify(
    data: Data = None,
    keys: Keys = None,
    checkpoint: Annotated[
        list[Path] | None,
        option(help="File of checkpoints that were published or mailed; repeatable."),
    ] = None,
    log: Annotated[
        str | None, option(help="Verifier key of the log [those that the store has].")
    ] = None,
    witness: Annotated[
        list[str] | None,
        option(help="Verifier key of a witness who must have cosigned these files; repeatable."),
    ] = None,
    since: Annotated[
        int, option(min=0, help="First leaf whose record is looked at; tiles are in any case.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Hold every record against the log, and the log against what was signed of it.

    It finds what was altered, deleted, inserted, reordered or cut off, names the first such record,
    and says what still stands. The server may run meanwhile. Its exit code is 1 when anything is
    wrong. Who has the data and its keys could make both anew: checkpoints from elsewhere, named
    with --checkpoint, tell that too.

    [bold]Examples[/]

      salus audit verify

      salus audit verify --checkpoint published.txt --log "fhir.example/log/0f1e2d3c4b5a+0f1e2d3c+AV..."
    """  # noqa: E501 (a command is one line)
    from salus.log.verifying import Asked, verify_data
    from salus.log.verifying import as_json as encoded

    with explained():
        asked = Asked(checkpoint or (), log, witness or (), since)
        settings = read_settings(data=data, keys=keys)
        if as_json:
            found = verify_data(settings, asked)
            print(encoded(found).decode())
        else:
            found = _shown(settings, asked)
    if not found.well:
        raise typer.Exit(1)


def _shown(settings: Settings, asked: Asked) -> Verified:
    """With a bar while it takes, then in words."""
    from rich.progress import Progress

    from salus.log.verifying import described, sentences, verify_data

    with Progress(console=out, transient=True) as bar:
        task = bar.add_task("verifying records")
        found = verify_data(
            settings, asked, lambda done, all: bar.update(task, completed=done, total=all)
        )
    findings = found.report.findings
    first = found.report.first
    if first is not None:
        _line(f"[bold red]Wrong:[/] {escape(described(first))}")
    for each in [each for each in findings if each is not first][: SHOWN - 1]:
        _line(f"  [red]also[/] {escape(described(each))}")
    if len(findings) > SHOWN:
        _line(f"  and {len(findings) - SHOWN:,} more (--json has all)")
    for sentence in sentences(found):
        _line(escape(sentence))
    if found.well:
        _line("[bold green]Every record is as it was logged.[/]")
    return found


@command(app)
def key(data: Data = None, keys: Keys = None) -> None:
    """Print the log's verifier key: receipts and checkpoints are checked with it.

    Former ones follow, if there were any. Give it to whoever is to check what you prove.

    [bold]Example[/]

      salus audit key
    """
    from salus.log.verifying import current

    with explained():
        found = current(read_settings(data=data, keys=keys))
    for each in found:
        print(each)


def _line(text: str) -> None:
    out.print(text, highlight=False, soft_wrap=True)


command(app)(expire.expire)
witness.add_to(app)
