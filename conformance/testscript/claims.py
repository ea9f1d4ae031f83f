"""Whether a server claims what a script needs: one CapabilityStatement against another.

https://hl7.org/fhir/R4/testscript-definitions.html#TestScript.metadata.capability
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_LISTS = {"interaction": "code", "searchParam": "name", "operation": "name"}
_FLAGS = (
    "conditionalCreate",
    "conditionalUpdate",
    "updateCreate",
    "readHistory",
)


def missing(needed: Mapping[str, Any], claimed: Mapping[str, Any]) -> list[str]:
    """What a server does not claim of what is needed, in words."""
    found = list(_formats(needed, claimed))
    theirs = _server(claimed)
    for rest in _servers(needed):
        found += _lacking(rest, theirs, "")
        found += _security(rest, theirs)
        known = {each.get("type"): each for each in theirs.get("resource", ())}
        for each in rest.get("resource", ()):
            type = each.get("type", "")
            if type not in known:
                found.append(f"the type {type}")
                continue
            found += _lacking(each, known[type], f" of {type}")
    return found


def _servers(statement: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [each for each in statement.get("rest", ()) if each.get("mode") == "server"]


def _server(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(iter(_servers(statement)), {})


def _formats(needed: Mapping[str, Any], claimed: Mapping[str, Any]) -> Iterator[str]:
    """json and xml are claimed by any media type of them."""
    for kind in ("format", "patchFormat"):
        theirs = claimed.get(kind, ())
        for each in needed.get(kind, ()):
            family = kind == "format" and each in ("json", "xml")
            if not (any(each in known for known in theirs) if family else each in theirs):
                yield f"the {kind} {each}"


def _lacking(needed: Mapping[str, Any], claimed: Mapping[str, Any], where: str) -> Iterator[str]:
    for kind, name in _LISTS.items():
        theirs = {each.get(name) for each in claimed.get(kind, ())}
        for each in needed.get(kind, ()):
            if each.get(name) not in theirs:
                yield f"the {kind} {each.get(name)}{where}"
    for flag in _FLAGS:
        if needed.get(flag) and not claimed.get(flag):
            yield f"{flag}{where}"
    for kind in ("searchInclude", "searchRevInclude"):
        for each in set(needed.get(kind, ())) - set(claimed.get(kind, ())):
            yield f"{kind} {each}{where}"


def _security(needed: Mapping[str, Any], claimed: Mapping[str, Any]) -> Iterator[str]:
    theirs = set(_services(claimed))
    for each in _services(needed):
        if each not in theirs:
            yield f"the security service {each}"


def _services(rest: Mapping[str, Any]) -> Iterator[str]:
    for service in rest.get("security", {}).get("service", ()):
        for coding in service.get("coding", ()):
            yield str(coding.get("code"))
