"""What may be registered of a client: each field with its rule, for operators and for apps that
register themselves.

https://www.rfc-editor.org/rfc/rfc7591#section-2
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from smart_auth import uris
from smart_auth.authority import Policy
from smart_auth.errors import OAuthError
from smart_auth.jwks import BadKeys, check_keys
from smart_auth.profiles import BASIC, NONE, POST, PRIVATE_KEY_JWT, PROFILES, Profile
from smart_auth.scopes import BadScope, read_scope

_NAME = 100  # characters
_LIST = 50  # entries of a list
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}", re.ASCII)
_CONTACT = re.compile(r"[^\s<>]{1,200}")
SHOWN_URIS = ("client_uri", "logo_uri", "tos_uri", "policy_uri")

Authentication = Literal["none", "client_secret", "private_key_jwt"]
_METHODS: Mapping[Authentication, tuple[str, ...]] = {
    "none": (NONE,),
    "client_secret": (BASIC, POST),
    "private_key_jwt": (PRIVATE_KEY_JWT,),
}


class Registrable(Struct, frozen=True, kw_only=True):
    """What is asked for a client. `authentication`: how it proves who it is; `native`: it runs on a
    device, so its redirect URIs may be loopback addresses and schemes of its own."""

    name: str
    profile: str = "smart-2"
    authentication: Authentication = "none"
    redirect_uris: tuple[str, ...] = ()
    launch_uri: str | None = None
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    scopes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    uris: dict[str, str] = {}
    contacts: tuple[str, ...] = ()
    native: bool = True


def checked(asked: Registrable, policy: Policy, id: str | None) -> dict[str, Any]:
    """The fields of a Client, when each keeps its rule. OAuthError invalid_client_metadata or
    invalid_redirect_uri."""
    if id is not None and not _ID.fullmatch(id):
        raise _wrong("A client id has up to 100 letters, digits or ._- and begins with no sign")
    profile = PROFILES.get(asked.profile)
    if profile is None:
        raise _wrong(f"The profile is one of {', '.join(PROFILES)}")
    if not set(_METHODS[asked.authentication]) & set(profile.authentication):
        raise _wrong(
            f"A client of profile {profile.name} authenticates by "
            f"{', '.join(profile.authentication)}"
        )
    _check_redirects(asked, profile)
    _check_keys(asked, policy)
    _check_addresses(asked)
    return {
        "name": _name(asked.name),
        "profile": asked.profile,
        "redirect_uris": asked.redirect_uris,
        "launch_uri": asked.launch_uri,
        "jwks": asked.jwks,
        "jwks_uri": asked.jwks_uri,
        "scopes": _scopes(asked.scopes, profile),
        "origins": asked.origins,
        "uris": asked.uris,
        "contacts": asked.contacts,
    }


def _name(name: str) -> str:
    shown = " ".join(name.split())
    # Control and format characters turn or hide what a consent page says of an app.
    hidden = any(unicodedata.category(each).startswith("C") for each in shown)
    if not shown or len(shown) > _NAME or hidden:
        raise _wrong(f"`client_name` has 1 to {_NAME} visible characters")
    return shown


def _check_redirects(asked: Registrable, profile: Profile) -> None:
    if profile.backend:
        if asked.redirect_uris or asked.launch_uri:
            raise _wrong("A backend service has no redirect or launch URI: no user takes part")
        return
    if not 0 < len(asked.redirect_uris) <= _LIST:
        raise OAuthError("invalid_redirect_uri", f"Register 1 to {_LIST} redirect URIs")
    for uri in asked.redirect_uris:
        problem = uris.redirect_problem(uri, asked.native)
        if problem:
            raise OAuthError("invalid_redirect_uri", f"Redirect URI `{uri[:100]}` {problem}")


def _check_keys(asked: Registrable, policy: Policy) -> None:
    given = (asked.jwks is not None) + (asked.jwks_uri is not None)
    if given != (asked.authentication == "private_key_jwt"):
        raise _wrong("private_key_jwt goes with either `jwks` or `jwks_uri`, and only it does")
    if asked.jwks is not None:
        try:
            check_keys(asked.jwks)
        except BadKeys as error:
            raise _wrong(f"`jwks`: {error}") from None
    if asked.jwks_uri is not None:
        problem = uris.fetch_problem(asked.jwks_uri, policy.jwks_hosts)
        if problem:
            raise _wrong(f"`jwks_uri` {problem}")


def _check_addresses(asked: Registrable) -> None:
    if set(asked.uris) - set(SHOWN_URIS):
        raise _wrong(f"The addresses shown to users are {', '.join(SHOWN_URIS)}")
    shown = {**asked.uris, **({"launch_uri": asked.launch_uri} if asked.launch_uri else {})}
    for name, uri in shown.items():
        problem = uris.web_problem(uri)
        if problem:
            raise _wrong(f"`{name}` {problem}")
    if len(asked.origins) > _LIST or not all(uris.is_origin(each) for each in asked.origins):
        raise _wrong("An origin is written like https://app.example, without a slash at its end")
    if len(asked.contacts) > _LIST or not all(_CONTACT.fullmatch(each) for each in asked.contacts):
        raise _wrong("A contact is an address without spaces")


def _scopes(scopes: tuple[str, ...], profile: Profile) -> tuple[str, ...]:
    for text in scopes:
        try:
            found = read_scope(text)
        except BadScope as error:
            raise _wrong(str(error)) from None
        if found and found.clinical and found.clinical.context not in profile.contexts:
            raise _wrong(
                f"`{text[:100]}`: profile {profile.name} has scopes of "
                f"{', '.join(sorted(profile.contexts))}"
            )
    if profile.backend and not scopes:
        raise _wrong("A backend service is registered with the scopes that it may be granted")
    return tuple(dict.fromkeys(scopes))


def _wrong(text: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", text)
