"""The certificate that this process serves https with: looked at before it is used, read again when
it changes.

The protocol itself is OpenSSL's: TLS 1.2 and 1.3 and nothing older, with ciphers that keep what was
said when the key is stolen later (https://www.rfc-editor.org/rfc/rfc9325#section-3.1).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import httpx
from cryptography import x509

from salus.problem import Problem

Pair: TypeAlias = tuple[Path, Path]  # certificate chain and private key, both PEM
Stamp: TypeAlias = tuple[tuple[int, int, int], ...]

LOOK_SECONDS = 2.0  # between looks at the files
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all like these


def context_of(pair: Pair) -> ssl.SSLContext:
    """What a server speaks with. Problem unless the key is the certificate's and both can be
    read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    load(context, pair)
    return context


def load(context: ssl.SSLContext, pair: Pair) -> None:
    """Let who connects from now on see this certificate. Problem unless the key is its own and both
    can be read; nothing is changed then, but where the files change at this very moment."""
    check(pair)
    try:
        context.load_cert_chain(*pair)
    except OSError as error:  # of SSL too
        raise Problem(f"{pair[0]} and {pair[1]} changed while they were read ({error})") from None


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


def trusting(ca: Path | None) -> ssl.SSLContext:
    """What a client of ours trusts: the usual issuers, and a certificate beside them. Problem."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError:
            raise Problem(f"{ca} holds no certificate in PEM") from None
        except OSError as error:
            raise Problem(f"{ca} cannot be read: {error.strerror}") from None
    return context


_ANOTHER_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


def distrust(url: str, error: BaseException | None) -> str | None:
    """Why https failed, and what to do, where an error came of that; None for any other."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"What answers at {url} does not speak https ({error.reason})"
    if error.verify_code in _ANOTHER_NAME:
        return (
            f"The certificate of {url} is another name's ({error.verify_message}): write the "
            "address that it is for with --url"
        )
    return (
        f"The certificate of {url} is not trusted here ({error.verify_message}): name it, or its "
        "issuer's, with --ca FILE"
    )


def expires(cert: Path) -> datetime:
    """When the first of the chain expires. ValueError when there is none."""
    (first, *_) = x509.load_pem_x509_certificates(cert.read_bytes())
    return first.not_valid_after_utc


def vouches_for_itself(cert: Path) -> bool:
    """Whether a certificate is its own issuer, as those are that somebody made at home."""
    (first, *_) = x509.load_pem_x509_certificates(cert.read_bytes())
    return first.issuer == first.subject


def days_left(cert: Path) -> int:
    """Whole days until it expires, below zero afterwards. ValueError."""
    return (expires(cert) - datetime.now(UTC)).days


async def follow(pair: Pair, context: ssl.SSLContext, told: Callable[[str], None]) -> None:
    """Load the files' certificate when it is another that can be used; tell of one that cannot, and
    go on with the one of before. Runs until it is cancelled."""
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
            load(context, pair)
        except Problem as problem:
            told(f"The certificate of before is served on: {problem}")
        else:
            told("The certificate was read again")


def _stamp(files: Iterable[Path]) -> Stamp:
    """What changes when files do; nothing while one of them is away."""
    try:
        found = [each.stat() for each in files]
    except OSError:
        return ()
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)
