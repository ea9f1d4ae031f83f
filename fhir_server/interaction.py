"""The first narrow waist: an HTTP request, a Bundle entry and a message become an Interaction, and
every Interaction ends in a Result. One route table says which there are.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote_plus

from msgspec import Struct

from conformance.outcome import FhirError
from fhir_server.ids import is_id

Resource = dict[str, Any]
Parameters = tuple[tuple[str, str], ...]  # decoded name and value, in the order of the request


class Preferences(NamedTuple):
    """The Prefer header: what a write returns, how unknown search parameters are met, and whether
    the answer may come later."""

    returns: Literal["minimal", "representation", "OperationOutcome"] | None = None
    handling: Literal["strict", "lenient"] = "strict"
    asynchronous: bool = False  # respond-async


class Content(Struct, frozen=True):
    """A body that is not a parsed resource: a patch, or a Binary's own bytes."""

    media_type: str
    data: bytes
    security_context: str | None = None
    spool: tuple[str, int] | None = None  # name and size of a body that waits in kept chunks


class Interaction(Struct, frozen=True):
    """What is asked. `code` is the standard's: read, vread, update, patch, delete,
    history-instance, history-type, history-system, create, search-type, search-system,
    capabilities, batch, transaction; or operation. A conditional interaction has `condition`, the
    search that selects (for create: If-None-Exist). A search may be within a `compartment`, its
    type and id; of no `type` it is then on all types of it. `once` is a key under which the Result
    is kept in the same transaction: the same key again returns that Result."""

    code: str
    type: str | None = None
    id: str | None = None
    version: str | None = None
    operation: str | None = None
    parameters: Parameters = ()
    resource: Resource | None = None
    content: Content | None = None
    condition: Parameters | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    prefer: Preferences = Preferences()
    once: str | None = None
    weight: int = 0  # bytes of the body; what is heavy is prepared apart
    compartment: tuple[str, str] | None = None
    language: str | None = None  # Accept-Language

    def settled(
        self,
        *,
        code: str | None = None,
        id: str | None = None,
        resource: Resource | None = None,
    ) -> Interaction:
        """The same with its condition settled, and what is given put in its place."""
        return Interaction(
            code or self.code,
            self.type,
            id or self.id,
            self.version,
            self.operation,
            self.parameters,
            resource or self.resource,
            self.content,
            None if id else self.condition,
            self.if_match,
            self.if_none_match,
            self.if_modified_since,
            self.prefer,
            self.once,
            self.weight,
            self.compartment,
            self.language,
        )


class Result(Struct, frozen=True):
    """What is answered: the body's final bytes (JSON, unless `media_type` says otherwise), or a
    stream of them. The audit names what was `touched`, (type, id, version number or None), and
    whose it was: `patients`, as "Patient/id"; entries of a Bundle that only read or were refused
    are `parts`, with events of their own. `asked`: the parameters behind a paging link;
    `described`: a word for the audit where success is not what the interaction's name says."""

    status: int
    body: bytes = b""
    media_type: str = "application/fhir+json"
    etag: int | None = None
    updated: int | None = None  # microseconds, for Last-Modified
    location: str | None = None  # relative: Patient/1/_history/1
    stream: AsyncIterator[bytes] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    touched: tuple[tuple[str, str, int | None], ...] = ()
    patients: tuple[str, ...] = ()
    parts: tuple[tuple[Interaction, Result | FhirError], ...] = ()
    asked: Parameters | None = None
    described: str | None = None


# --- the route table -----------------------------------------------------------------------------

