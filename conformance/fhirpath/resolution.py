"""Functions that FHIR adds, and those on types, time and the trace.

https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from conformance.fhirpath.function import Function, on
from conformance.fhirpath.host import Host
from conformance.fhirpath.items import (
    Collection,
    Environment,
    Focus,
    Item,
    Run,
    body,
    boolean,
    single,
    text,
    truth,
)
from conformance.fhirpath.syntax import FhirPathError
from conformance.fhirpath.values import Temporal

_REFERENCE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/[A-Za-z0-9.\-]{1,64}(?:/_history/[^/]+)?$")
_CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?")


def reference_type(reference: str) -> str | None:
    """The resource type that a literal or conditional reference names; None for others (a URN, a
    fragment, an address of another shape)."""
    found = _REFERENCE.search(reference) or _CONDITIONAL.match(reference)
    return found[1] if found else None


def contained(reference: str, environment: Environment) -> Mapping[str, Any] | None:
    """The resource that `#id` means within the root; `#` is the root itself."""
    by_id = environment.kept.get(contained)
    if by_id is None:
        by_id = environment.kept[contained] = _by_id(environment.root)
    return by_id.get(reference[1:])


def share(outer: Environment, inner: Environment) -> Environment:
    """`inner`, with the contained resources that `outer` knows: they have the same root, and a
    resource with thousands of them is looked through once."""
    contained("#", outer)
    inner.kept[contained] = outer.kept[contained]
    return inner


def _by_id(root: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The contained resources by their ids, the first where two have the same; the root by "". The
    root need not be valid."""
    found: dict[str, Mapping[str, Any]] = {"": root}
    inner = root.get("contained")
    for each in inner if isinstance(inner, list) else ():
        id = each.get("id") if isinstance(each, dict) else None
        if isinstance(id, str):
            found.setdefault(id, each)
    return found


def target_type(value: Any, environment: Environment) -> str | None:
    """The type of resource that a Reference (or the text of one) refers to, if it can be told
    without a store."""
    reference = value.get("reference") if isinstance(value, dict) else value
    named = value.get("type") if isinstance(value, dict) else None
    if not isinstance(reference, str):
        return named
    if reference.startswith("#"):
        found = contained(reference, environment)
        return None if found is None else found.get("resourceType")
    return reference_type(reference) or named


def _resolve(focus: Focus, input: Collection) -> Collection:
    found: Collection = []
    host = focus.world.environment.host
    for _, value, _ in input:
        reference = value.get("reference") if isinstance(value, dict) else value
        if not isinstance(reference, str):
            continue
        if reference.startswith("#"):
            resource = contained(reference, focus.world.environment)
            if resource is not None:
                found.append((focus.world.types.own(resource), resource, None))
        elif host is not None:
            resolved = host.resolve(reference)
            if resolved is not None:
                found.append((*resolved, None))
    return found


def _extension(focus: Focus, input: Collection, url: Collection) -> Collection:
    wanted = text(url, "extension()")
    return [
        ("Extension", each, None)
        for item in input
        for each in body(item).get("extension", ())
        if each.get("url") == wanted
    ]


def _has_extension(focus: Focus, input: Collection, url: Collection) -> Collection:
    return boolean(bool(_extension(focus, input, url)))


def _has_value(focus: Focus, input: Collection) -> Collection:
    return boolean(len(input) == 1 and _valued(focus, input[0]))


def _valued(focus: Focus, item: Item) -> bool:
    return item[1] is not None and not isinstance(item[1], dict)


def _get_value(focus: Focus, input: Collection) -> Collection:
    return input if len(input) == 1 and _valued(focus, input[0]) else []


def _trace(focus: Focus, input: Collection, name: Run, projection: Run | None = None) -> Collection:
    """What is traced could be patient data, so it goes only to who asked to be told."""
    told = focus.world.trace
    if told is not None:
        shown = input if projection is None else _projected(focus, input, projection)
        told(text(name(focus), "trace()") or "", shown)
    return input


def _projected(focus: Focus, input: Collection, projection: Run) -> Collection:
    return [
        found for index, each in enumerate(input) for found in projection(on(focus, index, each))
    ]


def _member_of(focus: Focus, input: Collection, value_set: Collection) -> Collection:
    """Empty where it cannot be told."""
    item, url = single(input, "memberOf()"), text(value_set, "memberOf()")
    if item is None or item[1] is None or url is None:
        return []
    return boolean(_host(focus, "memberOf()").member_of(url, item[1]))


def _conforms_to(focus: Focus, input: Collection, profile: Collection) -> Collection:
    item, url = single(input, "conformsTo()"), text(profile, "conformsTo()")
    if item is None or url is None:
        return []
    found = _host(focus, "conformsTo()").conforms_to(url, item[1])
    if found is None:
        raise FhirPathError("conformsTo() names a profile that is not known here")
    return boolean(found)


def _host(focus: Focus, what: str) -> Host:
    host = focus.world.environment.host
    if host is None:
        raise FhirPathError(f"{what} cannot be answered here")
    return host


def _type(focus: Focus, input: Collection) -> Collection:
    return [("System.TypeInfo", _described(focus, item), None) for item in input]


def _described(focus: Focus, item: Item) -> dict[str, str]:
    name = item[0]
    if name.startswith("System."):
        return {"namespace": "System", "name": name.removeprefix("System.")}
    return {"namespace": "FHIR", "name": focus.world.types.datatype(name)}


def _not(focus: Focus, input: Collection) -> Collection:
    found = truth(input, "not()")
    return boolean(None if found is None else not found)


def _now(focus: Focus) -> datetime:
    if focus.world.now is None:
        focus.world.now = datetime.now(UTC)
    return focus.world.now


def _instant(focus: Focus, input: Collection) -> Collection:
    now = _now(focus)
    parts = (now.year, now.month, now.day, now.hour, now.minute, now.second)
    offset = now.utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds()) // 60
    milliseconds = f"{now.microsecond // 1000:03d}"
    moment = Temporal("System.DateTime", parts, milliseconds, minutes)
    return [("System.DateTime", moment, None)]


def _today(focus: Focus, input: Collection) -> Collection:
    now = _now(focus)
    return [("System.Date", Temporal("System.Date", (now.year, now.month, now.day)), None)]


def _time_of_day(focus: Focus, input: Collection) -> Collection:
    now = _now(focus)
    moment = Temporal(
        "System.Time", (now.hour, now.minute, now.second), f"{now.microsecond // 1000:03d}"
    )
    return [("System.Time", moment, None)]


TABLE = {
    "extension": Function(_extension, 1, 1),
    "hasExtension": Function(_has_extension, 1, 1),
    "hasValue": Function(_has_value),
    "getValue": Function(_get_value),
    "resolve": Function(_resolve),
    "memberOf": Function(_member_of, 1, 1),
    "conformsTo": Function(_conforms_to, 1, 1),
    "trace": Function(_trace, 1, 2, lazy=True),
    "type": Function(_type),
    "not": Function(_not),
    "now": Function(_instant),
    "today": Function(_today),
    "timeOfDay": Function(_time_of_day),
}
