"""What a caller may do, which resources it may see and which elements: asked by every path.

Deny is the default: a grant that is not unrestricted opens nothing until scopes say otherwise.
https://hl7.org/fhir/R4/security.html#authorization
"""

from __future__ import annotations

from conformance.outcome import FhirError
from fhir_server.core import Step
from fhir_server.storage.store import (
    EVERYTHING,
    ID,
    NOTHING,
    All,
    Condition,
    Match,
    Query,
    Version,
)
from smart_auth.grant import Grant


def check(grant: Grant, code: str, type: str | None) -> None:
    """Refuse an interaction on a type before anything is read. FhirError 403."""
    if not grant.unrestricted:
        on = f" on {type}" if type else ""
        raise FhirError("forbidden", f"This grant does not allow {code}{on}")


def visible(type: str, grant: Grant) -> Query:
    """The resources of a type that the caller may see, as a Query to be ANDed at every node."""
    return EVERYTHING if grant.unrestricted else NOTHING


async def shows(step: Step, version: Version) -> bool:
    """Whether the caller may see a version: its resource must be visible as it stands now."""
    seen = visible(version.type, step.grant)
    if seen is EVERYTHING:
        return True
    bound = All((Match(ID, "token", (Condition("code", "eq", version.id),)), seen))
    return await step.tx.count(version.type, bound, 1) == 1


async def check_written(step: Step, old: Version | None) -> None:
    """Refuse a write over a resource that the caller may not see. FhirError 404."""
    if old is not None and not old.deleted and not await shows(step, old):
        raise FhirError("not-found", f"There is no such {old.type}")
