"""$reindex: by which search parameters beyond R4's is searched, how far their entries are, and all
entries made anew in the background.

R4 has no such operation. POST [base]/$reindex with Parameters that name what to rebuild:
`parameter` (the url of a search parameter), `type` (a resource type), both as often as needed, or
`all` (true). Without any of them nothing is begun. What answers goes on answering meanwhile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.core import Operation, Step
from fhir_server.indexing import sources, states
from fhir_server.indexing.states import NOTHING
from fhir_server.interaction import Interaction, Result
from fhir_server.operations.given import body as given_in
from fhir_server.search.added import Added, Collected, Refusal, collect
from fhir_server.search.guests import failed
from fhir_server.search.nearest import shown
from fhir_server.storage.store import EVENTS


class _Asked(NamedTuple):
    parameters: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    all: bool = False


async def run(step: Step, asked: Interaction) -> Result:
    """200 with Parameters: each search parameter, and each type that is looked through. FhirError
    400, 403, 404."""
    if not access.administers(step.grant):
        raise access.refusal("$reindex", None)
    core = step.core
    given = [*sources.of_guides(core), *await sources.posted(step.tx)]
    found = collect(sources.known_of(core), given)
    types = _named(step, _given(asked), found)
    began = [type for type in types if await _begin(step, type)]
    if began:
        core.index.stir()
    parts = await _told(step, found)
    body = encode({"resourceType": "Parameters", **({"parameter": parts} if parts else {})})
    return Result(200, body, described=f"rebuild of {len(began)} types" if began else None)


def _given(asked: Interaction) -> _Asked:
    """What is to be rebuilt. FhirError 400."""
    values: dict[str, list[Any]] = {"parameter": [], "type": [], "all": []}
    for name, value in given_in(asked):
        if name not in values:
            raise FhirError("invalid", "$reindex takes parameter, type and all", status=400)
        values[name].append(value)
    return _Asked(
        tuple(map(str, values["parameter"])), tuple(map(str, values["type"])), True in values["all"]
    )


def _named(step: Step, asked: _Asked, found: Collected) -> list[str]:
    """The types to look through. FhirError 404 for what there is not."""
    index = step.core.index
    every = sorted(index.definitions.types - {EVENTS})
    if asked.all:
        return every
    for type in asked.types:
        if type not in every:
            raise FhirError("not-found", f"`{shown(type)}` is no type that $reindex indexes")
    types = {*asked.types}
    for url in asked.parameters:
        speaking = {type for type in every if url in _urls(step, type, found)}
        if not speaking:
            text = "No search parameter in use here has that url: $reindex without any lists them"
            raise FhirError("not-found", text)
        types |= speaking
    return sorted(types)


def _urls(step: Step, type: str, found: Collected) -> set[str]:
    added = found.added.get(type, {}).values()
    known = [*step.core.index.own(type).values(), *(each.parameter for each in added)]
    restated = {url for (of, _), url in found.aliases.items() if of == type}
    return {each.definition.url for each in known} | restated


async def _begin(step: Step, type: str) -> bool:
    """Whether there is something to look through."""
    state = await states.begin(step.tx, type, (await states.read_one(step.tx, type)).anew())
    await states.write(step.tx, type, state)
    return state.pending


# --- what is told --------------------------------------------------------------------------------


async def _told(step: Step, found: Collected) -> list[dict[str, Any]]:
    kept = await states.read(step.tx)
    parts = [
        _part("parameter", await _parameter(step, type, each, kept.get(type, NOTHING)))
        for type, added in sorted(found.added.items())
        for _, each in sorted(added.items())
    ]
    parts += [_part("refused", _refused(each)) for each in found.refusals]
    for type in sorted(states.pending(kept)):
        state = kept[type]
        values = [("valueCode", type), ("valueInteger", state.done), ("valueInteger", state.total)]
        parts.append(_part("building", dict(zip(("type", "done", "total"), values, strict=True))))
    return parts


async def _parameter(
    step: Step, type: str, added: Added, state: states.Indexed
) -> dict[str, tuple[str, Any]]:
    code = added.parameter.code
    lacking = await step.tx.count(type, failed(code))
    return {
        "url": ("valueUri", added.parameter.definition.url),
        "type": ("valueCode", type),
        "code": ("valueCode", code),
        "state": ("valueCode", "active" if code in state.active else "building"),
        "origin": ("valueString", added.origin),
        "failed": ("valueInteger", lacking),
    }


def _refused(each: Refusal) -> dict[str, tuple[str, Any]]:
    told = {
        "url": ("valueUri", each.url),
        "type": ("valueCode", each.type),
        "origin": ("valueString", each.origin),
        "why": ("valueString", each.why),
    }
    return {name: value for name, value in told.items() if value[1]}


def _part(name: str, values: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    parts = [{"name": part, kind: value} for part, (kind, value) in values.items()]
    return {"name": name, "part": parts}


OPERATION = Operation(
    "reindex",
    frozenset({"system"}),
    frozenset(),
    True,
    "urn:salus:OperationDefinition:reindex",
    run,
    "cruds",
)
