"""Data keys for tests of an engine: each is derived from its id, so that a folder can be opened
again without a key folder."""

import hashlib
import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.storage.store import Erased


class DerivedKeys:
    """`secret` tells one set of keys from another; `gone` are the ids of destroyed ones."""

    def __init__(self, secret: bytes = b"tests") -> None:
        self.secret = secret
        self.gone: set[bytes] = set()
        self._ciphers: dict[bytes, AESGCM] = {}

    def fresh(self) -> bytes:
        return secrets.token_bytes(8)

    def cipher(self, id: bytes) -> AESGCM:
        if id in self.gone:
            raise Erased("gone")
        if id not in self._ciphers:
            self._ciphers[id] = AESGCM(hashlib.sha256(self.secret + id).digest())
        return self._ciphers[id]

    def destroy(self, ids, why: str = "") -> None:
        self.gone.update(ids)
