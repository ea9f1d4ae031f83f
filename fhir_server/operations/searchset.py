"""The searchset Bundles that operations answer with: of what the caller may see, as it leaves.

https://hl7.org/fhir/R4/bundle.html#searchset
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from conformance.json import encode
from conformance.outcome import Issue, outcome
from fhir_server import sight
from fhir_server.core import Step
from fhir_server.interaction import Interaction, Parameters, Result
from fhir_server.links import Link, Place
from fhir_server.search.results import bundle, open_link, page_link, self_link
from fhir_server.storage.store import Version

_NOTE = b'{"resource":%b,"search":{"mode":"outcome"}}'


def path(asked: Interaction) -> str:
    """The path of an operation below the base."""
    return "/".join(filter(None, (asked.type, asked.id, f"${asked.operation}")))


async def searchset(
    step: Step,
    asked: Interaction,
    matches: Sequence[Version],
    included: Sequence[Version] = (),
    *,
    links: Sequence[tuple[str, str]] = (),
    total: int | None = None,
    notes: Sequence[Issue] = (),
    touched: tuple[tuple[str, str, int | None], ...] = (),
) -> Result:
    """200 with these versions, which the caller was found to see; the audit names the patients
    whose they are."""
    versions = await sight.reveal(step, (*matches, *included))
    made = [
        _entry(step, each, "match" if number < len(matches) else "include")
        for number, each in enumerate(versions)
    ]
    if notes:
        made.append(_NOTE % encode(outcome(notes)))
    return Result(
        200,
        bundle("searchset", made, links, total),
        touched=touched,
        patients=tuple(dict.fromkeys(each.owner for each in versions if each.owner)),
    )


def _entry(step: Step, version: Version, mode: str) -> bytes:
    url = f"{step.core.base_url}/{version.type}/{version.id}"
    head = f'{{"fullUrl":"{url}","resource":'.encode()
    return head + version.body + f',"search":{{"mode":"{mode}"}}}}'.encode()


def opened(step: Step, asked: Interaction) -> Link | None:
    """The link that a request follows, if it does. FhirError 404 when it is not this caller's, nor
    this operation's, or too old."""
    return open_link(step, replace(asked, code=f"${asked.operation}"))


def links(
    step: Step, asked: Interaction, used: Parameters, after: Place | None
) -> list[tuple[str, str]]:
    """The links of a page: to what was asked, and to the page after it."""
    where = path(asked)
    found = [self_link(step.core, where, used)]
    if after is not None:
        expires = step.core.clock() + step.core.limits.link_seconds * 1_000_000
        link = Link(f"${asked.operation}", asked.type, asked.id, used, after, expires)
        found.append(("next", page_link(step, where, link)))
    return found
