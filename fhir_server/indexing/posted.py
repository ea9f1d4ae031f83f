"""Who may change by what is searched: a SearchParameter that is active, or was, is configuration of
the whole server, and so for callers who may do everything. Others keep theirs as drafts.

https://hl7.org/fhir/R4/searchparameter.html#SearchParameter.status
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.core import Step
from fhir_server.indexing.sources import TYPE, is_active, posted, require_usable
from fhir_server.search.defined import Source, define
from fhir_server.storage.store import Version

MOST = 500  # SearchParameters that were posted and are active


async def watch(
    step: Step, id: str, current: Version | None, resource: Mapping[str, Any] | None
) -> None:
    """Called before a SearchParameter is written (or deleted: no `resource`). FhirError: 403 for a
    caller who may not do everything, 409 for one whose code, type or url another has, 422 beyond
    how many there may be."""
    was = current is not None and not current.deleted and is_active(parse(current.body))
    now = resource is not None and is_active(resource)
    if not (was or now):
        return
    if not access.administers(step.grant):
        raise FhirError(
            "forbidden",
            "Only who may do everything changes by what this server searches: store the"
            f" {TYPE} with status draft, and have it activated",
            f"{TYPE}.status",
        )
    if now and resource is not None:
        await _require_single(step, id, resource)
    step.core.index.stir()


async def _require_single(step: Step, id: str, resource: Mapping[str, Any]) -> None:
    definitions, own = step.core.definitions, f"{TYPE}/{id}"
    mine = define(Source(resource, own), definitions)
    others = [each for each in await posted(step.tx) if each.origin != own]
    if len(others) >= MOST:
        raise FhirError("too-costly", f"At most {MOST} {TYPE}s are active", status=422)
    for each in others:
        if each.resource.get("url") == mine.url:
            raise _duplicate("url", "url")
        if each.resource.get("code") != mine.code:
            continue
        if define(each, definitions).by_type.keys() & mine.by_type.keys():
            raise _duplicate("code and base", "code")
    if resource.get("type") == "composite":
        require_usable(step.core, resource, others)


def _duplicate(what: str, element: str) -> FhirError:
    text = f"Another {TYPE} with this {what} is active: retire that first"
    return FhirError("duplicate", text, f"{TYPE}.{element}")
