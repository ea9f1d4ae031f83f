"""What the operator does to keys: told to the audit before it happens; new data keys are the
server's own work.

https://www.hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.sqlite.renewal import renew_data_keys
from salus.operator import requests
from salus.operator.clients import OPERATOR
from salus.problem import Problem
from salus.product import Product
from smart_auth.authority import Happening


async def note(product: Product, asked: requests.NoteKeys) -> requests.Done:
    """OAuthError when the audit cannot be written."""
    await _told(product, asked.what)
    return requests.Done()


async def renew(product: Product, asked: requests.RenewDataKeys) -> requests.DataKeysRenewed:
    """Problem in a store that seals nothing. OAuthError, Unavailable."""
    store = product.server.store
    if not isinstance(store, SqliteStore):
        raise Problem("This store has no data keys")
    await _told(product, "data keys renewed")
    return requests.DataKeysRenewed(await renew_data_keys(store))


async def _told(product: Product, what: str) -> None:
    await product.authority.audit(Happening("keys", client=OPERATOR, account=OPERATOR, detail=what))
