"""A Bundle of interactions: its entries as requests, its response, and what performs them.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from conformance.json import encode
from conformance.outcome import FhirError, outcome
from fhir_server.audit.event import NO_INTERACTION, Caller
from fhir_server.changes import Written
from fhir_server.core import Core
from fhir_server.interaction import (
    WRITES,
    Asked,
    Content,
    Interaction,
    Resource,
    Result,
    interaction,
    route,
)
from fhir_server.search.results import bundle as bundle_of
from fhir_server.spool import without_data
from fhir_server.storage.store import Store, Transaction
from fhir_server.times import http_date, instant, parse_instant

Act = Callable[[Transaction], Awaitable[Result]]


class Performer(Protocol):
    """What performs the entries: the Server."""

    store: Store
    core: Core

    def allow(self, asked: Interaction, caller: Caller) -> None:
        """Check that an interaction is offered and allowed. FhirError."""
        ...

    async def plan(self, asked: Interaction, caller: Caller) -> Any:
        """Check that an interaction is offered and allowed, and plan it. FhirError."""
        ...

    async def repeated(self, asked: Interaction, caller: Caller, digest: bytes) -> Result | None:
        """The Result that a Bundle's `once` key has already, by what `once.digest` tells of it."""
        ...

    def writes(self, asked: Interaction) -> bool:
        """Whether an interaction changes something."""
        ...

    def act(
        self,
        tx: Transaction,
        asked: Interaction,
        caller: Caller,
        plan: Any,
        written: list[Written] | None = None,
    ) -> Awaitable[Result]:
        """An interaction inside a transaction, without its audit."""
        ...

    async def audit(
        self, caller: Caller, parts: Sequence[tuple[Interaction, Result | FhirError]]
    ) -> None:
        """Record the events of interactions that only read or were refused."""
        ...

    async def commit(
        self,
        asked: Interaction,
        caller: Caller,
        act: Act,
        writes: bool,
        digest: bytes | None = None,
    ) -> Result:
        """A transaction around `act`, with its audit. `digest`: where it was taken already."""
        ...


_HEADERS = ("ifNoneExist", "ifMatch", "ifNoneMatch", "ifModifiedSince")
_ABSOLUTE = ("urn:", "http://", "https://")
_WEIGHED = 1024 * 1024  # bytes of a Bundle whose entries are weighed: one may be heavy
ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
_BREATH = 20  # entries after which other requests get their turn


class Request(Struct, frozen=True):
    """One entry: its place in the Bundle, how it is named there, what it asks, and which
    `conditional` references its resource has, once that was looked for."""

    place: int
    method: str
    full_url: str | None
    asked: Interaction
    plan: Any = None
    conditional: tuple[str, ...] = ()


def items(core: Core, asked: Interaction) -> list[dict[str, Any]]:
    """The entries as they were sent. FhirError 400, 413."""
    resource = asked.resource or {}
    if resource.get("resourceType") != "Bundle" or resource.get("type") != asked.code:
        raise FhirError("invalid", "The base takes a Bundle of type batch or transaction")
    items = resource.get("entry", [])
    if not isinstance(items, list):
        raise FhirError("structure", "entry is an array", "Bundle.entry")
    if len(items) > core.limits.entries:
        raise FhirError(
            "too-costly",
            f"A Bundle has at most {core.limits.entries} entries; send several",
            "Bundle.entry",
        )
    return items


def request_of(core: Core, asked: Interaction, place: int, item: Any) -> Request:
    """FhirError when an entry is not a request."""
    request = item.get("request") if isinstance(item, dict) else None
    if not isinstance(request, dict):
        raise FhirError("required", "An entry needs a request", status=400)
    method, url = request.get("method"), request.get("url")
    if not isinstance(method, str) or method not in ORDER or not isinstance(url, str):
        raise FhirError("value", "A request needs an HTTP method and a url")
    texts = {name: request.get(name) for name in _HEADERS}
    if not all(value is None or isinstance(value, str) for value in texts.values()):
        raise FhirError("value", f"{', '.join(_HEADERS)} are strings")
    resource, full_url = item.get("resource"), item.get("fullUrl")
    if not isinstance(resource, dict | None) or not isinstance(full_url, str | None):
        raise FhirError("structure", "resource is an object and fullUrl a string")
    if full_url is not None and not full_url.startswith(_ABSOLUTE):
        raise FhirError("value", "fullUrl is an absolute URL or a urn", "Bundle.entry.fullUrl")
    path, _, query = url.removeprefix(core.base_url).strip("/").partition("?")
    if len(path) + len(query) > core.limits.url:
        raise FhirError("too-long", f"A url has at most {core.limits.url} characters", status=400)
    at = route(method, path, core.definitions.types)
    if at.code in ("transaction", "batch"):
        raise FhirError("invalid", "A Bundle is not sent inside a Bundle")
    one = Asked(
        method,
        path,
        query,
        texts["ifNoneExist"],
        texts["ifMatch"],
        texts["ifNoneMatch"],
        _http_date(texts["ifModifiedSince"]),
        asked.prefer,
    )
    content = _patch_content(resource) if at.code == "patch" else None
    weight = len(encode(resource)) if resource and asked.weight > _WEIGHED else 0
    made = interaction(one, at, core.limits.parameters, resource, content, weight=weight)
    return Request(place, method, full_url, made)


