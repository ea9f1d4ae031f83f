"""The command line: each command reads the settings, does one thing and says what it did.

It starts, loads and inspects a server of https://hl7.org/fhir/R4/http.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fhir_server.storage.store import StoreError
from salus.problem import Problem
from salus.settings import read_settings, variables

app = typer.Typer(
    name="salus",
    help="A FHIR R4 server: one program, started with one command, trusted with patient data.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
out = Console()
err = Console(stderr=True)

Host = Annotated[str | None, typer.Option(help="Address to listen on [SALUS_HOST; 127.0.0.1].")]
Port = Annotated[int | None, typer.Option(help="Port to listen on [SALUS_PORT; 8080].")]
Data = Annotated[
    Path | None, typer.Option(help="Folder of the data [SALUS_DATA; user's data folder].")
]
Keys = Annotated[
    Path | None,
    typer.Option(help="Folder of the keys, outside the data [SALUS_KEYS; user's state folder]."),
]
BaseUrl = Annotated[
    str | None, typer.Option(help="Address in all links [SALUS_BASE_URL; http://HOST:PORT].")
]


@contextmanager
def explained() -> Iterator[None]:
    """Why a command cannot go on is a sentence, not a traceback; its exit code is 2."""
    try:
        yield
    except (Problem, StoreError) as problem:
        said = str(problem)
    except PermissionError as problem:
        said = f"{problem.filename} is not ours to use ({problem.strerror}); see --data and --keys"
    else:
        return
    err.print(f"[bold red]salus:[/] {escape(said)}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"salus {version('salus-fhir')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    keys: Keys = None,
    base_url: BaseUrl = None,
    open: Annotated[
        bool | None,
        typer.Option(
            "--open", help="Serve without authorization, on a loopback address only [SALUS_OPEN]."
        ),
    ] = None,
) -> None:
    """Serve FHIR R4 until Ctrl-C.

    [bold]Examples[/]

      salus serve --open

      salus serve --open --port 9000 --data ./data --keys ~/salus-keys
    """
    from salus.serve import serve as run

    with explained():
        run(
            read_settings(host=host, port=port, data=data, keys=keys, base_url=base_url, open=open),
            out,
        )


@app.command()
def load(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files (.json, .ndjson, .jsonl, or .gz of one) or directories."),
    ],
    url: Annotated[
        str | None, typer.Option(help="FHIR base of a running server [the base URL's /fhir].")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Load straight into a data folder that no server has open.")
    ] = None,
    keys: Keys = None,
    failed: Annotated[
        Path | None,
        typer.Option(help="Where failures go, with reasons [NAME.failed.ndjson, in this folder]."),
    ] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, max=64, help="Requests at once, after the seeds.")
    ] = 4,
) -> None:
    """Load Bundles and resources; the same command again repeats nothing.

    Bundles go in order until the first with a Patient, then several at once. Each line carries a
    key (digest of its file, number of the line), by which the server knows it again: after a crash
    run the same command. Exit code 0: everything is stored; 1: something is not.

    [bold]Examples[/]

      salus load patients.ndjson.gz

      salus load ./bundles --url http://127.0.0.1:9000/fhir

      salus load seeds.json patients.ndjson --data ./data --keys ~/salus-keys
    """
    from salus.load.command import load_into

    with explained():
        if url and data:
            raise Problem("--url and --data exclude each other: a server, or a folder without one")
        settings = read_settings(data=data, keys=keys)
        goal = None if data else url or settings.fhir_base
        report = load_into(paths, settings, goal, failed, in_flight, out)
    if not report.complete:
        raise typer.Exit(1)


@app.command()
def demo(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    keys: Keys = None,
    patients: Annotated[int, typer.Option(min=1, max=500, help="How many patients.")] = 20,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve it afterwards, or only seed it.")
    ] = True,
) -> None:
    """Seed a small invented clinic and serve it: something to look at.

    It has a folder of its own and touches no other data; started again, it finds its clinic there.

    [bold]Examples[/]

      salus demo

      salus demo --port 9000
    """
    from salus.demo.command import run

    with explained():
        run({"host": host, "port": port, "data": data, "keys": keys}, patients, serve, out)


@app.command()
def doctor(
    data: Data = None,
    keys: Keys = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Read every resource and prove that the indexes agree with it."
        ),
    ] = False,
) -> None:
    """Say what is where and what is wrong, with remedies. Exit code 1 when something is.

    [bold]Examples[/]

      salus doctor

      salus doctor --deep --data ./data --keys ~/salus-keys
    """
    from salus.doctor import examine

    with explained():
        well = examine(read_settings(data=data, keys=keys), deep, out)
    if not well:
        raise typer.Exit(1)


@app.command()
def bench(
    url: Annotated[
        str | None,
        typer.Option(help="FHIR base of an empty server to measure [one of its own, fresh]."),
    ] = None,
    pid: Annotated[
        int | None, typer.Option(help="With --url: process whose CPU and memory are measured.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the Synthea sets [SALUS_TEST_DATA/data/synthea]."),
    ] = None,
    tier: Annotated[str, typer.Option(help="bench60, full615 or us80.")] = "bench60",
    quick: Annotated[bool, typer.Option("--quick", help="Short phases, about a minute.")] = False,
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "bench.json"
    ),
) -> None:
    """Measure a server: correctness first, then speed, on one core, the load on another.

    [bold]Examples[/]

      salus bench --quick

      salus bench --tier full615 --output full615.json
    """
    from salus.bench.command import Asked, run

    with explained():
        run(Asked(url, pid, folder, tier, quick, output), out)


@app.command()
def settings() -> None:
    """Print every variable of the environment with its present value and its meaning."""
    with explained():
        known = read_settings()
    table = Table("Variable", "Value", "Meaning", title="Settings (bold: not the default)")
    for each in variables(known):
        value = escape(each.value)
        table.add_row(each.name, value if each.default else f"[bold]{value}[/]", each.meaning)
    out.print(table)
