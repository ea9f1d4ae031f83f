"""Counters of what was asked and answered, without any patient data, and the log of incidents.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import secrets
import traceback
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from conformance.json import encode
from conformance.outcome import Issue, outcome
from fhir_server.interaction import Result

_log = structlog.get_logger("salus")


class Metrics(Collector):
    """Plain sums, cheap to add to; shaped for Prometheus only when asked for."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, int], int] = defaultdict(int)
        self._seconds: dict[str, float] = defaultdict(float)
        self._throttled: dict[str, int] = defaultdict(int)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def also(self, collector: Collector) -> None:
        """Tell what another one knows, too."""
        self._registry.register(collector)

    def observe(self, code: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._answers[code, status] += 1
        self._seconds[code] += seconds

    def throttled(self, policy: str) -> None:
        """Count a request that was refused since its sender had asked too much."""
        self._throttled[policy] += 1

    def incident(self, error: Exception, code: str) -> Result:
        """Log what nobody foresaw, by its places in the code only, since its text could hold
        patient data; and the 500 that names the entry in the log."""
        number = secrets.token_hex(6)
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
        _log.error("incident", number=number, kind=type(error).__name__, code=code, at=places)
        text = f"Something went wrong here; the operator's log tells more of incident {number}"
        return Result(500, encode(outcome((Issue("fatal", "exception", text),))))

    def collect(self) -> Iterator[CounterMetricFamily | SummaryMetricFamily]:
        """For prometheus_client."""
        answers = CounterMetricFamily(
            "salus_interactions", "Answers by interaction and status", labels=("code", "status")
        )
        times = SummaryMetricFamily(
            "salus_interaction_seconds", "Time to the answer", labels=("code",)
        )
        counts: dict[str, int] = defaultdict(int)
        for (code, status), count in sorted(self._answers.items()):
            answers.add_metric((code, str(status)), count)
            counts[code] += count
        for code, count in counts.items():
            times.add_metric((code,), count, self._seconds[code])
        throttled = CounterMetricFamily(
            "salus_throttled", "Requests beyond a rate limit", labels=("policy",)
        )
        for policy, count in sorted(self._throttled.items()):
            throttled.add_metric((policy,), count)
        yield answers
        yield times
        yield throttled

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
