"""The log's own key, where no signer on another host has it: made at the first start, wrapped by
the vault and kept in the store; what it signed last stands in the key folder, away from the data.

https://c2sp.org/signed-note
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from fhir_server.audit.publishing import SPACE, VERIFIER, newest
from fhir_server.log.checkpoint import Checkpoint, Head
from fhir_server.log.note import LOG, Malformed, SigningKey
from fhir_server.log.signing import LocalSigner
from fhir_server.storage.keys import write_durably
from fhir_server.storage.store import Kept, Store, StoreError, Transaction

SIGNED = "log.signed"  # in the key folder: what the key signed last
KEY = "signing"  # of the kept record that is the wrapped key
_PURPOSE = b"salus log key"
_LOG = "/log/"  # between the host and what is random, in a name
_RANDOM = 6  # bytes that tell the logs of one host from each other


class Sealer(Protocol):
    """Wraps small secrets."""

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...


class Signed(msgspec.Struct, frozen=True):
    """The state that a key signed last."""

    origin: str
    size: int
    root: bytes

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.origin, self.size, self.root)


async def own_signer(store: Store, sealer: Sealer, keys: Path, host: str) -> LocalSigner:
    """The signer with the store's own key, made when there is none; `host` names a new log.
    StoreError."""
    key = await _key(store, sealer, host)
    file = keys / SIGNED

    async def load() -> Head | None:
        signed = last_signed(keys)
        if signed is not None and signed.origin == key.name:
            return Head(signed.size, signed.root)
        kept = await store.transaction(newest)  # the folder was lost, or never had it
        return kept.checkpoint.head if kept and kept.checkpoint.origin == key.name else None

    async def remember(head: Head) -> None:
        content = msgspec.json.encode(Signed(key.name, *head))
        await asyncio.to_thread(write_durably, file, content)

    return LocalSigner(key, load, remember)


def last_signed(keys: Path) -> Signed | None:
    """The state that the key of this folder's data signed last. StoreError when it is damaged."""
    file = keys / SIGNED
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Signed)
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"{file} is damaged ({error}): restore it from a backup of the keys. It says what was "
            "signed of the log, so that an older one is not signed for the newest"
        ) from None


def name_of(kept: Iterable[Kept], sealer: Sealer) -> str | None:
    """The name of the store's own key, among the kept records of the log. StoreError."""
    found = next((each.value for each in kept if each.key == KEY), None)
    return None if found is None else _opened(found, sealer).name


async def begin_anew(store: Store, sealer: Sealer, host: str) -> str:
    """Give the log another name and key, since it is rightly another than was signed, as after a
    backup was restored; the name, which keeps the host of the one before, or is of `host`. What was
    signed under the old one can still be verified, as far as it is in this log."""
    there = await store.transaction(lambda tx: tx.kept(SPACE, KEY))
    if there is not None:
        host = _opened(there.value, sealer).name.rpartition(_LOG)[0] or host
    key = SigningKey.make(_name(host), LOG)

    async def work(tx: Transaction) -> None:
        before = await newest(tx)
        if before is not None:
            said = {"kind": "continued", "from": before.checkpoint.origin, "now": key.name}
            await tx.note(msgspec.json.encode(said))
        await tx.keep(SPACE, KEY, sealer.wrap(key.encode().encode(), _PURPOSE))
        await tx.keep(SPACE, f"{VERIFIER}{key.verifier.id.hex()}", str(key.verifier).encode())

    await store.transaction(work, write=True)
    return key.name


async def _key(store: Store, sealer: Sealer, host: str) -> SigningKey:
    there = await store.transaction(lambda tx: tx.kept(SPACE, KEY))
    if there is None:
        await begin_anew(store, sealer, host)
        return await _key(store, sealer, host)
    return _opened(there.value, sealer)


def _opened(wrapped: bytes, sealer: Sealer) -> SigningKey:
    try:
        return SigningKey.parse(sealer.unwrap(wrapped, _PURPOSE).decode())
    except (Malformed, UnicodeDecodeError) as error:
        raise StoreError(f"The key of the log is damaged ({error}): restore a backup") from None


def _name(host: str) -> str:
    """A name that no other log has."""
    return f"{host}{_LOG}{secrets.token_hex(_RANDOM)}"
