"""Grants: what a user allowed an app. Codes and tokens point to one, and end with it.

https://www.rfc-editor.org/rfc/rfc6749#section-1.3, https://www.rfc-editor.org/rfc/rfc7009
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from smart_auth.authority import Authority
from smart_auth.model import (
    CODES,
    GRANTS,
    GRANTS_OF_ACCOUNT,
    GRANTS_OF_CLIENT,
    HOUR,
    REFRESH,
    TOKENS,
    TOKENS_OF_GRANT,
    GrantRecord,
    Text,
)
from smart_auth.records import Space, Transaction

# What is issued under a grant, by the letter that its entry in TOKENS_OF_GRANT begins with.
_SPACES: dict[str, Space[Any]] = {"a": TOKENS, "r": REFRESH, "c": CODES}
_HERE = Text()


async def give(tx: Transaction, record: GrantRecord, until: int | None = None) -> None:
    """Keep a grant, or keep it longer. `until`: microseconds since 1970 from which on it is
    forgotten, an hour after `created` unless told; tokens prolong it as they are issued."""
    end = record.created + HOUR if until is None else until
    await GRANTS.write(tx, record.id, record, until=end)
    await GRANTS_OF_CLIENT.write(tx, f"{record.client}/{record.id}", _HERE, until=end)
    if record.account is not None:
        await GRANTS_OF_ACCOUNT.write(tx, f"{record.account}/{record.id}", _HERE, until=end)


async def note(
    tx: Transaction, grant: str, kind: Literal["a", "r", "c"], digest: str, until: int
) -> None:
    """Write down that a token (`a`ccess, `r`efresh) or `c`ode was issued under a grant."""
    await TOKENS_OF_GRANT.write(tx, f"{grant}/{kind}:{digest}", _HERE, until=until)


async def end(authority: Authority, tx: Transaction, id: str) -> GrantRecord | None:
    """End a grant with every code and token of it; the grant, or None when there was none. Whoever
    calls this tells `authority.changed` when the transaction is durable."""
    record = await GRANTS.take(tx, id)
    if record is None:
        return None
    await GRANTS_OF_CLIENT.take(tx, f"{record.client}/{id}")
    if record.account is not None:
        await GRANTS_OF_ACCOUNT.take(tx, f"{record.account}/{id}")
    for key, _ in await TOKENS_OF_GRANT.all(tx, f"{id}/"):
        kind, _, digest = key.removeprefix(f"{id}/").partition(":")
        await _SPACES[kind].take(tx, digest)
    await TOKENS_OF_GRANT.clear(tx, f"{id}/")
    return record


async def end_of_account(
    authority: Authority, tx: Transaction, account: str, session: str | None = None
) -> list[str]:
    """End the grants of an account, or only those that end with one `session`; their ids."""
    ending = [
        each.id
        for each in await of_account(tx, account)
        if session is None or each.session == session
    ]
    return await _end_all(authority, tx, ending)


async def end_of_client(authority: Authority, tx: Transaction, client: str) -> list[str]:
    """End the grants of a client; their ids."""
    return await _end_all(authority, tx, [each.id for each in await of_client(tx, client)])


async def of_account(tx: Transaction, account: str) -> list[GrantRecord]:
    """The grants that an account gave and that last, the oldest first."""
    entries = await GRANTS_OF_ACCOUNT.all(tx, f"{account}/")
    found = await _read(tx, (key for key, _ in entries))
    return [each for each in found if each.account == account]


async def of_client(tx: Transaction, client: str) -> list[GrantRecord]:
    """The grants that a client holds, the oldest first."""
    entries = await GRANTS_OF_CLIENT.all(tx, f"{client}/")
    found = await _read(tx, (key for key, _ in entries))
    return [each for each in found if each.client == client]


async def _read(tx: Transaction, keys: Iterable[str]) -> list[GrantRecord]:
    found = [await GRANTS.read(tx, key.rpartition("/")[2]) for key in keys]
    return sorted((each for each in found if each), key=lambda each: each.created)


async def _end_all(authority: Authority, tx: Transaction, ids: list[str]) -> list[str]:
    return [id for id in ids if await end(authority, tx, id) is not None]
