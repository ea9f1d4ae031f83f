"""Rotation of keys without rewriting data: the service's key, or the intermediate keys, are
replaced in the file of wrapped keys, while a server goes on reading by it.

https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final (5.3.5 and 8.2.3)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import apsw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.storage import keydb
from fhir_server.storage.keydb import DATA, INTERMEDIATE_KEYS, SECRETS, SERVICE_KEY
from fhir_server.storage.keys import (
    PAGE_KEY,
    PAGES,
    FileKeys,
    KeyProvider,
    former_context,
    outer_name,
    write_durably,
)
from fhir_server.storage.store import StoreError, Unavailable
from fhir_server.storage.vault import (
    intermediate_context,
    make_intermediates,
    open_key,
    seal_key,
    seal_secret,
)

BATCH = 500  # data keys wrapped anew in one commit

Told: TypeAlias = Callable[[int, int], None]  # how many are done, of how many


class Renewed(NamedTuple):
    """How many intermediate keys were wrapped anew; what is left to do, in sentences."""

    intermediates: int
    remaining: str


class Overview(NamedTuple):
    """What is in the file of wrapped keys; times in seconds since 1970. `renewed`: when the key
    service's key was last replaced, or the keys were made."""

    intermediates: list[tuple[int, str, bytes, bool]]
    keys: int
    destroyed: int
    made: int
    renewed: int
    happened: dict[str, int]

    def prove(self, keys: KeyProvider) -> None:
        """That the key service opens every intermediate key. StoreError, Unavailable."""
        for number, purpose, wrapped, _ in self.intermediates:
            keys.unwrap(wrapped, intermediate_context(number, purpose))


def overview(folder: Path) -> Overview:
    """StoreError where there are no keys."""
    _present(folder)
    conn = keydb.connect(folder)
    try:
        with keydb.refusals(folder):
            rows = _rows(
                conn, "SELECT number, purpose, wrapped, current, made FROM intermediate ORDER BY 1"
            )
            ((keys, destroyed),) = _rows(
                conn, "SELECT (SELECT count(*) FROM key), (SELECT count(*) FROM destroyed)"
            )
            happened = dict(_rows(conn, "SELECT what, at FROM happened"))
    finally:
        conn.close()
    made = min((row[4] for row in rows), default=0)
    return Overview(
        [
            (number, purpose, wrapped, bool(current))
            for number, purpose, wrapped, current, _ in rows
        ],
        keys,
        destroyed,
        made,
        max(made, happened.get(SERVICE_KEY, 0)),
        happened,
    )


def renew_service_key(
    folder: Path,
    data: Path,
    keys: KeyProvider,
    former: KeyProvider | None = None,
    clock: Callable[[], float] = time.time,
) -> Renewed:
    """Wrap everything by a new key of the key service; or, where `former` wrapped it, move it from
    there to `keys`. What was interrupted is completed by doing it again. StoreError, Unavailable.
    """
    _present(folder)
    remaining = keys.renew() if former is None else ""
    openers = (keys,) if former is None else (keys, former)
    conn = keydb.connect(folder)
    try:
        with keydb.refusals(folder), keydb.writing(conn):
            rows = _rows(conn, "SELECT number, purpose, wrapped FROM intermediate")
            opened = {
                number: _opened(openers, wrapped, intermediate_context(number, purpose))
                for number, purpose, wrapped in rows
            }
            _keep_outer(conn, keys if former is None else former, former is not None, opened)
            for number, purpose, _ in rows:
                wrapped = keys.wrap(opened[number], intermediate_context(number, purpose))
                sql = "UPDATE intermediate SET wrapped = ? WHERE number = ?"
                conn.execute(sql, (wrapped, number))
            _note(conn, SERVICE_KEY, clock)
    finally:
        conn.close()
    page = data / PAGE_KEY
    if page.exists():
        write_durably(page, keys.wrap(_opened(openers, page.read_bytes(), PAGES), PAGES))
    keys.retire()
    return Renewed(len(rows), remaining)


