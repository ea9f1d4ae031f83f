"""The first narrow waist: an HTTP request, a Bundle entry and a message become an Interaction, and
every Interaction ends in a Result. One route table says which there are.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Resource = dict[str, Any]
Parameters = tuple[tuple[str, str], ...]  # decoded name and value, in the order of the request


class Preferences(NamedTuple):
    """The Prefer header: what a write returns, and how unknown search parameters are met."""

    returns: Literal["minimal", "representation", "OperationOutcome"] = "representation"
    handling: Literal["strict", "lenient"] = "strict"


@dataclass(frozen=True, slots=True)
class Content:
    """A body that is not a parsed resource: a patch, or a Binary's own bytes."""

    media_type: str
    data: bytes
    security_context: str | None = None
    spool: tuple[str, int] | None = None  # name and size of a body that waits in kept chunks


@dataclass(frozen=True, slots=True)
class Interaction:
    """What is asked. `code` is the standard's: read, vread, update, patch, delete,
    history-instance, history-type, history-system, create, search-type, search-system,
    capabilities, batch, transaction; or operation. A conditional interaction has `condition`, the
    search that selects (for create: If-None-Exist). `once` is a key under which the Result is kept
    in the same transaction: the same key again returns that Result."""

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
    writes: bool = False  # an operation or patch that changes something


@dataclass(frozen=True, slots=True)
class Result:
    """What is answered: the body's final bytes (JSON, unless `media_type` says otherwise), or a
    stream of them. `touched` names what the audit lists: (type, id, version number or None)."""

    status: int
    body: bytes = b""
    media_type: str = "application/fhir+json"
    etag: int | None = None
    updated: int | None = None  # microseconds, for Last-Modified
    location: str | None = None  # relative: Patient/1/_history/1
    stream: AsyncIterator[bytes] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    touched: tuple[tuple[str, str, int | None], ...] = field(default=())
