"""What every part of the authorization server works with: its addresses, its policy, the store, and
what it must ask of the FHIR server, which it does not know.

https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from smart_auth.grant import Scope
from smart_auth.model import DAY, HOUR, MINUTE, SECOND
from smart_auth.records import Keeper


class Happening(NamedTuple):
    """What is audited beside interactions. `what`: sign-in, sign-in-refused, sign-out, token,
    token-refused, revoke, consent, launch, register, account, lockout; `account` and `client`
    name who took part, `who` the user's own resource, `patient` the one in context; `detail` a
    word that holds neither a secret nor anything about a patient."""

    what: str
    success: bool = True
    client: str | None = None
    account: str | None = None
    who: str | None = None
    patient: str | None = None
    address: str = ""
    detail: str = ""


class Patient(NamedTuple):
    """A patient as a picker or a consent page shows it to somebody who may see it."""

    id: str
    name: str
    born: str = ""
    gender: str = ""
    identifier: str = ""


class Directory(Protocol):
    """What the FHIR server is asked. `who` is the user's own resource ("Practitioner/1"); whatever
    that user may not see is not there. Every question is an audited interaction."""

    async def reach(self, who: str | None) -> frozenset[str] | None:
        """Ids of the patients whose data a user may see; None: no such limit. A Patient reaches
        itself; a RelatedPerson, while it is active and its period lasts, the patient that it names;
        a Person the patients of its own links; a Practitioner all."""
        ...

    async def patients(self, who: str, text: str, limit: int) -> list[Patient]:
        """Patients whose name or identifier begins with `text` (empty: any), by name."""
        ...

    async def patient(self, who: str, id: str) -> Patient | None: ...

    async def encounters(self, who: str, patient: str, limit: int) -> list[tuple[str, str]]:
        """Id and description of a patient's encounters, newest first."""
        ...

    def ungrantable(self, scope: Scope) -> str | None:
        """Why a clinical scope cannot be granted here; None when it can."""
        ...

    def types(self) -> frozenset[str]:
        """The resource types of this server."""
        ...


class Sealer(Protocol):
    """Wraps and unwraps small secrets under keys that do not lie beside the store."""

    def wrap(self, key: bytes, context: bytes) -> bytes: ...
    def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Site:
    """`base`: where the server is reached, without a slash at its end; `fhir`: its FHIR base, which
    is the issuer too."""

    base: str
    fhir: str
    name: str = "Salus"
    tenant: str | None = None

    def at(self, path: str) -> str:
        """The absolute URL of a path of ours."""
        return f"{self.base}{path}"

    @property
    def secure(self) -> bool:
        return self.base.startswith("https://")


# Where things are, below the base. The protocol's endpoints, then the pages.
AUTHORIZE = "/oauth/authorize"
TOKEN = "/oauth/token"
INTROSPECT = "/oauth/introspect"
REVOKE = "/oauth/revoke"
REGISTER = "/oauth/register"
JWKS = "/oauth/jwks"
USERINFO = "/oauth/userinfo"
BRANDS = "/brands"
STYLE = "/smart-style.json"
SIGN_IN = "/sign-in"
SIGN_OUT = "/sign-out"
CONSENT = "/consent"
APPS = "/account/apps"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides. Times in microseconds."""

    registration: Literal["off", "token", "open"] = "off"  # RFC 7591
    jwks_hosts: frozenset[str] = frozenset()  # private hosts (host or host:port) that may be asked
    code: int = 60 * SECOND
    access: int = HOUR
    backend_access: int = 300 * SECOND
    refresh: int = 180 * DAY
    grace: int = 20 * SECOND  # in which a rotated refresh token is taken for a parallel request
    pending: int = 15 * MINUTE
    launch: int = 5 * MINUTE
    session_idle: int = 30 * MINUTE
    session_most: int = 12 * HOUR
    leeway: int = 60 * SECOND  # of other people's clocks


@dataclass(frozen=True, slots=True)
class Authority:
    """Made once when the server opens. `clock`: microseconds since 1970; `audit` is durable when it
    returns; `changed` is told of every grant or token that ended, so that nobody goes on using what
    was remembered of it (None: of all of them)."""

    keeper: Keeper
    site: Site
    directory: Directory
    sealer: Sealer
    clock: Callable[[], int]
    audit: Callable[[Happening], Awaitable[None]]
    policy: Policy = Policy()
    changed: Callable[[str | None], None] = lambda _: None
