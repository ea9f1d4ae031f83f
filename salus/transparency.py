"""The log for who checks it: its checkpoint, its key and its tiles, which hold hashes and nothing
about anybody.

https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.audit.event import Caller
from fhir_server.audit.publishing import newest
from fhir_server.log import tiles
from fhir_server.log.merkle import HASH
from fhir_server.storage.store import EVENTS, EVERYTHING
from salus.callers import bearers
from salus.product import Product

router = APIRouter(prefix="/audit", include_in_schema=False)

_TEXT = "text/plain; charset=utf-8"
_FOR_EVER = "public, max-age=31536000, immutable"
_PRIVATELY = "private, max-age=31536000, immutable"
_NOT_NOW = "no-store"
_NOT_YET = FhirError("transient", "The log has not been signed yet", status=503)
_MISSING = FhirError("not-found", "There is no such tile in the signed log")


@router.get("/checkpoint")
async def checkpoint(request: Request) -> Response:
    """The newest state that was signed, as a note."""
    try:
        product = await _allowed(request)
        found = await product.server.store.transaction(newest)
        if found is None:
            raise _NOT_YET
    except FhirError as error:
        return _refusal(error)
    return Response(found.note.encode(), media_type=_TEXT, headers={"Cache-Control": _NOT_NOW})


@router.get("/key")
async def key(request: Request) -> Response:
    """The verifier key of the log, for everybody: receipts are checked with it."""
    try:
        product = _product(request)
    except FhirError as error:
        return _refusal(error)
    text = f"{product.log.verifier}\n"
    return Response(text, media_type=_TEXT, headers={"Cache-Control": _NOT_NOW})


@router.get("/tile/{path:path}")
async def tile(request: Request, path: str) -> Response:
    """A tile of the tree that was signed, as wide as its path says."""
    try:
        product = await _allowed(request)
        data = await _tile(product, path)
    except FhirError as error:
        return _refusal(error)
    headers = {"Cache-Control": _FOR_EVER if product.settings.log_public else _PRIVATELY}
    return Response(data, media_type="application/octet-stream", headers=headers)


async def _tile(product: Product, path: str) -> bytes:
    """FhirError 404."""
    place = tiles.place(path)
    if place is None:
        raise _MISSING
    store = product.server.store
    found = await store.transaction(newest)
    size = found.checkpoint.size if found else 0
    if place.width > tiles.width(place.level, place.number, size):
        raise _MISSING
    data = await store.transaction(lambda tx: tx.tile(place.level, place.number))
    if len(data) < place.width * HASH:
        raise _MISSING
    return data[: place.width * HASH]


def _product(request: Request) -> Product:
    """FhirError 503 before the server is open."""
    product: Product | None = getattr(request.app.state, "product", None)
    if product is None:
        raise FhirError("transient", "The server is starting", status=503)
    return product


async def _allowed(request: Request) -> Product:
    """The product, for a caller who may have the log. FhirError 401, 403, 503."""
    product = _product(request)
    product.log.progress.served += 1
    if product.settings.log_public or product.settings.open:
        return product
    headers = dict(request.headers.raw)
    address = request.client.host if request.client else "local"
    found = bearers(product.server, product.tokens)(headers, address)
    caller = found if isinstance(found, Caller) else await found
    core, grant = product.server.core, caller.grant
    if not access.covers(grant, EVENTS, "s") or (
        access.visible(core, grant, EVENTS, "s") is not EVERYTHING
    ):
        raise FhirError("forbidden", "The log is for who may search all AuditEvents")
    return product


def _refusal(error: FhirError) -> Response:
    """In a sentence, as the other answers here are text."""
    headers = {"Cache-Control": _NOT_NOW}
    challenge = getattr(error, "challenge", None)
    if challenge:
        headers["WWW-Authenticate"] = challenge
    if error.status == 503:
        headers["Retry-After"] = "1"
    return Response(f"{error}\n", error.status, headers, media_type=_TEXT)
