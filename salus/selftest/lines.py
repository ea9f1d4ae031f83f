"""What the process that runs the suites tells, a line each, in JSON.

https://jsonlines.org
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Planned(Struct, frozen=True):
    """A suite, and its tests by name."""

    title: str
    tests: list[str]


class Plan(Struct, frozen=True, tag="plan"):
    suites: list[Planned]


class Cell(Struct, frozen=True, tag="cell"):
    """What came of a test, both by their places in the plan; `outcome` is pass, warning, fail,
    error or skip."""

    suite: int
    test: int
    outcome: str
    seconds: float
    reason: str


class Done(Struct, frozen=True, tag="done"):
    """All that can be downloaded."""

    seconds: float
    report: str
    junit: str
    html: str


class Trouble(Struct, frozen=True, tag="trouble"):
    """Why nothing was run."""

    text: str


Line: TypeAlias = Plan | Cell | Done | Trouble
