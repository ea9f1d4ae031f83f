"""Searches within a compartment: what belongs to one patient, encounter, practitioner and so on.

https://hl7.org/fhir/R4/compartmentdefinition.html, https://hl7.org/fhir/R4/http.html#vsearch
"""

from __future__ import annotations

from msgspec.structs import replace

from conformance.definitions import Definitions
from conformance.outcome import FhirError
from fhir_server.interaction import Interaction
from fhir_server.search.context import Search, SearchContext
from fhir_server.search.ranges import any_of
from fhir_server.search.references import link
from fhir_server.storage.store import ID, All, Condition, Match, Query


def within(asked: Interaction, search: Search, context: SearchContext) -> Search:
    """The search, limited to the compartment that the request names, if it does. FhirError 404
    when the type is not in such compartments."""
    if asked.compartment is None:
        return search
    query = _members(search.type, *asked.compartment, context)
    return replace(search, query=All((search.query, context.conceal(search.type, query))))


def types_of(compartment: str, definitions: Definitions) -> frozenset[str]:
    """The types that a compartment has resources of, its own among them."""
    return frozenset({compartment, *definitions.compartments[compartment]})


def _members(type: str, of: str, id: str, context: SearchContext) -> Query:
    if type not in types_of(of, context.definitions):
        raise FhirError("not-found", f"{type} is not in the compartment of a {of}")
    known = context.index.parameters(type)
    codes = context.definitions.compartments[of].get(type, ())
    keys = dict.fromkeys(key for code in codes if code in known for key in known[code].keys)
    found: list[Query] = [link(key, (of,), (id,)) for key in keys]
    if type == of:
        found.append(Match(ID, "token", (Condition("code", "eq", id),)))
    return any_of(found)
