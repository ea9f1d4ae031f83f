"""What the authorization server needs of a store: records that are kept, read and taken in
transactions. The server's store has this shape; no other is known here.

Keys of records that stand for a secret are its SHA-256 (https://www.rfc-editor.org/rfc/rfc6819
section 5.1.4.1.3): who reads the store learns no code, token or cookie.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_BYTES = 32  # of a secret: 256 bits
_PAGE = 500
_AFTER = "\U0010ffff"  # behind every key that begins with what stands before it


class Kept(Protocol):
    """A record as it is kept. `until`: microseconds since 1970 from which on it is forgotten."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> bytes: ...
    @property
    def until(self) -> int | None: ...


class Transaction(Protocol):
    """All of it happens or nothing; it may be run again, so it has no effect outside."""

    @property
    def now(self) -> int: ...

    async def keep(
        self, space: str, key: str, value: bytes, expect: int = -1, until: int | None = None
    ) -> int: ...
    async def kept(self, space: str, key: str) -> Kept | None: ...
    async def take(self, space: str, key: str) -> Kept | None: ...
    async def range(self, space: str, low: str, high: str, limit: int = 1000) -> Sequence[Kept]: ...
    async def clear(self, space: str, low: str, high: str) -> int: ...


class Keeper(Protocol):
    """Runs work in one transaction; what it wrote is durable on return. Writing transactions run
    one after another, so what one reads and then writes cannot change in between."""

    async def transaction(
        self, work: Callable[[Transaction], Awaitable[T]], write: bool = False
    ) -> T: ...


class Space(Generic[S]):
    """Records of one kind. Fields may be added to the kind when they have a default."""

    def __init__(self, name: str, kind: type[S]) -> None:
        self.name = name
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    async def read(self, tx: Transaction, key: str) -> S | None:
        found = await tx.kept(self.name, key)
        return self._decode(found.value) if found else None

    async def write(self, tx: Transaction, key: str, value: S, until: int | None = None) -> None:
        """`until`: microseconds since 1970 from which on the record is forgotten."""
        await tx.keep(self.name, key, self._encode(value), until=until)

    async def take(self, tx: Transaction, key: str) -> S | None:
        """Read and remove: of many callers exactly one gets it."""
        found = await tx.take(self.name, key)
        return self._decode(found.value) if found else None

    async def clear(self, tx: Transaction, prefix: str) -> int:
        """Remove every record whose key begins with `prefix`; how many."""
        return await tx.clear(self.name, prefix, prefix + _AFTER)

    async def all(self, tx: Transaction, prefix: str = "") -> list[tuple[str, S]]:
        """Every record whose key begins with `prefix`, by key."""
        found: list[tuple[str, S]] = []
        low = prefix
        while True:
            page = await tx.range(self.name, low, prefix + _AFTER, _PAGE)
            found += [(each.key, self._decode(each.value)) for each in page]
            if len(page) < _PAGE:
                return found
            low = page[-1].key + "\0"


def new_secret(prefix: str = "") -> str:
    """256 random bits as text of the letters that every client passes on unchanged."""
    return prefix + secrets.token_urlsafe(_BYTES)


def digest(secret: str) -> str:
    """What stands for a secret in the store."""
    return hashlib.sha256(secret.encode()).hexdigest()
