"""HTTP to Interaction, Result to HTTP: headers, Prefer, ETag, errors, sizes.

A hand-written ASGI application, since it is on the path of every request.
https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from conformance.json import encode, parse, pretty
from conformance.outcome import FhirError, outcome
from fhir_server import binary
from fhir_server.access import check, limit
from fhir_server.audit.event import NO_INTERACTION, Caller
from fhir_server.body import Receive, read_body
from fhir_server.bulk import download, imports
from fhir_server.bulk.packing import takes_gzip
from fhir_server.deadlines import Deadlines, Late
from fhir_server.formats import FHIR_JSON, JSON_TYPES
from fhir_server.guarding import CSP, Header, guards
from fhir_server.interaction import (
    WRITES,
    Asked,
    Content,
    Interaction,
    MethodNotAllowed,
    Preferences,
    Resource,
    Result,
    Route,
    Unauthenticated,
    interaction,
    pairs,
    route,
)
from fhir_server.metering import FREE, Bill, Meter, Throttled, cost
from fhir_server.metrics import Metrics
from fhir_server.request_id import REQUEST_ID, request_id, request_of
from fhir_server.server import HEAVY, UNFORESEEN, Server, refusal_of
from fhir_server.storage.effort import counted
from fhir_server.times import http_date
from smart_auth.grant import NOBODY, Grant

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Any]
Headers = Mapping[bytes, bytes]

_FILES = "_bulk/"
_ANY = frozenset({"*/*", "application/*", ""})
_FORM = "application/x-www-form-urlencoded"
# A token in a URL would stay in logs and histories.
_TOKEN, _TOKEN_IS = b"access_token", b"access_token="
_ENCODED = re.compile(rb"(?:^|&)([^=&]*%[^=&]*)").findall  # names that are not written plainly
_MANY = 1000  # parameters among which _format and _pretty are looked for
_BODILESS = frozenset({"GET", "HEAD", "DELETE"})
_BODIES = frozenset({"create", "update", "patch", "transaction", "operation"})
_JSON_TYPE = (b"content-type", f"{FHIR_JSON}; charset=utf-8".encode())
_HEADER_ONLY = "An access token travels in the Authorization header only"
_NOT_ACCEPTED = f"This server answers in {FHIR_JSON}, which the request does not accept"
_QUICK = frozenset({"read", "vread", "capabilities"})  # which need no limit of time
_LATE = FhirError(
    "timeout",
    "The request took longer than this server allows. If it writes, look whether it was done, or "
    "send it again with the same Idempotency-Key",
    status=503,
)


class Http:
    """The ASGI application below the FHIR base. `prefix`: the base's path; `caller`: who asks, of
    the scope's headers and address, known at once or to be awaited (FhirError 401 when that cannot
    be told); `meter`: who keeps account of what is asked."""

    def __init__(
        self,
        server: Server,
        prefix: str,
        caller: Callable[[Headers, str], Caller | Awaitable[Caller]],
        metrics: Metrics,
        meter: Meter = FREE,
    ) -> None:
        self._server = server
        self._core = server.core
        self._meter = meter
        self._guards = guards(server.core.base_url.startswith("https://"))
        self._deadlines = Deadlines(server.core.limits.request_seconds)
        self._patience = Deadlines(server.core.limits.body_seconds)
        self._skip = len(prefix)
        self._caller = caller
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        repeats = len(headers) != len(scope["headers"])
        request = headers[REQUEST_ID] = request_id(headers)
        method = scope["method"]
        code = "refused"
        form, caller, bill, effort = _Form(), None, _FREE, None
        try:
            query: bytes = scope["query_string"]
            path = scope["path"][self._skip :].strip("/")
            if b"authorization" not in headers:
                bill = self._meter.stranger(_address(scope))
            found = self._who(headers, scope, path, repeats)
            caller = found if isinstance(found, Caller) else await found
            if bill is _FREE:
                bill = self._meter.known(caller.grant)
            form = _form_of(query, headers.get(b"accept", b""))
            if path.startswith(_FILES):
                form = form._replace(packs=takes_gzip(headers.get(b"accept-encoding", b"")))
            made = await self._asked(form, method, path, query, headers, receive, caller)
            code = made.code
            if code not in _QUICK:
                if bill is not _FREE:
                    bill.charge(cost(made))
                effort = counted()
            result = await self._performed(made, caller, form)
        except Throttled as error:
            bill = _FREE
            result = await self._throttled(error, caller or self._anybody(headers, scope))
        except FhirError as error:
            result = refused(error)
        except Exception as error:
            result = self._metrics.incident(error, code)
        said = ((REQUEST_ID, request), *bill.headers())
        await self._send(result, form, said, method == "HEAD", send)
        if effort is not None and effort.seconds:
            bill.settle(effort.seconds)
        self._metrics.observe(code, result.status, time.perf_counter() - began)

    def _performed(self, asked: Interaction, caller: Caller, form: _Form) -> Awaitable[Result]:
        """The result, in time."""
        if asked.type == "Binary":
            performing = binary.performed(self._server, asked, caller, form.accept)
        elif asked.operation == imports.IMPORT.code:
            performing = imports.performed(self._server, asked, caller)
        elif asked.operation in download.FILES:
            performing = download.performed(self._server, asked, caller, form.packs)
        else:
            performing = self._server.perform(asked, caller)
        return performing if asked.code in _QUICK else self._in_time(performing, asked, caller)

    async def _in_time(
        self, performing: Awaitable[Result], asked: Interaction, caller: Caller
    ) -> Result:
        """FhirError 503 when it takes too long: nothing is half done then, but what had begun to be
        committed may be done."""
        try:
            return await self._deadlines.within(performing)
        except Late:
            await self._server.refuse(asked, caller, _LATE)
            raise _LATE from None

    async def _throttled(self, error: Throttled, caller: Caller) -> Result:
        """The refusal, which is audited once a minute for each who is refused."""
        try:
            if error.first:
                await self._server.refuse(_NO_INTERACTION, caller, error)
        except FhirError as worse:
            return refused(worse)
        return refused(error)

    def _who(
        self, headers: Headers, scope: Scope, path: str, repeats: bool
    ) -> Caller | Awaitable[Caller]:
        """Who asks. What this server can do is told to anybody. `repeats`: some header is there
        more than once. FhirError 400, 401."""
        misplaced = _misplaced(scope, repeats)
        if misplaced is not None:
            return self._misplaced(misplaced, self._anybody(headers, scope))
        if path == "metadata" and b"authorization" not in headers:
            return self._anybody(headers, scope)
        return self._caller(headers, _address(scope))

    async def _misplaced(self, error: FhirError, caller: Caller) -> Caller:
        """Raises the error, once it is audited."""
        await self._server.refuse(_NO_INTERACTION, caller, error)
        raise error

    def _anybody(self, headers: Headers, scope: Scope) -> Caller:
        site = urlsplit(self._core.base_url).netloc
        return Caller(NOBODY, _address(scope), site, request_of(headers))

    async def _asked(
        self,
        form: _Form,
        method: str,
        path: str,
        query: bytes,
        headers: Headers,
        receive: Receive,
        caller: Caller,
    ) -> Interaction:
        """What a request asks for. What is refused before it is performed is audited here."""
        at = _NOWHERE
        try:
            limits = self._core.limits
            at = route(method, path, self._core.definitions.types)
            if not form.json and at.type != "Binary" and at.operation not in download.FILES:
                raise FhirError("not-supported", _NOT_ACCEPTED, status=406)
            asked = _asked(method, path, query, headers, caller, limits.url)
            if method in _BODILESS:
                return interaction(asked, at, limits.parameters)
            if at.type == "Binary" and at.code in WRITES:  # its pieces are stored as they come
                check(self._core, caller.grant, _bare(at))
            if at.operation == imports.IMPORT.code:
                imports.require_writing(self._core, caller.grant)
            resource, content, pairs, weight = await self._body(at, asked, headers, receive)
            if at.code == "transaction" and resource and resource.get("type") == "batch":
                at = at._replace(code="batch")
            return interaction(asked, at, limits.parameters, resource, content, pairs, weight)
        except Exception as error:
            await self._server.refuse(_bare(at), caller, refusal_of(error) or UNFORESEEN)
            raise

    async def _body(self, at: Route, asked: Asked, headers: Headers, receive: Receive) -> _Body:
        """What the request carries: a resource, a patch, or the parameters of a search."""
        limits = self._core.limits
        media = _media_type(headers)
        if asked.method == "POST" and at.code in ("search-type", "search-system"):
            if media not in (_FORM, ""):
                raise FhirError("not-supported", f"A search is posted as {_FORM}", status=415)
            data = await read_body(receive, headers, limits.url, self._patience)
            if _bears_token(data):
                raise FhirError("invalid", _HEADER_ONLY)
            return _Body(form=pairs(_ascii(data), limits.parameters))
        if at.code not in _BODIES:
            return _Body()
        if at.type == "Binary" and at.code in ("create", "update") and media not in JSON_TYPES:
            return _Body(await binary.received(self._server, at, headers, receive))
        if imports.takes(at.operation, media):
            return _Body(content=await imports.received(self._server, headers, receive))
        data = await read_body(receive, headers, limits.body, self._patience)
        if at.code == "patch":
            return _Body(content=Content(media, data), weight=len(data))
        if at.code == "operation":
            known = self._core.operations.get(at.operation or "")
            if known is not None and media in known.media:
                return _Body(content=Content(media, data), weight=len(data))
            if not data:
                return _Body()
        if media not in JSON_TYPES:
            raise FhirError("not-supported", f"Send a resource as {FHIR_JSON}", status=415)
        if len(data) < HEAVY:
            resource = parse(data, limits.depth)
        else:  # others are answered meanwhile
            resource = await asyncio.to_thread(parse, data, limits.depth)
        if at.type == "Binary" and at.code in ("create", "update"):
            resource = await binary.spooled(self._server, resource)
        return _Body(resource, weight=len(data))

    async def _send(
        self, result: Result, form: _Form, said: Iterable[Header], head: bool, send: Send
    ) -> None:
        body = result.body
        if form.pretty and body and result.media_type == FHIR_JSON:
            body = pretty(body)
        headers = [*self._guards, *said]
        if result.headers and any(name == _CSP for name, _ in result.headers):
            headers = [each for each in headers if each[0] != CSP]  # the answer has its own
        for name, value in result.headers:
            headers.append((name.encode(), value.encode("latin-1", "replace")))
        if result.stream is None:
            headers.append((b"content-length", b"%d" % len(body)))
        if result.media_type != FHIR_JSON:
            headers.append((b"content-type", result.media_type.encode("latin-1", "replace")))
        elif body or result.stream is not None:
            headers.append(_JSON_TYPE)
        if result.etag is not None:
            headers.append((b"etag", b'W/"%d"' % result.etag))
        if result.updated is not None:
            headers.append((b"last-modified", http_date(result.updated).encode()))
        if result.location is not None:
            place = b"content-location" if result.status == 202 else b"location"  # of its status
            headers.append((place, f"{self._core.base_url}/{result.location}".encode()))
        start = {"type": "http.response.start", "status": result.status, "headers": headers}
        await send(start)
        if result.stream is not None and not head:
            async for part in result.stream:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            body = b""
        await send({"type": "http.response.body", "body": b"" if head else body})


def refused(error: FhirError) -> Result:
    """The answer that an error is."""
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Throttled):
        headers = tuple((name.decode(), value.decode()) for name, value in error.headers)
    if isinstance(error, MethodNotAllowed):
        headers = (("allow", ", ".join(error.allowed)),)
    if error.status == 503:
        headers = (("retry-after", "5"),)
    if error.status == 401:
        challenge = error.challenge if isinstance(error, Unauthenticated) else "Bearer"
        headers = (("www-authenticate", challenge),)
    if error.issues[0].code == "forbidden":
        headers = (("www-authenticate", 'Bearer error="insufficient_scope"'),)
    return Result(error.status, encode(outcome(error.issues)), headers=headers)


class _Body(NamedTuple):
    """What a request carries, and its size in bytes where it has to be worked through."""

    resource: Resource | None = None
    content: Content | None = None
    form: tuple[tuple[str, str], ...] = ()
    weight: int = 0


_NO_INTERACTION = Interaction(NO_INTERACTION)
_NOWHERE = Route(NO_INTERACTION)
_FREE: Bill = FREE
_CSP = CSP.decode()


class _Form(NamedTuple):
    """How the answer is to look. `accept`: the media types that the client takes, best first;
    `json`: whether FHIR's JSON is among them; `packs`: whether it takes long files in gzip."""

    accept: tuple[str, ...] = (FHIR_JSON,)
    pretty: bool = False
    json: bool = True
    packs: bool = False


