"""The phases of one run, in order; each gives figures, and the run gives all of them.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from salus.bench import machine, steps, wrk
from salus.bench.calibration import calibrate
from salus.bench.gate import DRAWS, Gate, Verdict, judge_all
from salus.bench.shapes import Pools, Shape, harvest
from salus.bench.subject import BenchError, Subject
from salus.bench.wire import Reply, Request, Sample, Step, ask, drive
from salus.bench.world import World, decode, lines

SEED = 20_260
IMPORTERS = 4
LOADER_LIMIT = 0.85  # beyond this share of its core, the load generator measured itself
OTHERS_LIMIT = 0.05  # beyond this share of the machine, others were measured


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each phase, and connections where several are used."""

    warm_up: float = 15
    read: float = 10
    shape: float = 2.5
    blend: float = 20
    write: float = 8
    mix: float = 20
    draws: int = DRAWS
    many: int = 32
    some: int = 8


QUICK = Times(warm_up=1, read=2, shape=0.4, blend=3, write=2, mix=3, draws=5)


@dataclass(slots=True)
class Run:
    """One run against one subject. `told` hears the name of each phase as it begins."""

    subject: Subject
    path: Path
    tier: str
    shapes: Sequence[Shape]
    times: Times
    told: Callable[[str], None] = lambda name: None
    world: World = field(default_factory=World)
    chance: Random = field(default_factory=lambda: Random(SEED))
    pools: Pools = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    async def all(self) -> dict[str, Any]:
        """Every phase, in order; the figures. BenchError."""
        for name, phase in (
            ("start", self.start),
            ("import", self.load),
            ("correctness gate", self.gate),
            ("warm-up", self.warm_up),
            ("read", self.read),
            ("searches, each alone", self.each_shape),
            ("search blend", self.blend),
            ("create and update", self.writes),
            ("CRUD mix", self.mixes),
        ):
            self.told(name)
            await phase()
        self.figures["memory_mib_at_end"] = self.subject.memory_mib()
        return self.figures

    async def start(self) -> None:
        cold = await self.subject.restart()
        await asyncio.sleep(0.5)
        self.figures["start"] = {
            "cold_start_seconds": cold,
            "idle_memory_mib": self.subject.memory_mib(),
        }

    # --- 1: import -------------------------------------------------------------------------------

    async def load(self) -> None:
        (reply,) = await ask(self.subject.address, self._get("/Patient?_summary=count"))
        if reply.status == 200 and json.loads(reply.body).get("total", 0):
            raise BenchError("The server is not empty; its figures would not be comparable")
        bundles = list(lines(self.path))
        seeds = next((i for i, line in enumerate(bundles) if b'"Patient"' in line), len(bundles))
        replies: list[Reply | None] = [None] * len(bundles)
        speed = calibrate(self.subject.core).figures()
        cpu, began = self.subject.cpu_ms(), time.perf_counter()
        await self._post(bundles, range(seeds), replies, 1)
        await self._post(bundles, range(seeds, len(bundles)), replies, IMPORTERS)
        seconds, cpu = time.perf_counter() - began, self.subject.cpu_ms() - cpu
        refused = 0
        for line, answer in zip(bundles, replies, strict=True):
            if answer is None or answer.status != 200:
                refused += 1
                continue
            self.world.add(decode(line), json.loads(answer.body))
        stored = sum(self.world.counts.values())
        self.figures["import"] = {
            "resources": stored,
            "bundles_refused": refused,
            "entries_failed": self.world.failed,
            "seconds": seconds,
            "resources_a_second": stored / seconds,
            "cpu_ms_a_resource": cpu / stored if stored else None,
            "calibration": speed,
        }
        if not stored:
            raise BenchError("Nothing could be loaded: see the server's log")

    async def _post(
        self, bundles: list[bytes], which: range, replies: list[Reply | None], connections: int
    ) -> None:
        waiting = iter(which)

        def worker() -> Step:
            now: int | None = None

            def step(reply: Reply | None) -> Request | None:
                nonlocal now
                if now is not None:
                    replies[now] = reply
                now = next(waiting, None)
                if now is None:
                    return None
                return self.subject.address.request("POST", "", bundles[now], "import")

            return step

        if len(which):
            await drive(self.subject.address, [worker() for _ in range(connections)], None)

    # --- 2: restart, harvest, gate ---------------------------------------------------------------

    async def gate(self) -> None:
        self.figures["restart_seconds"] = await self.subject.restart()
        disk = self.subject.disk_bytes()
        stored = sum(self.world.counts.values())
        self.figures["disk_bytes_a_resource"] = disk / stored if disk else None
        self.pools = harvest(self.world, self.chance)
        gate = Gate(
            self.subject.address,
            self.world,
            self.pools,
            self.tier,
            self.chance,
            self.times.draws,
        )
        self.verdicts = await judge_all(gate, self.shapes)
        judged = [each.judged for each in self.verdicts.values()]
        self.figures["gate"] = {
            "right": judged.count("right"),
            "wrong": judged.count("wrong"),
            "refused": judged.count("refused"),
            "unproven": judged.count("unproven"),
            "verdicts": {key: each._asdict() for key, each in self.verdicts.items()},
        }

    def _offered(self) -> list[Shape]:
        """The timed shapes that answer right."""
        return [
            each for each in self.shapes if each.timed and self.verdicts[each.id].judged == "right"
        ]

    # --- 3 to 6: reading -------------------------------------------------------------------------

    async def warm_up(self) -> None:
        made = steps.in_turn(self._blended(), self.times.some)
        await drive(self.subject.address, made, self.times.warm_up)

    async def read(self) -> None:
        """Alone, after a restart and before it, the reads show what an AuditEvent takes on disk."""
        await self.subject.restart()
        before = self.subject.disk_bytes()
        shapes = [each for each in self.shapes if each.id in ("r1", "r2")]
        requests = [
            each for pair in zip(*(self._prepared(s) for s in shapes), strict=True) for each in pair
        ]
        asked = 0
        for connections in (1, self.times.many):
            figures = await self._sent(requests, connections, self.times.read, warm=0.5)
            asked += figures["requests"]
            self.figures[f"read_{connections}"] = figures
        await self.subject.restart()
        after = self.subject.disk_bytes()
        if before is not None and after is not None:
            self.figures["disk_bytes_a_read_event"] = (after - before) / asked

    async def each_shape(self) -> None:
        found: dict[str, Any] = {}
        for shape in self._offered():
            found[shape.id] = await self._alone(shape, self.times.some)
        rates = [each["rate"] for each in found.values() if each["rate"] > 0]
        self.figures["shapes"] = found
        self.figures["shapes_geometric_mean"] = (
            math.exp(statistics.fmean(map(math.log, rates))) if rates else None
        )

    async def blend(self) -> None:
        self.figures["blend"] = await self._sent(
            self._blended(), self.times.many, self.times.blend, warm=1
        )

    def _blended(self) -> list[Request]:
        """Every offered shape equally often; paging is left to its own phase."""
        offered = [each for each in self._offered() if not each.paged]
        mixed = [request for each in offered for request in self._some(each)]
        self.chance.shuffle(mixed)
        return mixed

    def _some(self, shape: Shape) -> list[Request]:
        made = self._prepared(shape, 100)
        return made * (100 // len(made))

    async def _alone(self, shape: Shape, connections: int) -> dict[str, Any]:
        seconds = self.times.shape
        if not shape.paged:
            return await self._sent(self._prepared(shape), connections, seconds, warm=0.1)
        pages = [steps.paging(self.subject.address, shape.id) for _ in range(connections)]
        return await self._measured(pages, seconds, warm=0.1)

    def _prepared(self, shape: Shape, count: int = steps.READY) -> list[Request]:
        return steps.prepared(self.subject.address, shape, self.pools, self.chance, count)

    # --- 7 and 9: writing ------------------------------------------------------------------------

    async def writes(self) -> None:
        requests = steps.creates(self.subject.address, self.world, steps.WRITTEN, self.chance)
        self.figures["create"] = await self._sent(
            requests, self.times.many, self.times.write, warm=0.5
        )
        self.figures["update"] = await self._measured(
            self._writers(steps.UPDATES), self.times.write, warm=1
        )

    async def mixes(self) -> None:
        self.figures["crud_mix"] = await self._measured(
            self._writers(steps.MIXED), self.times.mix, warm=1
        )
        self.figures["crud_even"] = await self._measured(
            self._writers(steps.EVEN), self.times.write, warm=1
        )

    def _writers(self, mix: steps.Mix) -> list[Step]:
        return [
            steps.Writer(self.subject.address, self.world, mix, Random(self.chance.random()))
            for _ in range(self.times.many)
        ]

    # --- measuring -------------------------------------------------------------------------------

    async def _measured(self, made: Sequence[Step], seconds: float, warm: float) -> dict[str, Any]:
        """Drive the steps; what they gave, with the server's processor time a request, and how
        fast the machine was just before."""
        speed = calibrate(self.subject.core).figures()
        meter = _Meter(self.subject)
        sample = await drive(self.subject.address, made, seconds, warm, meter.begin, meter.end)
        made_of = figures_of(sample, meter.cpu_ms, meter.others_share(sample.loader_seconds))
        return {**made_of, "calibration": speed, "loader": "asyncio"}

    async def _sent(
        self, requests: Sequence[Request], connections: int, seconds: float, warm: float
    ) -> dict[str, Any]:
        """Send prepared requests in turn: by wrk where it is installed, which takes least from the
        server."""
        if wrk.installed() is None:
            return await self._measured(steps.in_turn(requests, connections), seconds, warm)
        speed = calibrate(self.subject.core).figures()
        meter = _Meter(self.subject)
        blown = await wrk.blow(
            self.subject.address, requests, connections, seconds, warm, meter.begin, meter.end
        )
        shares = blown.loader_seconds / blown.seconds, meter.others_share(blown.loader_seconds)
        return {**_blown(blown, meter.cpu_ms, *shares), "calibration": speed, "loader": "wrk"}

    def _get(self, path: str) -> Request:
        return self.subject.address.request("GET", path)


class _Meter:
    """Reads the clocks of server and machine when counting begins, and when it ends."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def begin(self) -> None:
        self._cpu, self._before = self._subject.cpu_ms(), machine.ticks()

    def end(self) -> None:
        self.cpu_ms = self._subject.cpu_ms() - self._cpu
        self._after = machine.ticks()

    def others_share(self, loader_seconds: float) -> float:
        ours = self.cpu_ms + loader_seconds * 1000
        return machine.others_share(self._before, self._after, ours)


def _blown(
    blown: wrk.Blown, cpu_ms: float, loader_share: float, others_share: float
) -> dict[str, Any]:
    """The figures of a phase that wrk drove."""
    return {
        **blown._asdict(),
        "rate": blown.requests / blown.seconds,
        "cpu_ms": cpu_ms / blown.requests if blown.requests else None,
        "loader_share": loader_share,
        "others_share": others_share,
        "void": loader_share > LOADER_LIMIT or others_share > OTHERS_LIMIT,
    }


def figures_of(sample: Sample, cpu_ms: float, others_share: float) -> dict[str, Any]:
    """The figures of one phase; times in milliseconds."""
    loader = sample.loader_seconds / sample.seconds if sample.seconds else 0.0
    made: dict[str, Any] = {
        "requests": sample.requests,
        "rate": sample.rate(),
        "p50": sample.percentile(0.50),
        "p95": sample.percentile(0.95),
        "p99": sample.percentile(0.99),
        "errors": sample.errors,
        "cpu_ms": cpu_ms / sample.requests if sample.requests else None,
        "loader_share": loader,
        "others_share": others_share,
        "void": loader > LOADER_LIMIT or others_share > OTHERS_LIMIT,
    }
    if len(sample.latencies) > 1:
        made["by_label"] = {
            label: {
                "requests": len(times),
                "rate": sample.rate(label),
                "p50": sample.percentile(0.50, label),
                "p95": sample.percentile(0.95, label),
            }
            for label, times in sorted(sample.latencies.items())
        }
    return made
