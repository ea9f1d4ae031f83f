"""What is demanded of a client: one named policy for each kind of registration, so that endpoints
ask the profile and never the ecosystem.

https://hl7.org/fhir/smart-app-launch/app-launch.html, .../backend-services.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from smart_auth.authority import Policy
from smart_auth.grant import Context

AUTHORIZATION_CODE, REFRESH_TOKEN = "authorization_code", "refresh_token"
CLIENT_CREDENTIALS = "client_credentials"

NONE, BASIC, POST = "none", "client_secret_basic", "client_secret_post"
PRIVATE_KEY_JWT = "private_key_jwt"

_USERS: frozenset[Context] = frozenset(("patient", "user"))
_SYSTEM: frozenset[Context] = frozenset(("system",))


@dataclass(frozen=True, slots=True)
class Profile:
    """`grants`: grant types; `pkce_public` and `pkce_confidential`: whether a challenge must come
    with the authorization request (one that comes is always checked, and only S256 is taken);
    `authentication`: methods at the token endpoint; `algorithms`: of client assertions;
    `fhir_context`: whether that launch parameter is sent, as objects; `contexts`: of the clinical
    scopes that may be granted; `backend`: no user takes part."""

    name: str
    grants: frozenset[str]
    authentication: tuple[str, ...]
    contexts: frozenset[Context]
    pkce_public: bool = True
    pkce_confidential: bool = True
    algorithms: tuple[str, ...] = ()
    fhir_context: Literal["objects", "omitted"] = "objects"
    backend: bool = False

    def demands_challenge(self, confidential: bool) -> bool:
        """Whether an authorization request without PKCE is refused."""
        return self.pkce_confidential if confidential else self.pkce_public

    def access_life(self, policy: Policy) -> int:
        """How long an access token lives, in microseconds."""
        return policy.backend_access if self.backend else policy.access


_CODE_AND_REFRESH = frozenset((AUTHORIZATION_CODE, REFRESH_TOKEN))
_ASYMMETRIC = ("RS384", "ES384")

PROFILES: Mapping[str, Profile] = {
    each.name: each
    for each in (
        Profile(
            "smart-1",
            _CODE_AND_REFRESH,
            (NONE, BASIC, POST),
            _USERS,
            pkce_confidential=False,
            fhir_context="omitted",
        ),
        Profile(
            "smart-2",
            _CODE_AND_REFRESH,
            (NONE, BASIC, POST, PRIVATE_KEY_JWT),
            _USERS,
            algorithms=_ASYMMETRIC,
        ),
        Profile(
            "backend",
            frozenset((CLIENT_CREDENTIALS,)),
            (PRIVATE_KEY_JWT,),
            _SYSTEM,
            pkce_public=False,
            pkce_confidential=False,
            algorithms=_ASYMMETRIC,
            backend=True,
        ),
    )
}
