"""What the base validator is told of codes that no value set lists: units, currencies, media types
and languages.

https://hl7.org/fhir/R4/terminologies-systems.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from conformance.validator.systems import Systems
from terminology import ucum
from terminology.provider import Provider
from terminology.providers import built_in

_CHECKED = {"urn:ietf:bcp:47", "urn:ietf:bcp:13", "urn:iso:std:iso:4217"}
_REMEMBERED = 2048  # codes of each system


@cache
def systems() -> Systems:
    """What is known of the codes of the built-in systems that bindings of R4 name."""
    wrong: Mapping[str, Callable[[str], str | None]] = {
        each.url: _wrong(each) for each in built_in() if each.url in _CHECKED
    }
    return Systems({**wrong, ucum.SYSTEM: ucum.validate}, ucum.commensurable)


def _wrong(provider: Provider) -> Callable[[str], str | None]:
    @lru_cache(maxsize=_REMEMBERED)
    def wrong(code: str) -> str | None:
        return None if provider.locate(code) is not None else f"no code of {provider.name}"

    return wrong
