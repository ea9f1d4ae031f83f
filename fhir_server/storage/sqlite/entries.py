"""Entries as rows: which rows a version needs, and how an update writes only the difference.

The rows are what searches run on: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import apsw

from fhir_server.storage.sqlite.codec import pack_keys, unpack_keys
from fhir_server.storage.sqlite.names import Names, Naming
from fhir_server.storage.store import EVENTS, Entry

Pair: TypeAlias = tuple[int, int]
Number: TypeAlias = int | float

# A link that carries no sort key has this one, so that it comes last.
UNDATED = 9_223_372_036_854_775_807

# Ranges stand under one of four params by the type of their numbers and by their length: the short
# ones of a param can be sought by `low` alone, since `high` is at most this much above it.
SPANS: dict[str, Number] = {"range": 86_400_000_000, "number": 1.0}
LONG = {"range": "range+", "number": "number+"}


@dataclass(slots=True)
class Rows:
    """The rows of one version, without its pk."""

    tokens: set[Pair] = field(default_factory=set)  # p, v
    texts: set[int] = field(default_factory=set)  # w
    ranges: set[tuple[int, Number, Number, int]] = field(default_factory=set)  # p, low, high, unit
    links: set[tuple[int, int, Number]] = field(default_factory=set)  # dst, p, at
    mix: int | None = None


NONE = Rows()

# What comes to a resource, by its pk, and is written together with what comes to others: at the
# latest when the batch is committed, and before anybody looks at the tables.
Waiting: TypeAlias = dict[int, Rows]


def class_of(low: Number, high: Number) -> str:
    """The shape under which the param of a range is numbered."""
    shape = "number" if isinstance(low, float) or isinstance(high, float) else "range"
    return shape if high - low <= SPANS[shape] else LONG[shape]


def rows_of(conn: apsw.Connection, names: Naming, type: str, entries: Iterable[Entry]) -> Rows:
    """The rows for the entries of a version of `type`; what they name gets its number."""
    rows = Rows()
    tokens, texts, ranges, links = rows.tokens, rows.texts, rows.ranges, rows.links
    params: set[int] = set()
    kind = names.make_kind(conn, type)
    known, make_param, make_value = names.shortcuts.get, names.make_param, names.make_value
    for shape, param, system, code, text, low, high in entries:
        if shape == "range":
            if low is None or high is None:
                raise ValueError(f"the range entry of {param} has no ends")
            under = class_of(low, high)
            p = known((kind, param, under)) or make_param(conn, kind, param, under)
            unit = known((system, code)) or make_value(conn, system, code)
            ranges.add((p, low, high, unit))
            params.add(p)
            continue
        p = known((kind, param, shape)) or make_param(conn, kind, param, shape)
        params.add(p)
        if shape == "token":
            tokens.add((p, known((system, code)) or make_value(conn, system, code)))
        elif shape == "link":
            dst = known((system, code, None)) or destination(conn, names, system or "", code or "")
            links.add((dst, p, UNDATED if low is None else low))
        else:
            texts.add(names.make_phrase(conn, p, text, code))
    if ranges and names.units is not None:
        names.units.update([unit for _, _, _, unit in ranges])
    rows.mix = names.make_mix(conn, params)
    return rows


def destination(conn: apsw.Connection, names: Naming, type: str, id: str) -> int:
    """The pk that a link points at: an event's is its number below zero."""
    number = event_number(id) if type == EVENTS else 0
    return -number if number else names.make_resource(conn, type, id)


def mentioned(conn: apsw.Connection, names: Names, type: str, id: str) -> int:
    """The same of an event's link."""
    number = event_number(id) if type == EVENTS else 0
    return -number if number else names.mention(conn, type, id)


def event_number(id: str) -> int:
    """The number of an event by its id; 0 when no event can have that id."""
    plain = id.isascii() and id.isdecimal() and id[0] != "0" and len(id) < 19
    return int(id) if plain else 0


