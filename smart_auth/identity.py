"""Who a user is to an app: the subject, the id_token and userinfo.

https://openid.net/specs/openid-connect-core-1_0.html, https://hl7.org/fhir/smart-app-launch/scopes-and-
launch-context.html#scopes-for-requesting-identity-data
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from typing import Any

from smart_auth.authority import Site
from smart_auth.model import MINUTE, SECOND, Account, GrantRecord
from smart_auth.scopes import FHIR_USER, OPENID

_LIFE = 10 * MINUTE


def subject(site: Site, account: Account) -> str:
    """What an account is called towards apps: it tells nothing of the name, and is nobody else's
    when the name is given away again."""
    told = f"{site.fhir}\n{account.name}\n{account.created}"
    return _base64(hashlib.sha256(told.encode()).digest()[:24])


def user_claims(
    site: Site, account: Account, record: GrantRecord, scopes: tuple[str, ...]
) -> dict[str, Any]:
    """`sub`, and `fhirUser` when it was granted; nothing without `openid`."""
    if OPENID not in scopes:
        return {}
    said: dict[str, Any] = {"sub": subject(site, account)}
    if FHIR_USER in scopes and record.who:
        said["fhirUser"] = f"{site.fhir}/{record.who}"
    return said


def id_claims(
    site: Site,
    account: Account,
    record: GrantRecord,
    scopes: tuple[str, ...],
    access: str,
    now: int,
) -> dict[str, Any]:
    """The claims of an id_token. `access`: the token that it comes with; `now` in microseconds."""
    said: dict[str, Any] = {
        "iss": site.fhir,
        "aud": record.client,
        "iat": now // SECOND,
        "exp": (now + _LIFE) // SECOND,
        "at_hash": _base64(hashlib.sha256(access.encode()).digest()[:16]),
        **user_claims(site, account, record, scopes),
    }
    if record.signed_in:
        said["auth_time"] = record.signed_in // SECOND
    if record.factors:
        several = ["mfa"] if len(record.factors) > 1 else []
        said["amr"] = [*record.factors, *several]
    if record.nonce is not None:
        said["nonce"] = record.nonce
    return said


def _base64(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()
