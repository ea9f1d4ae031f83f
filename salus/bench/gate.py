"""The correctness gate: before anything is timed, each shape must answer right.

Wrong, refused, or answered with a parameter ignored: the shape scores nothing and is listed
(https://hl7.org/fhir/R4/search.html).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Literal, NamedTuple

from salus.bench.shapes import Draw, Pools, Shape
from salus.bench.truth import INCLUDED, SORTED, arguable, truth
from salus.bench.wire import Address, Reply, Request, ask
from salus.bench.world import World

DRAWS = 50  # random draws checked of each shape that has values
PAGES = 20  # pages followed
IGNORED = "this-is-not-a-real-param"


class Verdict(NamedTuple):
    """right; wrong, with what was found; refused: not offered by this server (status 4xx or 5xx);
    unproven: answered, but nothing here knows the right answer."""

    shape: str
    judged: Literal["right", "wrong", "refused", "unproven"]
    why: str = ""


class Gate(NamedTuple):
    """What the answers are judged by."""

    address: Address
    world: World
    pools: Pools
    tier: str
    chance: Random
    draws: int = DRAWS

    async def judge(self, shape: Shape) -> Verdict:
        if shape.id == "e1":
            return await self._unknown_parameter(shape)
        if shape.paged:
            return await self._paging(shape)
        if self.tier in shape.totals:
            return await self._total(shape, shape.totals[self.tier])
        return await self._drawn(shape)

    async def _total(self, shape: Shape, right: int) -> Verdict:
        reply = await self._get(shape, {})
        if reply.status != 200:
            return _refused(shape, reply)
        total = json.loads(reply.body).get("total")
        if total != right:
            return Verdict(shape.id, "wrong", f"total {total}, not {right}")
        return Verdict(shape.id, "right")

    async def _drawn(self, shape: Shape) -> Verdict:
        if shape.family == "operation" or shape.family == "fulltext":
            reply = await self._get(shape, shape.draw(self.pools, self.chance))
            if reply.status != 200:
                return _refused(shape, reply)
            known = shape.url == "/metadata"
            return Verdict(shape.id, "right" if known else "unproven")
        for _ in range(self.draws if shape.pools else 1):
            draw = shape.draw(self.pools, self.chance)
            reply = await self._get(shape, draw)
            if reply.status != 200:
                return _refused(shape, reply)
            why = self._wrong(shape, draw, json.loads(reply.body))
            if why:
                return Verdict(shape.id, "wrong", f"{why} for {shape.fill(draw)}")
        return Verdict(shape.id, "right")

    def _wrong(self, shape: Shape, draw: Draw, answer: dict[str, Any]) -> str | None:
        """What is wrong with an answer; None when nothing is."""
        right = truth(shape.id, self.world, draw)
        if right is None:
            return None
        if answer["resourceType"] != "Bundle":
            return None if answer["id"] in right else "another resource"
        found = _ids(answer, "match")
        allowed = right | arguable(shape.id, self.world, draw)
        if not set(found) <= allowed:
            return f"{len(set(found) - allowed)} of {len(found)} do not match"
        if len(set(found)) != len(found):
            return "a match appears twice"
        if not right <= set(found) and not _next(answer):
            return f"{len(found)} matches and no next page, but {len(right)} are right"
        if shape.id in INCLUDED:
            wanted = INCLUDED[shape.id](self.world, found)
            if set(_ids(answer, "include")) != wanted:
                return "other resources are included than those that should be"
        return _disorder(shape, answer)

    async def _paging(self, shape: Shape) -> Verdict:
        """Follow the next links: nothing twice, nothing that should not be there."""
        seen: list[str] = []
        request = self.address.request("GET", "/Observation?_count=10")
        for _ in range(PAGES):
            (reply,) = await ask(self.address, request)
            if reply.status != 200:
                return _refused(shape, reply)
            answer = json.loads(reply.body)
            seen += _ids(answer, "match")
            link = _next(answer)
            if link is None:
                break
            request = self.address.follow(link, shape.id)
        expected = min(10 * PAGES, len(self.world.types["Observation"]))
        if len(set(seen)) != expected or not set(seen) <= self.world.types["Observation"].keys():
            return Verdict(shape.id, "wrong", f"{len(set(seen))} different ones on {PAGES} pages")
        return Verdict(shape.id, "right")

    async def _unknown_parameter(self, shape: Shape) -> Verdict:
        path = shape.fill({})
        strict, lenient = await ask(
            self.address,
            self.address.request("GET", path, Prefer="handling=strict"),
            self.address.request("GET", path, Prefer="handling=lenient"),
        )
        if strict.status != 400:
            return Verdict(shape.id, "wrong", f"status {strict.status} under handling=strict")
        links = json.loads(lenient.body).get("link", ()) if lenient.status == 200 else ()
        if any(each["relation"] == "self" and IGNORED in each["url"] for each in links):
            return Verdict(shape.id, "wrong", "the self link shows what was ignored")
        return Verdict(shape.id, "right")

    async def _get(self, shape: Shape, draw: Draw) -> Reply:
        request: Request = self.address.request("GET", shape.fill(draw), label=shape.id)
        (reply,) = await ask(self.address, request)
        return reply


async def judge_all(gate: Gate, shapes: Sequence[Shape]) -> dict[str, Verdict]:
    return {shape.id: await gate.judge(shape) for shape in shapes}


def _refused(shape: Shape, reply: Reply) -> Verdict:
    return Verdict(shape.id, "refused", f"status {reply.status}")


def _ids(answer: dict[str, Any], mode: str) -> list[str]:
    return [
        entry["resource"]["id"]
        for entry in answer.get("entry", ())
        if entry.get("search", {}).get("mode", "match") == mode
    ]


def _next(answer: dict[str, Any]) -> str | None:
    for link in answer.get("link", ()):
        if link["relation"] == "next":
            return str(link["url"])
    return None


def _disorder(shape: Shape, answer: dict[str, Any]) -> str | None:
    if shape.id not in SORTED:
        return None
    key, descending = SORTED[shape.id]
    keys = [key(entry["resource"]) for entry in answer.get("entry", ())]
    return None if keys == sorted(keys, reverse=descending) else "not in the order asked for"
