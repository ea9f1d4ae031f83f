"""Lazy rotation of data keys: what is written from now on is sealed under new ones, and what is
there stays as it is, under the keys that it names.

https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final (5.3.6, cryptoperiods)
"""

from __future__ import annotations

from fhir_server.storage.sqlite.engine import SqliteStore
from fhir_server.storage.sqlite.transaction import SqliteTransaction
from fhir_server.storage.store import Transaction


async def renew_data_keys(store: SqliteStore) -> int:
    """Let every owner have a new data key at the next write; how many had one. Unavailable."""

    async def work(tx: Transaction) -> int:
        assert isinstance(tx, SqliteTransaction)
        reach = tx._reach
        reach.conn.execute("UPDATE sealing SET current = 0 WHERE current = 1")
        reach.shared.sealing.forget()
        return reach.conn.changes()

    return await store.transaction(work, write=True)