def renew_intermediates(
    folder: Path,
    keys: KeyProvider,
    told: Told = lambda done, total: None,
    clock: Callable[[], float] = time.time,
) -> int:
    """Make new intermediate keys and wrap every data key by them; how many data keys. Former
    intermediate keys of small secrets stay, since secrets name them. StoreError, Unavailable."""
    _present(folder)
    conn = keydb.connect(folder)
    try:
        with keydb.refusals(folder):
            with keydb.writing(conn):
                make_intermediates(conn, keys, int(clock()))
            asked = "SELECT number, wrapped, current FROM intermediate WHERE purpose = ?"
            rows = _rows(conn, asked, DATA)
            opened = {
                number: AESGCM(keys.unwrap(wrapped, intermediate_context(number, DATA)))
                for number, wrapped, _ in rows
            }
            current = [number for number, _, current in rows if current]
            done = _wrap_anew(conn, opened, current, told)
            with keydb.writing(conn):
                conn.execute(
                    "DELETE FROM intermediate WHERE purpose = ? AND current = 0 "
                    "AND number NOT IN (SELECT intermediate FROM key)",
                    (DATA,),
                )
                _note(conn, INTERMEDIATE_KEYS, clock)
            return done
    finally:
        conn.close()


def _wrap_anew(
    conn: apsw.Connection, opened: dict[int, AESGCM], current: Sequence[int], told: Told
) -> int:
    """Data keys that are not yet under a current intermediate, in batches, so that nobody waits."""
    others = ", ".join(str(number) for number in current)
    asked = f"FROM key WHERE intermediate NOT IN ({others})"
    ((total,),) = _rows(conn, f"SELECT count(*) {asked}")
    done = 0
    while True:
        with keydb.writing(conn):
            rows = _rows(conn, f"SELECT id, intermediate, wrapped {asked} LIMIT {BATCH}")
            made = []
            for place, (id, number, wrapped) in enumerate(rows):
                key, to = open_key(opened[number], id, wrapped), current[place % len(current)]
                made.append((to, seal_key(opened[to], id, key), id))
            conn.executemany("UPDATE key SET intermediate = ?, wrapped = ? WHERE id = ?", made)
        if not rows:
            return done
        done += len(rows)
        told(done, max(total, done))


def _opened(openers: Sequence[KeyProvider], wrapped: bytes, context: bytes) -> bytes:
    """By the first that can: after an interruption some are moved already."""
    for keys in openers[:-1]:
        try:
            return keys.unwrap(wrapped, context)
        except Unavailable:
            raise
        except StoreError:
            continue
    return openers[-1].unwrap(wrapped, context)


def _keep_outer(
    conn: apsw.Connection, keys: KeyProvider, all: bool, opened: dict[int, bytes]
) -> None:
    """The keys of a key file that is replaced stay, wrapped, for what they wrapped directly before
    there was a vault."""
    if not isinstance(keys, FileKeys):
        return
    asked = "SELECT number FROM intermediate WHERE current = 1 AND purpose = ?"
    ((number,),) = _rows(conn, asked, SECRETS)
    for outer in keys.held() if all else keys.held()[1:]:
        name = outer_name(outer)
        wrapped = seal_secret(number, AESGCM(opened[number]), outer, former_context(name))
        conn.execute("INSERT OR IGNORE INTO former VALUES (?, ?)", (name, wrapped))


def _rows(conn: apsw.Connection, sql: str, *bound: str) -> list[Any]:
    return conn.execute(sql, bound).fetchall()


def _present(folder: Path) -> None:
    if not (folder / keydb.KEYS_DB).is_file():
        raise StoreError(
            f"There are no keys in {folder}: name their folder with --keys, or start a server once"
        )


def _note(conn: apsw.Connection, what: str, clock: Callable[[], float]) -> None:
    conn.execute("INSERT OR REPLACE INTO happened VALUES (?, ?)", (what, int(clock())))
