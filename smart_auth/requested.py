"""What an authorization request asks for, checked before anybody is shown anything.

https://hl7.org/fhir/smart-app-launch/app-launch.html#obtain-authorization-code,
https://www.rfc-editor.org/rfc/rfc6749#section-4.1.1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from smart_auth import clients, codes
from smart_auth.authority import Authority
from smart_auth.errors import OAuthError
from smart_auth.model import Client, Pending
from smart_auth.profiles import AUTHORIZATION_CODE
from smart_auth.scopes import LAUNCH, OPENID, Asked, BadScope, read_scopes

_STATE = 4096  # characters
_NONCE = 512
_YEAR = 366 * 86_400  # seconds: more than any session lasts
_PROMPTS = frozenset(("none", "login", "consent", "select_account"))


class Refused(OAuthError):
    """A refusal that the app itself is told, by a redirect to `client`'s `redirect_uri`."""


async def whose(authority: Authority, sent: Mapping[str, str]) -> tuple[Client, str]:
    """The client and its redirect URI. OAuthError where there is nowhere to redirect to: the person
    in front of the browser is told instead."""
    found = await clients.client(authority, sent.get("client_id", ""))
    if found is None or found.disabled:
        raise OAuthError("invalid_request", "This app is not registered here, or is disabled")
    redirect_uri = sent.get("redirect_uri", "")
    if not clients.redirect_allowed(found, redirect_uri):
        raise OAuthError(
            "invalid_request",
            "The app asks to be answered at an address (`redirect_uri`) that it did not register",
        )
    return found, redirect_uri


def readable_state(sent: Mapping[str, str]) -> str | None:
    """The state, when it is one that can be sent back."""
    state = sent.get("state", "")
    return state if 0 < len(state) <= _STATE and state.isprintable() else None


def read(authority: Authority, client: Client, sent: Mapping[str, str]) -> Pending:
    """The request as it is kept. Refused."""
    for check in _CHECKS:
        check(authority, client, sent)
    return Pending(
        client=client.id,
        redirect_uri=sent["redirect_uri"],
        state=sent["state"],
        scopes=_scopes(authority, client, sent),
        challenge=sent.get("code_challenge"),
        nonce=sent.get("nonce"),
        prompt=sent.get("prompt", ""),
        max_age=int(sent["max_age"]) if "max_age" in sent else None,
        created=authority.clock(),
    )


def _refuse(description: str, error: str = "invalid_request") -> NoReturn:
    raise Refused(error, description)


def _state(authority: Authority, client: Client, sent: Mapping[str, str]) -> None:
    if readable_state(sent) is None:
        _refuse(f"`state` is needed: 1 to {_STATE} characters that can be printed")


def _response(authority: Authority, client: Client, sent: Mapping[str, str]) -> None:
    if "request" in sent:
        _refuse("Send the parameters themselves, not in `request`", "request_not_supported")
    if "request_uri" in sent:
        _refuse("Send the parameters themselves, no `request_uri`", "request_uri_not_supported")
    if "response_type" not in sent:
        _refuse("`response_type` is needed: `code`")
    if sent["response_type"] != "code":
        _refuse("`response_type` must be `code`", "unsupported_response_type")
    if sent.get("response_mode", "query") != "query":
        _refuse("`response_mode` can only be `query`")


def _profile(authority: Authority, client: Client, sent: Mapping[str, str]) -> None:
    if AUTHORIZATION_CODE not in clients.profile(client).grants:
        _refuse("This client is not registered for users to sign in", "unauthorized_client")


def _audience(authority: Authority, client: Client, sent: Mapping[str, str]) -> None:
    if sent.get("aud", "").removesuffix("/") != authority.site.fhir.removesuffix("/"):
        _refuse(f"`aud` must be the FHIR server whose data is asked for: {authority.site.fhir}")


def _challenge(authority: Authority, client: Client, sent: Mapping[str, str]) -> None:
    challenge = sent.get("code_challenge")
    if challenge is None:
        if "code_challenge_method" in sent:
            _refuse("`code_challenge_method` comes with a `code_challenge`")
        if clients.profile(client).demands_challenge(client.confidential):
            _refuse("PKCE is needed: send `code_challenge` and `code_challenge_method=S256`")
    elif sent.get("code_challenge_method") != "S256":
        _refuse("`code_challenge_method` must be `S256`")
    elif not codes.is_challenge(challenge):
        _refuse("`code_challenge` has the 43 characters of a SHA-256 in base64url")


def _openid(authority: Authority, client: Client, sent: Mapping[str, str]) -> None:
    prompts = set(sent.get("prompt", "").split())
    if not prompts <= _PROMPTS or ("none" in prompts and len(prompts) > 1):
        _refuse("`prompt` is `none`, or some of `login`, `consent` and `select_account`")
    age = sent.get("max_age", "0")
    if not (age.isascii() and age.isdigit() and len(age) < 10 and int(age) <= _YEAR):
        _refuse("`max_age` is a number of seconds, a year at most")
    if len(sent.get("nonce", "")) > _NONCE:
        _refuse(f"`nonce` has at most {_NONCE} characters")


_CHECKS: tuple[Callable[[Authority, Client, Mapping[str, str]], None], ...] = (
    _state,
    _response,
    _profile,
    _audience,
    _challenge,
    _openid,
)


def _scopes(authority: Authority, client: Client, sent: Mapping[str, str]) -> tuple[str, ...]:
    """What may be granted at most: what is asked for, registered, and can be granted here."""
    try:
        asked = read_scopes(sent.get("scope", ""))
    except BadScope as error:
        _refuse(str(error), "invalid_scope")
    for each in asked:
        _grantable(authority, each)
    if "launch" in sent and LAUNCH not in {each.text for each in asked}:
        _refuse("With the parameter `launch`, ask for the scope `launch`", "invalid_scope")
    found = clients.permitted(client, asked)
    if "launch" not in sent:  # nobody launched it, so there is no context to have
        found = tuple(each for each in found if each.text != LAUNCH)
    if not any(each.clinical or each.text == OPENID for each in found):
        _refuse("No scope is asked for that this client may be granted here", "invalid_scope")
    return tuple(each.text for each in found)


def _grantable(authority: Authority, asked: Asked) -> None:
    if asked.clinical is None:
        return
    if asked.clinical.context == "system":
        _refuse("`system/` scopes are for clients without a user", "invalid_scope")
    reason = authority.directory.ungrantable(asked.clinical)
    if reason:
        _refuse(reason, "invalid_scope")
