"""The file of wrapped keys: a small database in the key folder, plain because only wrapped keys are
in it, and overwriting what it deletes.

https://www.sqlite.org/pragma.html#pragma_secure_delete
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from fhir_server.storage.store import StoreError, Unavailable

KEYS_DB = "keys.db"
KEYS_LOCK = "keys.lock"
VERSION = 1
APPLICATION = 0x53414C4B  # "SALK": what the file says it is

# What an intermediate key wraps: data keys, or the small secrets of the authorization server.
DATA = "data"
SECRETS = "secrets"

# What happened, by its name in the table; times in seconds since 1970.
SERVICE_KEY = "service key"  # everything was wrapped by a new key of the key service
INTERMEDIATE_KEYS = "intermediate keys"  # they were replaced
BACKUP = "backup"  # one was made
BACKUPS_UNTIL = "backups until"  # when the last backup made so far will be refused

BUSY_MILLISECONDS = 10_000  # how long one process waits for the lock of another

# intermediate  a key that wraps others, wrapped by the key service. Its number is never used again
# key           a data key, wrapped by an intermediate. An intermediate in use cannot go
# destroyed     which data keys were destroyed, so that a restored backup does not bring them back
# former        keys of a key file that was replaced, which may have wrapped small secrets directly
TABLES = """
CREATE TABLE intermediate (number INTEGER PRIMARY KEY, purpose TEXT NOT NULL,
    wrapped BLOB NOT NULL, made INT NOT NULL, current INT NOT NULL);
CREATE TABLE key (id BLOB PRIMARY KEY,
    intermediate INT NOT NULL REFERENCES intermediate (number), wrapped BLOB NOT NULL);
CREATE INDEX key_intermediate ON key (intermediate);
CREATE TABLE destroyed (id BLOB PRIMARY KEY, at INT NOT NULL, why TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE former (name BLOB PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE happened (what TEXT PRIMARY KEY, at INT NOT NULL) WITHOUT ROWID;
"""

# A rollback journal, not a log: after a commit no older page is left in a file. FULL makes it
# durable, the truncation of the journal included.
PRAGMAS = (
    ("busy_timeout", BUSY_MILLISECONDS),
    ("journal_mode", "truncate"),
    ("secure_delete", "on"),
    ("synchronous", "full"),
    ("foreign_keys", "on"),
    ("temp_store", "memory"),
    ("trusted_schema", 0),
)


def connect(folder: Path) -> apsw.Connection:
    """Open keys.db, or make it. StoreError when it is damaged or newer than this program;
    Unavailable when the disk refuses."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / KEYS_DB
    with refusals(folder):
        if not file.exists():
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
        conn = apsw.Connection(str(file))
        try:
            for name, value in PRAGMAS:
                conn.execute(f"PRAGMA {name} = {value}")
            _prepare(conn, file)
        except BaseException:
            conn.close()
            raise
    return conn


def _prepare(conn: apsw.Connection, file: Path) -> None:
    version = conn.pragma("user_version")
    if version > VERSION:
        raise StoreError(
            f"{file} was written by a newer Salus (version {version}; this one knows {VERSION}): "
            "start that version, or restore a key backup"
        )
    if version == VERSION:
        return
    with writing(conn):
        if conn.pragma("user_version") == 0:  # nobody else has made them meanwhile
            make(conn)


def make(conn: apsw.Connection) -> None:
    """Make the tables, inside a transaction."""
    conn.pragma("application_id", APPLICATION)
    conn.execute(TABLES)
    conn.pragma("user_version", VERSION)


@contextmanager
def writing(conn: apsw.Connection) -> Iterator[None]:
    """A transaction that nobody else writes beside."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """What SQLite and the file system refuse, in words: StoreError and Unavailable."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreError(
            f"{folder / KEYS_DB} is damaged ({error}): restore it with `salus keys restore`"
        ) from None
    except (apsw.Error, OSError) as error:
        raise Unavailable(
            f"The key folder {folder} cannot be written or read now "
            f"({type(error).__name__}: {error}): free space on its disk, or check the disk, and "
            "try again"
        ) from None


class Held:
    """The key folder is in use until this is closed: shared by those who use its keys, alone for
    whoever replaces them. StoreError when the other kind holds it."""

    def __init__(self, folder: Path, alone: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._file = os.open(folder / KEYS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}") from None
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise StoreError(
                f"The keys in {folder} are in use: stop the server first"
                if alone
                else f"The keys in {folder} are being replaced: wait until that is done"
            ) from None

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._file)
