"""That the data is copied: told to the audit before it happens.

https://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_400.html
"""

from __future__ import annotations

from salus.operator import requests
from salus.operator.clients import OPERATOR
from salus.product import Product
from smart_auth.authority import Happening

BACKUP, RESTORE = "backup", "restore"


async def note(product: Product, asked: requests.NoteBackup) -> requests.Done:
    """OAuthError when the audit cannot be written."""
    await product.authority.audit(told(BACKUP))
    return requests.Done()


def told(what: str, detail: str = "") -> Happening:
    return Happening(what, client=OPERATOR, account=OPERATOR, detail=detail)