# (method, shape of the path) -> interaction code. A shape names its parts: "type", "id", "vid";
# "$" is an operation's name. Conditional forms are those that lack the id. What follows "in" is a
# type, or all of them, within the compartment before it.
ROUTES: dict[tuple[str, str], str] = {
    ("GET", "metadata"): "capabilities",
    ("GET", ""): "search-system",
    ("POST", "_search"): "search-system",
    ("POST", ""): "transaction",  # or batch, as its Bundle says
    ("GET", "_history"): "history-system",
    ("GET", "type"): "search-type",
    ("POST", "type/_search"): "search-type",
    ("POST", "type"): "create",
    ("PUT", "type"): "update",
    ("PATCH", "type"): "patch",
    ("DELETE", "type"): "delete",
    ("GET", "type/_history"): "history-type",
    ("GET", "type/id"): "read",
    ("PUT", "type/id"): "update",
    ("PATCH", "type/id"): "patch",
    ("DELETE", "type/id"): "delete",
    ("GET", "type/id/_history"): "history-instance",
    ("GET", "in/type"): "search-type",
    ("POST", "in/type/_search"): "search-type",
    ("GET", "in/*"): "search-system",
    ("POST", "in/*/_search"): "search-system",
    ("GET", "type/id/_history/vid"): "vread",
    ("GET", "$"): "operation",
    ("POST", "$"): "operation",
    ("GET", "type/$"): "operation",
    ("POST", "type/$"): "operation",
    ("GET", "type/id/$"): "operation",
    ("POST", "type/id/$"): "operation",
    ("GET", "_bulk/job"): "bulk-status",
    ("DELETE", "_bulk/job"): "bulk-delete",
    ("GET", "_bulk/job/file"): "bulk-file",
}
# What is asked of a bulk job: operations, though their paths name none.
_OF_JOBS = frozenset({"bulk-status", "bulk-delete", "bulk-file"})
CONDITIONAL = frozenset({"update", "patch", "delete"})  # in their form without an id
WRITES = frozenset({"create", "update", "patch", "delete"})

# Types that offer fewer interactions than all, and why.
OFFERED: dict[str, tuple[frozenset[str], str]] = {
    "AuditEvent": (
        frozenset({"read", "search-type", "search-system", "create", "operation"}),
        "the audit is only ever appended to",
    ),
}

_METHODS_OF: dict[str, tuple[str, ...]] = {}
for _method, _shape in ROUTES:
    _METHODS_OF[_shape] = (*_METHODS_OF.get(_shape, ()), _method)


class Route(NamedTuple):
    """Where a request leads."""

    code: str
    type: str | None = None
    id: str | None = None
    version: str | None = None
    operation: str | None = None
    compartment: tuple[str, str] | None = None


# The types that a compartment is defined for (https://hl7.org/fhir/R4/compartmentdefinition.html).
COMPARTMENTS = frozenset({"Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"})


def offers(type: str, code: str) -> bool:
    """Whether this server has an interaction on a type at all."""
    return type not in OFFERED or code in OFFERED[type][0]


def route(method: str, path: str, types: frozenset[str]) -> Route:
    """The route of a path below the FHIR base, without slashes at its ends. FhirError 404 when the
    path leads nowhere, 405 when it does but not by this method."""
    type, slash, id = path.partition("/")
    if type in types and (is_id(id) or not slash):  # nearly every request: no detours
        shape = "type/id" if slash else "type"
        code = ROUTES.get(("GET" if method == "HEAD" else method, shape))
        if code is not None:
            return Route(code, type, id or None)
    parts = path.split("/") if path else []
    found = _parts(parts, types) or _within(parts, types)
    if found is None:
        raise FhirError("not-found", "This path is not one of a FHIR server")
    shape, at = found
    code = ROUTES.get(("GET" if method == "HEAD" else method, shape))
    if code is None:
        allowed = _METHODS_OF[shape]
        text = f"{method} is not allowed here; allowed: {', '.join(allowed)}"
        raise MethodNotAllowed(text, allowed)
    if code in _OF_JOBS:
        return at._replace(code="operation", operation=code)
    return at._replace(code=code)


def require_offered(type: str, code: str) -> None:
    """FhirError 405 when a type does not have this interaction."""
    if not offers(type, code):
        offered, reason = OFFERED[type]
        methods = [m for (m, shape), c in ROUTES.items() if c in offered and "type" in shape]
        text = f"{code} is not offered on {type}: {reason}"
        raise MethodNotAllowed(text, tuple(dict.fromkeys(methods)))


class Unauthenticated(FhirError):
    """401: who asks cannot be told. `challenge` is the WWW-Authenticate header, such as
    `Bearer realm="clinic"` or `Bearer error="invalid_token"`."""

    def __init__(self, text: str, challenge: str) -> None:
        super().__init__("login", text)
        self.challenge = challenge


class MethodNotAllowed(FhirError):
    """405 with the methods for its Allow header."""

    def __init__(self, text: str, allowed: tuple[str, ...]) -> None:
        super().__init__("not-supported", text, status=405)
        self.allowed = allowed


