"""What an operation of a script asks over HTTP.

https://hl7.org/fhir/R4/testscript.html#operations
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin

import httpx

from conformance.testscript.message import JSON, XML, ActionError, Message, written
from conformance.testscript.variables import Memory
from conformance.testscript.wire import Request, Target

MEDIA_TYPES = {"json": JSON, "xml": XML, "ttl": "application/fhir+turtle"}
_FORM = "application/x-www-form-urlencoded"
# Method of each operation; of the others, which are FHIR operations, it depends on what is sent.
_METHODS = {
    "read": "GET",
    "vread": "GET",
    "search": "GET",
    "history": "GET",
    "capabilities": "GET",
    "create": "POST",
    "batch": "POST",
    "transaction": "POST",
    "update": "PUT",
    "updateCreate": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deleteCondSingle": "DELETE",
    "deleteCondMultiple": "DELETE",
}
_OF_AN_INSTANCE = frozenset(
    {"read", "vread", "update", "updateCreate", "patch", "delete", "history"}
)
_OF_THE_SYSTEM = frozenset({"batch", "transaction"})
# Characters of a request's URL that are not encoded: what parts it, and what is encoded already.
_KEPT = "!$&'()*,/:;=?@~|%[]#"


class _Place(NamedTuple):
    """A resource that is addressed."""

    type: str = ""
    id: str = ""
    version: str = ""


def request_of(operation: Mapping[str, Any], memory: Memory, target: Target) -> Request:
    """The request of an operation. ActionError for what cannot be made."""
    code = str(operation.get("type", {}).get("code", ""))
    source = _source(operation, memory)
    base = target.at(operation.get("destination"))
    url = _url(operation, code, source, memory, base)
    method = str(operation.get("method") or "").upper()
    method = method or _METHODS.get(code) or ("POST" if source is not None else "GET")
    if method == "PUT":
        source = _identified(source, url)
    headers = httpx.Headers({"Accept": MEDIA_TYPES["json"]})
    if "accept" in operation:
        headers["Accept"] = _media_type(operation["accept"])
    sent, body = _body(operation, source, memory)
    if method == "POST" and code == "search" and source is None:
        url, body, sent = _as_form(url)
    if body:
        headers["Content-Type"] = sent
    for each in operation.get("requestHeader", ()):
        headers[each["field"]] = memory.filled(each["value"])
    if operation.get("accept") == "none" and "Accept" in headers:
        headers["Accept"] = "*/*"
    encoded = operation.get("encodeRequestUrl", True)
    return Request(method, quote(url, safe=_KEPT) if encoded else url, headers, body)


def _identified(source: Message | None, url: str) -> Message | None:
    """What is put at an id and has none, as a contained fixture, gets that id."""
    if source is None or source.resource is None or source.resource.get("id"):
        return source
    type, _, id = url.partition("?")[0].rstrip("/").rpartition("/")
    if type.rpartition("/")[2] != source.resource.get("resourceType"):
        return source
    return source._replace(resource={**source.resource, "id": id})


def _media_type(code: str) -> str:
    return MEDIA_TYPES.get(code, code)


def _source(operation: Mapping[str, Any], memory: Memory) -> Message | None:
    id = operation.get("sourceId")
    if id is None:
        return None
    found = memory.message(id)
    if found.resource is None:
        return found
    return found._replace(resource=memory.settled(found.resource))


def _body(
    operation: Mapping[str, Any], source: Message | None, memory: Memory
) -> tuple[str, bytes]:
    """Content type and body. A Binary whose content type is the operation's is sent as the bytes
    that it holds: patches, forms, and what is no resource."""
    if source is None:
        return "", b""
    named = _media_type(operation.get("contentType", "json"))
    resource = source.resource
    if resource is None:
        return operation.get("contentType") or source.content_type, source.body
    if resource.get("resourceType") == "Binary" and _same(resource.get("contentType"), named):
        try:
            held = b64decode(resource.get("data", ""), validate=True)
        except NoBase64:
            raise ActionError("The data of the Binary is no base64") from None
        return named, memory.settled(held.decode()).encode() if _is_text(held) else held
    return named, written(resource, named)


def _same(one: Any, other: str) -> bool:
    return isinstance(one, str) and _media_type(one) == other


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_form(url: str) -> tuple[str, bytes, str]:
    """A search by POST: its parameters in the body."""
    path, _, query = url.partition("?")
    path = path if path.endswith("/_search") else f"{path.rstrip('/')}/_search"
    return path, quote(query, safe="!$&'()*,/:;=?@~|%[]").encode(), _FORM


def _url(
    operation: Mapping[str, Any], code: str, source: Message | None, memory: Memory, base: str
) -> str:
    if "url" in operation:
        return urljoin(f"{base}/", memory.filled(operation["url"]))
    path, query = _parted(memory.filled(operation.get("params", "")))
    place = _place(operation, memory)
    type = _type(operation, code, place, source)
    steps = [type] if type else []
    if path:
        steps += [each for each in path.split("/") if each]
    elif place.id and code != "create":
        steps.append(place.id)
    elif code in ("update", "updateCreate") and source is not None and not query:
        steps.append(_id_of(source))
    if code == "vread" and len(steps) == 2:
        if not place.version:
            raise ActionError("vread needs a version: in params, or of the target")
        steps += ["_history", place.version]
    elif code == "history" and "_history" not in steps:
        steps.append("_history")
    elif code == "capabilities":
        steps = ["metadata"]
    elif code and code not in _METHODS and not any(each.startswith("$") for each in steps):
        steps.append(f"${code.removeprefix('$')}")
    _complete(code, steps, query)
    return "/".join([base, *steps]) + (f"?{query}" if query else "")


def _complete(code: str, steps: list[str], query: str) -> None:
    """ActionError where an operation does not say what it is about."""
    single = code in _OF_AN_INSTANCE and code != "history"
    if single and len(steps) < 2 and not (query and code not in ("read", "vread")):
        raise ActionError(f"The operation {code} names no resource: by targetId, params or url")
    if code == "create" and not steps:
        raise ActionError("The operation create names no type")


def _parted(params: str) -> tuple[str, str]:
    """Path and query of params, which may leave out the question mark."""
    params = params.strip()
    if "?" not in params and "=" in params and not params.startswith("/"):
        return "", params
    path, _, query = params.partition("?")
    return path.strip("/"), query


def _type(operation: Mapping[str, Any], code: str, place: _Place, source: Message | None) -> str:
    if code in _OF_THE_SYSTEM:
        return ""
    if "resource" in operation:
        return str(operation["resource"])
    if place.type:
        return place.type
    if code in ("create", "update", "updateCreate") and source is not None and source.resource:
        return str(source.resource.get("resourceType", ""))
    return ""


def _place(operation: Mapping[str, Any], memory: Memory) -> _Place:
    """What targetId names: a fixture, or the resource of a response, which may only be told in its
    Location."""
    id = operation.get("targetId")
    if id is None:
        return _Place()
    message = memory.message(id)
    resource = message.resource
    if resource is not None and resource.get("id"):
        settled = memory.settled(resource)
        version = settled.get("meta", {}).get("versionId", "")
        return _Place(str(settled.get("resourceType", "")), str(settled["id"]), str(version))
    if found := located(message):
        return found
    raise ActionError(f"The target {id} has no id: it was never created")


def located(message: Message) -> _Place | None:
    """Type, id and version as Location or Content-Location tell them."""
    for name in ("location", "content-location"):
        steps = message.headers.get(name, "").partition("?")[0].rstrip("/").split("/")
        if len(steps) >= 4 and steps[-2] == "_history":
            return _Place(steps[-4], steps[-3], steps[-1])
        if len(steps) >= 2 and steps[-2][:1].isupper():
            return _Place(steps[-2], steps[-1])
    return None


def _id_of(source: Message) -> str:
    id = source.known().get("id")
    if not id:
        raise ActionError("What is to be updated has no id: name it by targetId or params")
    return str(id)
