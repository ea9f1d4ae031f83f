"""The command line: each command reads the settings, does one thing and says what it did.

It starts, loads and inspects a server of https://hl7.org/fhir/R4/http.html.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from salus.commands import (
    audit,
    backup,
    clients,
    conformance,
    export,
    fhirpath,
    keyring,
    package,
    patient,
    reindex,
    tokens,
    users,
    validate,
)
from salus.settings import Variable, read_settings, variables
from salus.terminal import INTERRUPTED, command, explained, group, option, out

app = group(
    "salus", "A FHIR R4 server: one program, started with one command, trusted with patient data."
)
app.add_typer(clients.app)
app.add_typer(keyring.app)
app.add_typer(patient.app)
app.add_typer(package.app)
app.add_typer(audit.app)
app.add_typer(users.app)
app.add_typer(conformance.app)
command(app)(export.export)
command(app)(fhirpath.fhirpath)
command(app)(validate.validate)
command(app)(reindex.reindex)
command(app)(tokens.token)
command(app)(backup.backup)
command(app)(backup.restore)

Host = Annotated[str | None, option(help="Address to listen on [SALUS_HOST; 127.0.0.1].")]
Port = Annotated[int | None, option(help="Port to listen on [SALUS_PORT; 8080].")]
Data = Annotated[Path | None, option(help="Folder of the data [SALUS_DATA; user's data folder].")]
Keys = Annotated[
    Path | None,
    option(help="Folder of the keys, outside the data [SALUS_KEYS; user's state folder]."),
]
BaseUrl = Annotated[
    str | None, option(help="Address in all links [SALUS_BASE_URL; http://HOST:PORT].")
]
KeysHere = Annotated[
    bool | None,
    option(
        "--keys-on-this-machine",
        help="Serve others with the key file here; audited [SALUS_KEYS_ON_THIS_MACHINE].",
    ),
]
Cipher = Annotated[
    str | None,
    option(help="Cipher of a new folder's pages: aegis256 or aes256 [SALUS_CIPHER; aegis256]."),
]
BreakGlassLog = Annotated[
    Path | None,
    option(help="File for the audit of reads that the store cannot take [SALUS_BREAK_GLASS_LOG]."),
]
Open = Annotated[
    bool | None,
    option("--open", help="Serve without authorization, on a loopback address only [SALUS_OPEN]."),
]


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


@command(app)
def serve(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    keys: Keys = None,
    base_url: BaseUrl = None,
    tls_cert: Annotated[
        Path | None,
        option(help="Certificate chain to serve https with (1.2, 1.3) [SALUS_TLS_CERT]."),
    ] = None,
    tls_key: Annotated[Path | None, option(help="Its private key [SALUS_TLS_KEY].")] = None,
    behind_proxy: Annotated[
        bool | None,
        option("--behind-proxy", help="A proxy speaks https before it [SALUS_BEHIND_PROXY]."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        option(help="Address whose forwarded headers count; repeatable [SALUS_TRUSTED_PROXY]."),
    ] = None,
    keys_on_this_machine: KeysHere = None,
    cipher: Cipher = None,
    break_glass_log: BreakGlassLog = None,
    open: Open = None,
) -> None:
    """Serve FHIR R4 to apps and people who are allowed to, until Ctrl-C.

    The first start makes an administrator and prints a link, good for once, by which to choose a
    password. Beyond this machine it speaks https only, with a certificate of its own or behind a
    proxy that has one.

    [bold]Examples[/]

      salus serve

      salus serve --port 9000 --data ./data --keys ~/salus-keys

      salus serve --host 0.0.0.0 --base-url https://fhir.example --tls-cert c.pem --tls-key k.pem

      salus serve --behind-proxy --host 0.0.0.0 --keys-on-this-machine

      salus serve --open
    """
    from salus.serve import serve as run

    with explained():
        run(
            read_settings(
                host=host,
                port=port,
                data=data,
                keys=keys,
                base_url=base_url,
                tls_cert=tls_cert,
                tls_key=tls_key,
                behind_proxy=behind_proxy,
                trusted_proxy=tuple(trusted_proxy) if trusted_proxy else None,
                keys_on_this_machine=keys_on_this_machine,
                cipher=cipher,
                break_glass_log=break_glass_log,
                open=open,
            ),
            out,
        )


@command(app)
def load(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files (.json, .ndjson, .jsonl, or .gz of one) or directories."),
    ],
    url: Annotated[
        str | None,
        option(help="FHIR base of a running server [that of the data folder's server]."),
    ] = None,
    data: Annotated[
        Path | None,
        option(help="Load by the server that has this data folder; where none has, straight into."),
    ] = None,
    keys: Keys = None,
    failed: Annotated[
        Path | None,
        option(help="Where failures go, with reasons [NAME.failed.ndjson, in this folder]."),
    ] = None,
    in_flight: Annotated[int, option(min=1, max=64, help="Requests at once, after the seeds.")] = 4,
    token: Annotated[
        str | None,
        option(
            help="Access token [SALUS_TOKEN; the operator's own, where we can read the server's "
            "data and keys].",
            envvar="SALUS_TOKEN",
            show_envvar=False,
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        option(help="Certificate to trust as well (PEM): the server's own, or its issuer's."),
    ] = None,
) -> None:
    """Load Bundles and resources; the same command again repeats nothing.

    Bundles go in order until the first with a Patient, then several at once. Each line carries a
    key (digest of its file, number of the line), by which the server knows it again: after a crash
    run the same command. Keys are kept for 30 days; the same content in another file is another
    load. Exit code 0: everything is stored; 1: something is not; 2: nothing was begun; 130:
    interrupted.

    [bold]Examples[/]

      salus load patients.ndjson.gz

      salus load ./bundles --url https://fhir.example/fhir --token "$TOKEN" --ca issuer.pem

      salus load seeds.json patients.ndjson --data ./data --keys ~/salus-keys
    """
    from salus.load.command import goal, load_into

    with explained():
        settings = read_settings(data=data, keys=keys)
        where = goal(settings, url, data is not None, token, ca)
        report = load_into(paths, settings, where, failed, in_flight, out)
    if not report.complete:
        raise typer.Exit(INTERRUPTED if report.interrupted else 1)


@command(app)
def demo(
    host: Host = None,
    port: Port = None,
    data: Annotated[
        Path | None,
        option(help="Folder of the demo, not SALUS_DATA [salus-demo, in the user's data folder]."),
    ] = None,
    keys: Annotated[
        Path | None,
        option(help="Folder of its keys, not SALUS_KEYS [salus-demo, in the user's state folder]."),
    ] = None,
    patients: Annotated[
        int | None,
        option(min=1, max=500, help="How many patients, when it is seeded the first time [20]."),
    ] = None,
    serve: Annotated[
        bool, option("--serve/--no-serve", help="Serve it afterwards, or only seed it.")
    ] = True,
) -> None:
    """Seed a small invented clinic and serve it: something to look at.

    It has a folder of its own and touches no other data: a folder that holds anything else is
    refused. Started again, it finds its clinic there.

    [bold]Examples[/]

      salus demo

      salus demo --port 9000
    """
    from salus.demo.command import run

    with explained():
        run({"host": host, "port": port, "data": data, "keys": keys}, patients, serve, out)


@command(app)
def doctor(
    data: Data = None,
    keys: Keys = None,
    deep: Annotated[
        bool,
        option("--deep", help="Read every resource and prove that the indexes agree with it."),
    ] = False,
) -> None:
    """Say what is where and what is wrong, with remedies. Exit code 1 when something is.

    Of a folder that a server has open it only says so: stop the server to look inside.

    [bold]Examples[/]

      salus doctor

      salus doctor --deep --data ./data --keys ~/salus-keys
    """
    from salus.doctor import examine

    with explained():
        well = examine(read_settings(data=data, keys=keys), deep, out)
    if not well:
        raise typer.Exit(1)


@command(app)
def bench(
    url: Annotated[
        str | None,
        option(help="FHIR base of an empty server to measure [one of its own, fresh]."),
    ] = None,
    pid: Annotated[
        int | None, option(help="With --url: process whose CPU and memory are measured.")
    ] = None,
    folder: Annotated[
        Path | None,
        option(help="Folder of the Synthea sets [SALUS_TEST_DATA/data/synthea]."),
    ] = None,
    tier: Annotated[str, option(help="bench60, full615 or us80.")] = "bench60",
    quick: Annotated[bool, option("--quick", help="Short phases, about a minute.")] = False,
    output: Annotated[Path, option(help="Where the figures go, as JSON.")] = Path("bench.json"),
    token: Annotated[
        str | None,
        option(
            help="With --url: access token to show [SALUS_TOKEN].",
            envvar="SALUS_TOKEN",
            show_envvar=False,
        ),
    ] = None,
    open: Annotated[
        bool, option("--open", help="Measure its own server without authentication.")
    ] = False,
) -> None:
    """Measure a server: correctness first, then speed, on one core, the load on another.

    [bold]Examples[/]

      salus bench --quick

      salus bench --quick --open

      salus bench --tier full615 --output full615.json
    """
    from salus.bench.command import Asked, run

    with explained():
        run(Asked(url, pid, folder, tier, quick, output, token, open), out)


@command(app)
def settings() -> None:
    """Print every variable of the environment with its present value and its meaning."""
    with explained():
        known = list(variables(read_settings()))
    if out.is_terminal:
        out.print(_table(known))
    else:
        for each in known:
            print(f"{each.name}={quote(each.value)}  # {each.meaning}")


def _table(known: list[Variable]) -> Table:
    """Names are never cut, however narrow the terminal."""
    table = Table(title="Settings (bold: not the default)")
    table.add_column("Variable", no_wrap=True, min_width=max(len(each.name) for each in known))
    table.add_column("Value", overflow="fold")
    table.add_column("Meaning", overflow="fold")
    for each in known:
        value = escape(each.value)
        shown = value if each.default else f"[bold]{value}[/]"
        table.add_row(each.name, shown, escape(each.meaning))
    return table