def _parts(parts: list[str], types: frozenset[str]) -> tuple[str, Route] | None:
    """The shape of a path and what its parts name; None when it has no shape."""
    if not parts:
        return "", Route("")
    first = parts[0]
    if first.startswith("$"):
        return ("$", Route("", operation=first[1:])) if len(parts) == 1 else None
    if first == "_bulk":
        return _of_job(parts[1:])
    if first in ("metadata", "_history", "_search"):
        return (first, Route("")) if len(parts) == 1 else None
    if first not in types:
        near = get_close_matches(first.capitalize(), types, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise FhirError("not-found", f"`{first[:64]}` is not a resource type of R4{hint}")
    return _type_parts(first, parts[1:])


def _type_parts(type: str, rest: list[str]) -> tuple[str, Route] | None:
    match rest:
        case []:
            return "type", Route("", type)
        case [name] if name.startswith("$"):
            return "type/$", Route("", type, operation=name[1:])
        case ["_search" | "_history" as name]:
            return f"type/{name}", Route("", type)
        case [id]:
            return "type/id", Route("", type, _id(id))
        case [id, name] if name.startswith("$"):
            return "type/id/$", Route("", type, _id(id), operation=name[1:])
        case [id, "_history"]:
            return "type/id/_history", Route("", type, _id(id))
        case [id, "_history", version]:
            return "type/id/_history/vid", Route("", type, _id(id), version)
    return None


def _of_job(rest: list[str]) -> tuple[str, Route] | None:
    match rest:
        case [job]:
            return "_bulk/job", Route("", None, _id(job))
        case [job, file]:
            return "_bulk/job/file", Route("", None, _id(job), _id(file))
    return None


def _within(parts: list[str], types: frozenset[str]) -> tuple[str, Route] | None:
    """The shape of a search within a compartment."""
    match parts:
        case [of, id, type, *rest] if of in COMPARTMENTS and rest in ([], ["_search"]):
            if type != "*" and type not in types:
                return None
            shape = "/".join(("in", "*" if type == "*" else "type", *rest))
            named = None if type == "*" else type
            return shape, Route("", named, compartment=(of, _id(id)))
    return None


def _id(text: str) -> str:
    if not is_id(text):
        raise FhirError("value", "An id has 1 to 64 letters, digits, dashes and dots", status=400)
    return text


# --- from the parts of a request -----------------------------------------------------------------


class Asked(NamedTuple):
    """A request before it is routed: of HTTP, or of an entry of a Bundle. `query` and
    `if_none_exist` are raw query strings."""

    method: str
    path: str
    query: str = ""
    if_none_exist: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    prefer: Preferences = Preferences()
    once: str | None = None
    language: str | None = None


_PRESENTATION = frozenset({"_format", "_pretty"})


def interaction(
    asked: Asked,
    at: Route,
    most: int,
    resource: Resource | None = None,
    content: Content | None = None,
    form: Parameters = (),
    weight: int = 0,
) -> Interaction:
    """The interaction that a routed request asks for; at most `most` parameters. FhirError."""
    found = (*pairs(asked.query, most), *form) if asked.query or form else ()
    parameters = tuple(pair for pair in found if pair[0] not in _PRESENTATION)
    condition: Parameters | None = None
    if at.code in CONDITIONAL and at.id is None:
        parameters, condition = (), parameters
    if at.code == "create" and asked.if_none_exist is not None:
        condition = pairs(asked.if_none_exist.removeprefix("?"), most)
    return Interaction(
        at.code,
        at.type,
        at.id,
        at.version,
        at.operation,
        parameters,
        resource,
        content,
        condition,
        asked.if_match,
        asked.if_none_match,
        asked.if_modified_since,
        asked.prefer,
        asked.once,
        weight,
        at.compartment,
        asked.language if at.code == "operation" else None,
    )


_PLAIN = re.compile(r"[A-Za-z0-9\-._~|,:/$]*", re.ASCII)


@lru_cache(64)  # the audit and the self link ask for the same one
def query_of(parameters: Parameters) -> str:
    """The query string of parameters, with the separators of search values left readable."""
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in parameters)


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe="|,:/$")


def pairs(query: str, most: int) -> Parameters:
    """The decoded parameters of a query string or a form. FhirError 400."""
    if not query:
        return ()
    parts = [part for part in query.split("&") if part]
    if len(parts) > most:
        raise FhirError("too-costly", f"A request has at most {most} parameters", status=400)
    found = []
    try:
        for part in parts:
            name, _, value = part.partition("=")
            found.append((_decoded(name), _decoded(value)))
    except UnicodeDecodeError as error:
        raise FhirError("invalid", "The query is not UTF-8 when percent-decoded") from error
    if "%00" in query and any("\0" in name or "\0" in value for name, value in found):
        raise FhirError("invalid", "The query holds a NUL character")
    return tuple(found)


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    return unquote_plus(text, errors="strict")
