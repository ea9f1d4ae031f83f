"""$import: resources come in as lines, of files that are fetched or of the body itself.

Parameters as the draft of bulk import has them (inputFormat, inputSource, storageDetail, input with
type and url): https://github.com/smart-on-fhir/bulk-import/blob/master/import.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.audit.event import Caller
from fhir_server.body import Receive, unpacked
from fhir_server.bulk import job as jobs
from fhir_server.bulk.export import begin, require_async
from fhir_server.bulk.job import BODY, Load, Source
from fhir_server.bulk.state import NDJSON, NDJSON_TYPES
from fhir_server.core import Core, Operation, Step
from fhir_server.interaction import Content, Interaction, Result
from fhir_server.server import Server
from fhir_server.storage.store import EVENTS, Transaction
from smart_auth.grant import Grant

PIECE = 1024 * 1024  # bytes of a body that are kept as one
_RATIO = 100  # of a body unpacked to what was sent; resources pack to a tenth or a thirtieth
_FREE = 1024 * 1024  # bytes unpacked that may be of any ratio
_MOST_INPUTS = 1_000
_WRITING = "cu"


async def run(step: Step, asked: Interaction) -> Result:
    """202 with the place of its status. FhirError 400, 403, 404, 429."""
    if asked.type is not None:
        raise FhirError("not-found", "$import is of the server")
    require_async(asked, "import")
    if asked.parameters:
        raise FhirError("not-supported", "$import takes no parameters in its URL", status=400)
    content = asked.content
    if content is not None and content.spool is not None:
        id, pieces = content.spool
        if not pieces:
            text = "The body is empty: nothing came to be imported"
            raise FhirError("required", text, status=400)
        require_writing(step.core, step.grant)
        return await begin(step, asked, "import", load=Load((Source(None),), pieces), id=id)
    sources = _sources(step, asked)
    for each in sources:
        require_writing(step.core, step.grant, each.type)
    return await begin(step, asked, "import", load=Load(sources))


def require_writing(core: Core, grant: Grant, type: str | None = None) -> None:
    """FhirError 403 when the caller may write no resource of a type (None: of any)."""
    types = core.definitions.types if type is None else {type}
    if not any(access.covers(grant, each, letter) for each in types for letter in _WRITING):
        raise access.refusal("$import", type)


def _sources(step: Step, asked: Interaction) -> tuple[Source, ...]:
    """The files of Parameters. FhirError 400."""
    sent = asked.resource
    if sent is None or sent.get("resourceType") != "Parameters":
        text = f"$import takes Parameters, or the resources themselves as {NDJSON}"
        raise FhirError("required", text, status=400)
    found: list[Source] = []
    parts = sent.get("parameter", [])
    for part in parts if isinstance(parts, list) else ():
        name = part.get("name") if isinstance(part, dict) else None
        if name == "input":
            found.append(_source(step, _parts(part)))
        elif name == "inputFormat":
            if _value(part) not in NDJSON_TYPES:
                raise FhirError("not-supported", f"inputFormat is {NDJSON}", status=400)
        elif name == "storageDetail":
            if _parts(part).get("type", "https") not in ("https", "http"):
                raise FhirError("not-supported", "storageDetail is of type https", status=400)
        elif name not in ("inputSource", "mode"):
            text = "$import takes inputFormat, inputSource, storageDetail and input"
            raise FhirError("not-supported", text, status=400)
    if not 0 < len(found) <= _MOST_INPUTS:
        text = f"$import needs `input`, 1 to {_MOST_INPUTS} times, each with type and url"
        raise FhirError("required", text, "Parameters.parameter", status=400)
    return tuple(found)


def _source(step: Step, part: Mapping[str, Any]) -> Source:
    type, url = part.get("type"), part.get("url")
    if type not in step.core.definitions.types or type == EVENTS:
        raise FhirError("value", "input.type is a resource type", "Parameters.parameter")
    hosts, parsed = step.core.bulk.hosts, urlsplit(str(url))
    if parsed.scheme != "https" or not ({parsed.netloc, parsed.hostname} & hosts):
        text = "input.url must be https, and its host one of SALUS_IMPORT_HOSTS"
        raise FhirError("value", text, "Parameters.parameter")
    return Source(str(type), str(url))


def _parts(part: Mapping[str, Any]) -> dict[str, Any]:
    inner = part.get("part", [])
    return {
        str(each.get("name")): _value(each)
        for each in (inner if isinstance(inner, list) else ())
        if isinstance(each, dict)
    }


def _value(part: Mapping[str, Any]) -> Any:
    return next((value for name, value in part.items() if name.startswith("value")), None)


# --- a body that is the resources ----------------------------------------------------------------


def takes(operation: str | None, media: str) -> bool:
    """Whether a body is the resources themselves, to be kept as it comes."""
    return operation == "import" and media in NDJSON_TYPES


async def received(server: Server, headers: Mapping[bytes, bytes], receive: Receive) -> Content:
    """Lines that were sent, kept in pieces until the job has read them. FhirError 400, 413."""
    limits, id = server.core.limits, jobs.new_id()
    sent = _Sent(receive)
    stream = sent.bounded(unpacked(sent, headers, limits.binary, limits.body_seconds))
    try:
        count = await keep_pieces(server, id, 0, stream)
    except BaseException:
        await server.store.transaction(partial(jobs.remove, id=id), write=True)
        raise
    return Content(NDJSON, b"", spool=(id, count))


class _Sent:
    """A body as it is sent, and how many bytes that were."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        return message

    async def bounded(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """What it unpacks to. FhirError 413 when that is out of proportion."""
        total = 0
        async for part in stream:
            total += len(part)
            if total > max(_FREE, _RATIO * self._bytes):
                text = f"A body unpacks to at most {_RATIO} times what is sent: pack it less"
                raise FhirError("too-costly", text, status=413)
            yield part


async def keep_pieces(server: Server, id: str, place: int, stream: AsyncIterator[bytes]) -> int:
    """Keep what comes in pieces of one size, but for the last; how many."""
    held, count = bytearray(), 0

    async def keep(piece: bytes, number: int, tx: Transaction) -> None:
        await jobs.add(tx, id, f"{BODY}{place}", number, piece)

    async for part in stream:
        held += part
        while len(held) >= PIECE:
            await server.store.transaction(partial(keep, bytes(held[:PIECE]), count), write=True)
            del held[:PIECE]
            count += 1
    if held:
        await server.store.transaction(partial(keep, bytes(held), count), write=True)
        count += 1
    return count


async def performed(server: Server, asked: Interaction, caller: Caller) -> Result:
    """The kick-off; the pieces of a body whose job did not begin are removed."""
    try:
        return await server.perform(asked, caller)
    except BaseException:
        if asked.content is not None and asked.content.spool is not None:
            remove = partial(jobs.remove, id=asked.content.spool[0])
            await server.store.transaction(remove, write=True)
        raise


IMPORT = Operation(
    "import",
    frozenset({"system"}),
    frozenset(),
    True,
    "urn:salus:OperationDefinition:import",
    run,
    own=True,
)
