"""What a check finds wrong, and where: kept small while checking, made into issues only at the end.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

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
    """One validation, as one resource of it sees it: `environment` has that resource and its root;
    `found` is shared."""

    __slots__ = ("environment", "found", "limit", "warnings")

    def __init__(
        self, environment: Environment, found: list[Found], limit: int, warnings: bool
    ) -> None:
        self.environment = environment
        self.found = found
        self.limit = limit
        self.warnings = warnings

    def add(self, holder: dict[str, Any] | list[Any], at: str | int | None, rule: Rule) -> None:
        """Keep what was found. Raises Full beyond the limit."""
        if len(self.found) >= self.limit:
            raise Full
        self.found.append(Found(holder, at, rule))

    def within(self, environment: Environment) -> Run:
        """The same validation, inside another resource."""
        return Run(environment, self.found, self.limit, self.warnings)


# Checks the member `at` of `holder`.
Member: TypeAlias = Callable[[Any, Any, Any, Run], None]
# Checks the members and invariants of an object.
Whole: TypeAlias = Callable[[dict[str, Any], Run], None]


def structure(text: str) -> Rule:
    """What JSON or the definition of the type does not allow."""
    return Rule("error", "structure", text)


def shown(name: str) -> str:
    """A property's name from a document, if it looks like one."""
    return f"`{name}`" if _NAME.fullmatch(name) else "of that name"
