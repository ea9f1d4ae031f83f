"""The SearchParameter resources that a server goes by: of the guides that are installed, and those
that were posted and are active.

https://hl7.org/fhir/R4/searchparameter.html#SearchParameter.status
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from conformance.json import parse
from fhir_server.core import Core
from fhir_server.search.added import Known, require_searchable
from fhir_server.search.defined import Source
from fhir_server.storage.store import Condition, Match, Page, Transaction

TYPE = "SearchParameter"
ACTIVE = "active"

_CORE = "hl7.fhir.r4.core"
_NUMBERS = re.compile(r"[0-9]+")
_IS_ACTIVE = Match("status", "token", (Condition("code", "eq", ACTIVE),))
_PAGE = 500


def is_active(resource: Mapping[str, Any]) -> bool:
    """Whether a resource is a SearchParameter by which is to be searched."""
    return resource["resourceType"] == TYPE and resource.get("status") == ACTIVE


def known_of(core: Core) -> Known:
    """What R4 has, for what others add."""
    return Known(core.definitions, core.index.own, core.index.compile)


def of_guides(core: Core) -> list[Source]:
    """Those of installed packages, by name, the newest version first: of several with one code the
    first counts."""
    found = [
        (package.name, [-int(each) for each in _NUMBERS.findall(package.version)], at, source)
        for at, (package, source) in enumerate(_installed(core))
    ]
    return [source for *_, source in sorted(found, key=lambda each: each[:3])]


def _installed(core: Core) -> Iterator[tuple[Any, Source]]:
    for package, listed in core.guides.current.packages.each(TYPE):
        if package.name != _CORE:
            resource = package.resource(listed)
            if resource.get("status") != "retired":
                yield package, Source(resource, f"{package.name}#{package.version}")


async def posted(tx: Transaction) -> list[Source]:
    """Those that were posted and are active, by their urls."""
    found: list[Source] = []
    after = None
    while True:
        page = await tx.find(TYPE, _IS_ACTIVE, (), Page(_PAGE, after))
        found += [Source(parse(each.body), f"{TYPE}/{each.id}") for each in page.versions]
        after = page.after
        if after is None:
            return sorted(found, key=lambda each: (str(each.resource.get("url")), each.origin))


def require_usable(
    core: Core, resource: Mapping[str, Any], others: Iterable[Source] | None = None
) -> None:
    """Refuse an active SearchParameter that could not be searched by, or that says otherwise what a
    guide or R4 says. Where the `others` that were posted are not known, one that is made of others
    is not judged. FhirError 422."""
    if others is None and resource.get("type") == "composite":
        return
    there = [*of_guides(core), *(others or ())]
    require_searchable(known_of(core), Source(resource, ""), there)
