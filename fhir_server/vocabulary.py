"""The terminology of what is installed, and with what is stored beside it, remembered by version.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

from conformance.json import parse
from conformance.packages import Packages
from fhir_server.storage.store import Version
from terminology.cache import Recent
from terminology.provider import Provider
from terminology.service import Terminology

Key = tuple[str, str, int]  # type, id and number of a stored version


class State(NamedTuple):
    """A stored version by what it says. Its number alone names it only once it is committed: what
    a transaction wrote and took back again had the number that another version gets."""

    type: str
    id: str
    number: int
    digest: bytes
    size: int  # bytes of its body

    @staticmethod
    def of(version: Version) -> State:
        digest = sha256(version.body).digest()
        return State(version.type, version.id, version.number, digest, len(version.body))


_PARSED = 512  # stored resources that are kept parsed
_OVERLAID = 64  # sets of stored resources that are kept compiled
HEAVIEST = 16 * 1024 * 1024  # bytes of the bodies of what is kept; in memory it is some ten times


class Vocabulary:
    """What one set of packages knows of codes. Stored resources are known by what they say, so
    nothing in it is ever out of date; who may use which is decided by whoever asks."""

    def __init__(self, packages: Packages, providers: Sequence[Provider] = ()) -> None:
        self.terminology = Terminology(packages, providers)
        self._parsed: Recent[State, Mapping[str, Any]] = Recent(_PARSED, HEAVIEST)
        self._overlaid: Recent[frozenset[State], Terminology] = Recent(_OVERLAID, HEAVIEST)

    def parsed(self, version: Version) -> Mapping[str, Any]:
        """A stored resource."""
        state = State.of(version)
        return self._parsed.get(state, lambda: parse(version.body), state.size)

    def having(
        self, states: frozenset[State], resources: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> Terminology:
        """The terminology with stored resources. FhirError when they are too many."""
        weight = sum(each.size for each in states)
        return self._overlaid.get(states, lambda: self.terminology.having(resources()), weight)

    @cached_property
    def capabilities(self) -> Mapping[str, Any]:
        """TerminologyCapabilities of the packages, without who publishes it and when."""
        return self.terminology.capabilities()
