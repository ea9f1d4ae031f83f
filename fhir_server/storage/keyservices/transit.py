"""Keys wrapped by HashiCorp Vault's transit engine, which keeps its own keys to itself.

https://developer.hashicorp.com/vault/api-docs/secret/transit
"""

from __future__ import annotations

import base64
import binascii
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from fhir_server.storage.keys import FORMATS, check_format
from fhir_server.storage.keyservices.choice import read_secret
from fhir_server.storage.store import StoreError, Unavailable

_FORMAT = FORMATS["vault"]  # begins what is wrapped here; Vault's ciphertext follows
_CIPHERTEXT = b"vault:v"
_ANOTHER = b" and another"  # makes a context into one that must be refused

# Answers after which asking again may help, beside those from 500 on: not yet replicated here, too
# many requests, and a standby that does not serve.
_AGAIN = frozenset({412, HTTPStatus.TOO_MANY_REQUESTS, 472, 473})

# What else Vault refuses, and what to do.
_REFUSED: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "what is asked is not what was wrapped, or was damaged since: check "
    "which key and which keys.db belong together",
    HTTPStatus.FORBIDDEN: "give the token (SALUS_VAULT_TOKEN_FILE) a policy with update on encrypt "
    "and decrypt of this key, or renew it",
    HTTPStatus.NOT_FOUND: "enable the engine there, make the key, or correct SALUS_VAULT_MOUNT and "
    "SALUS_VAULT_KEY",
}


class TransitKeys:
    """A KeyProvider that asks Vault. The token is read from its file for each request, so that an
    agent may renew it."""

    def __init__(
        self,
        address: str,
        key: str,
        token_file: Path,
        *,
        mount: str = "transit",
        namespace: str = "",
        ca: Path | None = None,
        timeout_seconds: float = 5.0,
    ) -> None:
        self.where = f"HashiCorp Vault at {address}, key {mount}/{key}"
        self._key, self._token_file, self._namespace = quote(key, safe=""), token_file, namespace
        self._bound = False  # whether this Vault was seen to bind what it wraps
        self._base = f"{address.rstrip('/')}/v1/{quote(mount.strip('/'))}/"
        self._timeout, self._trust = timeout_seconds, _trusted(ca)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        plain = {"plaintext": _text(key), "associated_data": _text(context)}
        ciphertext = self._asked(f"encrypt/{self._key}", plain, "ciphertext").encode()
        if not ciphertext.startswith(_CIPHERTEXT):
            raise StoreError(f"What answers as {self.where} is no transit engine")
        if not self._bound:
            self._check(ciphertext, context)
        return _FORMAT + ciphertext

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        check_format(wrapped, "vault", self.where)
        return self._decrypted(wrapped[len(_FORMAT) :], context)

    def keep_apart(self, data: Path) -> None:
        """They are on another machine."""

    def renew(self) -> str:
        """Rotate the transit key; what is left to do."""
        self._post(f"keys/{self._key}/rotate", {})
        return (
            "Vault keeps the former version. Once no key backup needs it any more, raise "
            "min_decryption_version of the key"
        )

    def retire(self) -> None:
        """Its versions are Vault's."""

    def _check(self, ciphertext: bytes, context: bytes) -> None:
        """Versions of Vault that do not know associated_data ignore it, without a word."""
        try:
            self._decrypted(ciphertext, context + _ANOTHER)
        except Unavailable:
            raise
        except StoreError:
            self._bound = True
            return
        raise StoreError(
            f"{self.where} does not bind what it wraps to its purpose (associated_data): Vault "
            "1.13 or newer and a key of type aes256-gcm96 do"
        )

    def _decrypted(self, ciphertext: bytes, context: bytes) -> bytes:
        try:
            sealed = {"ciphertext": ciphertext.decode(), "associated_data": _text(context)}
            return base64.b64decode(
                self._asked(f"decrypt/{self._key}", sealed, "plaintext"), validate=True
            )
        except (binascii.Error, UnicodeDecodeError):
            raise StoreError("A wrapped key is damaged: restore it from a backup") from None

    def _asked(self, path: str, content: dict[str, str], wanted: str) -> str:
        try:
            found = self._post(path, content).json()["data"][wanted]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, str):
            raise Unavailable(f"{self.where} gave an answer that is none: ask again")
        return found

    def _post(self, path: str, content: dict[str, str]) -> httpx.Response:
        headers = {"X-Vault-Token": read_secret(self._token_file, "token of Vault")}
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        try:
            reply = httpx.post(
                self._base + path,
                json=content,
                headers=headers,
                timeout=self._timeout,
                verify=self._trust,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{self.where} does not answer ({type(error).__name__}): start it, or check "
                "the way to it"
            ) from None
        if reply.is_success:
            return reply
        code = reply.status_code
        said = f"{self.where} answers {code} ({_errors(reply)})"
        if code in _AGAIN or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"{said}: unseal it, or wait until it serves again")
        raise StoreError(f"{said}: {_REFUSED.get(code, 'check its settings')}")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _trusted(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise StoreError(f"{ca} (SALUS_VAULT_CA) holds no certificates: {error}") from None


def _errors(reply: httpx.Response) -> str:
    """What Vault says went wrong, in short."""
    try:
        found: Any = reply.json()["errors"]
        return "; ".join(map(str, found))[:200] or "no reason given"
    except (ValueError, KeyError, TypeError):
        return "no reason given"
