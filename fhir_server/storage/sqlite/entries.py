"""Entries as rows: which rows a version needs, and how an update writes only the difference.

The rows are what searches run on: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import TypeAlias

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


def class_of(low: Number, high: Number) -> str:
    """The shape under which the param of a range is numbered."""
    shape = "number" if isinstance(low, float) or isinstance(high, float) else "range"
    return shape if high - low <= SPANS[shape] else LONG[shape]


def rows_of(conn: apsw.Connection, names: Naming, type: str, entries: Iterable[Entry]) -> Rows:
    """The rows for the entries of a version of `type`; what they name gets its number."""
    tokens: set[Pair] = set()
    texts: set[int] = set()
    ranges: set[tuple[int, Number, Number, int]] = set()
    links: set[tuple[int, int, Number]] = set()
    params: set[int] = set()
    kind = names.make_kind(conn, type)
    make_param, make_value = names.make_param, names.make_value
    for shape, param, system, code, text, low, high in entries:
        if shape == "token":
            p = make_param(conn, kind, param, shape)
            tokens.add((p, make_value(conn, system, code)))
        elif shape == "range":
            if low is None or high is None:
                raise ValueError(f"the range entry of {param} has no ends")
            p = make_param(conn, kind, param, class_of(low, high))
            ranges.add((p, low, high, make_value(conn, system, code)))
        elif shape == "link":
            p = make_param(conn, kind, param, shape)
            dst = destination(conn, names, system or "", code or "")
            links.add((dst, p, UNDATED if low is None else low))
        else:
            p = make_param(conn, kind, param, shape)
            texts.add(names.make_phrase(conn, p, text, code))
        params.add(p)
    if ranges and names.units is not None:
        names.units.update([unit for _, _, _, unit in ranges])
    return Rows(tokens, texts, ranges, links, names.make_mix(conn, params))


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


# The tables of rows: how a row is inserted and deleted; its pk comes last.
_TOKENS = (
    "INSERT INTO token (p, v, pk) VALUES (?, ?, ?)",
    "DELETE FROM token WHERE p = ? AND v = ? AND pk = ?",
)
_TEXTS = (
    "INSERT INTO text (w, pk) VALUES (?, ?)",
    "DELETE FROM text WHERE w = ? AND pk = ?",
)
_RANGES = (
    "INSERT INTO range (p, low, high, unit, pk) VALUES (?, ?, ?, ?, ?)",
    "DELETE FROM range WHERE p = ? AND low = ? AND high = ? AND unit = ? AND pk = ?",
)
_LINKS = (
    "INSERT INTO link (dst, p, at, src) VALUES (?, ?, ?, ?)",
    "DELETE FROM link WHERE dst = ? AND p = ? AND at = ? AND src = ?",
)


def write_rows(conn: apsw.Connection, pk: int, before: Rows, after: Rows) -> None:
    """Write the difference."""
    _write(conn, _TOKENS, before.tokens, after.tokens, pk)
    _write(conn, _RANGES, before.ranges, after.ranges, pk)
    _write(conn, _LINKS, before.links, after.links, pk)
    if before.texts != after.texts:
        had, has = ({(w,) for w in rows.texts} for rows in (before, after))
        _write(conn, _TEXTS, had, has, pk)


def _write(
    conn: apsw.Connection,
    table: tuple[str, str],
    had: Set[tuple[Number, ...]],
    has: Set[tuple[Number, ...]],
    pk: int,
) -> None:
    if had == has:
        return
    insert, delete = table
    if had and (gone := had - has):
        conn.executemany(delete, [(*row, pk) for row in gone])
    if come := has - had if had else has:
        conn.executemany(insert, [(*row, pk) for row in come])


def packed(rows: Rows) -> bytes | None:
    """The tokens as the bytes that stand in the row of the resource."""
    return pack_keys(rows.tokens) if rows.tokens else None
