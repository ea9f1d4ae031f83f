"""What a request may cost: every limit on size, count, depth and time, with its default."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. Each has a test at its edge and a sentence in its error."""

    body: int = 16 * MIB  # a FHIR request body, unpacked
    binary: int = 512 * MIB  # a raw Binary body
    chunk: int = MIB  # a Binary larger than this is stored and streamed in pieces of this size
    depth: int = 64  # nesting of objects and arrays in JSON
    entries: int = 5_000  # entries of a batch or transaction
    issues: int = 100  # issues in one OperationOutcome
    url: int = 16 * 1024  # the request line's query, and a form body of a search
    parameters: int = 100  # search parameters of one request
    values: int = 500  # comma-separated values of one search parameter
    value_set: int = 2_000  # codes of a value set, or near a code, that a search compares
    chain: int = 8  # hops of a chain or of _has
    page: int = 1_000  # _count
    default_page: int = 50
    included: int = 1_000  # resources that _include and _revinclude add to a page
    page_bytes: int = 32 * MIB  # resources of one page: beyond it the page ends earlier
    bundle_bytes: int = 64 * MIB  # answers to the entries of one Bundle
    bundle_seconds: float = 10.0  # within which the entries of a Bundle must be performed
    request_seconds: float = 60.0  # a request is given up after this
    body_seconds: float = 30.0  # a body may stall, or be behind its slowest speed, as long
    iterations: int = 5  # rounds of :iterate
    conditional: int = 1_000  # resources that one conditional delete may remove
    search_seconds: float = 30.0  # a search is interrupted after this
    writing_seconds: float = 5.0  # all searches of one write together, while other writes wait
    patch_operations: int = 1_000
    link_seconds: int = 24 * 3600  # a paging link expires after this
    audit_entities: int = 200  # versions named by one AuditEvent, then a further one
