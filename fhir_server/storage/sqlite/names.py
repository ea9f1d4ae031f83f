"""Numbers for what recurs: types, params, systems, values, phrases, and ids that links name.

Entries are rows of small integers (https://www.sqlite.org/fileformat2.html#varint); this module
knows which integer stands for what.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

import apsw

from fhir_server.storage.sqlite.codec import pack_id, pack_numbers

Key: TypeAlias = tuple[Any, ...]


class _Table(NamedTuple):
    """How a numbered row is found and made; `make` takes the number before the key."""

    number: str
    find: str
    make: str


_TABLES = {
    "kind": _Table(
        "SELECT max(k) FROM kind",
        "SELECT k FROM kind WHERE name = ?",
        "INSERT INTO kind (k, name) VALUES (?, ?)",
    ),
    "param": _Table(
        "SELECT max(p) FROM param",
        "SELECT p FROM param WHERE type = ? AND param = ? AND shape = ?",
        "INSERT INTO param (p, type, param, shape) VALUES (?, ?, ?, ?)",
    ),
    "system": _Table(
        "SELECT max(s) FROM system",
        "SELECT s FROM system WHERE name IS ?",
        "INSERT INTO system (s, name) VALUES (?, ?)",
    ),
    "value": _Table(
        "SELECT max(v) FROM value",
        "SELECT v FROM value WHERE s = ? AND code IS ?",
        "INSERT INTO value (v, s, code) VALUES (?, ?, ?)",
    ),
    "phrase": _Table(
        "SELECT max(w) FROM phrase",
        "SELECT w FROM phrase WHERE p = ? AND text IS ? AND code IS ?",
        "INSERT INTO phrase (w, p, text, code) VALUES (?, ?, ?, ?)",
    ),
    "mix": _Table(
        "SELECT max(h) FROM mix",
        "SELECT h FROM mix WHERE params = ?",
        "INSERT INTO mix (h, params) VALUES (?, ?)",
    ),
    "resource": _Table(
        "SELECT max(pk) FROM resource",
        "SELECT pk FROM resource WHERE type = ? AND id = ?",
        "INSERT INTO resource (pk, type, id, ver, t, updated, deleted)"
        " VALUES (?, ?, ?, 0, 0, 0, 1)",
    ),
}
_BOUND = 100_000  # how many of each table are remembered
_VEILED = 32  # bytes of a name that is veiled; a UUID has 16, and every other id is text


def veiled_id(packed: str | bytes) -> bool:
    """Whether an id in a row is no id any more."""
    return isinstance(packed, bytes) and len(packed) == _VEILED


class Numbers:
    """The numbers of one table. What is remembered is forgotten again when the transaction that
    made it rolls back; a number is given once in the life of a process. `lacking` are keys that
    have none in the newest state; None from when one is made until that is committed."""

    def __init__(self, name: str, conn: apsw.Connection, made: list[tuple[Numbers, Key]]) -> None:
        self._table = _TABLES[name]
        self._known: dict[Key, int] = {}
        self._made = made
        self.lacking: set[Key] | None = set()
        self.last: int = conn.execute(self._table.number).get or 0

    def find(
        self,
        conn: apsw.Connection,
        key: Key,
        remember: bool = True,
        lacking: set[Key] | None = None,
    ) -> int | None:
        """The number of a key, if it has one. A key without one is added to `lacking`, which a
        transaction took from here before it began: if one was made since, to no avail."""
        known = self._known.get(key) if remember else None
        if known is None and not (remember and self.lacking and key in self.lacking):
            known = conn.execute(self._table.find, key).get
            if remember:
                if known is not None:
                    self._remember(key, known)
                elif lacking is not None:
                    lacking.add(key)
        return known

    def number(self, conn: apsw.Connection, key: Key) -> int:
        """The number of a key; a new one gets its row. Only on the writer's connection."""
        known = self._known.get(key)
        if known is None:
            known = conn.execute(self._table.find, key).get
            if known is None:
                self.last += 1
                self.lacking = None
                known = self.last
                conn.execute(self._table.make, (known, *key))
                self._made.append((self, key))
            self._remember(key, known)
        return known

    def given(self, key: Key) -> int:
        """The next number, for a key that has none; the caller makes its row."""
        self.last += 1
        self._made.append((self, key))
        return self.last

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)

    def settle(self) -> None:
        """What was made is committed."""
        if self.lacking is None:
            self.lacking = set()

    def clear(self) -> None:
        self._known.clear()
        self.lacking = set()

    def _remember(self, key: Key, number: int) -> None:
        if len(self._known) >= _BOUND:
            self._known.clear()
        self._known[key] = number


