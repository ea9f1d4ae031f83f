"""What this server offers, gathered from the tables that it runs on, for its CapabilityStatement.

https://hl7.org/fhir/R4/capabilitystatement.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conformance import capability
from fhir_server import operations
from fhir_server.bulk.offered import EXPORTS
from fhir_server.core import Operation
from fhir_server.interaction import COMPARTMENTS, ROUTES, offers
from fhir_server.packages import Current
from fhir_server.packages.claims import claims
from fhir_server.patching import MEDIA_TYPES
from fhir_server.search.guests import NO_GUESTS
from fhir_server.search.index import Index

_EXPORT = EXPORTS[0].name  # which has a definition of its own at each level
_COMPARTMENT = "http://hl7.org/fhir/CompartmentDefinition"


def surface(index: Index, current: Current) -> capability.Surface:
    """Everything that can be asked of this server, by the guides that are installed."""
    types = index.definitions.types
    includes = {type: tuple(_includes(index, type)) for type in types}
    return capability.Surface(
        types=types,
        codes=frozenset(ROUTES.values()) | {"batch"},
        offers=offers,
        parameters=lambda type: _parameters(index, type),
        includes=lambda type: (name for name, _ in includes[type]),
        revincludes=lambda type: _revincludes(includes, type),
        operations=[*EXPORTS]
        + [
            offered
            for each in operations.ALL.values()
            if each.definition and each.code != _EXPORT
            for offered in _offered(each)
        ],
        patch_formats=MEDIA_TYPES,
        compartments=tuple(f"{_COMPARTMENT}/{type.lower()}" for type in sorted(COMPARTMENTS)),
        guides=claims(current.packages, frozenset(operations.ALL)),
    )


def _offered(operation: Operation) -> Iterator[capability.Offered]:
    """An operation, once for each of its definitions."""
    code, own = operation.code, operation.definitions
    usual = operation.types - own.keys()
    yield capability.Offered(code, operation.definition, usual, operation.levels)
    for type, definition in own.items():
        yield capability.Offered(code, definition, frozenset({type}), operation.levels)


def _parameters(index: Index, type: str) -> Iterator[capability.Parameter]:
    restated = index.edition.guests.get(type, NO_GUESTS).aliases
    for code, each in sorted(index.parameters(type).items()):
        url = restated.get(code, each.definition.url)
        yield capability.Parameter(code, url, each.definition.type)


def _includes(index: Index, type: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What _include takes of a type, and the types that it brings."""
    for code, each in index.parameters(type).items():
        if each.kind == "reference":
            yield f"{type}:{code}", each.targets


def _revincludes(
    includes: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]], type: str
) -> Iterator[str]:
    for found in includes.values():
        yield from (name for name, targets in found if type in targets)
