"""The versions that a search has found: from memory, or opened all together.

https://www.sqlite.org/lang_select.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.storage.sealed import KEY_ID
from fhir_server.storage.sqlite.sql import among
from fhir_server.storage.sqlite.state import COLUMNS, Reach
from fhir_server.storage.store import Version

_AT_ONCE = 16
_ONE = f"SELECT {COLUMNS} FROM resource r WHERE r.pk = ?"
_SOME = f"SELECT {COLUMNS} FROM resource r WHERE " + among("r.pk", _AT_ONCE)


def versions(reach: Reach, type: str, found: Sequence[tuple[int, int]]) -> list[Version]:
    """The versions of resources of a type by their pks and sequences, as they are in this
    transaction's state. What a reader opens is left in `fresh`. Damaged, Erased, Unavailable."""
    sequences = [sequence for _, sequence in found]
    if reach.reads:
        known, missing = reach.shared.current.numbered(sequences, reach.fresh)
    else:
        known, missing = {}, list(range(len(found)))
    if missing:
        for row in _rows(reach, [found[place][0] for place in missing]):
            version = reach.version(type, row)
            known[version.sequence] = version
            if reach.reads:
                reach.fresh.append((version, row[3][:KEY_ID]))
    return [known[sequence] for sequence in sequences]


def _rows(reach: Reach, pks: list[int]) -> list[Any]:
    """All at once: a row that cannot be opened must leave no statement in progress."""
    rows: list[Any] = []
    for start in range(0, len(pks), _AT_ONCE):
        some = pks[start : start + _AT_ONCE]
        if len(some) == 1:
            rows += reach.conn.execute(_ONE, some).fetchall()
        else:
            some += [some[-1]] * (_AT_ONCE - len(some))
            rows += reach.conn.execute(_SOME, some).fetchall()
    return rows
