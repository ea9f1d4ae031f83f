"""What a connection does in each phase: the next request, given the last reply.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from random import Random
from typing import NamedTuple

from salus.bench.shapes import Pools, Shape
from salus.bench.wire import Address, Reply, Request, Step
from salus.bench.world import Resource, World, encode

READY = 5_000  # requests prepared of each shape
PAGES = 20
RETURNED = "return=representation"

# Two values that an update goes back and forth between, so that each one changes something.
CHANGES: dict[str, tuple[str, tuple[object, object]]] = {
    "Patient": ("active", (True, False)),
    "Observation": ("status", ("final", "amended")),
    "Encounter": ("status", ("finished", "in-progress")),
    "MedicationRequest": ("status", ("active", "stopped")),
    "Condition": ("recordedDate", ("2020-01-01", "2020-01-02")),
}
WRITTEN = ("Patient", "Encounter", "Observation", "MedicationRequest")


def prepared(
    address: Address, shape: Shape, pools: Pools, chance: Random, count: int = READY
) -> list[Request]:
    """Requests of one shape with values drawn, ready to send."""
    return [
        address.request("GET", shape.fill(shape.draw(pools, chance)), label=shape.id)
        for _ in range(count if shape.pools else 1)
    ]


def in_turn(requests: Sequence[Request], connections: int) -> list[Step]:
    """Each connection goes round the same requests from a place of its own."""
    return [
        _following(islice(cycle(requests), i * len(requests) // connections, None))
        for i in range(connections)
    ]


def _following(requests: Iterator[Request]) -> Step:
    return lambda reply: next(requests)


def paging(address: Address, label: str) -> Step:
    """Follow next links from the first page, so many deep, and begin again."""
    first = address.request("GET", "/Observation?_count=10", label=label)
    page = 0

    def step(reply: Reply | None) -> Request:
        nonlocal page
        link = _next_link(reply.body) if reply is not None and reply.status == 200 else None
        if link is None or page >= PAGES:
            page = 0
            return first
        page += 1
        return address.follow(link, label)

    return step


def _next_link(body: bytes) -> str | None:
    """The next link; parsed only as far as the links go, which come before the entries."""
    at = body.find(b'"entry"')
    text = body[: at if at >= 0 else None].rstrip(b" \r\n,") + (b"}" if at >= 0 else b"")
    try:
        links = json.loads(text).get("link", ())
    except ValueError:
        links = json.loads(body).get("link", ())
    return next((str(each["url"]) for each in links if each["relation"] == "next"), None)


# --- writing -------------------------------------------------------------------------------------


def creates(address: Address, world: World, types: Sequence[str], chance: Random) -> list[Request]:
    """Creates of the templates of some types, mixed."""
    made = [
        address.request("POST", f"/{type}", encode(_without_id(each)), "create", Prefer=RETURNED)
        for type in types
        for each in world.templates[type]
    ]
    chance.shuffle(made)
    return made


def _without_id(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if name not in ("id", "meta", "text")}


class Mix(NamedTuple):
    """How often each interaction and each type is drawn, in percent."""

    interactions: dict[str, int]
    types: dict[str, int]


CLINIC = {"Observation": 50, "Patient": 20, "Condition": 15, "Encounter": 10}
CLINIC["MedicationRequest"] = 5
MIXED = Mix({"create": 10, "read": 60, "update": 25, "delete": 5}, CLINIC)
EVEN = Mix({"create": 25, "read": 25, "update": 25, "delete": 25}, CLINIC)
UPDATES = Mix({"update": 100}, dict.fromkeys(WRITTEN, 25))
KEPT = 2  # resources of each type that a connection keeps alive


class Writer:
    """One connection that creates, reads, updates and deletes resources of its own, so that no two
    ever meet. It begins with a few creates of each type, which bear the label `prepare`."""

    def __init__(
        self, address: Address, world: World, mix: Mix, chance: Random, begin: int = KEPT
    ) -> None:
        self._address = address
        self._mix = mix
        self._chance = chance
        self._types = [type for type in mix.types if world.templates[type]]
        self._bodies = {
            type: [encode(_without_id(each)) for each in world.templates[type]]
            for type in self._types
        }
        self._templates = world.templates
        self._alive: dict[str, list[tuple[str, int]]] = {type: [] for type in self._types}
        self._creating: tuple[str, int] | None = None
        self._turn = 0
        self._first = iter([type for type in self._types for _ in range(begin)])
        self._make: dict[str, Callable[[str], Request]] = {
            "create": self._create,
            "read": self._read,
            "update": self._update,
            "delete": self._delete,
        }

    def __call__(self, reply: Reply | None) -> Request:
        self._note(reply)
        first = next(self._first, None)
        if first is not None:
            return self._create(first)._replace(label="prepare")
        chosen = self._draw(self._mix.interactions)
        type = self._draw({each: self._mix.types[each] for each in self._types})
        alive = len(self._alive[type])
        if not alive or (chosen == "delete" and alive < KEPT):
            chosen = "create"
        return self._make[chosen](type)

    def _draw(self, weights: dict[str, int]) -> str:
        return self._chance.choices(list(weights), list(weights.values()))[0]

    def _note(self, reply: Reply | None) -> None:
        """Remember what was created: by its Location."""
        if self._creating and reply is not None and reply.status == 201:
            type, number = self._creating
            place = (reply.header(b"location") or "").partition("/_history/")[0]
            self._alive[type].append((place.rpartition("/")[2], number))
        self._creating = None

    def _create(self, type: str) -> Request:
        number = self._chance.randrange(len(self._bodies[type]))
        self._creating = type, number
        body = self._bodies[type][number]
        return self._address.request("POST", f"/{type}", body, "create", Prefer=RETURNED)

    def _read(self, type: str) -> Request:
        id, _ = self._chance.choice(self._alive[type])
        return self._address.request("GET", f"/{type}/{id}", label="read")

    def _update(self, type: str) -> Request:
        id, number = self._chance.choice(self._alive[type])
        element, values = CHANGES[type]
        self._turn += 1
        changed = {element: values[self._turn % 2], "id": id}
        body = encode(_without_id(self._templates[type][number]) | changed)
        return self._address.request("PUT", f"/{type}/{id}", body, "update", Prefer=RETURNED)

    def _delete(self, type: str) -> Request:
        id, _ = self._alive[type].pop(self._chance.randrange(len(self._alive[type])))
        return self._address.request("DELETE", f"/{type}/{id}", label="delete")
