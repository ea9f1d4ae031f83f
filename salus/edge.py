"""What every answer that is no FHIR passes: the account of its address, and the headers that guard
it, where what answered set none of its own.

https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias

from conformance.json import encode
from fhir_server.guarding import Header, guards
from fhir_server.metering import FREE, Bill, Free, Headers, Throttled
from salus.console.page import busy
from salus.rates import Rates
from smart_auth.authority import AUTHORIZE, SIGN_IN, Authority, Happening, Site
from smart_auth.errors import OAuthError

Scope: TypeAlias = MutableMapping[str, Any]
Asgi: TypeAlias = Callable[[Scope, Any, Any], Awaitable[None]]

_READING, _WRITING = 1, 5  # units of a request by its method
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_ORIGIN, _RESOURCE = b"access-control-allow-origin", b"cross-origin-resource-policy"
_ANYWHERE: Header = (_RESOURCE, b"cross-origin")
_PERMISSIONS: Header = (b"permissions-policy", b"camera=(), microphone=(), geolocation=()")
# Of a page that no app opens beside itself. A sign-in may stand in a window that an app opened and
# waits for, so pages on the way of a launch have none.
_OPENER: Header = (b"cross-origin-opener-policy", b"same-origin")


class Area(NamedTuple):
    """A part of the server: where its paths begin, below the base, and how it refuses. `counted`:
    whether an account is kept of who comes there; `failing`: of what fails only, for whoever proves
    to be the operator is not held up; `alone`: no app opens its pages beside itself."""

    name: str
    path: str
    counted: bool = True
    pages: bool = True
    alone: bool = False
    failing: bool = False


# The first that fits. Whether the server is up can always be asked.
AREAS = (
    Area("health", "/health", counted=False, pages=False),
    Area("sign-in", AUTHORIZE),
    Area("sign-in", SIGN_IN),
    Area("protocol", "/oauth/", pages=False),
    Area("operator", "/operator", pages=False, failing=True),
    Area("protocol", "/fhir/", pages=False),
    Area("metrics", "/metrics", pages=False),
    Area("account", "/account", alone=True),
    Area("account", "/admin", alone=True),
    Area("account", "/conformance", alone=True),
    Area("account", "/validate", alone=True),
    Area("pages", ""),
)


class Edge:
    """An ASGI application before another. `authority` gives the authorization server once it is
    open: its audit is told of refusals."""

    def __init__(
        self,
        app: Asgi,
        rates: Rates | None,
        site: Site,
        root: str,
        authority: Callable[[], Authority | None],
    ) -> None:
        self._app, self._rates, self._site, self._root = app, rates, site, root
        self._authority = authority
        self._guards = (*guards(site.secure), _PERMISSIONS)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        area = self._area(scope["path"])
        try:
            bill = self._bill(area, scope)
        except Throttled as error:
            await self._refuse(area, scope, receive, send, error)
            return
        await self._app(scope, receive, self._guarded(area, bill, send))

    def _area(self, path: str) -> Area:
        below = path.removeprefix(self._root)
        return next(each for each in AREAS if below.startswith(each.path))

    def _bill(self, area: Area, scope: Scope) -> Bill:
        """Throttled."""
        if self._rates is None or not area.counted:
            return FREE
        cost = _READING if scope["method"] in _SAFE else _WRITING
        if area.failing:
            cost = 0
        return self._rates.visitor(area.name, _address(scope), cost)

    def _guarded(self, area: Area, bill: Bill, send: Any) -> Any:
        """A `send` that adds what the answer does not say itself."""

        async def send_with(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                if area.failing and message["status"] >= 400:
                    bill.owe(_WRITING)
                headers = [*message["headers"], *bill.headers()]
                named = {name.lower() for name, _ in headers}
                if (_ORIGIN, b"*") in headers and _RESOURCE not in named:
                    headers.append(_ANYWHERE)
                    named.add(_RESOURCE)
                headers += [each for each in self._guards if each[0] not in named]
                if area.alone:
                    headers.append(_OPENER)
                message = {**message, "headers": headers}
            await send(message)

        return send_with

    async def _refuse(
        self, area: Area, scope: Scope, receive: Any, send: Any, error: Throttled
    ) -> None:
        """A page for who looks at pages, OAuth's error for programs."""
        await self._tell(area, scope, error)
        if area.pages and _shows_pages(scope):
            answer = busy(self._site, error.wait)
            await answer(scope, receive, self._guarded(area, _Said(error.headers), send))
            return
        refusal = OAuthError("slow_down", str(error))
        body = encode(refusal.body())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
        await self._guarded(area, _Said(error.headers), send)(start)
        await send({"type": "http.response.body", "body": body})

    async def _tell(self, area: Area, scope: Scope, error: Throttled) -> None:
        """Once a minute for each address and area."""
        authority = self._authority()
        if error.first and authority is not None:
            told = Happening("throttled", False, address=_address(scope), detail=area.name)
            await authority.audit(told)


class _Said(Free):
    """The bill of a request that was refused: what its refusal says."""

    def __init__(self, said: Headers) -> None:
        self._said = said

    def headers(self) -> Headers:
        return self._said


def admit(rates: Rates | None) -> Callable[[str, str], None]:
    """What the authorization server asks before it looks at what a client sent."""

    def admitted(client: str, address: str) -> None:
        try:
            if rates is not None:
                rates.app(client, address, _WRITING)
        except Throttled as error:
            headers = tuple((name.decode(), value.decode()) for name, value in error.headers)
            raise OAuthError("slow_down", str(error), headers=headers) from None

    return admitted


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "local"


def _shows_pages(scope: Scope) -> bool:
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return b"text/html" in accepted.lower()
