"""`salus audit witness`, `signer` and `check-receipt`: what runs away from the data, or without it.

https://c2sp.org/tlog-witness and https://c2sp.org/tlog-proof
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salus.terminal import command, explained, option

Listen = Annotated[str, option(help="HOST:PORT to listen on.")]
Cert = Annotated[Path | None, option(help="Certificate chain to serve https with.")]
Key = Annotated[Path | None, option(help="Its private key.")]


def add_to(audit: typer.Typer) -> None:
    """Make these commands of `salus audit`."""
    command(audit)(witness)
    command(audit)(signer)
    command(audit, "check-receipt")(check_receipt)


def witness(
    listen: Listen,
    state: Annotated[Path, option(help="Folder of its key and of what it cosigned last.")],
    name: Annotated[str, option(help="Its name, as an address without https://.")],
    log: Annotated[list[str], option(help="Verifier key of a log that it follows; repeatable.")],
    tls_cert: Cert = None,
    tls_key: Key = None,
) -> None:
    """Cosign what a log says of itself, on a host of somebody else than who has the data.

    The first start makes a key and prints its public half, which receipts are checked with. It
    never cosigns a log that was rewritten, cut or forked since it last did, and says so aloud.

    [bold]Example[/]

      salus audit witness --listen 0.0.0.0:7380 --state ./witness --name witness.example/salus --log "fhir.example/audit+0f1e2d3c+AV..."
    """  # noqa: E501 (a command is one line)
    from salus.log.running import witness as run

    with explained():
        run(listen, state, name, log, tls_cert, tls_key)


def signer(
    listen: Listen,
    state: Annotated[Path, option(help="Folder of what it signed last.")],
    key: Annotated[Path, option(help="File of the log's key; made at the first start.")],
    token_file: Annotated[
        Path, option(help="File of the token that the server shows; made at the first start.")
    ],
    name: Annotated[
        str | None, option(help="The log's name, an address without https://, to make its key.")
    ] = None,
    since: Annotated[
        Path | None, option(help="The last checkpoint that this key signed elsewhere.")
    ] = None,
    tls_cert: Cert = None,
    tls_key: Key = None,
    behind_proxy: Annotated[
        bool, option("--behind-proxy", help="A proxy speaks https before it.")
    ] = False,
) -> None:
    """Hold the log's key on a host that does not have the data, and sign its checkpoints.

    It signs only what was appended to since it last signed: a smaller log or a rewritten one is
    refused, and said aloud. Beyond this machine it speaks https only.

    [bold]Example[/]

      salus audit signer --listen 10.0.0.7:7381 --state ./signer --key ./log.key --token-file ./token --name fhir.example/audit --tls-cert c.pem --tls-key k.pem
    """  # noqa: E501 (a command is one line)
    from salus.log.running import signer as run

    with explained():
        run(listen, state, key, token_file, name, since, tls_cert, tls_key, behind_proxy)


def check_receipt(
    file: Annotated[Path, typer.Argument(help="The receipt.")],
    log: Annotated[str, option(help="Verifier key of the log.")],
    witness: Annotated[
        list[str] | None, option(help="Verifier key of a witness that you trust; repeatable.")
    ] = None,
    witnesses: Annotated[
        int | None, option(min=0, help="How many of them must have cosigned [all].")
    ] = None,
    content: Annotated[
        Path | None, option(help="Write the record to this file, when the receipt holds.")
    ] = None,
) -> None:
    """Check a receipt without any server: that a record is in the log, as it is.

    Its exit code is 0 when the receipt holds, 1 when it does not, and 2 when it cannot be read.

    [bold]Example[/]

      salus audit check-receipt visit.tlog-proof --log "fhir.example/audit+0f1e2d3c+AV..." --witness "witness.example/salus+4b5a6978+BL..."
    """  # noqa: E501 (a command is one line)
    from salus.log.checking import check_receipt as run

    with explained():
        if not run(file, log, witness or [], witnesses, content):
            raise typer.Exit(1)
