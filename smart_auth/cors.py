"""From which pages of the web the token endpoint and the FHIR API may be called: those of
registered apps. Public documents may be read from anywhere.

https://fetch.spec.whatwg.org/#http-cors-protocol, https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from __future__ import annotations

from smart_auth.authority import Authority
from smart_auth.clients import all_clients, origins
from smart_auth.model import MINUTE, SECOND

ANYWHERE = {"Access-Control-Allow-Origin": "*"}
EXPOSED = (
    "Location, Content-Location, ETag, Last-Modified, Link, WWW-Authenticate, Retry-After, "
    "RateLimit, RateLimit-Policy, X-Progress, X-Request-Id"
)
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ACCEPTED = (
    "Authorization, Content-Type, Accept, Prefer, If-Match, If-None-Match, If-None-Exist, "
    "If-Modified-Since, Cache-Control, X-Requested-With, X-Request-Id"
)
_KEPT = MINUTE
_AGAIN = SECOND // 10  # until an origin that was not found makes us look again
_PREFLIGHT_SECONDS = "600"


class Origins:
    """The origins of all clients. Credentials that browsers add by themselves are never allowed."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._known: frozenset[str] = frozenset()
        self._read: int | None = None

    async def allows(self, origin: str) -> bool:
        """Whether a page of this origin may call: it is one of a client that is not disabled."""
        now = self._authority.clock()
        age = None if self._read is None else now - self._read
        if age is None or age >= _KEPT or (origin not in self._known and age >= _AGAIN):
            self._read = now
            found = [
                origins(each) for each in await all_clients(self._authority) if not each.disabled
            ]
            self._known = frozenset().union(*found)
        return origin in self._known

    def changed(self) -> None:
        """Look again at the next call."""
        self._read = None

    async def headers(self, origin: str | None) -> dict[str, str]:
        """What an answer to a page of this origin says; nothing about origins that may not call."""
        if not origin or origin == "null" or not await self.allows(origin):
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": EXPOSED,
            "Vary": "Origin",
        }

    async def preflight(self, origin: str | None) -> dict[str, str]:
        """What the answer to a preflight says, the same for every resource."""
        said = await self.headers(origin)
        return said | PREFLIGHT if "Access-Control-Allow-Origin" in said else said


PREFLIGHT = {
    "Access-Control-Allow-Methods": METHODS,
    "Access-Control-Allow-Headers": ACCEPTED,
    "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
}
