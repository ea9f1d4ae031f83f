"""SQL text with its values, put together from left to right.

https://www.sqlite.org/lang_expr.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from fhir_server.storage.store import Condition

Value: TypeAlias = str | bytes | int | float | None

EXACT = 8  # lists up to this have a text of their own for each length
IN_LIST = 16  # longer lists are one JSON value, so that the text of the statement stays the same


class Sql(Struct, frozen=True):
    """A piece of SQL; a string that is added holds no values."""

    text: str
    values: tuple[Value, ...] = ()

    def __add__(self, other: Sql | str) -> Sql:
        if isinstance(other, str):
            return Sql(self.text + other, self.values)
        return Sql(self.text + other.text, self.values + other.values)

    def __radd__(self, before: str) -> Sql:
        return Sql(before + self.text, self.values)


TRUE = Sql("1")
FALSE = Sql("0")


def joined(parts: Sequence[Sql], between: str) -> Sql:
    return Sql(
        between.join(part.text for part in parts),
        tuple(value for part in parts for value in part.values),
    )


def all_of(parts: Sequence[Sql]) -> Sql:
    return _chain(parts, " AND ") if parts else TRUE


def any_of(parts: Sequence[Sql]) -> Sql:
    return _chain(parts, " OR ") if parts else FALSE


def _chain(parts: Sequence[Sql], word: str) -> Sql:
    """Nested by the hundred: SQLite bounds how deep an expression is."""
    while len(parts) > 100:
        parts = [_chain(parts[n : n + 100], word) for n in range(0, len(parts), 100)]
    return "(" + joined(parts, word) + ")" if len(parts) > 1 else parts[0]


def member(column: str, values: Sequence[Value]) -> Sql:
    """The column is one of the values; at least one."""
    return Sql(among(column, len(values)), spread(values))


def among(column: str, size: int) -> str:
    """The text of `member` for so many values; its values are `spread`."""
    if size == 1:
        return f"{column} = ?"
    if size <= IN_LIST:
        return f"{column} IN ({', '.join('?' * _places(size))})"
    return f"{column} IN (SELECT value FROM json_each(?))"


def spread(values: Sequence[Value]) -> tuple[Value, ...]:
    size = len(values)
    if size == 1:
        return (values[0],)
    if size <= IN_LIST:
        return (*values, *[values[-1]] * (_places(size) - size))
    return (json.dumps(list(values)),)


def _places(size: int) -> int:
    """Few lengths, so few statements."""
    return size if size <= EXACT else IN_LIST


COMPARED = {"eq": "=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def holds(column: str, condition: Condition) -> Sql:
    """One condition on one column; NULL or 0 when it does not hold."""
    operator, value = condition.operator, condition.value
    if value is None:
        return Sql(f"{column} IS NULL") if operator == "eq" else FALSE
    if isinstance(value, frozenset):
        return member(column, sorted(value)) if value else FALSE
    if operator == "contains":
        return Sql(f"instr({column}, ?) > 0", (value,))
    if operator == "prefix":
        above = _beyond(str(value))
        if above is None:
            return Sql(f"{column} >= ?", (value,))
        return Sql(f"({column} >= ? AND {column} < ?)", (value, above))
    return Sql(f"{column} {COMPARED[operator]} ?", (value,))


def _beyond(prefix: str) -> str | None:
    """The least text above all that begin with the prefix; None when there is none."""
    last = prefix.rstrip("\U0010ffff")
    if not last:
        return None
    following = ord(last[-1]) + 1
    return last[:-1] + chr(0xE000 if following == 0xD800 else following)
