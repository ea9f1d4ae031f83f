"""Forgetting whoever is no more: accounts that are theirs, and what was granted on them.

https://gdpr-info.eu/art-17-gdpr/, https://www.rfc-editor.org/rfc/rfc7009
"""

from __future__ import annotations

from collections.abc import Collection

from smart_auth import accounts, grants
from smart_auth.authority import Authority
from smart_auth.invitations import INVITATIONS
from smart_auth.model import ACCOUNTS, COUNTS, GRANTS, LAUNCHES, PENDING, LaunchContext
from smart_auth.records import Transaction
from smart_auth.throttle import DEVICES

_PATIENT = "Patient/"


async def forget(authority: Authority, tx: Transaction, names: Collection[str]) -> int:
    """Remove the accounts whose own resource is among `names` ("Patient/id"), and every grant,
    launch and sign-in under way on these patients; how many records. Whoever calls this tells
    `authority.changed` when the transaction is durable."""
    ids = {each.removeprefix(_PATIENT) for each in names if each.startswith(_PATIENT)}
    gone = 0
    for _, account in await ACCOUNTS.all(tx):
        if account.who in names:
            await accounts.renew(authority, tx, account)
            await _forget_account(tx, account.name)
            gone += 1
    for id, grant in await GRANTS.all(tx):
        if grant.who in names or _is_on(grant.context, ids):
            gone += await grants.end(authority, tx, id) is not None
    for key, launch in await LAUNCHES.all(tx):
        if _is_on(launch.context, ids):
            gone += await LAUNCHES.take(tx, key) is not None
    for key, pending in await PENDING.all(tx):
        if _is_on(pending.context, ids):
            gone += await PENDING.take(tx, key) is not None
    return gone


def _is_on(context: LaunchContext, ids: Collection[str]) -> bool:
    return context.patient in ids


async def _forget_account(tx: Transaction, name: str) -> None:
    """With what is counted and remembered under its name."""
    await ACCOUNTS.take(tx, name)
    for key, invitation in await INVITATIONS.all(tx):
        if invitation.account == name:
            await INVITATIONS.take(tx, key)
    for key, _ in await DEVICES.all(tx):
        if key.endswith(f"/{name}"):
            await DEVICES.take(tx, key)
    for key, _ in await COUNTS.all(tx):
        if f"/{name}/" in f"{key}/":
            await COUNTS.take(tx, key)