def _http_date(text: str | None) -> str | None:
    """What a request's header would say; an instant in a Bundle."""
    try:
        return http_date(parse_instant(text)) if text else None
    except ValueError as error:
        raise FhirError("value", "ifModifiedSince is an instant") from error


def _patch_content(resource: Resource | None) -> Content | None:
    """A JSON Patch travels in a Binary."""
    if resource is None or resource.get("resourceType") != "Binary":
        return None
    try:
        data = base64.b64decode(str(resource.get("data", "")), validate=True)
    except ValueError as error:  # binascii.Error is one
        raise FhirError("value", "The patch in this Binary is not base64", "Binary.data") from error
    return Content(str(resource.get("contentType")), data)


# --- what is answered ----------------------------------------------------------------------------


class Done(NamedTuple):
    """One entry and how it ended; no request when it was none."""

    request: Request | None
    result: Result | FhirError


class Budget:
    """What performing the entries of one Bundle may cost. FhirError beyond it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._until = core.clock() + int(core.limits.bundle_seconds * 1_000_000)
        self.left = core.limits.bundle_bytes

    def spend(self, result: Result) -> Result:
        """Count an answer, and refuse it when it is too much."""
        self.count(result)
        self.check()
        return result

    def count(self, result: Result) -> Result:
        """Count an answer that is given all the same: what was written is said to be. What may run
        again sets `left` back to what it was."""
        self.left -= len(result.body)
        return result

    def check(self) -> None:
        limits = self._core.limits
        if self.left < 0:
            raise FhirError(
                "too-costly",
                f"The answers to a Bundle have at most {limits.bundle_bytes} bytes; send several",
            )
        if self._core.clock() > self._until:
            raise FhirError(
                "too-costly",
                f"A Bundle is performed within {limits.bundle_seconds:g} seconds; send several",
                status=422,
            )


def answered(core: Core, type: str, done: Sequence[Done]) -> Result:
    """The response Bundle, with all that its entries touched."""
    return union(bundle_of(type, [response(core, each) for each in done]), done)


def union(body: bytes, done: Sequence[Done]) -> Result:
    """One Result for entries: what was written is audited together, the others by themselves."""
    wrote: list[Result] = []
    parts: list[tuple[Interaction, Result | FhirError]] = []
    for each in done:
        asked = each.request.asked if each.request else _NO_INTERACTION
        if isinstance(each.result, Result) and asked.code in WRITES:
            wrote.append(each.result)
        else:
            parts.append((asked, each.result))
    return Result(
        200,
        body,
        touched=tuple(t for each in wrote for t in each.touched),
        patients=tuple(dict.fromkeys(p for each in wrote for p in each.patients)),
        parts=tuple(parts),
    )


_NO_INTERACTION = Interaction(NO_INTERACTION)


def located(error: FhirError, place: int) -> FhirError:
    """The same refusal, its expressions inside the Bundle."""
    at = f"Bundle.entry[{place}]"
    issues = [issue._replace(expression=_inside(at, issue.expression)) for issue in error.issues]
    return FhirError(issues[0].code, issues[0].text, status=error.status, issues=issues)


async def breathe(place: int) -> None:
    """Let other requests have their turn now and then."""
    if place % _BREATH == _BREATH - 1:
        await asyncio.sleep(0)


def _inside(at: str, expression: str | None) -> str:
    if expression is None or expression.startswith("Bundle.entry"):
        return expression or at
    _, dot, rest = expression.partition(".")
    return f"{at}.resource{dot}{rest}"


def response(core: Core, done: Done) -> bytes:
    """One entry of the response."""
    if isinstance(done.result, FhirError):
        body = {"status": _status(done.result.status), "outcome": outcome(done.result.issues)}
        return b'{"response":' + encode(body) + b"}"
    result, request = done.result, done.request
    response: dict[str, Any] = {"status": _status(result.status)}
    if result.location:
        response["location"] = f"{core.base_url}/{result.location}"
    if result.etag is not None:
        response["etag"] = f'W/"{result.etag}"'
    if result.updated is not None:
        response["lastModified"] = instant(result.updated)
    member = _member(request)
    if result.body and member == "outcome":
        return b'{"response":' + encode(response)[:-1] + b',"outcome":' + result.body + b"}}"
    shown = b'"resource":' + without_data(result.body) + b"," if result.body and member else b""
    return b"{" + shown + b'"response":' + encode(response) + b"}"


def _member(request: Request | None) -> str | None:
    """Where an entry's body goes: a write's only when Prefer asks for it."""
    if request is None or request.asked.code not in WRITES:
        return "resource"
    returns = {"representation": "resource", "OperationOutcome": "outcome"}
    return returns.get(request.asked.prefer.returns or "")


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
