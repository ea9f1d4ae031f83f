"""What may be done to a store beyond a single record: to which version counts, to what was redacted,
to keys, tiles and the schema."""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.storage.sealed import version_place
from tests.audit.tampering import HOUR, Attack, Caught, Row, is_gone

_MOVED = "ver, t, updated, deleted, owner, body, leaf"


def put_back(on: Attack) -> Caught:
    """An older version is the current one again, and the newest one is in its history."""
    pairs = on.conn.execute(
        "SELECT o.t, o.pk FROM old o JOIN resource r ON r.pk = o.pk WHERE o.leaf IS NOT NULL"
    )
    at, pk = on.random.choice(pairs.fetchall())
    older = on.conn.execute(f"SELECT {_MOVED} FROM old WHERE t = ?", (at,)).fetchone()
    newest = on.conn.execute(f"SELECT {_MOVED}, type FROM resource WHERE pk = ?", (pk,)).fetchone()
    on.conn.execute("DELETE FROM old WHERE t = ?", (at,))
    marks = ", ".join("?" * 9)
    on.conn.execute(f"INSERT INTO old ({_MOVED}, type, pk) VALUES ({marks})", (*newest, pk))
    on.conn.execute(
        f"UPDATE resource SET ({_MOVED}) = (?, ?, ?, ?, ?, ?, ?) WHERE pk = ?", (*older, pk)
    )
    return Caught({older[-1]}, frozenset({"reordered"}))


def forget_current(on: Attack) -> Caught:
    """The newest version goes into the history, and the resource is as if it had never been."""
    rows = [row for row in on.versions() if row.table == "resource"]
    row = on.random.choice(rows)
    on.conn.execute(
        f"INSERT INTO old ({_MOVED}, type, pk) SELECT {_MOVED}, type, pk FROM resource"
        " WHERE pk = ?",
        (row.at,),
    )
    on.set(row, ver=0, deleted=1, body=None, leaf=None)
    return Caught(None, frozenset({"reordered"}))


def _redacted(on: Attack) -> Row:
    place = version_place(None, "Observation", "o1", 1).split(b"|")[1]
    return next(r for r in on.versions() if r.place.split(b"|")[1:] == [place, b"1"])


def delete_redacted(on: Attack) -> Caught:
    row = _redacted(on)
    on.conn.execute(f"DELETE FROM {row.table} WHERE {row.key} = ?", (row.at,))
    return Caught({row.leaf}, frozenset({"deleted"}))


def change_redacted(on: Attack) -> Caught:
    row = _redacted(on)
    on.set(row, updated=on.value(row, "updated") + HOUR)
    return Caught({row.leaf}, frozenset({"altered"}))


def strip_events(on: Attack) -> Caught:
    """What was asked for goes, where no erasure came after it that would explain that."""
    erased = on.conn.execute("SELECT max(leaf) FROM notice WHERE instr(content, 'erased')").get
    rows = [r for r in on.events("apart IS NOT NULL") if r.leaf > erased and not is_gone(on, r)]
    for row in rows:
        on.set(row, apart=None)
    assert rows
    return Caught(None, frozenset({"altered"}))


def forget_sealing(on: Attack) -> Caught:
    """The store does not know any more which keys an owner has, so that an erasure leaves them."""
    owners = {o for (o,) in on.conn.execute("SELECT owner FROM sealing")} - {""}
    owner = on.random.choice(sorted(owners))
    on.conn.execute("DELETE FROM sealing WHERE owner = ?", (owner,))
    return Caught(None, frozenset({"key not listed"}))


def swap_sealing(on: Attack) -> Caught:
    """The key of one is listed as another's too, and ends with it."""
    owners = [o for (o,) in on.conn.execute("SELECT DISTINCT owner FROM sealing ORDER BY owner")]
    one, other = on.random.sample(owners, 2)
    on.conn.execute(
        "INSERT INTO sealing SELECT ?, id, 0 FROM sealing WHERE owner = ?", (other, one)
    )
    return Caught(None, frozenset({"key not listed"}))


def insert_tile(on: Attack) -> Caught:
    level, n, size = on.random.choice(
        ((0, 99_999_999, 8192), (0, 10**12, 32), (0, 7, 32), (9, 0, 32), ("a", 0, 32), (0, "a", 32))
    )
    on.conn.execute("INSERT INTO tile VALUES (?, ?, zeroblob(?))", (level, n, size))
    return Caught(None, frozenset({"tile damaged"}))


_WORDS = (
    "CREATE TRIGGER q AFTER INSERT ON event BEGIN DELETE FROM event; END",
    "CREATE VIEW q AS SELECT * FROM event",
    "CREATE TABLE q (x)",
    "ALTER TABLE event ADD COLUMN x",
    "DROP INDEX resource_id",
    "DROP INDEX resource_live; CREATE INDEX resource_live ON resource (type) WHERE deleted = 1",
)


def change_schema(on: Attack) -> Caught:
    on.conn.execute(on.random.choice(_WORDS))
    return Caught({None}, frozenset({"schema altered"}))


_ODD = (
    "UPDATE resource SET t = 'x' WHERE ver = 4",
    "UPDATE resource SET updated = 'x'",
    "UPDATE resource SET updated = 9000000000000000000",
    "UPDATE resource SET ver = x'00' WHERE ver = 4",
    "UPDATE resource SET body = 5 WHERE ver = 4",
    "UPDATE resource SET id = x'ff' WHERE ver = 4",
    "UPDATE resource SET type = 999 WHERE ver = 4",
    "UPDATE resource SET leaf = 'x' WHERE ver = 4",
    "UPDATE event SET apart = 5 WHERE n = 3",
    "UPDATE event SET leaf = x'00' WHERE n = 3",
    "UPDATE event SET n = 9000000000000000000 WHERE n = 3",
    "UPDATE notice SET content = x'ff'",
    "UPDATE notice SET leaf = -1 WHERE leaf = (SELECT min(leaf) FROM notice)",
    "UPDATE tile SET data = 'x'",
    "UPDATE tile SET level = -1",
    "UPDATE kind SET name = x'05'",
    "UPDATE sealing SET id = 'x' WHERE owner = ''",
)
# Without these nothing can be read, which is said in words.
UNREADABLE = ("DELETE FROM dictionary", "DROP TABLE old", "DROP TABLE kind")


def write_odd_values(on: Attack) -> Caught:
    """What no program would have written, where a number or bytes should be."""
    on.conn.execute(on.random.choice(_ODD).replace("UPDATE", "UPDATE OR REPLACE", 1))
    return Caught(None)


MEDDLING: tuple[Callable[[Attack], Caught], ...] = (
    put_back,
    forget_current,
    delete_redacted,
    change_redacted,
    strip_events,
    forget_sealing,
    swap_sealing,
    insert_tile,
    change_schema,
    write_odd_values,
)
