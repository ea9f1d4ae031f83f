"""Invariants of FHIR R4 4.0.1 whose published expression does not say what its text says.

An invariant holds only if it evaluates to true, so an expression that is empty where the rule does
not apply needs a guard. https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

# By key or by expression: (what is evaluated, why).
ERRATA: dict[str, tuple[str, str]] = {
    "ref-1": (
        "reference.startsWith('#').not() or reference.hasValue().not()"
        " or (reference.substring(1) in %rootResource.contained.id)"
        " or (reference = '#' and %rootResource != %resource)",
        "Empty for a Reference without reference; `#` alone means the container (references.html)",
    ),
    "bdl-8": (
        "fullUrl.exists() implies fullUrl.contains('/_history/').not()",
        "Empty for an entry without fullUrl",
    ),
    "ras-2": (
        "probability.exists() implies"
        " (probability is decimal implies (probability as decimal) <= 100)",
        "Empty for a prediction without probability",
    ),
    "que-7": (
        "operator = 'exists' implies (answer is boolean)",
        "The answer is a FHIR boolean; Boolean names the System type, which it never is",
    ),
    "que-12": (
        "enableWhen.count() > 1 implies enableBehavior.exists()",
        "The text says more than one enableWhen, the expression more than two",
    ),
    "tim-9": (
        "offset.empty() or (when.exists()"
        " and when.where($this in ('C' | 'CM' | 'CD' | 'CV')).empty())",
        "when repeats, and `in` takes one item",
    ),
    "name.matches('[A-Z]([A-Za-z0-9_]){0,254}')": (
        "name.exists() implies name.matches('[A-Z]([A-Za-z0-9_]){0,254}')",
        "The text speaks of a name that is there; later releases guard it so",
    ),
    "($this as dateTime).toString().length() >= 8": (
        "$this is dateTime implies $this.toString().length() >= 8",
        "vs-1 speaks of a dateTime only; a Period, which is as good, would never meet it",
    ),
    "telecom or endpoint": (
        "telecom.exists() or endpoint.exists()",
        "pd-1 of US Core fails for two endpoints; its next release says it so",
    ),
    "practitioner or organization or healthcareService or location": (
        "practitioner.exists() or organization.exists() or healthcareService.exists()"
        " or location.exists()",
        "us-core-13 fails for two locations; its next release says it so",
    ),
}


def errata(key: str, expression: str) -> str:
    """The expression to evaluate for an invariant. Only the standard's own is ever replaced, so
    `key` must be that of a base definition (profiles may use keys again)."""
    found = ERRATA.get(key) or ERRATA.get(expression)
    return found[0] if found else expression
