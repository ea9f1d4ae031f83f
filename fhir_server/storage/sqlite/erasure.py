"""Erasure: every version of every resource of an owner, or of one resource, with its entries and
the values that nobody else has; and what stands in the rows of others.

Events go on naming what is no more: by a keyed digest of type and id, so that who asks by the name
still finds them, and nobody learns the name. https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhir_server.log.merkle import salted_leaf
from fhir_server.storage.sealed import KEY_ID, version_place
from fhir_server.storage.sqlite import pages, records
from fhir_server.storage.sqlite.codec import pack_id, unpack_id
from fhir_server.storage.sqlite.doctor import write_meta
from fhir_server.storage.sqlite.entries import Rows, delete_rows, event_number, read_rows
from fhir_server.storage.sqlite.names import veiled_id
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.sqlite.veil import require_veil
from fhir_server.storage.store import ANY, Aged, Gone

ERASED = "erased"  # kept of every owner who was erased, under a keyed digest of the name
_NAMED = "SELECT k.name, r.id, r.pk FROM resource r JOIN kind k ON k.k = r.type WHERE "


@dataclass(slots=True)
class _Going:
    """What one erasure has removed so far. `touched`: rows that links of it led to."""

    names: list[tuple[str, str]] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)
    tokens: set[tuple[int, int]] = field(default_factory=set)


# The keys of an owner: those that are noted, and those that the blobs themselves name, should a
# note be lost; never one that is noted as another's.
_SEALED_UNDER = (
    "SELECT id FROM sealing WHERE owner = ?1 UNION"
    f" SELECT id FROM (SELECT substr(body, 1, {KEY_ID}) AS id FROM resource WHERE owner = ?2"
    f" UNION SELECT substr(body, 1, {KEY_ID}) FROM old WHERE owner = ?2"
    f" UNION SELECT substr(value, 1, {KEY_ID}) FROM kept WHERE owner = ?2)"
    f" WHERE length(id) = {KEY_ID} AND id NOT IN (SELECT id FROM sealing WHERE owner <> ?1)"
)


def erase(reach: Reach, owner: str) -> Gone:
    """Remove the resources whose current version is the owner's, with all their versions, the older
    versions that were the owner's of other resources, and what is kept of the owner."""
    conn, going = reach.conn, _Going()
    pk = _find(reach, *owner.split("/", 1))
    keys = [id for (id,) in conn.execute(_SEALED_UNDER, (owner, pk))]
    conn.execute("DELETE FROM sealing WHERE owner = ?", (owner,))
    reach.shared.sealing.forget()
    if pk is not None:
        _remember_time(reach)
        rows: list[Any] = conn.execute(
            _NAMED + "r.owner = ? AND r.ver > 0 ORDER BY r.pk", (pk,)
        ).fetchall()
        for type, id, each in rows:
            _remove(reach, each, (type, unpack_id(id)), going)
        found = conn.execute("SELECT leaf FROM old WHERE owner = ?", (pk,))
        going.leaves += [leaf for (leaf,) in found]
        conn.execute("DELETE FROM old WHERE owner = ?", (pk,))
        conn.execute("DELETE FROM kept WHERE owner = ?", (pk,))
        _settle(reach, {pk, *(each for _, _, each in rows)}, going)
    secret, now = require_veil(reach), reach.shared.updated
    key = _pseudonym(reach, secret, owner)
    records.keep(reach, now, ERASED, key, b"", ANY, None, None)
    return _gone(going, keys)


def erased(reach: Reach, owners: Iterable[str]) -> bool:
    """Whether one of these owners was erased."""
    secret = reach.shared.names.secret
    if secret is None:
        return False
    sql = "SELECT EXISTS (SELECT 1 FROM kept WHERE space = ? AND key = ?)"
    return any(
        reach.conn.execute(sql, (ERASED, _pseudonym(reach, secret, owner))).get for owner in owners
    )


def _pseudonym(reach: Reach, secret: bytes, owner: str) -> str:
    return reach.shared.names.pseudonym(secret, *owner.split("/", 1)).hex()


def purge(reach: Reach, type: str, id: str) -> Gone:
    """Remove every version of one resource."""
    going = _Going()
    pk = _find(reach, type, id)
    if pk is not None and reach.conn.execute("SELECT ver FROM resource WHERE pk = ?", (pk,)).get:
        _remember_time(reach)
        _remove(reach, pk, (type, id), going)
        _settle(reach, {pk}, going)
    return _gone(going, ())