class Naming(Protocol):
    """Gives the numbers that entries are written with, and is told of units once it remembers.
    `shortcuts`: some of them, by what the methods are given beside the connection; of a resource,
    its type, its id and None."""

    units: set[int] | None
    shortcuts: dict[Any, Any]

    def make_kind(self, conn: apsw.Connection, type: str) -> int: ...

    def make_param(self, conn: apsw.Connection, kind: int, param: str, shape: str) -> int: ...

    def make_value(self, conn: apsw.Connection, system: str | None, code: str | None) -> int: ...

    def make_phrase(
        self, conn: apsw.Connection, p: int, text: str | None, code: str | None
    ) -> int: ...

    def make_resource(self, conn: apsw.Connection, type: str, id: str) -> int: ...

    def make_mix(self, conn: apsw.Connection, params: Iterable[int]) -> int: ...


class Names:
    """All numbers of a store. Its readers share them with its writer: a number that a reader's
    state does not hold yet finds nothing there. Numbers that erasure freed are another matter:
    `era` grows with each, and a reader whose transaction began in an earlier one looks for itself.
    """

    def __init__(self, conn: apsw.Connection) -> None:
        self._made: list[tuple[Numbers, Key]] = []
        self.era = 0
        self.secret: bytes | None = None  # names are veiled with it, once something was erased
        self.units: set[int] | None = None  # values that ranges have as units, once that was asked
        self.shortcuts: dict[Any, Any] = {}
        self.kinds = Numbers("kind", conn, self._made)
        self.params = Numbers("param", conn, self._made)
        self.systems = Numbers("system", conn, self._made)
        self.values = Numbers("value", conn, self._made)
        self.phrases = Numbers("phrase", conn, self._made)
        self.mixes = Numbers("mix", conn, self._made)
        self.resources = Numbers("resource", conn, self._made)

    # --- making, on the writer's connection ------------------------------------------------------

    def mark(self) -> int:
        """A place to return to with `undo`."""
        return len(self._made)

    def undo(self, mark: int) -> None:
        """Forget what was made since the mark: its rows were rolled back."""
        if len(self._made) > mark:
            self.shortcuts.clear()
        for numbers, key in self._made[mark:]:
            numbers.forget(key)
        del self._made[mark:]

    def settle(self) -> None:
        """What was made is committed."""
        self._made.clear()
        self.kinds.settle()
        self.params.settle()

    def drop(self) -> None:
        """Forget everything that is remembered: a commit failed, or rows were erased."""
        self.era += 1
        self._made.clear()
        self.shortcuts.clear()
        for numbers in (
            self.kinds,
            self.params,
            self.systems,
            self.values,
            self.phrases,
            self.mixes,
            self.resources,
        ):
            numbers.clear()

    # What follows is asked for every entry that is written, so the whole way to a number is kept
    # under one key, where who writes many entries looks first. Keys of different kinds differ in
    # length or in the types of their members.

    def make_kind(self, conn: apsw.Connection, type: str) -> int:
        return self.kinds.number(conn, (type,))

    def make_phrase(self, conn: apsw.Connection, p: int, text: str | None, code: str | None) -> int:
        return self.phrases.number(conn, (p, text, code))

    def make_param(self, conn: apsw.Connection, kind: int, param: str, shape: str) -> int:
        key = (kind, param, shape)
        return self._short(key, self.params.number(conn, key))

    def make_value(self, conn: apsw.Connection, system: str | None, code: str | None) -> int:
        s = self.systems.number(conn, (system,))
        return self._short((system, code), self.values.number(conn, (s, code)))

    def make_resource(self, conn: apsw.Connection, type: str, id: str) -> int:
        """The pk of a resource; its row is reserved when it is not there."""
        key = (type, id, None)
        known: int | None = self.shortcuts.get(key)
        if known is None:
            kind, packed = self.kinds.number(conn, (type,)), pack_id(id)
            if self.secret is not None:
                self.unveil(conn, type, id)
            known = self._short(key, self.resources.number(conn, (kind, packed)))
        return known

    def mention(self, conn: apsw.Connection, type: str, id: str) -> int:
        """The same for an event, whose mention leaves a veiled name as it is."""
        if self.secret is not None and (type, id, None) not in self.shortcuts:
            known = self.veiled(conn, type, id)
            if known is not None:
                return known
        return self.make_resource(conn, type, id)

    def veiled(self, conn: apsw.Connection, type: str, id: str) -> int | None:
        """The pk of a name that is veiled."""
        if self.secret is None:
            return None
        kind = self.kinds.find(conn, (type,), remember=False)
        sql = "SELECT pk FROM resource WHERE type = ? AND id = ?"
        found: int | None = conn.execute(sql, (kind, self.pseudonym(self.secret, type, id))).get
        return found

    def unveil(self, conn: apsw.Connection, type: str, id: str) -> int | None:
        """The pk of a name that was veiled and stands in the clear again: a resource has it now."""
        pk = self.veiled(conn, type, id)
        if pk is not None:
            conn.execute("UPDATE resource SET id = ? WHERE pk = ?", (pack_id(id), pk))
        return pk

    @staticmethod
    def pseudonym(secret: bytes, type: str, id: str) -> bytes:
        """What stands in a row in place of an id that nobody is to learn."""
        return hmac.digest(secret, f"{type}/{id}".encode(), "sha256")

    def new_resource(self, type: str, id: str, kind: int, packed: str | bytes) -> int:
        """The pk of a resource that is not there; the caller makes its row."""
        return self._short((type, id, None), self.resources.given((kind, packed)))

    def make_mix(self, conn: apsw.Connection, params: Iterable[int]) -> int:
        """The number of a set of params."""
        key = frozenset(params)
        known: int | None = self.shortcuts.get(key)
        if known is None:
            ordered, last = sorted(key), self.mixes.last
            known = self.mixes.number(conn, (pack_numbers(ordered),))
            if known > last:
                rows = [(p, known) for p in ordered]
                conn.executemany("INSERT INTO mixed (p, h) VALUES (?, ?)", rows)
            self._short(key, known)
        return known

    def _short(self, key: object, number: int) -> int:
        if len(self.shortcuts) >= 2 * _BOUND:
            self.shortcuts.clear()
        self.shortcuts[key] = number
        return number


