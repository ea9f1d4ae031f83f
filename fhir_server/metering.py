"""What a request is charged, in units of a plain read, and who keeps the account.

https://hl7.org/fhir/R4/http.html, https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import unquote_plus

from conformance.outcome import FhirError
from fhir_server.interaction import Interaction, Parameters
from fhir_server.references import conditional, conditional_references
from smart_auth.grant import Grant

Headers = Sequence[tuple[bytes, bytes]]

BASE = 1  # of every request, before its body is read
# What an interaction costs, from what it takes: see docs/decisions/0028.
COSTS = {
    "create": 3,
    "update": 3,
    "patch": 3,
    "delete": 3,
    "history-instance": 3,
    "history-type": 5,
    "history-system": 5,
    "search-type": 3,
    "search-system": 5,
    "operation": 10,
}
# What a search parameter adds, by what its name begins with, or its modifier.
RESULTS = {"_include": 3, "_revinclude": 3, "_has": 5}
MODIFIERS = {
    "contains": 10,
    "text": 10,
    "not-in": 10,
    "in": 5,
    "above": 5,
    "below": 5,
    "iterate": 5,
}
CHAIN = 5  # a hop
TOTAL = {"accurate": 10}
PAGE = 20  # resources of a page that cost one more
ENTRY = 1  # of a Bundle, beside what it asks for
WEIGHT = 16 * 1024  # bytes of a body that cost one more
_METHODS = {"POST": 3, "PUT": 3, "PATCH": 3, "DELETE": 3}
_MOST_DIGITS = 9


class Throttled(FhirError):
    """429: too much was asked in too short a time. `headers` go with the answer; `first`: nobody
    was told of this one within a minute, so the audit is."""

    def __init__(self, text: str, wait: int, headers: Headers, first: bool) -> None:
        super().__init__("throttled", text)
        self.wait, self.headers, self.first = wait, headers, first


class Bill(Protocol):
    """The account of one request."""

    def charge(self, cost: int) -> None:
        """More, before it is performed. Throttled, with nothing charged."""
        ...

    def owe(self, cost: float) -> None:
        """More, afterwards; never refused, but held against what is asked next."""
        ...

    def settle(self, seconds: float) -> None:
        """What the engine worked beyond what was paid, afterwards; never refused."""
        ...

    def headers(self) -> Headers:
        """What the answer says of the account."""
        ...


class Meter(Protocol):
    """Who keeps the accounts."""

    def known(self, grant: Grant) -> Bill:
        """A request under a grant, its BASE paid. Throttled."""
        ...

    def stranger(self, address: str) -> Bill:
        """A request of nobody known. Throttled."""
        ...


class Free:
    """Nobody counts: the bill of a server without limits, and of whom they do not hold."""

    def known(self, grant: Grant) -> Bill:
        return self

    def stranger(self, address: str) -> Bill:
        return self

    def charge(self, cost: int) -> None:
        """Nothing."""

    def owe(self, cost: float) -> None:
        """Nothing."""

    def settle(self, seconds: float) -> None:
        """Nothing."""

    def headers(self) -> Headers:
        return ()


FREE = Free()


def cost(asked: Interaction) -> int:
    """What an interaction costs beyond BASE."""
    if asked.code in ("batch", "transaction"):
        links = asked.code == "transaction"
        return _of_bundle(asked.resource or {}, links) + asked.weight // WEIGHT
    base = COSTS.get(asked.code, BASE) - BASE + asked.weight // WEIGHT
    if asked.parameters:
        base += _of_parameters(asked.parameters)
    if asked.condition:
        base += COSTS["search-type"] + _of_parameters(asked.condition)
    return base


def _of_parameters(parameters: Parameters) -> int:
    return sum(of_parameter(name, value) for name, value in parameters)


def of_parameter(name: str, value: str) -> int:
    """What a search parameter adds."""
    if name == "_count":
        return int(value) // PAGE if value.isdecimal() and len(value) <= _MOST_DIGITS else 0
    if name == "_total":
        return TOTAL.get(value, 0)
    if "." not in name and ":" not in name and name not in RESULTS:
        return 0
    first, *modifiers = name.split(":")
    added = RESULTS.get(first, 0) * (name.count("_has:") or 1) + CHAIN * name.count(".")
    return added + sum(MODIFIERS.get(each, 0) for each in modifiers)


def _of_bundle(bundle: dict[str, Any], links: bool) -> int:
    """What its entries ask for: told by method, URL and condition, for they may be anything.
    `links`: the conditional references of what is written are looked up, each once."""
    entries = bundle.get("entry")
    if not isinstance(entries, list):
        return 0
    found = sum(map(_of_entry, entries))
    if links:
        texts = {text for each in entries for text in _links(each)}
        found += sum(_of_query((conditional(text) or ("", ""))[1]) for text in texts)
    return found


def _links(entry: Any) -> Sequence[str]:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    return conditional_references(resource) if isinstance(resource, dict) else ()


def _of_entry(entry: Any) -> int:
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict):
        return ENTRY
    method, url, only = (request.get(name) for name in ("method", "url", "ifNoneExist"))
    if not isinstance(url, str):
        return ENTRY
    path, _, query = url.partition("?")
    found = ENTRY + (_of_query(query) if query else 0)
    if isinstance(method, str) and method in _METHODS:
        found += COSTS["operation"] if "$" in path else _METHODS[method]
        return found + (_of_query(only) if isinstance(only, str) and only else 0)
    searches = not query and "/" not in path.strip("/")
    return found + (COSTS["search-type"] if searches else 0 if query else BASE)


def _of_query(query: str) -> int:
    """A search as it is written in a Bundle."""
    found = COSTS["search-type"]
    for part in query.removeprefix("?").split("&"):
        name, _, value = part.partition("=")
        found += of_parameter(unquote_plus(name), unquote_plus(value))
    return found
