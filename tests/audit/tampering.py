"""Everything that somebody may do to a store who has its page key, and in part its data keys."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import apsw

from fhir_server.log.merkle import HASH, WIDTH, salted_leaf
from fhir_server.storage.leaves import SALT, Leaves
from fhir_server.storage.sealed import event_place, seal, unseal, version_place
from fhir_server.storage.sqlite import codec
from fhir_server.storage.sqlite.codec import unpack_id
from tests.audit.worlds import World

HOUR = 3_600_000_000


class Caught(NamedTuple):
    """What a verification must say: the leaves of which one is the first that is wrong (None: it is
    enough that it is found), and the kinds that it may be (empty: any)."""

    leaves: set[int | None] | None
    kinds: frozenset[str] = frozenset()


class Row(NamedTuple):
    """A record: its table and key there, its leaf, and what its blob is bound to."""

    table: str
    key: str
    at: int
    leaf: int
    place: bytes
    body: bytes


class Attack:
    """A store that is open for whatever one likes."""

    def __init__(self, conn: apsw.Connection, world: World, random: Random) -> None:
        self.conn, self.world, self.random = conn, world, random
        self.bodies = codec.load_bodies(conn)

    def rows(self) -> list[Row]:
        return [*self.versions(), *self.events()]

    def versions(self) -> list[Row]:
        found = []
        for table, key in (("resource", "pk"), ("old", "t")):
            rows = self.conn.execute(
                f"SELECT r.{key}, r.leaf, k.name, x.id, r.ver, ok.name, o.id, r.body FROM {table} r"
                " JOIN resource x ON x.pk = r.pk JOIN kind k ON k.k = x.type LEFT JOIN resource o"
                " ON o.pk = r.owner LEFT JOIN kind ok ON ok.k = o.type WHERE r.leaf IS NOT NULL"
            )
            for at, leaf, type, id, number, owner_type, owner_id, body in rows:
                owner = f"{owner_type}/{unpack_id(owner_id)}" if owner_id else None
                place = version_place(owner, type, unpack_id(id), number)
                found.append(Row(table, key, at, leaf, place, body))
        return found

    def events(self, where: str = "1") -> list[Row]:
        rows = self.conn.execute(f"SELECT n, leaf, body FROM event WHERE {where}")
        return [Row("event", "n", n, leaf, event_place(n), body) for n, leaf, body in rows]

    def any(self) -> Row:
        return self.random.choice(self.rows())

    def set(self, row: Row, **values: Any) -> None:
        for column, value in values.items():
            sql = f"UPDATE {row.table} SET {column} = ? WHERE {row.key} = ?"
            self.conn.execute(sql, (value, row.at))

    def value(self, row: Row, column: str) -> Any:
        sql = f"SELECT {column} FROM {row.table} WHERE {row.key} = ?"
        return self.conn.execute(sql, (row.at,)).get

    def flipped(self, data: bytes) -> tuple[bytes, int]:
        """The same but for one bit, and the byte that it is in."""
        at = self.random.randrange(len(data))
        made = bytearray(data)
        made[at] ^= 1 << self.random.randrange(8)
        return bytes(made), at

    def resealed(self, row: Row, change: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
        """A blob as the server would seal it, with another content, and the hash of its leaf."""
        keys = self.world.keys
        content = self.bodies.unpack(unseal(keys, row.body, row.place)[SALT:])
        changed = change(content)
        blob, salt = seal(keys, row.body[:8], row.place, self.bodies.pack(changed))
        return blob, salted_leaf(salt, changed)

    def hashes(self) -> list[bytes]:
        data = b"".join(
            data
            for (data,) in self.conn.execute("SELECT data FROM tile WHERE level = 0 ORDER BY n")
        )
        return [data[at : at + HASH] for at in range(0, len(data), HASH)]

    def rebuild(self, hashes: list[bytes]) -> None:
        """Tiles as they would be, had these been the leaves from the start."""
        leaves = Leaves()
        for hash in hashes:
            leaves.append(hash)
        self.conn.execute("DELETE FROM tile")
        rows = [(level, n, data) for (level, n), data in leaves.tiles()[0].items()]
        self.conn.executemany("INSERT INTO tile VALUES (?, ?, ?)", rows)

    def live(self) -> list[Row]:
        """Records that have a body."""
        return [
            each for each in self.rows() if each.table == "event" or not self.value(each, "deleted")
        ]


OPENING = frozenset({"cannot be opened"})


def flip_body(on: Attack) -> Caught:
    row = on.any()
    on.set(row, body=on.flipped(row.body)[0])
    return Caught({row.leaf}, OPENING)


def flip_apart(on: Attack) -> Caught:
    row = on.random.choice([r for r in on.events("apart IS NOT NULL") if not is_gone(on, r)])
    on.set(row, apart=on.flipped(on.value(row, "apart"))[0])
    return Caught({row.leaf}, OPENING)


def is_gone(on: Attack, row: Row) -> bool:
    return on.value(row, "apart")[:8] in on.world.destroyed


def flip_leaf(on: Attack) -> Caught:
    row = on.any()
    other = row.leaf ^ 1 << on.random.randrange(20)
    on.set(row, leaf=other)
    return Caught({row.leaf, other})


def forget_leaf(on: Attack) -> Caught:
    row = on.any()
    on.set(row, leaf=None)
    return Caught({row.leaf}, frozenset({"deleted"}))


def flip_tile(on: Attack) -> Caught:
    level, n, data = on.random.choice(on.conn.execute("SELECT * FROM tile").fetchall())
    made, at = on.flipped(data)
    on.conn.execute("UPDATE tile SET data = ? WHERE level = ? AND n = ?", (made, level, n))
    leaf = n * WIDTH + at // HASH
    known = {row.leaf for row in on.rows()}
    if level or leaf not in known:
        return Caught(None)
    signed = on.world.signed[-1].checkpoint.size
    return Caught({leaf}, frozenset({"tile damaged"}) if leaf < signed else frozenset())


def shorten_tile(on: Attack) -> Caught:
    level, n, data = on.random.choice(on.conn.execute("SELECT * FROM tile").fetchall())
    on.conn.execute(
        "UPDATE tile SET data = ? WHERE level = ? AND n = ?",
        (data[: on.random.randrange(len(data))], level, n),
    )
    return Caught(None)


def delete_tile(on: Attack) -> Caught:
    level, n, _ = on.random.choice(on.conn.execute("SELECT * FROM tile").fetchall())
    on.conn.execute("DELETE FROM tile WHERE level = ? AND n = ?", (level, n))
    return Caught(None)


def swap_tiles(on: Attack) -> Caught:
    one, other = on.conn.execute("SELECT data FROM tile WHERE level = 0 AND n < 2").fetchall()
    for n, (data,) in enumerate((other, one)):
        on.conn.execute("UPDATE tile SET data = ? WHERE level = 0 AND n = ?", (data, n))
    return Caught(None)


def flip_notice(on: Attack) -> Caught:
    leaf, content = on.random.choice(on.conn.execute("SELECT * FROM notice").fetchall())
    on.conn.execute("UPDATE notice SET content = ? WHERE leaf = ?", (on.flipped(content)[0], leaf))
    if b"leaves" in content:  # then all that it spoke for is missing, or another
        return Caught(None)
    return Caught({leaf}, frozenset({"altered"}))


def delete_notice(on: Attack) -> Caught:
    leaf, _ = on.random.choice(on.conn.execute("SELECT * FROM notice").fetchall())
    on.conn.execute("DELETE FROM notice WHERE leaf = ?", (leaf,))
    return Caught(None, frozenset({"deleted", "erased without a notice"}))


def change_number(on: Attack) -> Caught:
    row = on.random.choice(on.versions())
    on.set(row, ver=on.value(row, "ver") + on.random.randrange(1, 5))
    return Caught({row.leaf}, OPENING)


def change_id(on: Attack) -> Caught:
    row = on.random.choice(on.versions())
    pk = on.value(row, "pk")
    on.conn.execute("UPDATE resource SET id = 'other' WHERE pk = ?", (pk,))
    own = [
        leaf
        for table in ("resource", "old")
        for (leaf,) in on.conn.execute(
            f"SELECT leaf FROM {table} WHERE pk = ?1 OR owner = ?1", (pk,)
        )
        if leaf is not None
    ]
    return Caught({min(own)}, OPENING)


def change_type(on: Attack) -> Caught:
    row = on.random.choice([row for row in on.versions() if row.table == "old"])
    on.set(row, type=on.value(row, "type") ^ 3)
    return Caught({row.leaf}, OPENING)


def change_owner(on: Attack) -> Caught:
    row = on.random.choice(on.versions())
    others = [pk for (pk,) in on.conn.execute("SELECT pk FROM resource")]
    now = on.value(row, "owner")
    on.set(row, owner=on.random.choice([pk for pk in (*others, None) if pk != now]))
    return Caught({row.leaf}, OPENING)


def change_time(on: Attack) -> Caught:
    row = on.any()
    column = "at" if row.table == "event" else "updated"
    by = on.random.choice((-1, 1)) * on.random.randrange(2_000, 10 * HOUR)
    on.set(row, **{column: on.value(row, column) + by})
    return Caught({row.leaf}, frozenset({"altered"}))


def change_deleted(on: Attack) -> Caught:
    row = on.random.choice(on.versions())
    on.set(row, deleted=1 - on.value(row, "deleted"))
    return Caught({row.leaf}, OPENING)


def change_order(on: Attack) -> Caught:
    row = on.random.choice([row for row in on.versions() if row.leaf > 20])
    on.set(row, t=-on.random.randrange(1, 9))
    return Caught(None, frozenset({"reordered"}))


def change_event_number(on: Attack) -> Caught:
    row = on.random.choice(on.events())
    on.set(row, n=10_000)
    return Caught({row.leaf}, OPENING)


def delete_row(on: Attack) -> Caught:
    row = on.random.choice([row for row in on.rows() if row.table != "resource"])
    on.conn.execute(f"DELETE FROM {row.table} WHERE {row.key} = ?", (row.at,))
    return Caught({row.leaf}, frozenset({"deleted"}))


def delete_resource(on: Attack) -> Caught:
    row = on.random.choice([row for row in on.versions() if row.table == "resource"])
    on.conn.execute("DELETE FROM resource WHERE pk = ?", (row.at,))
    old = on.conn.execute("SELECT leaf FROM old WHERE pk = ?1 OR owner = ?1", (row.at,))
    owned = on.conn.execute("SELECT leaf FROM resource WHERE owner = ?", (row.at,))
    return Caught({min([row.leaf, *(leaf for (leaf,) in old), *(leaf for (leaf,) in owned)])})


def swap_bodies(on: Attack) -> Caught:
    one, other = on.random.sample(on.rows(), 2)
    on.set(one, body=other.body)
    on.set(other, body=one.body)
    return Caught({min(one.leaf, other.leaf)}, OPENING)


def swap_leaves(on: Attack) -> Caught:
    one, other = on.random.sample(on.rows(), 2)
    on.set(one, leaf=other.leaf)
    on.set(other, leaf=one.leaf)
    return Caught({min(one.leaf, other.leaf)})


def forge_body(on: Attack) -> Caught:
    row = on.random.choice(on.live())
    on.set(row, body=on.resealed(row, lambda body: body[:-1] + b',"active":true}')[0])
    return Caught({row.leaf}, frozenset({"altered"}))


def forge_salt(on: Attack) -> Caught:
    row = on.random.choice(on.live())
    on.set(row, body=on.resealed(row, lambda body: body)[0])
    return Caught({row.leaf}, frozenset({"altered"}))


def insert_event(on: Attack) -> Caught:
    model = on.random.choice(on.events())
    n, size = 5_000 + on.random.randrange(99), len(on.hashes())
    leaf = on.random.choice((None, size, size + 7, on.random.randrange(size)))
    content = b'{"resourceType":"AuditEvent","id":"%d"}' % n
    blob, _ = seal(on.world.keys, model.body[:8], event_place(n), on.bodies.pack_event(content))
    on.conn.execute("INSERT INTO event VALUES (?, 5, ?, ?, NULL)", (n, blob, leaf))
    gone = leaf is not None and leaf < size and leaf not in {row.leaf for row in on.rows()}
    return Caught(None if gone else {leaf})


def insert_notice(on: Attack) -> Caught:
    size = len(on.hashes())
    leaf = on.random.choice((size, size + 1, size + 300))
    on.conn.execute("INSERT INTO notice VALUES (?, '{}')", (leaf,))
    return Caught({leaf}, frozenset({"inserted"}))


def bury(on: Attack) -> Caught:
    """A record goes, and a tombstone that was never logged says that it was erased."""
    row = on.random.choice(on.events())
    size = len(on.hashes())
    on.conn.execute("DELETE FROM event WHERE n = ?", (row.at,))
    words = b'{"kind":"purged","keys":[],"leaves":[[%d,%d]],"at":"2026-11-22T08:00:00Z","basis":""}'
    on.conn.execute("INSERT INTO notice VALUES (?, ?)", (size, words % (row.leaf, row.leaf)))
    # Where versions beside it were erased too, which of the leaves was the event's is not known.
    around = [each.leaf for each in on.events()]
    low = max((each for each in around if each < row.leaf), default=-1)
    high = min((each for each in around if each > row.leaf), default=size)
    return Caught(set(range(low + 1, high)), frozenset({"deleted"}))


def truncate(on: Attack) -> Caught:
    """Everything from some leaf on goes, and the tiles are as they were then."""
    size = on.random.randrange(1, on.world.signed[-1].checkpoint.size)
    hashes = on.hashes()
    for table in ("event", "old", "resource", "notice"):
        on.conn.execute(f"DELETE FROM {table} WHERE leaf >= ?", (size,))
    on.rebuild(hashes[:size])
    return Caught(None, frozenset({"truncated", "cannot be opened", "deleted"}))


def truncate_events(on: Attack) -> Caught:
    first = on.random.choice(on.events())
    on.conn.execute("DELETE FROM event WHERE n >= ?", (first.at,))
    return Caught({first.leaf}, frozenset({"deleted"}))


def truncate_tiles(on: Attack) -> Caught:
    hashes = on.hashes()
    size = on.random.randrange(1, on.world.signed[-1].checkpoint.size)
    on.rebuild(hashes[:size])
    return Caught(None)


def rewrite(on: Attack) -> Caught:
    """A record is another, and the whole log as if it had always been so."""
    signed = [each.checkpoint.size for each in on.world.signed]
    row = on.random.choice([row for row in on.live() if row.leaf < signed[-1]])
    blob, hash = on.resealed(row, lambda body: body[:-1] + b',"active":true}')
    on.set(row, body=blob)
    hashes = on.hashes()
    hashes[row.leaf] = hash
    on.rebuild(hashes)
    good = max((size for size in signed if size <= row.leaf), default=0)
    return Caught({good}, frozenset({"rewritten"}))


def remove_and_rewrite(on: Attack) -> Caught:
    """A record never was: all that follow move up by one."""
    signed = [each.checkpoint.size for each in on.world.signed]
    row = on.random.choice([row for row in on.events() if row.leaf < signed[-1]])
    hashes = on.hashes()
    on.conn.execute("DELETE FROM event WHERE n = ?", (row.at,))
    for table in ("event", "old", "resource"):
        on.conn.execute(f"UPDATE {table} SET leaf = leaf - 1 WHERE leaf > ?", (row.leaf,))
    on.conn.execute("UPDATE notice SET leaf = leaf - 1 WHERE leaf > ?", (row.leaf,))
    on.rebuild(hashes[: row.leaf] + hashes[row.leaf + 1 :])
    return Caught(None)


ATTACKS: tuple[Callable[[Attack], Caught], ...] = (
    flip_body,
    flip_apart,
    flip_leaf,
    forget_leaf,
    flip_tile,
    shorten_tile,
    delete_tile,
    swap_tiles,
    flip_notice,
    delete_notice,
    change_number,
    change_id,
    change_type,
    change_owner,
    change_time,
    change_deleted,
    change_order,
    change_event_number,
    delete_row,
    delete_resource,
    swap_bodies,
    swap_leaves,
    forge_body,
    forge_salt,
    insert_event,
    insert_notice,
    bury,
    truncate,
    truncate_events,
    truncate_tiles,
    rewrite,
    remove_and_rewrite,
)
