"""The keys by which a client proves itself, as the operator hands them over.

https://www.rfc-editor.org/rfc/rfc7517
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape

from fhir_server.storage.store import StoreError
from salus.problem import Problem
from salus.terminal import err


def key_set(jwks: str | None, make: Path | None) -> tuple[dict[str, Any] | None, str | None]:
    """The key set, or where it is. Problem."""
    if make is not None:
        return {"keys": [_made(make)]}, None
    if jwks is None:
        return None, None
    if jwks.startswith(("http://", "https://")):
        return None, jwks
    file = Path(jwks)
    if not file.is_file():
        raise Problem(
            f"{file} is no file that is there: name one with a JWK Set or a public key in PEM, or "
            "the https address of a JWK Set"
        )
    data = file.read_bytes()
    if b"-----BEGIN" in data:
        return {"keys": [_of_pem(file, data)]}, None
    try:
        found = json.loads(data)
    except ValueError:
        raise Problem(f"{jwks} is neither JSON nor PEM: give a JWK Set, or a public key") from None
    if not isinstance(found, dict):
        raise Problem(f"{jwks} is no JWK Set: an object with an array `keys`")
    return (found if "keys" in found else {"keys": [found]}), None


@contextmanager
def unmade(made: Path | None) -> Iterator[None]:
    """Remove a key that was made for nothing, so that the same command can be given again."""
    try:
        yield
    except (Problem, StoreError):
        if made is not None:
            made.unlink(missing_ok=True)
        raise


def _of_pem(file: Path, data: bytes) -> dict[str, Any]:
    """The one public key of a file, named by its thumbprint (RFC 7638)."""
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    if b"PRIVATE KEY" in data:
        raise Problem(
            f"{file} is a private key, which stays with the client: give its public half, as by "
            f"`openssl pkey -in {file} -pubout`"
        )
    kinds: tuple[tuple[type[ECKey] | type[RSAKey], str], ...] = (
        (ECKey, "ES384"),
        (RSAKey, "RS384"),
    )
    for kind, algorithm in kinds:
        try:
            key = kind.import_key(data)
        except (JoseError, ValueError, TypeError):
            continue
        about = {"kid": key.thumbprint(), "alg": algorithm, "use": "sig"}
        return {**key.as_dict(private=False), **about}
    raise Problem(f"{file} holds no public key: RSA, or of the curve P-384")


def _made(file: Path) -> dict[str, Any]:
    """A new key of the curve P-384: its private half in the file, its public half here."""
    from joserfc.jwk import ECKey

    from fhir_server.storage.keys import write_durably

    if file.exists():
        raise Problem(f"{file} is there already: name a file that is not")
    key = ECKey.generate_key("P-384", private=True)
    about = {"kid": key.thumbprint(), "alg": "ES384", "use": "sig"}
    write_durably(file.absolute(), json.dumps({**key.as_dict(private=True), **about}).encode())
    err.print(
        f"Its private key is in {escape(str(file.absolute()))}, and its kid is {about['kid']}: "
        "whoever reads that file is this client.",
        highlight=False,
        soft_wrap=True,
    )
    return {**key.as_dict(private=False), **about}