def read_rows(conn: apsw.Connection, pk: int, keys: bytes | None, mix: int | None) -> Rows:
    """The rows that a resource has now."""
    if mix is None:
        return NONE
    return Rows(
        unpack_keys(keys),
        {w for (w,) in conn.execute("SELECT w FROM text WHERE pk = ?", (pk,))},
        set(conn.execute("SELECT p, low, high, unit FROM range WHERE pk = ?", (pk,))),
        set(conn.execute("SELECT dst, p, at FROM link WHERE src = ? AND src > 0", (pk,))),
        mix,
    )


_TOKEN = "SELECT 1 FROM token WHERE p = ? AND v = ? AND pk = ?"


def lost_tokens(conn: apsw.Connection, pk: int, tokens: Iterable[Pair]) -> bool:
    """Whether a resource says that it has a token that no search finds."""
    return any(conn.execute(_TOKEN, (*pair, pk)).get is None for pair in tokens)


class _Table(NamedTuple):
    """One of the tables of rows: how a row is inserted and deleted, its pk last."""

    insert: str
    delete: str


_TOKENS = _Table(
    "INSERT INTO token (p, v, pk) VALUES (?, ?, ?)",
    "DELETE FROM token WHERE p = ? AND v = ? AND pk = ?",
)
_TEXTS = _Table(
    "INSERT INTO text (w, pk) VALUES (?, ?)",
    "DELETE FROM text WHERE w = ? AND pk = ?",
)
_RANGES = _Table(
    "INSERT INTO range (p, low, high, unit, pk) VALUES (?, ?, ?, ?, ?)",
    "DELETE FROM range WHERE p = ? AND low = ? AND high = ? AND unit = ? AND pk = ?",
)
_LINKS = _Table(
    "INSERT INTO link (dst, p, at, src) VALUES (?, ?, ?, ?)",
    "DELETE FROM link WHERE dst = ? AND p = ? AND at = ? AND src = ?",
)


def change_rows(
    conn: apsw.Connection, waiting: Waiting, pk: int, before: Rows, after: Rows
) -> None:
    """Let the rows that come be written with those of others; delete what goes."""
    if before is NONE:
        waiting[pk] = after
    elif before != after:
        delete_rows(conn, pk, _less(before, after))
        waiting[pk] = _less(after, before)


def delete_rows(conn: apsw.Connection, pk: int, rows: Rows) -> None:
    """Delete rows of a resource, none of which wait."""
    for table, gone in _by_table([(pk, rows)]):
        conn.executemany(table.delete, gone)


def settle(conn: apsw.Connection, waiting: Waiting) -> None:
    """Write the rows that wait. In the order of their tables, for rows side by side cost less."""
    for table, rows in _by_table(waiting.items()):
        conn.executemany(table.insert, sorted(rows))
    waiting.clear()


def _less(rows: Rows, others: Rows) -> Rows:
    return Rows(
        rows.tokens - others.tokens,
        rows.texts - others.texts,
        rows.ranges - others.ranges,
        rows.links - others.links,
    )


def _by_table(
    of: Collection[tuple[int, Rows]],
) -> Iterator[tuple[_Table, list[tuple[Number, ...]]]]:
    """The rows of each table that has any, with their pks."""
    tables: tuple[tuple[_Table, list[tuple[Number, ...]]], ...] = (
        (_TOKENS, [(p, v, pk) for pk, rows in of for p, v in rows.tokens]),
        (_RANGES, [(*row, pk) for pk, rows in of for row in rows.ranges]),
        (_LINKS, [(*row, pk) for pk, rows in of for row in rows.links]),
        (_TEXTS, [(w, pk) for pk, rows in of for w in rows.texts]),
    )
    return ((table, rows) for table, rows in tables if rows)


def packed(rows: Rows) -> bytes | None:
    """The tokens as the bytes that stand in the row of the resource."""
    return pack_keys(rows.tokens) if rows.tokens else None
