"""The tables of the SQLite engine, and how its files are opened.

https://www.sqlite.org/withoutrowid.html
"""

from __future__ import annotations

from pathlib import Path

import apsw

from fhir_server.storage.keys import write_durably
from fhir_server.storage.sqlite.codec import tokens_of
from fhir_server.storage.store import StoreError, Unavailable

VERSION = 2
APPLICATION = 0x53414C55  # "SALU": what the file says it is
FILE = "salus.db"

# What opens the file. A cipher is chosen by its row; the key follows it.
CIPHERS: dict[str, tuple[tuple[str, str], ...]] = {
    "aegis256": (("cipher", "aegis"), ("algorithm", "aegis-256")),
    "aes256": (("cipher", "sqlcipher"),),  # AES-256-CBC with HMAC-SHA-512
}
DEFAULT_CIPHER = "aegis256"
CIPHER = "page.cipher"  # in the data folder: which one its pages are under; absent: the default

CHECKPOINT = 4_000  # pages in the write-ahead log after which they are moved into the main file
BUSY_MILLISECONDS = 10_000  # how long a connection waits for a lock

# What every connection is set to: (pragma, the writer's value, a reader's value). Sizes in KiB are
# negative. The automatic checkpoint counts pages and runs inside COMMIT; where there is a lane,
# that does it instead, once what was committed is answered.
PRAGMAS: tuple[tuple[str, str | int, str | int], ...] = (
    ("busy_timeout", BUSY_MILLISECONDS, BUSY_MILLISECONDS),
    ("cache_size", -65_536, -16_384),
    ("temp_store", "memory", "memory"),
    ("trusted_schema", 0, 0),
    ("synchronous", "full", "full"),
    ("secure_delete", "on", "on"),
    ("wal_autocheckpoint", CHECKPOINT, 0),
    ("journal_size_limit", 67_108_864, 67_108_864),
    ("query_only", 0, 1),
)

# tile      the hashes of the log, 256 a row; the leaf of a record is its index there
# notice    what the log says about itself
# sealing   the data keys that an owner has or had: "Patient/id", "" for what is nobody's,
#           "audit/2026-11" for the events of a month
LOG = """
CREATE TABLE tile (level INT NOT NULL, n INT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (level, n));
CREATE TABLE notice (leaf INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE sealing (owner TEXT NOT NULL, id BLOB NOT NULL, current INT NOT NULL,
    PRIMARY KEY (owner, id)) WITHOUT ROWID;
CREATE UNIQUE INDEX sealing_now ON sealing (owner) WHERE current = 1;
"""

# resource  one row a resource, its current version; `pk` is for ever. A link to a resource that is
#           not there yet reserves its row, with `ver` 0. `deleted` is 1 for those too, so that
#           `deleted = 0` says live. `t` is the sequence. `mix` numbers the set of params it has
# old       the versions before the current ones
# token, text, range, link   the entries, by the number of the param, which says the type too;
#           the entries of event n stand under pk -n
# value, phrase, system, param, kind, mix   the numbers of what recurs
TABLES = (
    """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE dictionary (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE kind (k INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE param (p INTEGER PRIMARY KEY, type INT NOT NULL, shape TEXT NOT NULL,
    param TEXT NOT NULL, UNIQUE (type, param, shape));
CREATE TABLE system (s INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE value (v INTEGER PRIMARY KEY, s INT NOT NULL, code);
CREATE INDEX value_code ON value (code, s);
CREATE TABLE phrase (w INTEGER PRIMARY KEY, p INT NOT NULL, text, code);
CREATE INDEX phrase_text ON phrase (p, text, code);
CREATE TABLE mix (h INTEGER PRIMARY KEY, params BLOB NOT NULL UNIQUE);
CREATE TABLE mixed (p INT NOT NULL, h INT NOT NULL, PRIMARY KEY (p, h)) WITHOUT ROWID;

CREATE TABLE resource (pk INTEGER PRIMARY KEY, type INT NOT NULL, id NOT NULL, ver INT NOT NULL,
    t INT NOT NULL, updated INT NOT NULL, deleted INT NOT NULL, owner INT, mix INT, keys BLOB,
    body BLOB, leaf INT);
CREATE UNIQUE INDEX resource_id ON resource (type, id);
CREATE INDEX resource_live ON resource (type) WHERE deleted = 0;
CREATE INDEX resource_gone ON resource (type) WHERE deleted = 1;
CREATE INDEX resource_type ON resource (type, t) WHERE ver > 0;
CREATE INDEX resource_all ON resource (t) WHERE ver > 0;
CREATE INDEX resource_owner ON resource (owner) WHERE owner IS NOT NULL;
CREATE TABLE old (t INTEGER PRIMARY KEY, pk INT NOT NULL, type INT NOT NULL, ver INT NOT NULL,
    updated INT NOT NULL, deleted INT NOT NULL, owner INT, body BLOB, leaf INT);
CREATE INDEX old_pk ON old (pk, ver);
CREATE INDEX old_type ON old (type, t);
CREATE INDEX old_owner ON old (owner) WHERE owner IS NOT NULL;

CREATE TABLE token (p INT NOT NULL, v INT NOT NULL, pk INT NOT NULL,
    PRIMARY KEY (p, v, pk)) WITHOUT ROWID;
CREATE TABLE text (w INT NOT NULL, pk INT NOT NULL, PRIMARY KEY (w, pk)) WITHOUT ROWID;
CREATE INDEX text_pk ON text (pk, w);
CREATE TABLE range (p INT NOT NULL, low NOT NULL, high NOT NULL, unit INT NOT NULL,
    pk INT NOT NULL, PRIMARY KEY (p, low, high, unit, pk)) WITHOUT ROWID;
CREATE INDEX range_pk ON range (pk, p, low, high, unit);
CREATE TABLE link (dst INT NOT NULL, p INT NOT NULL, at NOT NULL, src INT NOT NULL,
    PRIMARY KEY (dst, p, at, src)) WITHOUT ROWID;
CREATE INDEX link_src ON link (src, p, dst, at) WHERE src > 0;

CREATE TABLE event (n INTEGER PRIMARY KEY, at INT NOT NULL, body BLOB NOT NULL, leaf INT,
    apart BLOB);
CREATE INDEX event_at ON event (at);
CREATE TABLE kept (space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
    revision INT NOT NULL, until INT, owner INT, PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE INDEX kept_until ON kept (until) WHERE until IS NOT NULL;
CREATE INDEX kept_owner ON kept (owner) WHERE owner IS NOT NULL;
"""
    + LOG
    + """
"""
)


