"""A code system whose codes a grammar gives: there is no end of them, and no hierarchy.

https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from terminology.provider import Concept


class Endless:
    """What such systems answer alike when they are asked as a `Provider`."""

    def subsumes(self, ancestor: str, descendant: str) -> bool:
        return False

    def expand(self) -> Iterable[Concept] | None:
        """They cannot be listed."""
        return None

    def children(self, code: str) -> Sequence[str]:
        return ()

    def parents(self, code: str) -> Sequence[str]:
        return ()
