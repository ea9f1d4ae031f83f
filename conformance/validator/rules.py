"""What a check finds wrong, and where: kept small while checking, made into issues only at the end.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from conformance.fhirpath import Environment

_NAME = re.compile(r"\w{1,64}", re.ASCII)


class Rule(NamedTuple):
    """A rule that was broken: an issue without its place."""

    severity: str
    code: str
    text: str
    key: str | None = None


class Found(NamedTuple):
    """A broken rule at a member of `holder` (a property's name or an index), or at `holder`
    itself where `at` is None."""

    holder: dict[str, Any] | list[Any]
    at: str | int | None
    rule: Rule


class Full(Exception):
    """As much was found as is told."""


class Run:
    """One validation, as one resource of it sees it: `environment` has that resource and its root.
    What is found is shared: errors in `found`, what is only advised in `advice` (None: not asked
    for), so that no advice crowds out an error."""

    __slots__ = ("advice", "environment", "found", "limit")

    def __init__(
        self,
        environment: Environment,
        found: list[Found],
        advice: list[Found] | None,
        limit: int,
    ) -> None:
        self.environment = environment
        self.found = found
        self.advice = advice
        self.limit = limit

    def add(self, holder: dict[str, Any] | list[Any], at: str | int | None, rule: Rule) -> None:
        """Keep what was found. Raises Full beyond the limit."""
        if rule.severity == "error":
            if len(self.found) >= self.limit:
                raise Full
            self.found.append(Found(holder, at, rule))
        elif self.advice is not None and len(self.advice) <= self.limit:
            self.advice.append(Found(holder, at, rule))

    def within(self, environment: Environment) -> Run:
        """The same validation, inside another resource."""
        return Run(environment, self.found, self.advice, self.limit)


# Checks the member `at` of `holder`.
Member: TypeAlias = Callable[[Any, Any, Any, Run], None]
# Checks the members and invariants of an object.
Whole: TypeAlias = Callable[[dict[str, Any], Run], None]


class Checked(Protocol):
    """What has a `check` for objects; it is looked up at each call, since the first compiles it."""

    check: Whole


def structure(text: str) -> Rule:
    """What JSON or the definition of the type does not allow."""
    return Rule("error", "structure", text)


def shown(name: str) -> str:
    """A property's name from a document, if it looks like one."""
    return f"`{name}`" if _NAME.fullmatch(name) else "of that name"
