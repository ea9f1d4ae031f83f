"""Backups of keys: apart from those of the data, sealed, and refused after thirty days, so that
what is erased is gone then. What was destroyed since a backup stays so when it is restored.

Argon2id (https://www.rfc-editor.org/rfc/rfc9106) and AES-256-GCM.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from fhir_server.storage import keydb
from fhir_server.storage.keydb import BACKUP, BACKUPS_UNTIL, KEYS_DB
from fhir_server.storage.keys import FileKeys, KeyProvider, write_durably
from fhir_server.storage.store import StoreError, Unavailable
from fhir_server.storage.vault import intermediate_context, open_key

DAYS = 30  # after which a backup is refused
LEAST = 12  # characters of a passphrase

# What Argon2id costs who tries passphrases: the second recommendation of RFC 9106, memory in KiB.
ITERATIONS, LANES, MEMORY = 3, 4, 65_536

_MAGIC = b"SALUS KEYS\n"
_DAY = 86_400
_KEY = 32
_NONCE = 12
_SALT = 16
_FOR = b"salus key backup"


class _Header(msgspec.Struct, frozen=True):
    """What stands in clear, and is authenticated: times in seconds since 1970; `wrapped`: the key
    of the content, where a key service wrapped it; otherwise how it comes from a passphrase."""

    version: int
    made: int
    until: int
    wrapped: bytes = b""
    salt: bytes = b""
    iterations: int = 0
    lanes: int = 0
    memory: int = 0


class _Held(msgspec.Struct, frozen=True):
    """What keys.db held, row by row, and the key file, if there is one."""

    intermediates: list[tuple[int, str, bytes, int, int]]
    keys: list[tuple[bytes, int, bytes]]
    destroyed: list[tuple[bytes, int, str]]
    former: list[tuple[bytes, bytes]]
    happened: list[tuple[str, int]]
    outer: list[bytes] = []


class Restored(NamedTuple):
    """How many data keys there are now; how many of the backup stay destroyed."""

    keys: int
    destroyed: int


def back_up(
    folder: Path,
    keys: KeyProvider,
    file: Path,
    passphrase: str,
    clock: Callable[[], float] = time.time,
) -> datetime:
    """Write a backup of the keys: under the passphrase where they are in a key file, otherwise
    under the key service. When it will be refused. StoreError, Unavailable."""
    if not (folder / KEYS_DB).is_file():
        raise StoreError(f"There are no keys in {folder}: name their folder with --keys")
    made = int(clock())
    until = made + DAYS * _DAY
    if isinstance(keys, FileKeys):
        salt = secrets.token_bytes(_SALT)
        header = _Header(keydb.VERSION, made, until, b"", salt, ITERATIONS, LANES, MEMORY)
        key = _of_passphrase(passphrase, header)
    else:
        key = secrets.token_bytes(_KEY)
        header = _Header(keydb.VERSION, made, until, wrapped=keys.wrap(key, _FOR))
    conn = keydb.connect(folder)
    try:
        with keydb.refusals(folder), keydb.writing(conn):
            held = _read(conn, keys.held() if isinstance(keys, FileKeys) else [])
            # Noted before it exists: an erasure must not promise an earlier day than it can keep.
            sql = "INSERT OR REPLACE INTO happened VALUES (?, ?)"
            conn.executemany(sql, [(BACKUP, made), (BACKUPS_UNTIL, until)])
    finally:
        conn.close()
    head, nonce = msgspec.json.encode(header) + b"\n", secrets.token_bytes(_NONCE)
    sealed = AESGCM(key).encrypt(nonce, msgspec.msgpack.encode(held), _MAGIC + head)
    write_durably(file, _MAGIC + head + nonce + sealed)
    return datetime.fromtimestamp(until, UTC)


def restore(
    file: Path,
    folder: Path,
    keys: KeyProvider,
    passphrase: str,
    clock: Callable[[], float] = time.time,
) -> Restored:
    """Bring back what a backup has and the folder has not; nothing of what was destroyed since.
    Nothing is changed unless every key opens. StoreError, also when it is too old, or the keys are
    in use; Unavailable."""
    head, sealed = _parts(file)
    header = _header(file, head)
    if clock() >= header.until:
        raise StoreError(
            f"{file} was to be used until {_day(header.until)}: what was erased since it was made "
            "must not come back. Use a later backup"
        )
    old = _unsealed(file, header, head, sealed, keys, passphrase)
    using = keydb.Held(folder, alone=True)
    try:
        outer = _restore_outer(keys, old.outer)
        now = _present(folder, outer)
        joined = _joined(old, now, keys)
        gone = {id for id, _, _ in joined.destroyed}
        _replace(folder, joined)
        return Restored(len(joined.keys), sum(id in gone for id, *_ in old.keys))
    finally:
        using.close()


# --- the file ------------------------------------------------------------------------------------


def needs_passphrase(file: Path) -> bool:
    """Whether a backup is under a passphrase, not a key service. StoreError."""
    return not _header(file, _parts(file)[0]).wrapped


def _parts(file: Path) -> tuple[bytes, bytes]:
    """The header with its end of line, and what is sealed."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from None
    head, end, sealed = content[len(_MAGIC) :].partition(b"\n")
    if not content.startswith(_MAGIC) or not end:
        raise StoreError(f"{file} is no backup of keys: name what `salus keys backup` wrote")
    return head + end, sealed


def _header(file: Path, head: bytes) -> _Header:
    try:
        header = msgspec.json.decode(head, type=_Header)
    except msgspec.MsgspecError:
        raise StoreError(f"{file} is damaged: use another backup") from None
    if header.version > keydb.VERSION:
        raise StoreError(f"{file} was written by a newer Salus: restore it with that version")
    return header


