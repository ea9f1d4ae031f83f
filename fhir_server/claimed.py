"""What the profiles that a resource claims say when it is written.

https://hl7.org/fhir/R4/resource.html#Meta
"""

from __future__ import annotations

from typing import Any

from conformance.outcome import FhirError, Issue
from fhir_server.core import Core

MOST = 100  # profiles that a resource which is written may claim
# What was not looked at to its end is not known to be valid, and so is not let through.
_UNCHECKED = "too-costly"


def conform(core: Core, resource: dict[str, Any], told: bool) -> list[Issue]:
    """What profiles say of a resource whose base was checked: warnings, where the policy only
    warns, and only if they are `told`. FhirError 422 where it enforces."""
    policy = core.writing
    type = resource["resourceType"]
    claimed = _claimed(resource)
    modes = {each: policy.of(type, each) for each in claimed}
    strict = policy.types.get(type, policy.usual) == "enforce"
    enforced = [each for each, mode in modes.items() if mode == "enforce"]
    if enforced or strict:
        found = _found(core, resource, enforced, True)
        if any(each.severity == "error" or each.code == _UNCHECKED for each in found):
            raise FhirError("invalid", "The resource is not valid", status=422, issues=found)
        found = found if told else []
    elif not told or policy.types.get(type, policy.usual) == "off":
        return []
    else:
        found = []
    warned = [each for each, mode in modes.items() if mode == "warn"]
    if told and (warned or not found):
        found += [_as_warning(each) for each in _found(core, resource, warned, told)]
    return list(dict.fromkeys(found))


def _claimed(resource: dict[str, Any]) -> list[str]:
    """FhirError 422 for more than anybody means."""
    claimed = resource.get("meta", {}).get("profile", ())
    if len(claimed) > MOST:
        text = f"A resource claims at most {MOST} profiles"
        raise FhirError("too-costly", text, f"{resource['resourceType']}.meta.profile", status=422)
    return [each for each in claimed if isinstance(each, str)]  # others have extensions only


def _found(core: Core, resource: dict[str, Any], profiles: list[str], told: bool) -> list[Issue]:
    return core.guides.current.profiles.validate(
        resource,
        profiles,
        limit=core.limits.issues,
        warnings=told,
        claims=False,
        checked=True,
    )


def _as_warning(issue: Issue) -> Issue:
    return issue._replace(severity="warning") if issue.severity == "error" else issue