class Known:
    """The numbers that are there, for whom makes none: LookupError where one is missing."""

    def __init__(self, names: Names, remember: bool) -> None:
        self._names = names
        self._remember = remember
        self.units: set[int] | None = None
        self.shortcuts: dict[Any, Any] = {}

    def make_kind(self, conn: apsw.Connection, type: str) -> int:
        return self._found(self._names.kinds, conn, (type,))

    def make_param(self, conn: apsw.Connection, kind: int, param: str, shape: str) -> int:
        return self._found(self._names.params, conn, (kind, param, shape))

    def make_value(self, conn: apsw.Connection, system: str | None, code: str | None) -> int:
        number = self._found(self._names.systems, conn, (system,))
        return self._found(self._names.values, conn, (number, code))

    def make_phrase(self, conn: apsw.Connection, p: int, text: str | None, code: str | None) -> int:
        return self._found(self._names.phrases, conn, (p, text, code))

    def make_resource(self, conn: apsw.Connection, type: str, id: str) -> int:
        kind = self.make_kind(conn, type)
        return self._found(self._names.resources, conn, (kind, pack_id(id)))

    def make_mix(self, conn: apsw.Connection, params: Iterable[int]) -> int:
        return self._found(self._names.mixes, conn, (pack_numbers(sorted(params)),))

    def _found(self, numbers: Numbers, conn: apsw.Connection, key: Key) -> int:
        number = numbers.find(conn, key, self._remember)
        if number is None:
            raise LookupError(key)
        return number
