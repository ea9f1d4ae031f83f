"""The terminology of what is installed, and with what is stored beside it, remembered by version.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from conformance.json import parse
from conformance.packages import Packages
from terminology.cache import Recent
from terminology.provider import Provider
from terminology.service import Terminology

Key = tuple[str, str, int]  # type, id and number of a stored version
_PARSED = 512  # stored resources that are kept parsed
_OVERLAID = 64  # sets of stored resources that are kept compiled


class Vocabulary:
    """What one set of packages knows of codes. Stored resources are known by their version, so
    nothing in it is ever out of date; who may use which is decided by whoever asks."""

    def __init__(self, packages: Packages, providers: Sequence[Provider] = ()) -> None:
        self.terminology = Terminology(packages, providers)
        self._parsed: Recent[Key, Mapping[str, Any]] = Recent(_PARSED)
        self._overlaid: Recent[frozenset[Key], Terminology] = Recent(_OVERLAID)

    def parsed(self, key: Key, body: bytes) -> Mapping[str, Any]:
        """A stored resource."""
        return self._parsed.get(key, lambda: parse(body))

    def having(
        self, keys: frozenset[Key], resources: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> Terminology:
        """The terminology with stored resources. FhirError when they are too many."""
        return self._overlaid.get(keys, lambda: self.terminology.having(resources()))

    @cached_property
    def capabilities(self) -> Mapping[str, Any]:
        """TerminologyCapabilities of the packages, without who publishes it and when."""
        return self.terminology.capabilities()
