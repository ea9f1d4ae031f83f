"""What the parts of the SQLite engine share: the connection of a transaction, the store's numbers
and codec, and how a row becomes a Version.

https://www.sqlite.org/isolation.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import apsw

from fhir_server.storage.leaves import SALT, Leaves
from fhir_server.storage.sealed import Owners, seal, unseal, version_place
from fhir_server.storage.sqlite.codec import Bodies, pack_id, unpack_id
from fhir_server.storage.sqlite.current import Current, Held
from fhir_server.storage.sqlite.entries import Waiting, event_number
from fhir_server.storage.sqlite.names import Names
from fhir_server.storage.sqlite.shapes import Plan
from fhir_server.storage.store import EVENTS, Event, Logged, Version, deletion

Row: TypeAlias = tuple[str | bytes, int, int, bytes, int | None, int, int, int]

# The columns of a version, in the order of a Row; `old` has no id of its own.
COLUMNS = "r.id, r.ver, r.updated, r.body, r.owner, r.deleted, r.t, r.leaf"
# The same without the body, and without what lies behind it in the row.
BARE = "r.id, r.ver, r.updated, NULL, r.owner, r.deleted, r.t, -1"


def split_row(row: tuple[Any, ...]) -> tuple[str, Row]:
    """The type's name, which stands before the columns of a version, and the Row."""
    return row[0], row[1:]


@dataclass(slots=True)
class Shared:
    """What all connections of a store share. `owners` remembers "Patient/id" by pk, `plans` the
    statements of searches by their shape, `totals` what a search counted, with the state of the
    store that it was counted in. `reindexed`: entries changed without a new version. `deferred`:
    events of the running batch that are written together, at the latest when it is committed."""

    names: Names
    bodies: Bodies
    sealing: Owners
    leaves: Leaves
    current: Current
    clock: Callable[[], int]
    sequence: int  # of the newest version
    event: int  # number of the newest event
    updated: int  # of the newest version
    owners: dict[int, str] = field(default_factory=dict)
    counted: dict[tuple[object, ...], tuple[float, int]] = field(default_factory=dict)
    plans: dict[tuple[object, ...], Plan] = field(default_factory=dict)
    totals: dict[tuple[object, ...], tuple[object, int]] = field(default_factory=dict)
    reindexed: bool = False
    deferred: list[Event] = field(default_factory=list)
    waiting: Waiting = field(default_factory=dict)  # rows, which are written as those are


class Reach:
    """A connection while one transaction has it, with what that transaction may remember. `fresh`:
    what a search has opened, which may be kept in memory."""

    __slots__ = ("_lacking", "conn", "era", "fresh", "reads", "shared")

    def __init__(self, conn: apsw.Connection, shared: Shared, reads: bool = False) -> None:
        self.conn = conn
        self.shared = shared
        self.era = shared.names.era
        self.reads = reads  # only, and so nothing that may yet be undone
        self.fresh: list[Held] = []
        names = shared.names
        self._lacking = (names.kinds.lacking, names.params.lacking) if reads else (None, None)

    @property
    def current(self) -> bool:
        """Whether no erasure has freed numbers since this transaction began."""
        return self.era == self.shared.names.era

    def kind(self, type: str) -> int | None:
        names = self.shared.names
        return names.kinds.find(self.conn, (type,), self.era == names.era, self._lacking[0])

    def param(self, kind: int, param: str, shape: str) -> int | None:
        names = self.shared.names
        key = kind, param, shape
        return names.params.find(self.conn, key, self.era == names.era, self._lacking[1])

    def pk(self, type: str, id: str) -> int | None:
        """The pk of a resource, of a reserved row too; of an event, its number below zero."""
        number = event_number(id) if type == EVENTS else 0
        if number:
            return -number
        names = self.shared.names
        if self.era == names.era:  # what entries were written under spares the way there
            known: int | None = names.shortcuts.get((type, id, None))
            if known is not None:
                return known
        kind = self.kind(type)
        if kind is None:
            return None
        found = names.resources.find(self.conn, (kind, pack_id(id)), self.era == names.era)
        return names.veiled(self.conn, type, id) if found is None else found

    def value(self, system: str | None, code: str | None) -> int | None:
        names = self.shared.names
        current = self.era == names.era
        number = names.systems.find(self.conn, (system,), current)
        if number is None:
            return None
        return names.values.find(self.conn, (number, code), current)

    def version(self, type: str, row: Row, id: str | None = None) -> Version:
        """The version in a row; `id` spares its unpacking where it is known. Damaged, Erased."""
        packed, number, updated, blob, pk, deleted, sequence, leaf = row
        shared = self.shared
        id = id or unpack_id(packed)
        owner = None if pk is None else shared.owners.get(pk) or self.owner(pk)
        body = b""
        if not deleted:
            opened = unseal(shared.sealing.keys, blob, version_place(owner, type, id, number))
            body = shared.bodies.unpack(opened[SALT:])
        return Version(type, id, number, updated, body, owner, bool(deleted), sequence, leaf)

    def bare(self, type: str, row: Row) -> Version:
        """The version in a row of BARE."""
        packed, number, updated, _, pk, deleted, sequence, leaf = row
        owner = None if pk is None else self.shared.owners.get(pk) or self.owner(pk)
        id = unpack_id(packed)
        return Version(type, id, number, updated, b"", owner, bool(deleted), sequence, leaf)

    def logged(self, type: str, row: Row) -> Logged:
        """What the leaf of the version in a row was made of. Damaged, Erased."""
        packed, number, updated, blob, pk, deleted, _, leaf = row
        id, owner = unpack_id(packed), None if pk is None else self.owner(pk)
        place = version_place(owner, type, id, number)
        opened = unseal(self.shared.sealing.keys, blob, place)
        if deleted:
            return Logged(leaf, opened[:SALT], deletion(type, id, number, updated))
        return Logged(leaf, opened[:SALT], self.shared.bodies.unpack(opened[SALT:]))

    def seal(self, owner: str, place: bytes, content: bytes) -> tuple[bytes, bytes]:
        """The blob and the salt of a content under the key that is the owner's now. Unavailable."""
        return seal(self.shared.sealing.keys, self.key(owner), place, content)

    def key(self, owner: str) -> bytes:
        """The id of the key that is the owner's now. Unavailable."""
        return self.shared.sealing.current(owner, self._sealed_by, self._note_key)

    def has_key(self, owner: str) -> bool:
        """Whether something is sealed under a key of this owner, be it one of before."""
        if self.shared.sealing.known(owner):
            return True
        sql = "SELECT EXISTS (SELECT 1 FROM sealing WHERE owner = ?)"
        return bool(self.conn.execute(sql, (owner,)).get)

    def _sealed_by(self, owner: str) -> bytes | None:
        sql = "SELECT id FROM sealing WHERE owner = ? AND current = 1"
        found: bytes | None = self.conn.execute(sql, (owner,)).get
        return found

    def _note_key(self, owner: str, id: bytes) -> None:
        sql = "INSERT INTO sealing (owner, id, current) VALUES (?, ?, 1)"
        self.conn.execute(sql, (owner, id))

    def owner(self, pk: int) -> str:
        known = self.shared.owners.get(pk)
        if known is None:
            name, id = self.conn.execute(
                "SELECT k.name, r.id FROM resource r JOIN kind k ON k.k = r.type WHERE r.pk = ?",
                (pk,),
            ).get
            known = f"{name}/{unpack_id(id)}"
            if len(self.shared.owners) >= 50_000:
                self.shared.owners.clear()
            self.shared.owners[pk] = known
        return known
