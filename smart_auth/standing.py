"""Whether a grant still counts for something: its client, its user and its session, asked anew
whenever a token of it is.

https://www.rfc-editor.org/rfc/rfc9700#section-4.14
"""

from __future__ import annotations

from typing import NamedTuple

from smart_auth.model import (
    ACCOUNTS,
    CLIENTS,
    GRANTS,
    SESSIONS,
    SESSIONS_OF_ACCOUNT,
    Account,
    Client,
    GrantRecord,
)
from smart_auth.records import Transaction


class Standing(NamedTuple):
    """A grant with whom it ties together; `account` None: a backend client's own."""

    record: GrantRecord
    client: Client
    account: Account | None


async def standing(tx: Transaction, grant: str) -> Standing | None:
    """A grant that counts; None when it ended, its client or account is disabled or gone, the
    account's earlier grants were ended, or the session that it goes with is over."""
    record = await GRANTS.read(tx, grant)
    if record is None:
        return None
    client = await CLIENTS.read(tx, record.client)
    if client is None or client.disabled:
        return None
    if record.account is None:
        return Standing(record, client, None)
    account = await ACCOUNTS.read(tx, record.account)
    if account is None or account.disabled or account.epoch != record.epoch:
        return None
    if record.session and not await _lasts(tx, record.account, record.session):
        return None
    return Standing(record, client, account)


async def _lasts(tx: Transaction, account: str, session: str) -> bool:
    """Whether a session of an account is there: the store forgets one when its time is over."""
    for key, _ in await SESSIONS_OF_ACCOUNT.all(tx, f"{account}/"):
        found = await SESSIONS.read(tx, key.rpartition("/")[2])
        if found and found.id == session:
            return True
    return False
