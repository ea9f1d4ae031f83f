"""What deleted rows leave in the file: nothing in free pages and cells, which are overwritten
(secure_delete), but copies of cells that once were moved to another page, in its unused part.

A rebuilt file has none (https://www.sqlite.org/lang_vacuum.html); the write-ahead log, which holds
pages as they were, is emptied (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
"""

from __future__ import annotations

import time

import apsw

from fhir_server.storage.sqlite.doctor import read_meta, write_meta
from fhir_server.storage.sqlite.schema import BUSY_MILLISECONDS

_DUE = "rebuild"
_TRIES = 20
_PAUSE_SECONDS = 0.1


def mark(conn: apsw.Connection) -> None:
    """Note, in the transaction that removes rows, that the file is to be rebuilt."""
    write_meta(conn, _DUE, 1)


def due(conn: apsw.Connection) -> bool:
    """Whether rows were removed for good since the file was last rebuilt."""
    return bool(read_meta(conn, _DUE))


def size(conn: apsw.Connection) -> int:
    """Bytes of the main file."""
    return int(conn.pragma("page_count")) * int(conn.pragma("page_size"))


def rebuild(conn: apsw.Connection) -> bool:
    """Write the whole file anew, without unused parts, and empty the write-ahead log; whether that
    could be emptied. The mark goes last, so that a rebuild that was cut short is done again."""
    conn.execute("VACUUM")
    emptied = empty(conn)
    if emptied:
        conn.execute("DELETE FROM meta WHERE name = ?", (_DUE,))
    return emptied


def empty(conn: apsw.Connection) -> bool:
    """Move the write-ahead log into the file and cut it to nothing; False when readers hold it for
    longer than writers may wait."""
    conn.set_busy_timeout(0)
    try:
        for _ in range(_TRIES):
            if _emptied(conn):
                return True
            time.sleep(_PAUSE_SECONDS)
        return False
    finally:
        conn.set_busy_timeout(BUSY_MILLISECONDS)


def _emptied(conn: apsw.Connection) -> bool:
    try:
        busy, *_ = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
    except (apsw.BusyError, apsw.LockedError):
        return False
    return not busy
