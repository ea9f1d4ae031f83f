"""Entries as rows: which rows a version needs, and how an update writes only the difference.

The rows are what searches run on: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import apsw

from fhir_server.storage.sqlite.codec import pack_keys, unpack_keys
from fhir_server.storage.sqlite.names import Naming
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


def class_of(low: Number, high: Number) -> str:
    """The shape under which the param of a range is numbered."""
    shape = "number" if isinstance(low, float) or isinstance(high, float) else "range"
    return shape if high - low <= SPANS[shape] else LONG[shape]


def rows_of(conn: apsw.Connection, names: Naming, type: str, entries: Iterable[Entry]) -> Rows:
    """The rows for the entries of a version of `type`; what they name gets its number."""
    rows = Rows()
    kind = names.make_kind(conn, type)
    params: set[int] = set()
    for shape, param, system, code, text, low, high in entries:
        if shape == "range":
            if low is None or high is None:
                raise ValueError(f"the range entry of {param} has no ends")
            p = names.make_param(conn, kind, param, class_of(low, high))
            rows.ranges.add((p, low, high, names.make_value(conn, system, code)))
        else:
            p = names.make_param(conn, kind, param, shape)
            if shape == "token":
                rows.tokens.add((p, names.make_value(conn, system, code)))
            elif shape == "link":
                dst = destination(conn, names, system or "", code or "")
                rows.links.add((dst, p, UNDATED if low is None else low))
            else:
                rows.texts.add(names.make_phrase(conn, p, text, code))
        params.add(p)
    rows.mix = names.make_mix(conn, params)
    return rows


def destination(conn: apsw.Connection, names: Naming, type: str, id: str) -> int:
    """The pk that a link points at: an event's is its number below zero."""
    number = event_number(id) if type == EVENTS else 0
    return -number if number else names.make_resource(conn, type, id)


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


# What writes and removes the rows of a resource: (which rows, insert, delete).
_WRITES = (
    (
        "tokens",
        "INSERT INTO token (p, v, pk) VALUES (?, ?, ?)",
        "DELETE FROM token WHERE p = ? AND v = ? AND pk = ?",
    ),
    (
        "ranges",
        "INSERT INTO range (p, low, high, unit, pk) VALUES (?, ?, ?, ?, ?)",
        "DELETE FROM range WHERE p = ? AND low = ? AND high = ? AND unit = ? AND pk = ?",
    ),
    (
        "links",
        "INSERT INTO link (dst, p, at, src) VALUES (?, ?, ?, ?)",
        "DELETE FROM link WHERE dst = ? AND p = ? AND at = ? AND src = ?",
    ),
)


def write_rows(conn: apsw.Connection, pk: int, before: Rows, after: Rows) -> None:
    """Write the difference."""
    for name, insert, delete in _WRITES:
        had, has = getattr(before, name), getattr(after, name)
        _write(conn, delete, had - has, pk)
        _write(conn, insert, has - had, pk)
    gone = [(w,) for w in before.texts - after.texts]
    _write(conn, "DELETE FROM text WHERE w = ? AND pk = ?", gone, pk)
    come = [(w,) for w in after.texts - before.texts]
    _write(conn, "INSERT INTO text (w, pk) VALUES (?, ?)", come, pk)


def _write(conn: apsw.Connection, sql: str, rows: Collection[tuple[Number, ...]], pk: int) -> None:
    if rows:
        conn.executemany(sql, [(*row, pk) for row in rows])


def packed(rows: Rows) -> bytes | None:
    """The tokens as the bytes that stand in the row of the resource."""
    return pack_keys(rows.tokens) if rows.tokens else None
