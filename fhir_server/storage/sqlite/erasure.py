"""Erasure: every version of every resource of an owner, with its entries and the values that
nobody else has.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from fhir_server.storage.sqlite.codec import pack_id
from fhir_server.storage.sqlite.doctor import write_meta
from fhir_server.storage.sqlite.entries import NONE, Rows, read_rows, write_rows
from fhir_server.storage.sqlite.state import Reach


def erase(reach: Reach, owner: str) -> int:
    """Remove the resources whose current version is the owner's, with all their versions, and the
    older versions that were the owner's of other resources; how many resources that touched."""
    conn = reach.conn
    type, _, id = owner.partition("/")
    kind = reach.kind(type)
    owner_pk = conn.execute(
        "SELECT pk FROM resource WHERE type = ? AND id = ?", (kind, pack_id(id))
    ).get
    if owner_pk is None:
        return 0
    _remember_time(reach)
    whole = {
        pk
        for (pk,) in conn.execute(
            "SELECT pk FROM resource WHERE owner = ? AND ver > 0", (owner_pk,)
        )
    }
    partly = {pk for (pk,) in conn.execute("SELECT pk FROM old WHERE owner = ?", (owner_pk,))}
    for pk in sorted(whole):
        _remove(reach, pk)
    conn.execute("DELETE FROM old WHERE owner = ?", (owner_pk,))
    conn.execute("DELETE FROM kept WHERE owner = ?", (owner_pk,))
    for pk in (*sorted(whole), owner_pk):
        _release(reach, pk)
    return len(whole | partly)


def _remember_time(reach: Reach) -> None:
    """The newest versions may be among those that go: time and sequence still never return."""
    write_meta(reach.conn, "sequence", reach.shared.sequence)
    write_meta(reach.conn, "updated", reach.shared.updated)


def _remove(reach: Reach, pk: int) -> None:
    conn = reach.conn
    keys, mix = conn.execute("SELECT keys, mix FROM resource WHERE pk = ?", (pk,)).get
    rows = read_rows(conn, pk, keys, mix)
    write_rows(conn, pk, rows, NONE)
    conn.execute("DELETE FROM old WHERE pk = ?", (pk,))
    conn.execute(
        "UPDATE resource SET ver = 0, t = 0, updated = 0, deleted = 1, owner = NULL, mix = NULL,"
        " keys = NULL, body = NULL, leaf = NULL WHERE pk = ?",
        (pk,),
    )
    _free(reach, rows)


def _release(reach: Reach, pk: int) -> None:
    """Remove a row that is only reserved, unless something still names it."""
    reach.conn.execute(
        "DELETE FROM resource WHERE pk = ?1 AND ver = 0"
        " AND NOT EXISTS (SELECT 1 FROM link WHERE dst = ?1)"
        " AND NOT EXISTS (SELECT 1 FROM resource WHERE owner = ?1)"
        " AND NOT EXISTS (SELECT 1 FROM old WHERE owner = ?1)"
        " AND NOT EXISTS (SELECT 1 FROM kept WHERE owner = ?1)",
        (pk,),
    )


_VALUE_USED = (
    "SELECT EXISTS (SELECT 1 FROM param x CROSS JOIN token t ON t.p = x.p AND t.v = ?1"
    " WHERE x.shape = 'token') OR EXISTS (SELECT 1 FROM range WHERE unit = ?1)"
)


def _free(reach: Reach, rows: Rows) -> None:
    """Remove phrases and values that nobody has any more: they may be names and identifiers."""
    conn = reach.conn
    for w in rows.texts:
        if conn.execute("SELECT 1 FROM text WHERE w = ? LIMIT 1", (w,)).get is None:
            conn.execute("DELETE FROM phrase WHERE w = ?", (w,))
    for v in {v for _, v in rows.tokens}:
        if not conn.execute(_VALUE_USED, (v,)).get:
            conn.execute("DELETE FROM value WHERE v = ?", (v,))