def connect(
    file: Path,
    page_key: bytes,
    *,
    writes: bool,
    cipher: str | None = None,
    vfs: str | None = None,
) -> apsw.Connection:
    """Open the database with its 32-byte key, and the cipher of its folder unless one is named, and
    set the connection up. StoreError when the key is not the one it was written with."""
    cipher = cipher or cipher_of(file.parent)
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if writes else 0)
    conn = apsw.Connection(str(file), flags=flags, vfs=vfs, statementcachesize=400)
    for name, value in CIPHERS[cipher]:
        conn.execute(f"PRAGMA {name} = '{value}'")
    conn.execute(f"PRAGMA key = 'raw:{page_key.hex()}'")
    try:
        conn.execute("SELECT count(*) FROM sqlite_schema")
    except apsw.NotADBError:
        conn.close()
        raise StoreError(
            f"{file} cannot be read with this key; start with the key folder it was made with"
        ) from None
    if writes:
        conn.execute("PRAGMA journal_mode = wal")
    conn.create_scalar_function("tokens_of", tokens_of, 2, deterministic=True)  # type: ignore[arg-type]
    # Without this SQLite compiles a statement anew for every value of a LIMIT: 10 to 30 us each.
    conn.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    for name, writer, reader in PRAGMAS:
        conn.execute(f"PRAGMA {name} = {writer if writes else reader}")
    return conn


def cipher_of(folder: Path) -> str:
    """The cipher of the pages of a data folder. StoreError when it is none that is known."""
    try:
        named = (folder / CIPHER).read_text().strip()
    except FileNotFoundError:
        return DEFAULT_CIPHER
    if named not in CIPHERS:
        raise StoreError(
            f"{folder / CIPHER} names no cipher that this Salus knows: restore it from a backup"
        )
    return named


def choose_cipher(folder: Path, asked: str | None) -> None:
    """Let a new data folder have the cipher that is asked for. StoreError when an older one has
    another: its pages are not written anew."""
    if not (folder / FILE).exists() and asked is not None and asked != DEFAULT_CIPHER:
        write_durably(folder / CIPHER, asked.encode())
    there = cipher_of(folder)
    if asked not in (None, there):
        raise StoreError(
            f"The pages of {folder} are under {there}, not {asked}: a folder keeps the cipher that "
            "it was made with; to change it, restore a backup into a new folder"
        )


class writing:
    """A transaction of its own on the writer's connection, for opening and migration."""

    def __init__(self, conn: apsw.Connection) -> None:
        self._conn = conn

    def __enter__(self) -> None:
        self._conn.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._conn.execute("COMMIT")
        elif self._conn.in_transaction:
            self._conn.execute("ROLLBACK")


# What SQLite raises when the file system, or what lies in it, fails.
REFUSALS = (
    apsw.IOError,
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.CorruptError,
)


DAMAGED = (
    "stop the server, keep a copy of the data folder, and restore the last backup "
    "(`salus restore`); `salus doctor` says more"
)


def unavailable(error: apsw.Error) -> Unavailable:
    """The error to raise when the file system refuses, or the file is damaged."""
    if isinstance(error, apsw.CorruptError):
        return Unavailable(f"The database is damaged and cannot be read whole: {DAMAGED}")
    return Unavailable(
        f"The data folder cannot be written or read now ({type(error).__name__}): "
        "free space on its disk, or check the disk, and try again"
    )
