"""Required bindings: which codes a code, Coding or CodeableConcept may have.

https://hl7.org/fhir/R4/terminologies.html#required
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from conformance.definitions import Binding, Definitions
from conformance.validator.rules import Rule
from conformance.validator.systems import Wrong

VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
_LISTED = 12  # codes that an issue names

# Value sets whose codes cannot be listed: the form that their code systems give.
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"
_MIME = (
    rf'{_TOKEN}/{_TOKEN}\s*(?:;\s*{_TOKEN}=(?:"[^"]*"\s*|[^";]+))*',
    "a MIME type",
)
FORMS: Mapping[str, tuple[str, str]] = {
    f"{VALUE_SETS}mimetypes": _MIME,
    "http://www.rfc-editor.org/bcp/bcp13.txt": _MIME,
    f"{VALUE_SETS}all-languages": (
        r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*",
        "a language as in BCP 47",
    ),
    f"{VALUE_SETS}currencies": (r"[A-Z]{3}", "a currency as in ISO 4217"),
}
# The code systems that they are all of.
SYSTEMS: Mapping[str, str] = {
    f"{VALUE_SETS}mimetypes": "urn:ietf:bcp:13",
    "http://www.rfc-editor.org/bcp/bcp13.txt": "urn:ietf:bcp:13",
    f"{VALUE_SETS}all-languages": "urn:ietf:bcp:47",
    f"{VALUE_SETS}currencies": "urn:iso:std:iso:4217",
}
# The formats of FHIR itself go by a short name too, where an element names such formats.
SHORT_FORMATS = frozenset({"xml", "json", "ttl"})
FORMATS = frozenset(
    {
        "CapabilityStatement.format",
        "TestScript.setup.action.operation.accept",
        "TestScript.setup.action.operation.contentType",
        "TestScript.setup.action.assert.contentType",
    }
)

Legal = Callable[[Any], bool]


def required_set(binding: Binding | None) -> str | None:
    """The value set that a code must be from, if there is one."""
    if binding is None:
        return None
    return binding.value_set if binding.strength == "required" else binding.max_value_set


def concept_set(binding: Binding | None, definitions: Definitions) -> str | None:
    """The value set that a Coding or CodeableConcept must be from. A maximum that cannot be listed
    (all languages) does not bind a concept: its systems have synonyms that are in use."""
    found = required_set(binding)
    if binding is not None and binding.strength != "required" and found in definitions.open_lists:
        return None
    return found


def codes_of(value_set: str, definitions: Definitions) -> frozenset[str] | None:
    """The codes of a value set over all its systems; None if they cannot be listed."""
    systems = definitions.code_lists.get(value_set)
    return None if systems is None else frozenset().union(*systems.values())


def form_of(path: str, value_set: str, wrong: Mapping[str, Wrong]) -> tuple[Legal, Rule] | None:
    """What codes of a value set without a list must be: by what is known of their system, else by
    the form that it gives them."""
    found = FORMS.get(value_set)
    if found is None:
        return None
    also = SHORT_FORMATS if path in FORMATS else frozenset()
    known = wrong.get(SYSTEMS[value_set])
    matches = re.compile(found[0], re.ASCII).fullmatch

    def legal(value: Any) -> bool:
        return type(value) is str and (matches(value) is not None or value in also)

    def known_legal(value: Any) -> bool:
        return type(value) is str and (known(value) is None or value in also)  # type: ignore[misc]

    rule = Rule("error", "code-invalid", f"`{path}` must be {found[1]}")
    return legal if known is None else known_legal, rule


def unlisted(path: str, value_set: str, codes: frozenset[str]) -> Rule:
    """The rule that a code outside a required value set breaks."""
    if 0 < len(codes) <= _LISTED:
        return Rule("error", "code-invalid", f"`{path}` must be one of: {', '.join(sorted(codes))}")
    return Rule("error", "code-invalid", f"`{path}` must be a code of the value set {value_set}")


def coding_is_bound(
    value_set: str, definitions: Definitions, wrong: Mapping[str, Wrong]
) -> Legal | None:
    """Whether a Coding is of a value set; None if that cannot be told. Of a set that cannot be
    listed its system is checked, and the code by what is known of the system."""
    systems: Mapping[str, frozenset[str] | None] | None = definitions.code_lists.get(value_set)
    if systems is None:
        systems = dict.fromkeys(definitions.open_lists.get(value_set, ()))
    if not systems:
        return None

    def legal(coding: Any) -> bool:
        system = coding.get("system") if type(coding) is dict else None
        if type(system) is not str or system not in systems:
            return False
        code = coding.get("code")
        codes = systems[system]
        if codes is not None:
            return type(code) is str and code in codes
        known = wrong.get(system)
        return code is not None and (known is None or (type(code) is str and known(code) is None))

    return legal


def concept_is_bound(
    value_set: str, definitions: Definitions, wrong: Mapping[str, Wrong]
) -> Legal | None:
    """Whether a CodeableConcept has a coding of a value set: text alone does not do."""
    legal = coding_is_bound(value_set, definitions, wrong)
    if legal is None:
        return None

    def bound(concept: Any) -> bool:
        codings = concept.get("coding") if type(concept) is dict else None
        return type(codings) is list and any(legal(coding) for coding in codings)

    return bound
