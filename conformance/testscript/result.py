"""What became of a script: its parts, their actions, and how long each took.

https://hl7.org/fhir/R4/testreport.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from conformance.testscript.script import Script

Outcome: TypeAlias = Literal["pass", "skip", "fail", "warning", "error"]
_WORST: tuple[Outcome, ...] = ("error", "fail")


class Action(NamedTuple):
    """One action. `about` is what the script says of it, `message` what was found, `url` that of an
    operation's request."""

    kind: Literal["operation", "assert"]
    outcome: Outcome
    message: str
    about: str = ""
    seconds: float = 0.0
    url: str = ""


class Part(NamedTuple):
    """The setup, a test, or the teardown."""

    kind: Literal["setup", "test", "teardown"]
    name: str
    actions: tuple[Action, ...]
    seconds: float
    id: str = ""
    about: str = ""

    @property
    def outcome(self) -> Outcome:
        """The worst of its actions; skip where nothing was done. A warning is a pass."""
        found = {each.outcome for each in self.actions}
        for worst in _WORST:
            if worst in found:
                return worst
        done = found - {"skip"}
        return "pass" if done or not found else "skip"

    @property
    def warned(self) -> bool:
        return any(each.outcome == "warning" for each in self.actions)

    @property
    def reason(self) -> str:
        """Why it is as it is: what the first action said that did not hold."""
        for wanted in ("error", "fail", "warning"):
            for each in self.actions:
                if each.outcome == wanted:
                    return f"{each.about}: {each.message}" if each.about else each.message
        return self.actions[0].message if self.outcome == "skip" and self.actions else ""


class Run(NamedTuple):
    """A script that was run against a server. `note` says why it was not, or what could not be
    looked at before."""

    script: Script
    server: str
    parts: tuple[Part, ...]
    began: datetime
    seconds: float
    note: str = ""

    @property
    def tests(self) -> tuple[Part, ...]:
        return tuple(each for each in self.parts if each.kind == "test")

    @property
    def outcome(self) -> Outcome:
        """That of its setup and tests: what the teardown leaves behind is told and not counted."""
        found = {each.outcome for each in self.parts if each.kind != "teardown"}
        for worst in _WORST:
            if worst in found:
                return worst
        return "pass" if "pass" in found else "skip"


class Totals(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def all(self) -> int:
        return sum(self)


def totals(runs: tuple[Run, ...] | list[Run]) -> Totals:
    """The tests of all runs. A test that could not be judged counts as failed."""
    found = [part.outcome for run in runs for part in run.tests]
    passed, skipped = found.count("pass"), found.count("skip")
    return Totals(passed, len(found) - passed - skipped, skipped)


def succeeded(runs: tuple[Run, ...] | list[Run]) -> bool:
    """Whether nothing failed, in no setup either."""
    return all(run.outcome in ("pass", "skip") for run in runs)
