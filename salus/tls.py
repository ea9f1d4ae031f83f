"""The certificate that this process serves https with: looked at before it is used, read again when
it changes.

The protocol itself is rustls's, in Granian: TLS 1.2 and 1.3 and nothing older
(https://www.rfc-editor.org/rfc/rfc9325#section-3.1).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from cryptography import x509

from salus.problem import Problem

Pair: TypeAlias = tuple[Path, Path]  # certificate chain and private key, both PEM
Stamp: TypeAlias = tuple[tuple[int, int, int], ...]

LOOK_SECONDS = 2.0  # between looks at the files


def check(pair: Pair) -> None:
    """Problem unless the key is the certificate's and both can be read."""
    cert, key = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        raise Problem(
            f"{cert} and {key} are no certificate and its key, in PEM and without a password "
            f"({error.reason or error})"
        ) from None
    except OSError as error:
        raise Problem(f"{error.filename or cert} cannot be read: {error.strerror}") from None


def expires(cert: Path) -> datetime:
    """When the first of the chain expires. ValueError when there is none."""
    (first, *_) = x509.load_pem_x509_certificates(cert.read_bytes())
    return first.not_valid_after_utc


def days_left(cert: Path) -> int:
    """Whole days until it expires, below zero afterwards. ValueError."""
    return (expires(cert) - datetime.now(UTC)).days


async def follow(pair: Pair, renewed: Callable[[], None], told: Callable[[str], None]) -> None:
    """Call `renewed` when the files hold another certificate that can be used; tell of one that
    cannot, and go on with the one of before. Runs until it is cancelled."""
    used = _stamp(pair)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        found = _stamp(pair)
        if found in (used, ()):
            continue
        await asyncio.sleep(LOOK_SECONDS)  # until both files are written
        if _stamp(pair) != found:
            continue
        used = found
        try:
            check(pair)
        except Problem as problem:
            told(f"The certificate of before is served on: {problem}")
        else:
            renewed()
            told("The certificate was read again")


def _stamp(files: Iterable[Path]) -> Stamp:
    """What changes when files do; nothing while one of them is away."""
    try:
        found = [each.stat() for each in files]
    except OSError:
        return ()
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)
