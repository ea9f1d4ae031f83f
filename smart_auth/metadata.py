"""A client as OAuth's registration writes it, to and from what is registered here.

https://www.rfc-editor.org/rfc/rfc7591#section-2
"""

from __future__ import annotations

from typing import Any

import msgspec

from smart_auth.errors import OAuthError
from smart_auth.model import SECOND, Client
from smart_auth.profiles import (
    AUTHORIZATION_CODE,
    BASIC,
    CLIENT_CREDENTIALS,
    NONE,
    POST,
    PRIVATE_KEY_JWT,
    REFRESH_TOKEN,
    Profile,
)
from smart_auth.registrable import SHOWN_URIS, Authentication, Registrable
from smart_auth.scopes import BadScope, allowed, read_scope, read_scopes

_AUTHENTICATIONS: dict[str, Authentication] = {
    NONE: "none",
    BASIC: "client_secret",
    POST: "client_secret",
    PRIVATE_KEY_JWT: "private_key_jwt",
}
_GRANT_TYPES = {AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS}


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sends of itself; members that are not known are left aside, as the standard
    says."""

    redirect_uris: tuple[str, ...] = ()
    token_endpoint_auth_method: str | None = None
    grant_types: tuple[str, ...] = (AUTHORIZATION_CODE,)
    response_types: tuple[str, ...] | None = None
    client_name: str = ""
    client_uri: str | None = None
    logo_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None
    scope: str | None = None
    contacts: tuple[str, ...] = ()
    jwks_uri: str | None = None
    jwks: dict[str, Any] | None = None
    application_type: str = "web"
    initiate_login_uri: str | None = None
    software_statement: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    @classmethod
    def read(cls, body: bytes) -> Metadata:
        """The metadata of a request. OAuthError invalid_client_metadata."""
        try:
            found = msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _wrong(f"The body is not the JSON of a client ({error})") from None
        if found.software_statement is not None:
            raise OAuthError(
                "unapproved_software_statement",
                "No issuer of software statements is trusted here: leave it out",
            )
        if not set(found.grant_types) <= _GRANT_TYPES:
            raise _wrong(f"Grant types are {', '.join(sorted(_GRANT_TYPES))}")
        expected = {"code"} if AUTHORIZATION_CODE in found.grant_types else set()
        if found.response_types is not None and set(found.response_types) != expected:
            raise _wrong(
                "The response type of `authorization_code` is `code`, and there is no other"
            )
        return found

    @property
    def method(self) -> str:
        """How the client authenticates at the token endpoint."""
        if self.token_endpoint_auth_method is not None:
            return self.token_endpoint_auth_method
        return PRIVATE_KEY_JWT if self.jwks or self.jwks_uri else BASIC

    def profile(self, of_users: str) -> str:
        """The profile that the grant types mean; `of_users` for an app with users."""
        if CLIENT_CREDENTIALS not in self.grant_types:
            return of_users if of_users != "backend" else "smart-2"
        if set(self.grant_types) != {CLIENT_CREDENTIALS}:
            raise _wrong("Register a backend service and an app of users as two clients")
        return "backend"

    def registrable(self, limits: tuple[str, ...], of_users: str = "smart-2") -> Registrable:
        """What is asked for, with no more scopes than `limits` when there are any. OAuthError."""
        authentication = _AUTHENTICATIONS.get(self.method)
        if authentication is None:
            raise _wrong(f"Authentication is one of {', '.join(_AUTHENTICATIONS)}")
        shown = {name: getattr(self, name) for name in SHOWN_URIS}
        return Registrable(
            name=self.client_name,
            profile=self.profile(of_users),
            authentication=authentication,
            redirect_uris=self.redirect_uris,
            launch_uri=self.initiate_login_uri,
            jwks=self.jwks,
            jwks_uri=self.jwks_uri,
            scopes=self._scopes(limits),
            uris={name: uri for name, uri in shown.items() if uri is not None},
            contacts=self.contacts,
            native=self.application_type == "native",
        )

    def _scopes(self, limits: tuple[str, ...]) -> tuple[str, ...]:
        try:
            asked = read_scopes(self.scope or "")
            most = [each for each in map(read_scope, limits) if each]
        except BadScope as error:
            raise _wrong(str(error)) from None
        if not most:
            return tuple(each.text for each in asked)
        if not all(allowed((each,), most) for each in asked):
            raise _wrong("`scope` goes beyond what may be registered")
        within = allowed(asked, most) if asked else tuple(most)
        return tuple(each.text for each in within)


def described(client: Client, profile: Profile, method: str | None) -> dict[str, Any]:
    """A client as the standard writes it, without its secrets."""
    default = (
        PRIVATE_KEY_JWT if client.jwks or client.jwks_uri else BASIC if client.secret else NONE
    )
    said: dict[str, Any] = {
        "client_id": client.id,
        "client_id_issued_at": client.registered // SECOND,
        "client_name": client.name,
        "token_endpoint_auth_method": method or default,
        "grant_types": sorted(profile.grants),
        "response_types": [] if profile.backend else ["code"],
        "redirect_uris": list(client.redirect_uris),
        "initiate_login_uri": client.launch_uri,
        "scope": " ".join(client.scopes),
        "contacts": list(client.contacts),
        "jwks": client.jwks,
        "jwks_uri": client.jwks_uri,
        **client.uris,
    }
    return {name: value for name, value in said.items() if value not in (None, [], "")}


def _wrong(text: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", text)
