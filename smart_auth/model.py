"""What the authorization server remembers, and the spaces of the store that it is kept in.

Times are microseconds since 1970. Fields are only ever added, with a default, so that records of an
older version can be read. https://www.rfc-editor.org/rfc/rfc6749#section-1.1
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from smart_auth.records import Space

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Client(Struct, frozen=True, kw_only=True):
    """A registered app. `profile` names its policy (`profiles.py`); `secret`: digest of its secret,
    and `secret_before` of the one before, valid until `secret_before_until`; `scopes`: the most it
    may be granted, empty for what its profile allows; `origins`: from where its pages may call
    (those of the redirect URIs are added); `registered_by`: "operator", "registration" or an
    account; `management`: digest of its RFC 7592 token; `revision` grows with every change."""

    id: str
    name: str
    profile: str
    redirect_uris: tuple[str, ...] = ()
    launch_uri: str | None = None
    secret: str | None = None
    secret_before: str | None = None
    secret_before_until: int = 0
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    scopes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    uris: dict[str, str] = {}  # client_uri, logo_uri, tos_uri, policy_uri
    contacts: tuple[str, ...] = ()
    registered: int = 0
    registered_by: str = "operator"
    management: str | None = None
    disabled: bool = False
    revision: int = 1

    @property
    def confidential(self) -> bool:
        return bool(self.secret or self.jwks or self.jwks_uri)


class Account(Struct, frozen=True, kw_only=True):
    """Somebody who can sign in. `name`: what they type, folded; `who`: their own resource,
    "Practitioner/1" (Practitioner, Patient, RelatedPerson or Person), none for one that only
    administers; `password`: argon2id; `totp`: the sealed seed, `totp_step` the last step used;
    `recovery`: digests of unused recovery codes; `epoch` grows when sessions and grants of before
    are to end (password reset, disabled), `proof` when a factor changes, so that a sign-in that was
    under way with the old one comes to nothing."""

    name: str
    who: str | None = None
    display: str = ""
    password: str | None = None
    totp: bytes | None = None
    totp_step: int = 0
    recovery: tuple[str, ...] = ()
    administrator: bool = False
    disabled: bool = False
    epoch: int = 1
    created: int = 0
    proof: int = 1


class Session(Struct, frozen=True, kw_only=True):
    """A browser that is signed in. Kept under the digest of its cookie; `signed_in` is when the
    last factor was shown, `seen` the last use (to within a minute); `factors`: "pwd", "otp";
    `csrf`: the token that its forms carry."""

    id: str  # public: what grants and tokens with online_access are bound to
    account: str
    epoch: int
    signed_in: int
    seen: int
    factors: tuple[str, ...]
    csrf: str


class LaunchContext(Struct, frozen=True, kw_only=True):
    """What an app is launched with. `fhir_context`: as version 2.2 writes it."""

    patient: str | None = None
    encounter: str | None = None
    fhir_context: tuple[dict[str, Any], ...] = ()
    need_patient_banner: bool | None = None
    intent: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The launch parameters of a token response that are there."""
        found = {
            "patient": self.patient,
            "encounter": self.encounter,
            "fhirContext": list(self.fhir_context) or None,
            "need_patient_banner": self.need_patient_banner,
            "intent": self.intent,
        }
        return {name: value for name, value in found.items() if value is not None}


class Launch(Struct, frozen=True, kw_only=True):
    """An EHR launch that waits for its app, under the digest of its handle; taken once. It goes on
    only in a browser where `account` is signed in."""

    client: str
    account: str
    context: LaunchContext


class Pending(Struct, frozen=True, kw_only=True):
    """An authorization request that was validated and waits for sign-in and consent, under the
    digest of its handle. `scopes`: what may be granted at most, as texts; `context` fills up as the
    user chooses; `browser`: digest of the cookie of the browser in which it goes on, once known."""

    client: str
    redirect_uri: str
    state: str
    scopes: tuple[str, ...]
    challenge: str | None = None
    nonce: str | None = None
    prompt: str = ""
    max_age: int | None = None
    context: LaunchContext = LaunchContext()
    launched: bool = False  # by the EHR, so the context is settled
    account: str | None = None  # whose launch it is: nobody else may go on
    browser: str | None = None
    created: int = 0


class GrantRecord(Struct, frozen=True, kw_only=True):
    """What a user (or, for a backend client, the operator) allowed an app. Every code and token
    points to it; without it they are worth nothing. `account` None: a backend client's.
    `confined`: `patient/` scopes were asked for, so nothing of it goes beyond that patient."""

    id: str
    client: str
    account: str | None
    who: str | None
    scopes: tuple[str, ...]
    context: LaunchContext = LaunchContext()
    created: int
    used: int = 0  # last time a token was issued
    epoch: int = 0  # of the account when it was given
    session: str | None = None  # for online_access: ends with it
    nonce: str | None = None
    signed_in: int = 0
    factors: tuple[str, ...] = ()
    offline: bool = False
    confined: bool = False


class Code(Struct, frozen=True, kw_only=True):
    """An authorization code; kept a while after use, so that a replay is noticed."""

    grant: str
    client: str
    redirect_uri: str
    challenge: str | None
    expires: int
    used: bool = False


class AccessToken(Struct, frozen=True, kw_only=True):
    grant: str
    client: str
    scopes: tuple[str, ...]
    issued: int
    expires: int


class RefreshToken(Struct, frozen=True, kw_only=True):
    """`rotated`: when it was exchanged for another; used again later than the grace allows, it ends
    the whole grant."""

    grant: str
    client: str
    scopes: tuple[str, ...]
    expires: int
    rotated: int | None = None


class Count(Struct, frozen=True, kw_only=True):
    """Attempts in a window that began at `began`."""

    count: int
    began: int


class Text(Struct, frozen=True, kw_only=True):
    """One string, or nothing but that it is there."""

    value: str = ""


class Sealed(Struct, frozen=True, kw_only=True):
    """A signing key, wrapped by the server's keys. `retires`: from when on it signs no more."""

    kid: str
    alg: str
    wrapped: bytes
    created: int
    retires: int


CLIENTS = Space("smart.client", Client)  # by id
ACCOUNTS = Space("smart.account", Account)  # by name
SESSIONS = Space("smart.session", Session)  # by digest of the cookie
LAUNCHES = Space("smart.launch", Launch)  # by digest of the handle
PENDING = Space("smart.pending", Pending)  # by digest of the handle
GRANTS = Space("smart.grant", GrantRecord)  # by id
CODES = Space("smart.code", Code)  # by digest
TOKENS = Space("smart.token", AccessToken)  # by digest
REFRESH = Space("smart.refresh", RefreshToken)  # by digest
JTI = Space("smart.jti", Text)  # by digest of client and jti
COUNTS = Space("smart.count", Count)  # by what is counted and of whom
KEYS = Space("smart.key", Sealed)  # by kid
# Who has what: "owner/thing" with nothing in it, so that all of an owner's is found by prefix.
GRANTS_OF_ACCOUNT = Space("smart.account-grant", Text)
GRANTS_OF_CLIENT = Space("smart.client-grant", Text)
TOKENS_OF_GRANT = Space("smart.grant-token", Text)  # "grant/a:digest", "grant/r:digest"
SESSIONS_OF_ACCOUNT = Space("smart.account-session", Text)

Kind = Literal["access_token", "refresh_token"]
