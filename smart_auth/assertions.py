"""Client assertions: a JWT by which a client shows that it holds its private key, taken once.

Order of the checks: size, header, who claims to be asking, that client's keys, signature, claims,
and last whether it was seen before. https://hl7.org/fhir/smart-app-launch/client-confidential-
asymmetric.html#signature-verification, https://www.rfc-editor.org/rfc/rfc7523#section-3
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from joserfc import jws
from joserfc.errors import JoseError

from smart_auth.authority import Authority
from smart_auth.clients import profile
from smart_auth.errors import OAuthError
from smart_auth.jwks import BadKeys, Key, key_for
from smart_auth.keysets import KeySets, Unfetched
from smart_auth.model import CLIENTS, JTI, MINUTE, SECOND, Client, Text
from smart_auth.profiles import PRIVATE_KEY_JWT, PROFILES
from smart_auth.records import Transaction, digest

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CHARACTERS = 16_384
_AHEAD = 5 * MINUTE  # how far `exp` may lie ahead
_JTI = 256  # characters
_TYPES = ("jwt", "client-authentication+jwt")
_ALGORITHMS = frozenset(alg for each in PROFILES.values() for alg in each.algorithms)


class _Registry(jws.JWSRegistry):
    max_header_length = 1024  # a long `jku`; what carries certificates is longer
    max_payload_length = _CHARACTERS


class _Claimed(NamedTuple):
    """What an assertion says of itself, not yet believed."""

    alg: str
    kid: str
    jku: str | None
    claims: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        return str(self.claims["iss"])


async def verify(
    authority: Authority, key_sets: KeySets, assertion: str, audiences: Collection[str]
) -> Client:
    """The client that made an assertion for one of `audiences`. OAuthError invalid_client, which
    says what is wrong with the assertion and nothing of a key."""
    claimed = _read(assertion)
    client = await authority.keeper.transaction(lambda tx: CLIENTS.read(tx, claimed.issuer))
    if client is None or client.disabled or PRIVATE_KEY_JWT not in profile(client).authentication:
        raise refused("The assertion is not of a client that authenticates by one")
    if claimed.alg not in profile(client).algorithms:
        raise refused(f"Sign with one of {', '.join(profile(client).algorithms)}")
    key = await _key(key_sets, client, claimed)
    _verify_signature(assertion, key, claimed.alg)
    now = authority.clock()
    until = _check_claims(claimed.claims, audiences, now, authority.policy.leeway)
    await _take_once(authority, client.id, str(claimed.claims["jti"]), until)
    return client


def claimed_issuer(assertion: str) -> str | None:
    """Who an assertion says that it is of; None when it cannot be read."""
    try:
        return _read(assertion).issuer
    except OAuthError:
        return None


def refused(description: str) -> OAuthError:
    return OAuthError("invalid_client", description)


# --- reading -------------------------------------------------------------------------------------


def _read(assertion: str) -> _Claimed:
    if len(assertion) > _CHARACTERS:
        raise refused(f"An assertion has at most {_CHARACTERS} characters")
    parts = assertion.split(".")
    if len(parts) != 3:
        raise refused("The assertion is no signed JWT")
    header, claims = _json(parts[0]), _json(parts[1])
    alg, kid, jku = header.get("alg"), header.get("kid"), header.get("jku")
    if alg not in _ALGORITHMS:
        raise refused(f"Sign with one of {', '.join(sorted(_ALGORITHMS))}")
    if not isinstance(kid, str) or not kid:
        raise refused("The header of the assertion names no key: `kid` is missing")
    if "crit" in header or not isinstance(jku, str | None):
        raise refused("The header of the assertion has a member that is not understood")
    if str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise refused("The assertion is not of the type JWT")
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or claims.get("sub") != issuer:
        raise refused("`iss` and `sub` of an assertion are both the client id")
    return _Claimed(alg, kid, jku, claims)


def _json(part: str) -> dict[str, Any]:
    try:
        octets = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        found = json.loads(octets, object_pairs_hook=_no_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refused("The assertion is no signed JWT")
    return found


def _no_twice(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a member comes twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


# --- the key and the signature -------------------------------------------------------------------


async def _key(key_sets: KeySets, client: Client, claimed: _Claimed) -> Key:
    """The one key of the client's that can have signed. No address is asked but the registered."""
    if claimed.jku is not None and claimed.jku != client.jwks_uri:
        raise refused("`jku` is not the registered address of the client's keys")
    try:
        found = await _candidate(key_sets, client, claimed)
    except (Unfetched, BadKeys) as error:
        raise refused(f"The client's keys cannot be used: {error}") from None
    if found is None:
        raise refused(f"The client has no key for {claimed.alg} with this `kid`")
    return found


async def _candidate(key_sets: KeySets, client: Client, claimed: _Claimed) -> Key | None:
    if client.jwks_uri is None:
        return key_for(client.jwks or {"keys": []}, claimed.alg, claimed.kid)
    found = key_for(await key_sets.read(client.jwks_uri), claimed.alg, claimed.kid)
    if found is None:  # perhaps the client has a new key
        anew = await key_sets.read_anew(client.jwks_uri)
        found = key_for(anew, claimed.alg, claimed.kid)
    return found


def _verify_signature(assertion: str, key: Key, alg: str) -> None:
    registry = _Registry(algorithms=[alg], strict_check_header=False)
    try:
        jws.deserialize_compact(assertion, key, registry=registry)
    except (JoseError, ValueError, TypeError):
        raise refused("The signature of the assertion is not that of the client's key") from None


# --- the claims ----------------------------------------------------------------------------------


def _check_claims(
    claims: Mapping[str, Any], audiences: Collection[str], now: int, leeway: int
) -> int:
    """Until when the assertion counts, in microseconds."""
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    # Several audiences would let one of them use the assertion here.
    if not isinstance(audience, str) or audience not in audiences:
        raise refused("`aud` of the assertion must be the token endpoint, and nothing else")
    expires = _time(claims, "exp")
    if expires is None:
        raise refused("The assertion does not say when it expires: `exp` is missing")
    if expires <= now - leeway:
        raise refused("The assertion has expired")
    if expires > now + _AHEAD + leeway:
        raise refused("`exp` of the assertion lies more than 5 minutes ahead")
    for name in ("nbf", "iat"):
        if (_time(claims, name) or 0) > now + leeway:
            raise refused(f"`{name}` of the assertion lies in the future")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= _JTI:
        raise refused(f"The assertion needs a `jti` of 1 to {_JTI} characters")
    return expires + leeway


def _time(claims: Mapping[str, Any], name: str) -> int | None:
    """A NumericDate in microseconds."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e11:
        raise refused(f"`{name}` of the assertion is no number of seconds since 1970")
    return int(value * SECOND)


async def _take_once(authority: Authority, client: str, jti: str, until: int) -> None:
    key = digest(f"{client} {jti}")

    async def work(tx: Transaction) -> bool:
        if await JTI.read(tx, key) is not None:
            return False
        await JTI.write(tx, key, Text(), until=until)
        return True

    if not await authority.keeper.transaction(work, write=True):
        raise refused("The assertion was used before: make one for each request")
