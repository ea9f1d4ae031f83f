"""How fast the machine is at the moment: fixed work of two kinds, timed before each phase, since
figures of a machine that others share cannot be compared without it.

https://docs.python.org/3.11/library/time.html#time.perf_counter
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from salus.bench import machine

ITERATIONS = 200_000
DECODES = 20
ROUNDS = 5


class Calibration(NamedTuple):
    """`loop_ns`: one iteration of a loop in plain Python; `decode_us`: the standard library's
    decoder on a fixed document of 25 KB."""

    loop_ns: float
    decode_us: float

    @property
    def factor(self) -> float:
        """How many times as long the work took as it takes in quiet: the geometric mean."""
        loop, decode = self.loop_ns / QUIET.loop_ns, self.decode_us / QUIET.decode_us
        return math.sqrt(loop * decode)

    def figures(self) -> dict[str, float]:
        """What stands in the JSON file."""
        return {**self._asdict(), "factor": self.factor}


# One core of a Xeon at 2.5 GHz in a quiet minute, CPython 3.11.
QUIET = Calibration(50.0, 260.0)

_DOCUMENT = json.dumps(
    [
        {
            "resourceType": "Observation",
            "id": f"example-{number}",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2"}]},
            "valueQuantity": {"value": number + 0.25, "unit": "cm"},
            "note": [{"text": "a word or two " * 4}],
        }
        for number in range(100)
    ]
)


def calibrate(core: int | None = None) -> Calibration:
    """Measure now, on one core where it is named, for some 50 milliseconds."""
    allowed = set(machine.cores())
    moved = core is not None and machine.pin(core)
    try:
        loop = _median(_loop) / ITERATIONS
        decode = _median(_decode) / DECODES
    finally:
        if moved:
            os.sched_setaffinity(0, allowed)
    return Calibration(loop * 1e9, decode * 1e6)


def _median(work: Callable[[], object]) -> float:
    seconds: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _loop() -> int:
    total = 0
    for each in range(ITERATIONS):
        total += each
    return total


def _decode() -> None:
    for _ in range(DECODES):
        json.loads(_DOCUMENT)