def _gone(going: _Going, keys: Sequence[bytes]) -> Gone:
    return Gone(tuple(sorted(going.names)), tuple(sorted(going.leaves)), tuple(keys))


def _find(reach: Reach, type: str, id: str) -> int | None:
    """The pk of a name, be it veiled."""
    kind = reach.kind(type)
    sql = "SELECT pk FROM resource WHERE type = ? AND id = ?"
    found: int | None = reach.conn.execute(sql, (kind, pack_id(id))).get
    return found or reach.shared.names.veiled(reach.conn, type, id)


def _remember_time(reach: Reach) -> None:
    """The newest versions may be among those that go: time and sequence still never return."""
    write_meta(reach.conn, "sequence", reach.shared.sequence)
    write_meta(reach.conn, "updated", reach.shared.updated)


def _remove(reach: Reach, pk: int, name: tuple[str, str], going: _Going) -> None:
    conn = reach.conn
    keys, mix, leaf = conn.execute("SELECT keys, mix, leaf FROM resource WHERE pk = ?", (pk,)).get
    rows = read_rows(conn, pk, keys, mix)
    delete_rows(conn, pk, rows)
    old = conn.execute("SELECT leaf FROM old WHERE pk = ?", (pk,))
    going.leaves += [leaf, *(each for (each,) in old)]
    conn.execute("DELETE FROM old WHERE pk = ?", (pk,))
    conn.execute(
        "UPDATE resource SET ver = 0, t = 0, updated = 0, deleted = 1, owner = NULL, mix = NULL,"
        " keys = NULL, body = NULL, leaf = NULL WHERE pk = ?",
        (pk,),
    )
    going.names.append(name)
    _note(going, rows)


def _note(going: _Going, rows: Rows) -> None:
    going.texts |= rows.texts
    going.tokens |= rows.tokens
    going.touched |= {dst for dst, _, _ in rows.links if dst > 0}


def _settle(reach: Reach, pks: set[int], going: _Going) -> None:
    """Remove what only those rows had, and from events what they have apart."""
    pages.mark(reach.conn)
    for pk in sorted(pks):
        reach.conn.execute(_STRIP, (pk,))
    for pk in sorted(pks | going.touched):
        release(reach, pk)
    _free_texts(reach, going.texts)
    _free_values(reach, going.tokens)


_STRIP = (
    "UPDATE event SET apart = NULL WHERE apart IS NOT NULL"
    " AND n IN (SELECT -src FROM link WHERE dst = ? AND src < 0)"
)


# --- rows that are only reserved -----------------------------------------------------------------

_UNUSED = (
    " pk = ?1 AND ver = 0"
    " AND NOT EXISTS (SELECT 1 FROM resource WHERE owner = ?1)"
    " AND NOT EXISTS (SELECT 1 FROM old WHERE owner = ?1)"
    " AND NOT EXISTS (SELECT 1 FROM kept WHERE owner = ?1)"
)
_RELEASE = (
    f"DELETE FROM resource WHERE {_UNUSED} AND NOT EXISTS (SELECT 1 FROM link WHERE dst = ?1)"
)
_ONLY_EVENTS = (
    "SELECT k.name, r.id FROM resource r JOIN kind k ON k.k = r.type"
    f" WHERE {_UNUSED} AND NOT EXISTS (SELECT 1 FROM link WHERE dst = ?1 AND src > 0)"
)


def release(reach: Reach, pk: int) -> None:
    """Remove a row that is only reserved and that nothing names; veil it when only events do."""
    conn = reach.conn
    conn.execute(_RELEASE, (pk,))
    row = conn.execute(_ONLY_EVENTS, (pk,)).fetchone()
    if row is None:
        return
    type, id = row
    if veiled_id(id):
        return
    secret = require_veil(reach)
    sql = "UPDATE resource SET id = ? WHERE pk = ?"
    conn.execute(sql, (reach.shared.names.pseudonym(secret, type, unpack_id(id)), pk))


def veil(reach: Reach, names: Iterable[tuple[str, str]]) -> int:
    """Veil or remove the rows of names that are no more; how many are still referred to."""
    left = 0
    for type, id in names:
        pk = _find(reach, type, id)
        if pk is None:
            continue
        release(reach, pk)
        found = reach.conn.execute("SELECT id FROM resource WHERE pk = ? AND ver = 0", (pk,)).get
        left += found is not None and not veiled_id(found)
    return left


# --- numbers that nobody has any more ------------------------------------------------------------

