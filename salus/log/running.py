"""The witness and the signer as processes of their own.

https://c2sp.org/tlog-witness
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.markup import escape

from fhir_server.log.checkpoint import NOTHING, Head
from fhir_server.log.note import LOG, WITNESS, Verifier
from fhir_server.storage.keys import write_durably
from salus.log import signer as signing
from salus.log import witness as witnessing
from salus.log.checking import log_verifier
from salus.log.serving import listening, serve
from salus.log.state import Signed, begin_since, key_of
from salus.problem import Problem
from salus.settings import is_loopback
from salus.terminal import err, out

WITNESS_KEY = "witness.key"  # in the folder of the witness's state
TOKEN = 32  # characters of a token, at least


def witness(
    listen: str,
    state: Path,
    name: str,
    log: Sequence[str],
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Serve until a signal. Problem, StoreError."""
    where = listening(listen, tls_cert, tls_key)
    logs: dict[str, list[Verifier]] = {}
    for each in map(log_verifier, log):
        logs.setdefault(each.name, []).append(each)
    with closing(Signed(state)) as signed:
        key = key_of(state / WITNESS_KEY, name, WITNESS, signed)

        def ready() -> None:
            _said(f"The witness is up on {where.url}; its key is\n  {key.verifier}")
            for origin in logs:
                _said(f"  {origin}: {_reached(signed.heads.get(origin, NOTHING))}")
            _said("On the log's host, with the address at which it reaches this one:")
            _said(f'  export SALUS_LOG_WITNESS="{key.verifier} {where.url}"')

        serve(witnessing.witness(key, logs, signed, _aloud), where, ready, _aloud)


def signer(
    listen: str,
    state: Path,
    key: Path,
    token_file: Path,
    name: str | None,
    since: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
) -> None:
    """Serve until a signal. Problem, StoreError."""
    where = listening(listen, tls_cert, tls_key)
    if not (is_loopback(where.host) or where.tls or behind_proxy):
        raise Problem(
            f"Beyond this machine ({where.host}) the token travels over https only: name "
            "--tls-cert and --tls-key, or say --behind-proxy where a proxy speaks https"
        )
    with closing(Signed(state)) as signed:
        if since is not None:
            begin_since(signed, key, since)
        held = key_of(key, name, LOG, signed)
        token = _token(token_file)

        def ready() -> None:
            _said(f"The signer is up on {where.url}; the log's key is\n  {held.verifier}")
            _said(f"  {held.name}: {_reached(signed.heads.get(held.name, NOTHING))}")
            _said(f"  the token, for the server's host, is in {token_file}")
            _said("There, with the address at which it reaches this one:")
            _said(f"  export SALUS_LOG_SIGNER={where.url} SALUS_LOG_SIGNER_TOKEN=FILE")
            _said(f'  export SALUS_LOG_SIGNER_KEY="{held.verifier}"')

        serve(signing.signer(held, token, signed, _aloud), where, ready, _aloud)


def _reached(head: Head) -> str:
    return f"signed up to {head.size} leaves" if head.size else "nothing signed yet"


def _token(file: Path) -> str:
    """The token of a file, made when there is none. Problem."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, f"{secrets.token_urlsafe(TOKEN)}\n".encode())
    token = file.read_text().strip()
    if len(token) < TOKEN:
        raise Problem(f"{file} holds no token of at least {TOKEN} characters")
    return token


def _said(text: str) -> None:
    out.print(escape(text), highlight=False, soft_wrap=True)


def _aloud(text: str) -> None:
    err.print(escape(text), highlight=False, soft_wrap=True)