def _form_of(query: bytes, accept: bytes) -> _Form:
    form = _accepted(accept.decode("latin-1"))
    if b"_format" not in query and b"_pretty" not in query:
        return form
    try:
        asked = dict(pairs(_ascii(query), _MANY))
    except FhirError:
        return form  # refused, and audited, where the query is read
    named = asked.get("_format", "").replace(" ", "+")
    return (_accepted(named) if named else form)._replace(pretty=asked.get("_pretty") == "true")


@lru_cache(1024)
def _accepted(header: str) -> _Form:
    types = tuple(
        each.split(";")[0].strip().lower() for each in header.split(",") if not _REFUSED(each)
    )
    return _Form(types, json=any(each in JSON_TYPES or each in _ANY for each in types))


# The headers that make an interaction another one.
_CONDITIONS = frozenset(
    {
        b"if-none-exist",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"prefer",
        b"idempotency-key",
    }
)


def _asked(
    method: str, path: str, query: bytes, headers: Headers, caller: Caller, longest: int
) -> Asked:
    if len(query) > longest:
        raise FhirError("too-long", f"A query has at most {longest} bytes; POST it", status=414)
    text = _ascii(query) if query else ""
    language = _text(headers, b"accept-language")
    if _CONDITIONS.isdisjoint(headers):
        return Asked(method, path, text, language=language)
    return Asked(
        method,
        path,
        text,
        _text(headers, b"if-none-exist"),
        _text(headers, b"if-match"),
        _text(headers, b"if-none-match"),
        _text(headers, b"if-modified-since"),
        _preferences(headers),
        _once(headers, caller),
        language,
    )


