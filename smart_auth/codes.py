"""Authorization codes: issued once, taken once, and remembered a while so that a replay is noticed.

https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2, https://www.rfc-editor.org/rfc/rfc7636
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode

from msgspec.structs import replace

from smart_auth import grants
from smart_auth.authority import Authority
from smart_auth.errors import OAuthError
from smart_auth.model import CODES, HOUR, Code, GrantRecord
from smart_auth.records import Transaction, digest, new_secret

_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}", re.ASCII)
_CHALLENGE = re.compile(r"[A-Za-z0-9\-_]{43}", re.ASCII)
_REMEMBERED = HOUR  # after its end


async def issue(
    authority: Authority,
    tx: Transaction,
    grant: GrantRecord,
    redirect_uri: str,
    challenge: str | None,
) -> str:
    """A code for a grant that was given, bound to where it is sent and to the S256 challenge."""
    code = new_secret()
    expires = authority.clock() + authority.policy.code
    record = Code(
        grant=grant.id,
        client=grant.client,
        redirect_uri=redirect_uri,
        challenge=challenge,
        expires=expires,
    )
    key = digest(code)
    await CODES.write(tx, key, record, until=expires + _REMEMBERED)
    await grants.note(tx, grant.id, "c", key, expires + _REMEMBERED)
    return code


async def redeem(
    authority: Authority,
    tx: Transaction,
    code: str,
    client: str,
    redirect_uri: str,
    verifier: str | None,
) -> Code | OAuthError:
    """Take a code for the client that it was issued to. A refusal is returned, not raised, since a
    replayed code ends its grant, which must last: `ended` of the refusal names that grant."""
    key = digest(code)
    found = await CODES.read(tx, key)
    if found is None:
        return _refused("The code is unknown")
    if found.used:
        await grants.end(authority, tx, found.grant)
        return Replayed("The code was used before: what was granted with it is ended", found.grant)
    if found.client != client:
        return _refused("The code is unknown")
    if found.expires <= authority.clock():
        return _refused("The code has expired")
    if found.redirect_uri != redirect_uri:
        return _refused("`redirect_uri` is not that of the authorization request")
    problem = verifier_problem(found.challenge, verifier)
    if problem:
        return _refused(problem)
    used = replace(found, used=True)
    await CODES.write(tx, key, used, until=found.expires + _REMEMBERED)
    return used


class Replayed(OAuthError):
    """A code or refresh token that was used before; `ended` is the grant that ended by it."""

    def __init__(self, description: str, ended: str) -> None:
        super().__init__("invalid_grant", description)
        self.ended = ended


def is_challenge(text: str) -> bool:
    """Whether a text is an S256 challenge: 32 bytes as base64url without padding."""
    return _CHALLENGE.fullmatch(text) is not None


def verifier_problem(challenge: str | None, verifier: str | None) -> str | None:
    """Why a verifier does not show who made the challenge; None when it does, or neither is."""
    if challenge is None:
        # Else whoever strips the challenge from a request would go unnoticed (RFC 9700, 2.1.1).
        return "`code_verifier` has no challenge to answer" if verifier else None
    if verifier is None:
        return "`code_verifier` is missing"
    if not _VERIFIER.fullmatch(verifier):
        return "`code_verifier` has 43 to 128 letters, digits or -._~"
    hashed = hashlib.sha256(verifier.encode()).digest()
    made = urlsafe_b64encode(hashed).rstrip(b"=").decode()
    same = hmac.compare_digest(made, challenge)
    return None if same else "`code_verifier` does not answer the challenge"


def _refused(description: str) -> OAuthError:
    return OAuthError("invalid_grant", description)
