"""History of an instance, a type and the whole server (https://hl7.org/fhir/R4/http.html#history).

Newest first, by the order of commits; a page goes on until it is full of versions that the caller
may see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from conformance.outcome import FhirError
from fhir_server import sight
from fhir_server.changes import absent
from fhir_server.core import Core, Step
from fhir_server.ids import is_made_here
from fhir_server.interaction import Interaction, Parameters, Result
from fhir_server.links import Link
from fhir_server.search.results import PAGE, bundle, open_link, page_link, self_link
from fhir_server.storage.store import Version
from fhir_server.times import instant, parse_instant

_STRIDE = 200  # versions looked at in one go where some are hidden


class Asked(NamedTuple):
    """The parameters of a history interaction."""

    size: int
    since: int | None


async def history(step: Step, asked: Interaction, _: None) -> Result:
    """One page of versions. FhirError 404 when the instance never was there for the caller."""
    link = open_link(step, asked)
    parameters = link.parameters if link else asked.parameters
    before = int(link.after[0] or 0) if link else None
    wanted = _parameters(step.core, parameters)
    if asked.id is not None:
        current = await sight.current(step, asked.type or "", asked.id, "r")
        if current is None:
            raise absent(asked.type)
    versions = await _page(step, asked, wanted, before)
    more = len(versions) > wanted.size
    shown = versions[: wanted.size]
    made = list(_with_creation(await sight.reveal(step, versions)))
    links = [self_link(step.core, _path(asked), parameters)]
    if more:
        after = (shown[-1].sequence,)
        following = Link(asked.code, asked.type, asked.id, parameters, after, _expiry(step))
        links.append(("next", page_link(step, _path(asked), following)))
    return Result(
        200,
        bundle("history", [_entry(step.core, *each) for each in made[: wanted.size]], links),
        touched=((asked.type, asked.id, None),) if asked.type and asked.id else (),
        patients=tuple(dict.fromkeys(v.owner for v in shown if v.owner)),
        asked=parameters,
    )


async def _page(step: Step, asked: Interaction, wanted: Asked, before: int | None) -> list[Version]:
    """One more than a page of the versions that the caller may see."""
    shown: list[Version] = []
    size = limit = wanted.size + 1
    past = sight.Past(step, "r" if asked.id else "s")
    while True:
        batch = await step.tx.history(asked.type, asked.id, limit, before, wanted.since)
        found = await past.shown(batch)
        shown += found
        if len(batch) < limit or len(shown) >= size:
            return shown[:size]
        before = batch[-1].sequence
        limit = size if len(found) == len(batch) else max(size, _STRIDE)


def _parameters(core: Core, parameters: Parameters) -> Asked:
    count, since = core.limits.default_page, None
    for name, value in parameters:
        if name == "_count" and value.isascii() and value.isdigit() and len(value) < 10:
            count = max(1, min(int(value), core.limits.page))
        elif name == "_since":
            since = _instant(value)
        elif name != PAGE:
            raise FhirError(
                "invalid",
                f"{name} with this value is not a parameter of history; it takes _count and _since",
            )
    return Asked(count, since)


def _instant(value: str) -> int:
    """Microseconds of _since; a plus that a URL turned into a space is mended."""
    try:
        return parse_instant(value.replace(" ", "+"))
    except (ValueError, TypeError) as error:
        text = "_since takes an instant such as 2026-01-31T08:00:00Z"
        raise FhirError("value", text) from error


def _with_creation(versions: Sequence[Version]) -> Iterator[tuple[Version, bool]]:
    """Each version, and whether it made its resource: as the first one, or after a deletion. The
    version before it is the next older one, where that is on the page."""
    older: dict[tuple[str, str], Version] = {}
    found = []
    for each in reversed(versions):
        before = older.get((each.type, each.id))
        found.append((each, each.number == 1 or (before is not None and before.deleted)))
        older[each.type, each.id] = each
    return reversed(found)


def _path(asked: Interaction) -> str:
    return "/".join(part for part in (asked.type, asked.id, "_history") if part)


def _expiry(step: Step) -> int:
    return step.core.clock() + step.core.limits.link_seconds * 1_000_000


def _entry(core: Core, version: Version, created: bool) -> bytes:
    """One entry: the resource as it was, how it came to be, and what was answered."""
    method = "DELETE" if version.deleted else "PUT"
    if version.number == 1 and is_made_here(version.id):
        method = "POST"
    url = version.type if method == "POST" else f"{version.type}/{version.id}"
    status = "204" if version.deleted else "201" if created else "200"
    resource = b"" if version.deleted else b'"resource":' + version.body + b","
    return b"".join(
        (
            f'{{"fullUrl":"{core.base_url}/{version.type}/{version.id}",'.encode(),
            resource,
            f'"request":{{"method":"{method}","url":"{url}"}},"response":{{"status":"{status}",'
            f'"etag":"W/\\"{version.number}\\"",'
            f'"lastModified":"{instant(version.updated)}"}}}}'.encode(),
        )
    )