def _unsealed(
    file: Path, header: _Header, head: bytes, sealed: bytes, keys: KeyProvider, passphrase: str
) -> _Held:
    if header.wrapped:
        key = keys.unwrap(header.wrapped, _FOR)
    else:
        key = _of_passphrase(passphrase, header)
    try:
        plain = AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], _MAGIC + head)
        return msgspec.msgpack.decode(plain, type=_Held)
    except (InvalidTag, ValueError, msgspec.MsgspecError):
        raise StoreError(
            f"{file} does not open: the passphrase is another, or the file is damaged"
        ) from None


def _of_passphrase(passphrase: str, header: _Header) -> bytes:
    try:
        return Argon2id(
            salt=header.salt,
            length=_KEY,
            iterations=header.iterations,
            lanes=header.lanes,
            memory_cost=header.memory,
        ).derive(passphrase.encode())
    except (ValueError, MemoryError) as error:
        raise StoreError(f"The key of the backup cannot be derived: {error}") from None


def _day(at: int) -> str:
    return str(datetime.fromtimestamp(at, UTC).date())


# --- the tables ----------------------------------------------------------------------------------


def _read(conn: apsw.Connection, outer: list[bytes]) -> _Held:
    def rows(sql: str) -> list[Any]:
        return conn.execute(sql).fetchall()

    return _Held(
        rows("SELECT number, purpose, wrapped, made, current FROM intermediate ORDER BY number"),
        rows("SELECT id, intermediate, wrapped FROM key"),
        rows("SELECT id, at, why FROM destroyed"),
        rows("SELECT name, wrapped FROM former"),
        rows("SELECT what, at FROM happened"),
        outer,
    )


def _present(folder: Path, outer: list[bytes]) -> _Held:
    """What the folder has now. StoreError where that is damaged: what was destroyed is in it."""
    if not (folder / KEYS_DB).exists():
        return _Held([], [], [], [], [])
    try:
        conn = keydb.connect(folder)
        try:
            with keydb.refusals(folder):
                return _read(conn, outer)
        finally:
            conn.close()
    except Unavailable:
        raise
    except StoreError as error:
        raise StoreError(
            f"{error}. It cannot tell which keys were destroyed since the backup: move it away, "
            "restore, and erase again what was erased since"
        ) from None


def _joined(old: _Held, now: _Held, keys: KeyProvider) -> _Held:
    """What either has; where both have it, what the folder has, if that opens. StoreError where
    something of the backup does not."""
    numbers = _joined_intermediates(old, now, keys)
    opened = {
        number: AESGCM(keys.unwrap(wrapped, intermediate_context(number, purpose)))
        for number, purpose, wrapped, *_ in numbers.values()
    }
    destroyed = {row[0]: row for row in (*old.destroyed, *now.destroyed)}
    wrapped = {row[0]: row for row in now.keys}
    for row in old.keys:
        if row[0] not in destroyed and not _opened(opened, wrapped.get(row[0])):
            open_key(opened[row[1]], row[0], row[2])
            wrapped[row[0]] = row
    return _Held(
        list(numbers.values()),
        list(wrapped.values()),
        list(destroyed.values()),
        list(dict((*old.former, *now.former)).items()),
        list(dict((*old.happened, *now.happened)).items()),
    )


def _joined_intermediates(
    old: _Held, now: _Held, keys: KeyProvider
) -> dict[int, tuple[int, str, bytes, int, int]]:
    """Those that the folder has are the current ones, if it has any."""
    numbers = {row[0]: row for row in old.intermediates}
    if now.intermediates:
        numbers = {number: (*row[:4], 0) for number, row in numbers.items()}
    for row in now.intermediates:
        if row[0] not in numbers or _opens(keys, row):
            numbers[row[0]] = row
        else:
            numbers[row[0]] = (*numbers[row[0]][:4], row[4])
    return numbers


def _opened(opened: dict[int, AESGCM], row: tuple[bytes, int, bytes] | None) -> bool:
    if row is None or row[1] not in opened:
        return False
    try:
        open_key(opened[row[1]], row[0], row[2])
    except StoreError:
        return False
    return True


def _opens(keys: KeyProvider, row: tuple[int, str, bytes, int, int]) -> bool:
    number, purpose, wrapped, *_ = row
    try:
        keys.unwrap(wrapped, intermediate_context(number, purpose))
    except Unavailable:
        raise
    except StoreError:
        return False
    return True


def _restore_outer(keys: KeyProvider, outer: Sequence[bytes]) -> list[bytes]:
    """The keys of the backup's key file go behind those that are there."""
    if not isinstance(keys, FileKeys) or not outer:
        return []
    held = keys.held() if keys.exists else []
    more = [each for each in outer if each not in held]
    if more:
        keys.replace([*held, *more])
    return [*held, *more]


def _replace(folder: Path, joined: _Held) -> None:
    """A new file, made in memory, so that no destroyed key comes near the disk."""
    conn = apsw.Connection(":memory:")
    try:
        with keydb.writing(conn):
            keydb.make(conn)
            for table, rows in (
                ("intermediate", joined.intermediates),
                ("key", joined.keys),
                ("destroyed", joined.destroyed),
                ("former", joined.former),
                ("happened", joined.happened),
            ):
                marks = ", ".join("?" * (len(rows[0]) if rows else 1))
                conn.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        content = conn.serialize("main")
    finally:
        conn.close()
    # A journal of the file before belongs to no other file.
    (folder / f"{KEYS_DB}-journal").unlink(missing_ok=True)
    write_durably(folder / KEYS_DB, content)
