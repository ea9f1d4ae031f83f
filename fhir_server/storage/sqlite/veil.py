"""The secret by which names that are no more are veiled: made with the first erasure, sealed as
everything is that is nobody's.

https://www.rfc-editor.org/rfc/rfc2104
"""

from __future__ import annotations

from secrets import token_bytes

import apsw

from fhir_server.storage.leaves import SALT
from fhir_server.storage.sealed import Keys, unseal
from fhir_server.storage.sqlite.doctor import read_meta
from fhir_server.storage.sqlite.state import Reach

_NAME = "veil"
_PLACE = b"|meta/veil|"
_SIZE = 32  # bytes


def load_veil(conn: apsw.Connection, keys: Keys) -> bytes | None:
    """The secret of a store; None where nothing was erased yet. Damaged, Unavailable."""
    blob = read_meta(conn, _NAME)
    return None if blob is None else unseal(keys, blob, _PLACE)[SALT:]


def require_veil(reach: Reach) -> bytes:
    """The secret of the store, made when there is none."""
    secret = load_veil(reach.conn, reach.shared.sealing.keys)
    if secret is None:
        secret = token_bytes(_SIZE)
        blob, _ = reach.seal("", _PLACE, secret)
        sql = "INSERT INTO meta (name, value) VALUES (?, ?)"
        reach.conn.execute(sql, (_NAME, blob))
    reach.shared.names.secret = secret
    return secret
