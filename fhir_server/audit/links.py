"""The keys by which the store finds an event, from its JSON.

https://hl7.org/fhir/R4/auditevent.html#search
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fhir_server.search.place import link_entry
from fhir_server.search.references import literal
from fhir_server.storage.store import Entry

AGENT, ENTITY = "agent", "entity"
KEYS = frozenset({AGENT, ENTITY})  # the params of an event that the store indexes


def entries_of(
    event: Mapping[str, Any], base_url: str, types: Collection[str]
) -> tuple[Entry, ...]:
    """The entries that are recorded with an event: what it is about, and who took part. `base_url`
    is this server's, `types` are its resource types."""
    named = (
        (param, literal(text, base_url, types))
        for param, element in ((ENTITY, "what"), (AGENT, "who"))
        for text in _references(event.get(param, ()), element)
    )
    return tuple(dict.fromkeys(link_entry(param, *found) for param, found in named if found))


def _references(parts: Any, element: str) -> Iterator[str]:
    for each in parts:
        text = each.get(element, {}).get("reference")
        if isinstance(text, str):
            yield text
