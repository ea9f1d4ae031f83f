"""What a conditional interaction selects, and the preconditions of HTTP.

https://hl7.org/fhir/R4/http.html#cond-update, https://www.rfc-editor.org/rfc/rfc9110#section-13
"""

from __future__ import annotations

import re

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server import access, changes, sight
from fhir_server.core import Step
from fhir_server.interaction import Interaction, Parameters
from fhir_server.search import params
from fhir_server.search.results import context
from fhir_server.storage.store import All, Page, Version
from fhir_server.times import parse_http_date

# Parameters with an underscore that say which resources, not how they are shown.
_SELECTING = frozenset({"_id", "_lastUpdated", "_profile", "_security", "_source", "_tag", "_has"})
_ETAG = re.compile(r'(?:W/)?"([0-9]{1,18})"', re.ASCII)


async def select(
    step: Step, type: str, condition: Parameters, letter: str = "s", at_most: int = 2
) -> list[Version]:
    """Up to `at_most` resources that meet a condition and that the caller may both find and reach
    with a letter. FhirError when it selects nothing in particular: no search parameter, or one
    that is unknown; 403 when a write would replace what is another patient's too."""
    for name, _ in condition:
        base = name.partition(":")[0]
        if base.startswith("_") and base not in _SELECTING:
            raise FhirError("invalid", "A condition has only parameters that select", status=412)
    search = params.parse(type, condition, context(step))
    if not search.used:
        raise FhirError("invalid", "A condition needs at least one search parameter", status=412)
    query = All((search.query, access.visible(step.core, step.grant, type, letter)))
    found = await step.tx.find(type, query, (), Page(at_most))
    if letter == "s":
        return list(found.versions)
    whole = [each for each in found.versions if not await _is_part(step, each)]
    for each in whole:
        await changes.require_nobody_else(step, each)
    return whole


async def _is_part(step: Step, version: Version) -> bool:
    """Whether the caller is shown a part only, and would lose the rest by writing."""
    return version.type in access.CONCEALED and await sight.hides(step, parse(version.body))


async def single(step: Step, type: str, condition: Parameters, letter: str = "s") -> Version | None:
    """The one resource that meets a condition, if any. FhirError 412 when there are several."""
    found = await select(step, type, condition, letter)
    if len(found) > 1:
        raise FhirError(
            "multiple-matches", f"The condition selects more than one {type}; make it narrower"
        )
    return found[0] if found else None


def require_match(asked: Interaction, current: Version | None) -> None:
    """If-Match and If-None-Match on a write. FhirError 412."""
    live = current is not None and not current.deleted
    number = current.number if current else 0
    if asked.if_match is not None and (not live or not _names(asked.if_match, number)):
        raise FhirError(
            "conflict",
            f"If-Match names another version than the current one; read it again and merge"
            f"{f' (now at {number})' if live else ''}",
            status=412,
        )
    if asked.if_none_match is None or asked.code == "create":
        return
    if live and _names(asked.if_none_match, number):
        raise FhirError("conflict", "If-None-Match: the resource is there already", status=412)


def not_modified(asked: Interaction, version: Version) -> bool:
    """Whether a conditional read is answered with 304."""
    if asked.if_none_match is not None:
        return _names(asked.if_none_match, version.number)
    if asked.if_modified_since is None:
        return False
    since = parse_http_date(asked.if_modified_since)
    return since is not None and version.updated // 1_000_000 * 1_000_000 <= since


def _names(header: str, number: int) -> bool:
    """Whether an entity tag list names a version; a tag that is none of ours names nothing."""
    if header.strip() == "*":
        return True
    tags = [_ETAG.fullmatch(each.strip()) for each in header.split(",")]
    return any(tag is not None and int(tag[1]) == number for tag in tags)
