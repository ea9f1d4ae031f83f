"""What of the schema of a database is not what this program makes: a trigger, a view, a table or an
index that is another.

https://www.sqlite.org/schematab.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import apsw

from fhir_server.storage.sqlite.schema import TABLES

_ALL = "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
_COLUMNS = 'SELECT name, upper(type), "notnull", pk, hidden FROM pragma_table_xinfo(?)'
_INDEX = "SELECT name, coll, key FROM pragma_index_xinfo(?)"
_PARTS = {"table": _COLUMNS, "index": _INDEX}
_PARTIAL = "SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?"


def found(conn: apsw.Connection) -> Iterator[str]:
    """A sentence for each thing that is there and should not be, is missing, or is another."""
    with closing(apsw.Connection(":memory:")) as made:
        made.execute(TABLES)
        due, have = _things(made), _things(conn)
    for kind, name in sorted(have.keys() | due.keys()):
        if (kind, name) not in due:
            yield f"The database has a {kind} {name}, which is none of this program's"
        elif (kind, name) not in have:
            yield f"The database lacks the {kind} {name}"
        elif have[kind, name] != due[kind, name]:
            yield f"The {kind} {name} of the database is not as this program makes it"


def _things(conn: apsw.Connection) -> dict[tuple[str, str], Any]:
    """What there is, and what it is made of. The columns of a table that was brought to this
    version stand in another order."""
    rows: list[Any] = conn.execute(_ALL).fetchall()
    return {(kind, name): _made_of(conn, kind, name) for kind, name in rows}


def _made_of(conn: apsw.Connection, kind: str, name: str) -> Any:
    parts = conn.execute(_PARTS[kind], (name,)).fetchall() if kind in _PARTS else []
    if kind == "index":
        words = " ".join(str(conn.execute(_PARTIAL, (name,)).get).split())
        return parts, words.partition(" WHERE ")[2], " UNIQUE " in words
    return sorted(parts, key=str)
