"""What a server may do wrong, one thing at a time, and the script that sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import httpx

from tests.front import Answered, Ask, Asked, Spoil


class Breakage(NamedTuple):
    """`seen_by`: a suite that comes with the product."""

    name: str
    seen_by: str
    spoil: Spoil


def status(wrong: int, right: int, method: str = "") -> Spoil:
    """One status instead of another."""

    def spoil(asked: Asked, ask: Ask) -> Answered:
        answered = ask(asked)
        if answered.status == right and method in ("", asked.method):
            return replace(answered, status=wrong)
        return answered

    return spoil


def header(name: str, value: str | None = None) -> Spoil:
    """A header that is missing, or always the same."""

    def spoil(asked: Asked, ask: Ask) -> Answered:
        answered = ask(asked)
        return answered.with_header(name, value) if name in answered.headers else answered

    return spoil


def unheard(name: str) -> Spoil:
    """A header of requests that is not listened to."""

    def spoil(asked: Asked, ask: Ask) -> Answered:
        headers = httpx.Headers(asked.headers)
        headers.pop(name, None)
        return ask(replace(asked, headers=headers))

    return spoil


def body(change: Callable[[Any], Any], type: str = "") -> Spoil:
    """Another body, of resources of a type, or of all."""

    def spoil(asked: Asked, ask: Ask) -> Answered:
        answered = ask(asked)
        resource = answered.json
        if resource is None or (type and resource.get("resourceType") != type):
            return answered
        return answered.saying(change(resource))

    return spoil


def without(*names: str) -> Callable[[Any], Any]:
    return lambda resource: {n: v for n, v in resource.items() if n not in names}


def entries(change: Callable[[list[Any]], list[Any]]) -> Spoil:
    """Other entries of Bundles."""
    return body(lambda b: {**b, "entry": change(b["entry"])} if b.get("entry") else b, "Bundle")


def asking(change: Callable[[str], str]) -> Spoil:
    """Another address than was asked for."""
    return lambda asked, ask: ask(replace(asked, path=change(asked.path)))


def deaf(method: str, answer: int) -> Spoil:
    """A method that is acknowledged and not done."""

    def spoil(asked: Asked, ask: Ask) -> Answered:
        if asked.method != method:
            return ask(asked)
        headers = httpx.Headers({"content-type": "application/fhir+json"})
        return Answered(answer, headers, asked.body if answer == 200 else b"")

    return spoil


def accepting(asked: Asked, ask: Ask) -> Answered:
    """Takes whatever is sent."""
    answered = ask(asked)
    if asked.method in ("POST", "PUT", "PATCH") and 400 <= answered.status < 500:
        return replace(answered, status=201 if asked.method == "POST" else 200)
    return answered


def silent_validation(asked: Asked, ask: Ask) -> Answered:
    """Finds nothing wrong with anything."""
    answered = ask(asked)
    if "$validate" not in asked.path:
        return answered
    fine = {"severity": "information", "code": "informational"}
    return replace(answered, status=200).saying(
        {"resourceType": "OperationOutcome", "issue": [fine]}
    )


def _meta(resource: Any, **changed: Any) -> Any:
    return {**resource, "meta": {**resource.get("meta", {}), **changed}}


def _each(change: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda found: [change(each) for each in found]


def _match_only(found: list[Any]) -> list[Any]:
    return [e for e in found if e.get("search", {}).get("mode") != "include"]


def _half_done(asked: Asked, ask: Ask) -> Answered:
    """A transaction that is done as a batch."""
    return ask(replace(asked, body=asked.body.replace(b'"transaction"', b'"batch"')))


def _without_parameter(name: str) -> Spoil:
    def change(path: str) -> str:
        steps, _, query = path.partition("?")
        kept = [each for each in query.split("&") if not each.startswith(name)]
        return f"{steps}?{'&'.join(kept)}"

    return asking(change)


def _open(asked: Asked, ask: Ask) -> Answered:
    """Asks nobody who they are."""
    answered = ask(asked)
    if answered.status != 401:
        return answered
    told = {"resourceType": "Bundle", "type": "searchset"}
    return replace(answered, status=200).saying(told)


_text = bytes.replace


def _bytes(old: bytes, new: bytes) -> Spoil:
    def spoil(asked: Asked, ask: Ask) -> Answered:
        answered = ask(asked)
        return replace(answered, body=_text(answered.body, old, new))

    return spoil


def _link(relation: str) -> Spoil:
    return body(
        lambda b: {**b, "link": [e for e in b.get("link", ()) if e["relation"] != relation]},
        "Bundle",
    )


def _cut(value_set: Any) -> Any:
    contains = value_set.get("expansion", {}).get("contains", [])[:1]
    return {**value_set, "expansion": {**value_set.get("expansion", {}), "contains": contains}}


def _broken_link(bundle: Any) -> Any:
    links = [
        {**e, "url": e["url"].partition("?")[0] + "/nowhere/at/all"}
        if e["relation"] == "next"
        else e
        for e in bundle.get("link", ())
    ]
    return {**bundle, "link": links}


BREAKAGES = (
    # statuses
    Breakage("a create answers 200", "create-and-read", status(200, 201, "POST")),
    Breakage("what is not there answers 200", "create-and-read", status(200, 404)),
    Breakage("what is gone answers 404", "delete", status(404, 410)),
    Breakage("a conflict answers 200", "update", status(200, 412)),
    Breakage("several matches answer 400", "conditional", status(400, 412)),
    Breakage("what was not modified answers 200", "conditional", status(200, 304)),
    Breakage("what cannot be accepted answers 200", "formats", status(200, 406)),
    Breakage("what cannot be read answers 500", "formats", status(500, 415)),
    Breakage("a wrong search answers 200", "search-date", status(200, 400)),
    Breakage("who has no token gets 403", "anonymous", status(403, 401)),
    Breakage("a delete answers 500", "delete", status(500, 204, "DELETE")),
    Breakage("everything answers 500", "capabilities", status(500, 200)),
    # headers
    Breakage("no Location", "create-and-read", header("location")),
    Breakage("no ETag", "create-and-read", header("etag")),
    Breakage("no Last-Modified", "create-and-read", header("last-modified")),
    Breakage("every ETag the same", "update", header("etag", 'W/"1"')),
    Breakage("a Location of nothing", "create-and-read", header("location", "http://x.example/")),
    Breakage("JSON as text", "formats", header("content-type", "text/plain")),
    Breakage("no WWW-Authenticate", "anonymous", header("www-authenticate")),
    Breakage("no Content-Location", "bulk-data", header("content-location")),
    # bodies
    Breakage("no body", "create-and-read", lambda a, ask: replace(ask(a), body=b"")),
    Breakage("half a body", "capabilities", lambda a, ask: replace(ask(a), body=ask(a).body[:50])),
    Breakage("another type", "create-and-read", _bytes(b'"Patient"', b'"Person"')),
    Breakage("an element lost", "create-and-read", body(without("birthDate"), "Patient")),
    Breakage("an extension lost", "create-and-read", body(without("extension"), "Patient")),
    Breakage("a value altered", "create-and-read", _bytes(b'"female"', b'"male"')),
    Breakage("a digit lost", "create-and-read", _bytes(b"72.50", b"72.5")),
    Breakage("an emoji lost", "formats", _bytes("🎉".encode(), b"?")),
    Breakage("refusals without issues", "create-and-read",
             body(lambda o: {**o, "issue": []}, "OperationOutcome")),
    Breakage("refusals of no type", "formats", body(lambda o: {}, "OperationOutcome")),
    Breakage("an unknown element", "create-and-read",
             body(lambda p: {**p, "colour": "green"}, "Patient")),
    Breakage("another release", "capabilities", _bytes(b'"4.0.1"', b'"5.0.0"')),
    # ids and versions
    Breakage("no id", "create-and-read", body(without("id"), "Patient")),
    Breakage("no meta", "create-and-read", body(without("meta"), "Patient")),
    Breakage("another version", "create-and-read", lambda a, ask: body(
        lambda p: _meta(p, versionId="7"), "Patient")(a, ask) if "_history" in a.path else ask(a)),
    Breakage("always the first version", "history", entries(lambda found: found[-1:])),
    Breakage("the client's id", "search-results", asking(lambda p: p.replace("_id=", "_id=x"))),
    # totals and entries
    Breakage("a total too many", "search-results",
             body(lambda b: {**b, "total": b.get("total", 0) + 1}, "Bundle")),
    Breakage("no total", "search-results", body(without("total"), "Bundle")),
    Breakage("an entry twice", "search-string", entries(lambda found: [found[0], *found])),
    Breakage("an entry too few", "search-token", entries(lambda found: found[1:])),
    Breakage("entries in reverse", "search-results", entries(lambda found: found[::-1])),
    Breakage("history in reverse", "delete", entries(lambda found: found[::-1])),
    Breakage("no included resources", "search-reference", entries(_match_only)),
    Breakage("another Bundle type", "search-string",
             body(lambda b: {**b, "type": "collection"}, "Bundle")),
    Breakage("no link next", "search-results", _link("next")),
    Breakage("no link self", "search-results", _link("self")),
    Breakage("a link next to nowhere", "search-results", body(_broken_link, "Bundle")),
    Breakage("whole resources", "search-results", _without_parameter("_elements")),
    Breakage("entries of a count", "search-results", _without_parameter("_summary")),
    Breakage("one page", "search-results", _without_parameter("_count")),
    # what is asked and not done
    Breakage("updates are not done", "update", deaf("PUT", 200)),
    Breakage("deletes are not done", "delete", deaf("DELETE", 204)),
    Breakage("patches are not done", "patch", deaf("PATCH", 200)),
    Breakage("FHIRPath patches are not done", "fhirpath-patch", deaf("PATCH", 200)),
    Breakage("If-Match is not heard", "update", unheard("if-match")),
    Breakage("If-None-Exist is not heard", "conditional", unheard("if-none-exist")),
    Breakage("If-None-Match is not heard", "conditional", unheard("if-none-match")),
    Breakage("If-Modified-Since is not heard", "conditional", unheard("if-modified-since")),
    Breakage("Prefer is not heard", "create-and-read", unheard("prefer")),
    Breakage("a modifier is not heard", "search-string",
             asking(lambda p: p.replace("given:exact=", "given="))),
    Breakage(":not is not heard", "search-token", asking(lambda p: p.replace(":not=", "="))),
    Breakage("prefixes are not heard", "search-date", asking(lambda p: p.replace("=ge", "="))),
    Breakage("units are not heard", "search-quantity",
             asking(lambda p: p.split("|http")[0] if "value-quantity=72" in p else p)),
    Breakage("a number is not heard", "search-number-and-uri", _without_parameter("probability")),
    Breakage("a chain is not heard", "search-reference", _without_parameter("subject:Patient.")),
    Breakage("a transaction is a batch", "transaction", _half_done),
    Breakage("anything is taken", "validation", accepting),
    Breakage("anything is valid", "validation", silent_validation),
    Breakage("anybody may ask", "anonymous", _open),
    Breakage("an expansion cut short", "terminology", body(_cut, "ValueSet")),
    Breakage("every code is valid", "terminology",
             _bytes(b'"valueBoolean":false', b'"valueBoolean":true')),
    Breakage("no displays", "terminology", _bytes(b'"Female"', b'"female"')),
    Breakage("PUT does not create", "update-as-create", status(404, 201, "PUT")),
    Breakage("exports are not accepted", "bulk-data", status(200, 202)),
)  # fmt: skip