def _bare(at: Route) -> Interaction:
    """Where a request leads, and no more of it."""
    return Interaction(at.code, at.type, at.id, at.version, at.operation)


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _once(headers: Headers, caller: Caller) -> str | None:
    key = _text(headers, b"idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= 256:
        raise FhirError("value", "An Idempotency-Key has 1 to 256 characters")
    return f"{_whose(caller.grant)} {key}"


@lru_cache(4096)
def _whose(grant: Grant) -> str:
    """Among whose requests a key is unique: those of a user of an app, or of a grant where it is
    limited to patients, under the same rights, since an answer tells what they open. A system's
    outlives its tokens, so that it can go on where it stopped."""
    if grant.id and limit(grant) is not None:
        return f"grant {grant.id} {_rights(grant)}"
    named = (grant.client, grant.agent or grant.name, _rights(grant))
    return " ".join(each for each in named if each)


def _rights(grant: Grant) -> str:
    """A digest of all that decides on what a grant opens."""
    reach, ids = (None if each is None else sorted(each) for each in (grant.reach, limit(grant)))
    parts = (grant.unrestricted, grant.identity, sorted(grant.scopes), reach, ids)
    return hashlib.sha256(encode(parts)).hexdigest()[:32]


def _misplaced(scope: Scope, repeats: bool) -> FhirError | None:
    """Why it cannot be told by which token a request is made."""
    if repeats and _repeats(scope, b"authorization"):
        return FhirError("invalid", "A request has one Authorization header")
    if _bears_token(scope["query_string"]):
        return FhirError("invalid", _HEADER_ONLY)
    return None


def _bears_token(query: bytes) -> bool:
    """Whether a query or form has a parameter by which OAuth would send a token."""
    if _TOKEN_IS in query:
        return True
    return b"%" in query and any(_TOKEN in unquote_to_bytes(name) for name in _ENCODED(query))


def _repeats(scope: Scope, name: bytes) -> bool:
    return [each for each, _ in scope["headers"]].count(name) > 1


# A media type that the client does not take, or of another version of FHIR.
_REFUSED = re.compile(r";\s*(q=0(\.0*)?\s*(;|$)|fhirversion=(?!4))", re.IGNORECASE).search
_RETURNS: dict[str, Any] = {
    "minimal": "minimal",
    "representation": "representation",
    "operationoutcome": "OperationOutcome",
}


def _preferences(headers: Headers) -> Preferences:
    header = headers.get(b"prefer")
    return _preferred(header.decode("latin-1")) if header else _NO_PREFERENCE


_NO_PREFERENCE = Preferences()


@lru_cache(256)
def _preferred(header: str) -> Preferences:
    """The preferences we know; others may be ignored, as RFC 7240 says."""
    parts = header.replace(";", ",").split(",")
    named = dict((part.strip().lower() + "=").split("=")[:2] for part in parts)
    lenient = named.get("handling", "").strip() == "lenient"
    returns = _RETURNS.get(named.get("return", "").strip())
    return Preferences(returns, "lenient" if lenient else "strict", "respond-async" in named)


def _media_type(headers: Headers) -> str:
    return headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise FhirError("invalid", "A query is percent-encoded ASCII") from error


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "local"
