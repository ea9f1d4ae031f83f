"""What an assertion of a script claims, and whether it is so.

https://hl7.org/fhir/R4/testscript.html#assertions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from conformance.outcome import Issue
from conformance.testscript import values
from conformance.testscript.message import ActionError, Message, is_json, is_xml
from conformance.testscript.navigation import Fetch, links
from conformance.testscript.operators import UNARY, compared
from conformance.testscript.variables import Memory

# What is wrong with a resource by a profile's canonical url; None: the profile is not known.
Validate: TypeAlias = Callable[[dict[str, Any], str], "Sequence[Issue] | None"]

RESPONSES = {
    "okay": 200,
    "created": 201,
    "noContent": 204,
    "notModified": 304,
    "bad": 400,
    "forbidden": 403,
    "notFound": 404,
    "methodNotAllowed": 405,
    "conflict": 409,
    "gone": 410,
    "preconditionFailed": 412,
    "unprocessable": 422,
}
_SHOWN = 160  # characters of a value that are told
_NEVER_SAME = {"meta": frozenset({"versionId", "lastUpdated"})}  # of a resource and of what it was


class Verdict(NamedTuple):
    """Whether a claim holds, and what was found."""

    holds: bool
    told: str


class Bench(NamedTuple):
    """What an assertion is checked with."""

    memory: Memory
    validate: Validate
    fetch: Fetch
    regex_seconds: float


def check(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    """The verdict on a claim. ActionError where it cannot be told."""
    for name, checked in _CHECKS.items():
        if name in claim:
            return checked(claim, bench)
    raise ActionError("The assertion claims nothing that is known here")


def _message(claim: Mapping[str, Any], bench: Bench) -> Message:
    """What a claim is about: what it names, else the last response or request."""
    if "sourceId" in claim:
        return bench.memory.message(claim["sourceId"])
    if claim.get("direction") == "request":
        if bench.memory.request is None:
            raise ActionError("There is no request yet")
        return bench.memory.request
    return bench.memory.last()


def _judged(
    claim: Mapping[str, Any], bench: Bench, what: str, found: Sequence[str], wanted: str
) -> Verdict:
    operator = claim.get("operator", "equals")
    holds = compared(operator, found, wanted, bench.regex_seconds)
    shown = ", ".join(_short(each) for each in found[:5]) or "nothing"
    expected = operator if operator in UNARY else f"{operator} {_short(wanted)}"
    return Verdict(holds, f"{what} is {shown}" + ("" if holds else f"; expected: {expected}"))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# --- claims about a message ----------------------------------------------------------------------


def _response(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    code = claim["response"]
    if code not in RESPONSES:
        raise ActionError(f"{code} is no response code of R4")
    return _status(claim, bench, str(RESPONSES[code]))


def _response_code(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    return _status(claim, bench, bench.memory.filled(claim["responseCode"]))


def _status(claim: Mapping[str, Any], bench: Bench, wanted: str) -> Verdict:
    """A claim about the status; where it does not hold, with what the server says of it."""
    message = _message(claim, bench)
    verdict = _judged(claim, bench, "The status", [str(message.status)], wanted)
    said = "" if verdict.holds else _said(message)
    return verdict._replace(told=f"{verdict.told}; the server says: {said}") if said else verdict


def _said(message: Message) -> str:
    """What the first issue of an OperationOutcome says."""
    if message.resource is None or message.resource.get("resourceType") != "OperationOutcome":
        return ""
    try:
        first = message.resource["issue"][0]
        said = first.get("diagnostics") or first.get("details", {}).get("text") or first["code"]
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""
    return _short(str(said))


def _content_type(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    """json and xml stand for all media types of them; parameters do not count."""
    wanted, found = claim["contentType"], _message(claim, bench).content_type
    operator = claim.get("operator", "equals")
    if operator in ("equals", "notEquals"):
        plain = found.partition(";")[0].strip().lower()
        family = {"json": is_json, "xml": is_xml}.get(wanted)
        same = family(plain) if family else plain == wanted.partition(";")[0].strip().lower()
        holds = bool(same) == (operator == "equals")
        more = "" if holds else f"; expected: {operator} {_short(wanted)}"
        return Verdict(holds, f"The content type is {found or 'not told'}{more}")
    return _judged(claim, bench, "The content type", [found], wanted)


def _header(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    name = claim["headerField"]
    found = _message(claim, bench).headers.get(name)
    wanted = bench.memory.filled(claim.get("value", ""))
    return _judged(claim, bench, f"The header {name}", [] if found is None else [found], wanted)


def _resource(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    message = _message(claim, bench)
    type = (message.resource or {}).get("resourceType", "")
    return _judged(claim, bench, "The resource type", [type] if type else [], claim["resource"])


def _method(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    found = _request(bench).method.lower()
    return _judged(claim, bench, "The method of the request", [found], claim["requestMethod"])


def _url(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    wanted = bench.memory.filled(claim["requestURL"])
    return _judged(claim, bench, "The URL of the request", [_request(bench).url], wanted)


def _request(bench: Bench) -> Message:
    if bench.memory.request is None:
        raise ActionError("There is no request yet")
    return bench.memory.request


def _body(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    """Not of R4: the body of the response as a text."""
    wanted = bench.memory.filled(claim["responseBody"])
    text = _message(claim, bench).body.decode(errors="replace")
    return _judged(claim, bench, "The body", [text], wanted)


# --- claims about a resource ---------------------------------------------------------------------


def _found(claim: Mapping[str, Any], bench: Bench, message: Message) -> list[str]:
    resource = message.known()
    if "expression" in claim:
        found = values.by_expression(bench.memory.filled(claim["expression"]), resource)
    else:
        found = values.by_path(bench.memory.filled(claim["path"]), resource)
    return [values.text(each) for each in found]


def _evaluated(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    """An expression or a path: with a value, compared; without, a condition."""
    message = _message(claim, bench)
    if message.resource is None:
        return Verdict(False, f"It is no resource: {message.unread}")
    found = _found(claim, bench, message)
    written = _short(str(claim.get("expression") or claim.get("path")))
    operator = claim.get("operator", "eval" if "value" not in claim else "equals")
    if operator == "eval":
        holds = found == ["true"] or (
            "expression" not in claim and bool(found) and found[0] != "false"
        )
        shown = ", ".join(map(_short, found)) or "nothing"
        return Verdict(holds, f"{written} is {shown}" + ("" if holds else "; expected: true"))
    return _judged(claim, bench, written, found, bench.memory.filled(claim.get("value", "")))


def _against_another(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    """The value in one resource against that in another."""
    other = {"sourceId": claim["compareToSourceId"]}
    for name, own in (
        ("compareToSourceExpression", "expression"),
        ("compareToSourcePath", "path"),
    ):
        if name in claim:
            other[own] = claim[name]
    if len(other) == 1:
        raise ActionError("compareToSourceId needs compareToSourceExpression or -Path")
    own_claim = claim
    if "expression" not in claim and "path" not in claim:
        own_claim = {**claim, **{n: v for n, v in other.items() if n != "sourceId"}}
    message = _message(own_claim, bench)
    if message.resource is None:
        return Verdict(False, f"It is no resource: {message.unread}")
    wanted = _found(other, bench, bench.memory.message(other["sourceId"]))
    found = _found(own_claim, bench, message)
    what = _short(str(own_claim.get("expression") or own_claim.get("path")))
    operator = claim.get("operator", "equals")
    if operator in UNARY:
        return _judged(claim, bench, what, found, "")
    if not wanted:
        raise ActionError(f"{claim['compareToSourceId']} has no value there to compare with")
    return _judged(claim, bench, what, found, wanted[0])


def _minimum(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    """The resource has at least what the fixture has."""
    least = bench.memory.settled(bench.memory.message(claim["minimumId"]).known())
    found = _message(claim, bench)
    if found.resource is None:
        return Verdict(False, f"It is no resource: {found.unread}")
    missing = next(_missing(least, found.resource, least.get("resourceType", "")), None)
    if missing:
        return Verdict(False, f"{missing} is missing or another; expected: all of the fixture")
    return Verdict(True, "It has all that the fixture has")


def _missing(least: Any, found: Any, place: str) -> Iterator[str]:
    """Places where `found` has not what `least` has. Each item of a list has a partner."""
    if isinstance(least, dict):
        if not isinstance(found, dict):
            yield place
            return
        for name, value in least.items():
            if name in _NEVER_SAME.get(place.rpartition(".")[2], ()):
                continue
            yield from _missing(value, found.get(name), f"{place}.{name}")
    elif isinstance(least, list):
        left = list(found) if isinstance(found, list) else []
        for position, value in enumerate(least):
            here = f"{place}[{position}]"
            partner = next((each for each in left if not any(_missing(value, each, place))), None)
            if partner is None:
                yield here
            else:
                left.remove(partner)
    elif found is None or values.text(least) != values.text(found):
        yield place  # as it is written: the digits of a decimal count


def _profile(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    id = claim["validateProfileId"]
    known = bench.memory.script.resource.get("profile", ())
    canonical = next((each.get("reference") for each in known if each.get("id") == id), None)
    if not canonical:
        raise ActionError(f"The script has no profile {id}")
    message = _message(claim, bench)
    if message.resource is None:
        return Verdict(False, f"It is no resource: {message.unread}")
    issues = bench.validate(message.resource, canonical)
    if issues is None:
        raise ActionError(f"The profile {canonical} is not known here")
    wrong = [each for each in issues if each.severity in ("error", "fatal")]
    if wrong:
        said = "; ".join(f"{each.expression or ''} {each.text}".strip() for each in wrong[:3])
        return Verdict(False, f"It is not valid by {canonical}: {_short(said)}")
    return Verdict(True, f"It is valid by {canonical}")


def _navigation(claim: Mapping[str, Any], bench: Bench) -> Verdict:
    message = _message(claim, bench)
    if message.resource is None or message.resource.get("resourceType") != "Bundle":
        return Verdict(False, "It is no Bundle, so it has no links")
    wrong = links(message.resource, bench.fetch) if claim["navigationLinks"] else ""
    return Verdict(not wrong, wrong or "Its links lead on")


# The first that a claim has says what kind it is: what may stand beside others comes first.
_CHECKS: Mapping[str, Callable[[Mapping[str, Any], Bench], Verdict]] = {
    "compareToSourceId": _against_another,
    "response": _response,
    "responseCode": _response_code,
    "contentType": _content_type,
    "headerField": _header,
    "responseBody": _body,
    "requestMethod": _method,
    "requestURL": _url,
    "minimumId": _minimum,
    "validateProfileId": _profile,
    "navigationLinks": _navigation,
    "expression": _evaluated,
    "path": _evaluated,
    "resource": _resource,
}
