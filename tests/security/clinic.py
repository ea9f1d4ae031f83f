"""A server in this process with whatever grants a test makes, asked through its real ASGI face."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any

from conformance import definitions
from conformance.validator import Validator
from fhir_server import operations
from fhir_server.audit.event import Caller
from fhir_server.core import Core
from fhir_server.http import Http
from fhir_server.interaction import Unauthenticated
from fhir_server.limits import Limits
from fhir_server.links import Links
from fhir_server.metrics import Metrics
from fhir_server.request_id import request_of
from fhir_server.search.index import Index
from fhir_server.server import Server
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.store import Store
from smart_auth.grant import Grant, Scope
from tests.derived_keys import DerivedKeys

BASE = "http://clinic.example/fhir"
KEY = bytes(range(32))
EVERYBODY = Grant.operator("test")


@cache
def core() -> Core:
    """What every server of these tests needs, made once."""
    known = definitions.load()
    return Core(
        definitions=known,
        validator=Validator(known),
        index=Index(known, BASE, UTC),
        links=Links(KEY),
        limits=Limits(),
        base_url=BASE,
        timezone=UTC,
        capability=lambda current: b'{"resourceType":"CapabilityStatement"}',
        operations=operations.ALL,
    )


def grant(scopes: str = "", **more: Any) -> Grant:
    """A grant by the text of its scopes, as an authorization server would make it."""
    clinical = []
    for text in scopes.split():
        context, _, rest = text.partition("/")
        type, _, rest = rest.partition(".")
        letters, _, query = rest.partition("?")
        pairs = [each.partition("=") for each in query.split("&") if each]
        asked = tuple((name, value) for name, _, value in pairs)
        clinical.append(Scope(context, type, letters, asked))  # type: ignore[arg-type]
    return Grant("an app", scopes=tuple(clinical), **{"id": scopes, **more})


@dataclass(frozen=True)
class Answer:
    """All that a client gets."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name.encode()]
        return found[0].decode() if found else None

    @property
    def code(self) -> str:
        """The first issue's code."""
        return self.json["issue"][0]["code"]

    @property
    def names(self) -> list[str]:
        """Type/id of the entries of a searchset or history, in order."""
        entries = self.json.get("entry", [])
        return [each["fullUrl"].removeprefix(BASE + "/") for each in entries]

    @property
    def following(self) -> str | None:
        """The next page's URL, below the base."""
        links = {each["relation"]: each["url"] for each in self.json.get("link", [])}
        return links["next"].removeprefix(BASE).removeprefix("/") if "next" in links else None


class Clinic:
    """A server over a store. Every method may be called from plain functions."""

    def __init__(self, store: Store, runner: asyncio.Runner, **changed: Any) -> None:
        self._runner = runner
        self.store = store
        self.server = Server(store, replace(core(), **changed))
        self._grants: dict[bytes, Grant] = {}
        self.http = Http(self.server, "/fhir", self._caller, Metrics())

    def _caller(self, headers: Any, address: str) -> Caller:
        token = headers.get(b"authorization")
        if token not in self._grants:
            raise Unauthenticated("A token is needed", 'Bearer realm="clinic"')
        return Caller(self._grants[token], address, "clinic.example", request_of(headers))

    def ask(
        self,
        grant: Grant | None,
        method: str,
        url: str,
        body: Any = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        """What is answered to one request. `url` is below the base."""
        return self._runner.run(self.asked(grant, method, url, body, headers))

    async def asked(
        self,
        grant: Grant | None,
        method: str,
        url: str,
        body: Any = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        path, _, query = url.partition("?")
        sent = [(b"x-request-id", b"clinic")]  # so that equal answers are equal
        sent += [(name.lower().encode(), value.encode()) for name, value in headers]
        if grant is not None:
            token = f"Bearer {id(grant)}".encode()
            self._grants[token] = grant
            sent.append((b"authorization", token))
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        if b"content-type" not in dict(sent) and data:
            patch = method == "PATCH"
            kind = "application/json-patch+json" if patch else "application/fhir+json"
            sent.append((b"content-type", kind.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": f"/fhir/{path}",
            "query_string": query.replace(" ", "%20").encode(),
            "headers": sent,
            "client": ("127.0.0.1", 1),
        }
        parts: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(part: dict[str, Any]) -> None:
            parts.append(part)

        await self.http(scope, receive, send)
        if parts[0]["status"] == 500:  # a server that fails is no server that refuses
            raise RuntimeError(f"{method} {url} was answered with 500")
        bytes_sent = b"".join(part.get("body", b"") for part in parts[1:])
        return Answer(parts[0]["status"], tuple(parts[0]["headers"]), bytes_sent)

    def put(self, *resources: dict[str, Any]) -> None:
        """Store resources under their ids, as somebody who may do everything."""
        for each in resources:
            answer = self.ask(EVERYBODY, "PUT", f"{each['resourceType']}/{each['id']}", each)
            assert answer.status in (200, 201), answer.body

    def names(self, grant: Grant, url: str) -> list[str]:
        """What a search or history finds, page after page."""
        found: list[str] = []
        following: str | None = url
        while following is not None:
            answer = self.ask(grant, "GET", following)
            assert answer.status == 200, (url, answer.body)
            found += answer.names
            following = answer.following
        return found


async def opened(folder: Path) -> SqliteStore:
    """A SQLite store in a folder."""
    return await SqliteStore.open(folder, KEY, DerivedKeys())
