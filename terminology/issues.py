"""What can be wrong with a code, as issues of one table, each with its tx-issue-type.

http://hl7.org/fhir/tools/CodeSystem/tx-issue-type
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from conformance.outcome import FhirError, Issue

TYPES = "http://hl7.org/fhir/tools/CodeSystem/tx-issue-type"


class _Kind(NamedTuple):
    severity: str
    code: str
    type: str
    message: str
    text: str


_KINDS: dict[str, _Kind] = {
    "not-in-set": _Kind(
        "error",
        "code-invalid",
        "not-in-vs",
        "None_of_the_provided_codes_are_in_the_value_set_one",
        "The provided code '{code}' was not found in the value set '{set}'",
    ),
    "this-not-in-set": _Kind(
        "information",
        "code-invalid",
        "this-code-not-in-vs",
        "None_of_the_provided_codes_are_in_the_value_set_one",
        "The provided code '{code}' was not found in the value set '{set}'",
    ),
    "none-in-set": _Kind(
        "error",
        "code-invalid",
        "not-in-vs",
        "TX_GENERAL_CC_ERROR_MESSAGE",
        "No valid coding was found for the value set '{set}'",
    ),
    "unknown-code": _Kind(
        "error",
        "code-invalid",
        "invalid-code",
        "Unknown_Code_in_Version",
        "Unknown code '{code}' in the CodeSystem '{system}' version '{version}'",
    ),
    "not-in-fragment": _Kind(
        "warning",
        "code-invalid",
        "invalid-code",
        "UNKNOWN_CODE_IN_FRAGMENT",
        "Unknown code '{code}' in the CodeSystem '{system}' version '{version}'; this server has"
        " only a part of it, so the code may be right",
    ),
    "unknown-system": _Kind(
        "error",
        "not-found",
        "not-found",
        "UNKNOWN_CODESYSTEM",
        "A definition for CodeSystem '{system}' could not be found, so the code cannot be"
        " validated",
    ),
    "absent-system": _Kind(
        "error",
        "not-found",
        "not-found",
        "UNKNOWN_CODESYSTEM",
        "The CodeSystem '{system}' is not here{shipped}: install a package that has it, or store"
        " it",
    ),
    "unknown-system-version": _Kind(
        "error",
        "not-found",
        "not-found",
        "UNKNOWN_CODESYSTEM_VERSION",
        "A definition for CodeSystem '{system}' version '{version}' could not be found, so the"
        " code cannot be validated. Known versions: {known}",
    ),
    "unknown-set": _Kind(
        "error",
        "not-found",
        "not-found",
        "Unable_to_resolve_value_Set_",
        "A definition for the value Set '{set}' could not be found",
    ),
    "unknown-supplement": _Kind(
        "error",
        "not-found",
        "not-found",
        "VALUESET_SUPPLEMENT_MISSING",
        "Required supplement not found: {supplement}",
    ),
    "unknown-map": _Kind(
        "error",
        "not-found",
        "not-found",
        "CONCEPT_MAP_NOT_FOUND",
        "A definition for the concept map '{map}' could not be found",
    ),
    "system-is-set": _Kind(
        "error",
        "invalid",
        "invalid-data",
        "Terminology_TX_System_ValueSet2",
        "The Coding references a value set, not a code system ('{system}')",
    ),
    "system-is-supplement": _Kind(
        "error",
        "invalid",
        "invalid-data",
        "CODESYSTEM_CS_NO_SUPPLEMENT",
        "CodeSystem {system} is a supplement, so it has no codes of its own",
    ),
    "relative-system": _Kind(
        "error",
        "invalid",
        "invalid-data",
        "Terminology_TX_System_Relative",
        "Coding.system must be an absolute reference, not a local reference",
    ),
    "no-system": _Kind(
        "warning",
        "invalid",
        "invalid-data",
        "Coding_has_no_system__cannot_validate",
        "Coding has no system. A code with no system has no defined meaning, and it cannot be"
        " validated. A system should be provided",
    ),
    "cannot-infer": _Kind(
        "error",
        "not-found",
        "cannot-infer",
        "UNABLE_TO_INFER_CODESYSTEM",
        "The System URI could not be determined for the code '{code}' in the ValueSet '{set}'",
    ),
    "several-systems": _Kind(
        "error",
        "not-found",
        "cannot-infer",
        "Unable_to_resolve_system__value_set_has_multiple_matches",
        "The System URI could not be determined for the code '{code}' in the ValueSet '{set}':"
        " value set expansion has multiple matches: [{systems}]",
    ),
    "abstract": _Kind(
        "error",
        "business-rule",
        "code-rule",
        "ABSTRACT_CODE_NOT_ALLOWED",
        "Code '{code}' is abstract, and not allowed in this context",
    ),
    "not-active": _Kind(
        "error",
        "business-rule",
        "code-rule",
        "STATUS_CODE_WARNING_CODE",
        "The concept '{code}' is valid but is not active",
    ),
    "inactive": _Kind(
        "warning",
        "business-rule",
        "code-comment",
        "INACTIVE_CONCEPT_FOUND",
        "The concept '{code}' has a status of {status} and its use should be reviewed",
    ),
    "deprecated": _Kind(
        "warning",
        "business-rule",
        "code-comment",
        "DEPRECATED_CONCEPT_FOUND",
        "The concept '{code}' is deprecated and its use should be reviewed",
    ),
    "other-case": _Kind(
        "information",
        "business-rule",
        "code-rule",
        "CODE_CASE_DIFFERENCE",
        "The code '{code}' differs from the correct code '{right}' by case; write it as the code"
        " system '{system}' does",
    ),
    "display": _Kind(
        "error",
        "invalid",
        "invalid-display",
        "Display_Name_for__should_be_one_of__instead_of",
        "Wrong Display Name '{display}' for {code}. Valid display is {valid}"
        " (for the language(s) '{languages}')",
    ),
    "display-space": _Kind(
        "error",
        "invalid",
        "invalid-display",
        "Display_Name_WS_for__should_be_one_of__instead_of",
        "Wrong whitespace in Display Name '{display}' for {code}. Valid display is {valid}"
        " (for the language(s) '{languages}')",
    ),
    "display-other-language": _Kind(
        "information",
        "invalid",
        "invalid-display",
        "NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_OK",
        "There are no valid display names found for the code {code} for language(s)"
        " '{languages}'. The display is '{display}' which is a valid display for the default"
        " language",
    ),
    "display-no-language": _Kind(
        "error",
        "invalid",
        "invalid-display",
        "NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_ERR",
        "Wrong Display Name '{display}' for {code}. There are no valid display names found for"
        " language(s) '{languages}'. Default display is '{default}'",
    ),
    "other-version": _Kind(
        "error",
        "invalid",
        "vs-invalid",
        "VALUESET_VALUE_MISMATCH",
        "The code system '{system}' version '{version}' in the ValueSet include is different to"
        " the one in the value ('{asked}')",
    ),
    "version-check": _Kind(
        "error",
        "business-rule",
        "version-error",
        "VALUESET_VERSION_CHECK",
        "The version '{version}' of the code system '{system}' is not allowed: it is required to"
        " be '{asked}'",
    ),
    "filter-without-value": _Kind(
        "error",
        "invalid",
        "vs-invalid",
        "UNABLE_TO_HANDLE_SYSTEM_FILTER_WITH_NO_VALUE",
        "The system {system} filter with property = {property}, op = {op} has no value",
    ),
    "broken-set": _Kind("error", "invalid", "vs-invalid", "VALUESET_INVALID", "{text}"),
    "too-costly": _Kind("error", "too-costly", "too-costly", "VALUESET_TOO_COSTLY", "{text}"),
}


def issue(
    kind: str, expression: str | None = None, severity: str | None = None, **named: object
) -> Issue:
    """The issue of a kind, its text filled in; `severity` where it is not the usual one."""
    of = _KINDS[kind]
    text = of.text.format(**named)
    return Issue(severity or of.severity, of.code, text, expression, of.type, TYPES, of.message)


def refusal(
    kind: str, expression: str | None = None, *, status: int | None = None, **named: object
) -> FhirError:
    """The same as an error that ends the request."""
    found = issue(kind, expression, None, **named)
    return FhirError(found.code, found.text, status=status, issues=(found,))


def message(issues: Iterable[Issue]) -> str | None:
    """What is told in one sentence: every text but those that only say which coding of several
    is not in the set."""
    texts = {each.text for each in issues if each.key != "this-code-not-in-vs"}
    return "; ".join(sorted(texts)) or None
