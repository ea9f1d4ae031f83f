"""Public keys of clients: what a key set must hold, and which key of it signed.

https://www.rfc-editor.org/rfc/rfc7517, https://hl7.org/fhir/smart-app-launch/client-confidential-
asymmetric.html#signature-verification
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, RSAKey

Key: TypeAlias = RSAKey | ECKey

_KEYS = 50
_LEAST_RSA_BITS = 2048
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
# For each algorithm of an assertion: the type of its keys and, for curves, which.
_NEEDS: Mapping[str, tuple[str, str | None]] = {"RS384": ("RSA", None), "ES384": ("EC", "P-384")}


class BadKeys(ValueError):
    """A key set that cannot be used; the text says why."""


def check_keys(jwks: Mapping[str, Any]) -> None:
    """Whether a set can be registered: every key public and strong, and one at least that verifies
    assertions. BadKeys."""
    keys = _keys(jwks)
    for jwk in keys:
        if _PRIVATE & jwk.keys():
            raise BadKeys("holds a private or symmetric key: make new ones, and keep them to you")
    usable = [alg for alg in _NEEDS for jwk in keys if _fits(jwk, alg, jwk.get("kid"))]
    if not usable:
        raise BadKeys("has no key with a `kid` that verifies RS384 or ES384")
    for jwk in keys:
        if any(_fits(jwk, alg, jwk.get("kid")) for alg in _NEEDS):
            _imported(jwk)


def key_for(jwks: Mapping[str, Any], alg: str, kid: str) -> Key | None:
    """The one key of a set that signs with `alg` and is called `kid`; None when there is none.
    BadKeys when there are several, or it is weak or broken."""
    found = [jwk for jwk in _keys(jwks) if _fits(jwk, alg, kid)]
    if len(found) > 1:
        raise BadKeys("has several keys of that `kid`")
    return _imported(found[0]) if found else None


def _keys(jwks: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = jwks.get("keys")
    if not isinstance(keys, list) or not all(isinstance(each, dict) for each in keys):
        raise BadKeys("is no JWK Set: an object with an array `keys`")
    if len(keys) > _KEYS:
        raise BadKeys(f"has more than {_KEYS} keys")
    return keys


def _fits(jwk: Mapping[str, Any], alg: str, kid: object) -> bool:
    kty, curve = _NEEDS[alg]
    operations = jwk.get("key_ops", ["verify"])
    return (
        isinstance(kid, str)
        and jwk.get("kid") == kid
        and jwk.get("kty") == kty
        and (curve is None or jwk.get("crv") == curve)
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", alg) == alg
        and isinstance(operations, list)
        and "verify" in operations
        and not _PRIVATE & jwk.keys()
    )


def _imported(jwk: Mapping[str, Any]) -> Key:
    """The key itself. Its members beside the numbers are left out: they were looked at above."""
    numbers = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
    kind: type[RSAKey] | type[ECKey] = RSAKey if jwk["kty"] == "RSA" else ECKey
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of weak keys, refused below
            key: Key = kind.import_key(numbers)
            bits = key.public_key.key_size
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise BadKeys("has a key that cannot be read") from None
    if isinstance(key, RSAKey) and not _LEAST_RSA_BITS <= bits <= 8192:
        raise BadKeys(f"has an RSA key of less than {_LEAST_RSA_BITS} bits, or more than 8192")
    return key
