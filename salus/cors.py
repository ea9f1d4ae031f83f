"""Cross-origin requests to the FHIR API: pages of registered apps may call it, and every page may
ask what the server can do.

https://fetch.spec.whatwg.org/#http-cors-protocol, https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from fhir_server.guarding import guards
from smart_auth.cors import ANYWHERE
from smart_auth.tokens import Tokens

Scope: TypeAlias = MutableMapping[str, Any]
Asgi: TypeAlias = Callable[[Scope, Any, Any], Awaitable[None]]

_ASKS = b"access-control-request-method"  # makes an OPTIONS request a preflight


class Cors:
    """An ASGI application before another. `public`: the path that every page may read."""

    def __init__(self, app: Asgi, tokens: Tokens, public: str) -> None:
        self._app, self._origins, self._public = app, tokens.origins, public

    def __call__(self, scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
        """Requests that no page of another origin made go straight on."""
        for name, value in scope["headers"]:
            if name == b"origin":
                return self._cross(scope, receive, send, value.decode("latin-1"))
        return self._app(scope, receive, send)

    async def _cross(self, scope: Scope, receive: Any, send: Any, origin: str) -> None:
        if scope["method"] == "OPTIONS" and any(name == _ASKS for name, _ in scope["headers"]):
            await _answer(send, await self._origins.preflight(origin))
            return
        public = scope["path"] == self._public
        said = ANYWHERE if public else await self._origins.headers(origin)
        added = _encoded(said)

        async def send_with(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with)


async def _answer(send: Any, headers: Mapping[str, str]) -> None:
    """The same for every resource, there or not."""
    said = [*guards(False), *_encoded(headers)]
    start = {"type": "http.response.start", "status": 204, "headers": said}
    await send(start)
    await send({"type": "http.response.body", "body": b""})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
