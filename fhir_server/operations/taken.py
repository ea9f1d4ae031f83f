"""The parameters that operations of terminology take: what is sent beside them is refused.

https://hl7.org/fhir/R4/operations-for-terminology.html

They are those of R4 and of R5, and what terminology clients send to every server. That one is
taken does not say that it changes the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from conformance.outcome import FhirError
from fhir_server.interaction import Interaction
from fhir_server.search.nearest import nearest, shown

_SHARED = frozenset(
    (
        "cache-id check-system-version check-valueset-version date default-valueset-version"
        " defaultDisplayLanguage diagnostics displayLanguage force-system-version"
        " force-valueset-version manifest mode no-cache profile system-version tx-resource"
        " useSupplement"
    ).split()
)
_VALUE_SET = frozenset("context url valueSet valueSetVersion".split())
_CODED = frozenset(
    (
        "abstract activeOnly code codeableConcept coding display implySystem inferSystem"
        " lenient-display-validation system systemVersion valueSetMode valueset-membership-only"
        " versionFlexible"
    ).split()
)
_TRANSLATED = frozenset(
    (
        "code codeableConcept coding conceptMap conceptMapVersion dependency reverse source"
        " sourceCode sourceCodeableConcept sourceCoding sourceScope system target targetCode"
        " targetCodeableConcept targetCoding targetScope targetSystem targetsystem url version"
    ).split()
)
_EXPANDED = frozenset(
    (
        "activeOnly contextDirection count designation exclude-system excludeNested"
        " excludeNotForUI excludePostCoordinated filter includeDefinition includeDesignations"
        " incomplete-ok limitedExpansion offset property"
    ).split()
)
# By type and operation. An operation that is not here looks after its parameters itself.
_TAKEN: Mapping[tuple[str, str], frozenset[str]] = {
    ("ValueSet", "expand"): _SHARED | _VALUE_SET | _EXPANDED,
    ("ValueSet", "validate-code"): _SHARED | _VALUE_SET | _CODED,
    ("CodeSystem", "validate-code"): _SHARED | _CODED | {"codeSystem", "url", "version"},
    ("CodeSystem", "lookup"): _SHARED | {"code", "coding", "property", "system", "version"},
    ("CodeSystem", "subsumes"): _SHARED
    | {"codeA", "codeB", "codingA", "codingB", "system", "version"},
    ("CodeSystem", "find-matches"): _SHARED
    | {"compositional", "exact", "property", "system", "version"},
    ("ConceptMap", "translate"): _SHARED | _TRANSLATED,
}


def require_taken(asked: Interaction, names: Iterable[str]) -> None:
    """FhirError 400 for a parameter that the operation does not take, unless the client asked for
    lenient handling."""
    taken = _TAKEN.get((asked.type or "", asked.operation or ""))
    if taken is None or asked.prefer.handling == "lenient":
        return
    for name in names:
        if name not in taken:
            said = f"`{shown(name)}` is no parameter of ${asked.operation}{nearest(name, taken)}"
            end = "" if said.endswith("?") else "."
            text = (
                f"{said}{end} Leave it away, or send `Prefer: handling=lenient` to have it ignored"
            )
            raise FhirError("not-supported", text, "Parameters.parameter", status=400)
