"""A Bundle of interactions: its entries as requests, its response, and what performs them.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from conformance.json import encode
from conformance.outcome import FhirError, outcome
from fhir_server.audit.event import Caller
from fhir_server.core import Core, Step
from fhir_server.interaction import (
    WRITES,
    Asked,
    Content,
    Interaction,
    Resource,
    Result,
    interaction,
    require_offered,
    route,
)
from fhir_server.search.results import bundle as bundle_of
from fhir_server.storage.store import Store, Transaction
from fhir_server.times import instant

Act = Callable[[Transaction], Awaitable[Result]]


class Performer(Protocol):
    """What performs the entries: the Server."""

    store: Store
    core: Core

    def prepared(self, asked: Interaction, caller: Caller) -> Any:
        """Check that an interaction is offered and allowed, and plan it. FhirError."""
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
        written: list[Any] | None = None,
    ) -> Awaitable[Result]:
        """An interaction inside a transaction, without its audit."""
        ...

    async def checked(self, step: Step, written: Sequence[Any]) -> None:
        """Look at what a transaction Bundle has written once all of it is there. FhirError."""
        ...

    async def commit(self, asked: Interaction, caller: Caller, act: Act, writes: bool) -> Result:
        """A transaction around `act`, with its audit."""
        ...


ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
_BREATH = 20  # entries after which other requests get their turn


class Request(Struct, frozen=True):
    """One entry: its place in the Bundle, how it is named there and what it asks."""

    place: int
    method: str
    full_url: str | None
    asked: Interaction
    plan: Any = None


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
    if method not in ORDER or not isinstance(url, str):
        raise FhirError("value", "A request needs an HTTP method and a url")
    texts = {n: request.get(n) for n in ("ifNoneExist", "ifMatch", "ifNoneMatch")}
    if not all(value is None or isinstance(value, str) for value in texts.values()):
        raise FhirError("value", "ifMatch, ifNoneMatch and ifNoneExist are strings")
    resource, full_url = item.get("resource"), item.get("fullUrl")
    if not isinstance(resource, dict | None) or not isinstance(full_url, str | None):
        raise FhirError("structure", "resource is an object and fullUrl a string")
    path, _, query = url.removeprefix(core.base_url).strip("/").partition("?")
    if len(path) + len(query) > core.limits.url:
        raise FhirError("too-long", f"A url has at most {core.limits.url} characters", status=400)
    at = route(method, path, core.definitions.types)
    if at.code in ("transaction", "batch"):
        raise FhirError("invalid", "A Bundle is not sent inside a Bundle")
    if at.type:
        require_offered(at.type, at.code)
    one = Asked(
        method,
        path,
        query,
        texts["ifNoneExist"],
        texts["ifMatch"],
        texts["ifNoneMatch"],
        None,
        asked.prefer,
    )
    content = _patch_content(resource) if at.code == "patch" else None
    made = interaction(one, at, core.limits.parameters, resource, content)
    return Request(place, method, full_url, made)


def _patch_content(resource: Resource | None) -> Content | None:
    """A JSON Patch travels in a Binary."""
    if resource is None or resource.get("resourceType") != "Binary":
        return None
    try:
        data = base64.b64decode(str(resource.get("data", "")), validate=True)
    except binascii.Error as error:
        raise FhirError("value", "The patch in this Binary is not base64", "Binary.data") from error
    return Content(str(resource.get("contentType")), data)


# --- what is answered ----------------------------------------------------------------------------


class Done(NamedTuple):
    """One entry and how it ended; no request when it was none."""

    request: Request | None
    result: Result | FhirError


def answered(core: Core, type: str, done: Sequence[Done]) -> Result:
    """The response Bundle, with all that its entries touched."""
    results = [each.result for each in done if isinstance(each.result, Result)]
    return Result(
        200,
        bundle_of(type, [_response(core, each) for each in done]),
        touched=tuple(t for each in results for t in each.touched),
        patients=tuple(dict.fromkeys(p for each in results for p in each.patients)),
    )


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


def _response(core: Core, done: Done) -> bytes:
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
    shown = b'"resource":' + result.body + b"," if result.body and member else b""
    return b"{" + shown + b'"response":' + encode(response) + b"}"


def _member(request: Request | None) -> str | None:
    """Where an entry's body goes: a write's only when Prefer asks for it."""
    if request is None or request.asked.code not in WRITES:
        return "resource"
    returns = {"representation": "resource", "OperationOutcome": "outcome"}
    return returns.get(request.asked.prefer.returns or "")


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