_USED_AS_TOKEN = (
    "SELECT EXISTS (SELECT 1 FROM param x CROSS JOIN token t ON t.p = x.p AND t.v = ?1"
    " WHERE x.shape = 'token')"
)


_AT_ONCE = 100  # values that are asked after while writers wait; of more, strays.py finds them all


def _free_texts(reach: Reach, texts: Iterable[int]) -> None:
    """They may be names."""
    conn = reach.conn
    for w in texts:
        if conn.execute("SELECT 1 FROM text WHERE w = ? LIMIT 1", (w,)).get is None:
            conn.execute("DELETE FROM phrase WHERE w = ?", (w,))


def _free_values(reach: Reach, tokens: Iterable[tuple[int, int]]) -> None:
    """They may be identifiers. What is shared stands under the same param, as a rule."""
    conn, units = reach.conn, _units(reach)
    same = "SELECT 1 FROM token WHERE p = ? AND v = ? LIMIT 1"
    last = {v for p, v in tokens if conn.execute(same, (p, v)).get is None} - units
    if len(last) > _AT_ONCE:
        return
    systems = set()
    for v in last:
        if not conn.execute(_USED_AS_TOKEN, (v,)).get:
            systems.add(conn.execute("SELECT s FROM value WHERE v = ?", (v,)).get)
            conn.execute("DELETE FROM value WHERE v = ?", (v,))
    for s in systems:
        if (
            s is not None
            and conn.execute("SELECT 1 FROM value WHERE s = ? LIMIT 1", (s,)).get is None
        ):
            conn.execute("DELETE FROM system WHERE s = ?", (s,))


def _units(reach: Reach) -> set[int]:
    """The values that are units of ranges: found once, then every new one is added."""
    names = reach.shared.names
    if names.units is None:
        names.units = {unit for (unit,) in reach.conn.execute("SELECT DISTINCT unit FROM range")}
    return names.units


# --- redaction, and who is there -----------------------------------------------------------------

_AT = (
    "SELECT r.pk, r.ver, 0, r.leaf, r.owner FROM resource r WHERE r.type = ?1 AND r.id = ?2"
    " AND r.ver = ?3 UNION ALL SELECT o.pk, o.ver, o.t, o.leaf, o.owner FROM resource r"
    " CROSS JOIN old o ON o.pk = r.pk WHERE r.type = ?1 AND r.id = ?2 AND o.ver = ?3"
)


def redact(reach: Reach, type: str, id: str, number: int, body: bytes) -> tuple[int, bytes]:
    """Seal another body in the place of a version's. LookupError."""
    conn = reach.conn
    row = conn.execute(_AT, (reach.kind(type), pack_id(id), number)).fetchone()
    if row is None:
        raise LookupError(f"{type}/{id}/_history/{number}")
    pk, _, t, leaf, owner_pk = row
    reach.shared.current.written((type, id))
    owner = None if owner_pk is None else reach.owner(owner_pk)
    place = version_place(owner, type, id, number)
    blob, salt = reach.seal(owner or "", place, reach.shared.bodies.pack(body))
    if t:
        conn.execute("UPDATE old SET body = ? WHERE t = ?", (blob, t))
    else:
        conn.execute("UPDATE resource SET body = ? WHERE pk = ?", (blob, pk))
    return leaf, salted_leaf(salt, body)


def strip(reach: Reach, ids: Iterable[str]) -> None:
    rows = [(event_number(id),) for id in ids]
    reach.conn.executemany("UPDATE event SET apart = NULL WHERE n = ?", rows)


def owned(reach: Reach, owner: str) -> list[tuple[str, str]]:
    pk = _find(reach, *owner.split("/", 1))
    found = reach.conn.execute(_NAMED + "r.owner = ? AND r.ver > 0", (pk,))
    return sorted((type, unpack_id(id)) for type, id, _ in found)


def aged(reach: Reach, type: str, before: int, limit: int, after: int) -> list[Aged]:
    found: list[Any] = reach.conn.execute(
        "SELECT id, owner, t FROM resource WHERE type = ? AND ver > 0 AND t > ? AND updated < ?"
        " ORDER BY t LIMIT ?",
        (reach.kind(type), after, before, limit),
    ).fetchall()
    return [
        Aged(type, unpack_id(id), None if owner is None else reach.owner(owner), t)
        for id, owner, t in found
    ]


def sealers(reach: Reach) -> list[tuple[str, bytes]]:
    return list(reach.conn.execute("SELECT owner, id FROM sealing"))
