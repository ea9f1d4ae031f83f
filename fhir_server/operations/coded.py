"""What the operations of terminology have in common: their parameters, what answers, the Result.

https://hl7.org/fhir/R4/terminology-service.html

They are for every caller with a valid token, whatever its scopes: what is bundled is public, and
what is stored takes part only where the caller may read and search it (`terminologies.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.core import Core, Step
from fhir_server.drawing import worked
from fhir_server.interaction import Interaction, Result
from fhir_server.operations.taken import require_taken
from fhir_server.terminologies import instance, reaching
from smart_auth.grant import Grant
from terminology.asked import Asked, Given
from terminology.service import Terminology
from terminology.shapes import require

Resource: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = Callable[[Terminology, Asked, Resource | None], dict[str, Any]]

_BARE = {"ValueSet": "valueSet", "CodeSystem": "codeSystem", "ConceptMap": "conceptMap"}
# Parameters that name what may be stored.
_NAMING = ("url", "system", "useSupplement", "source", "target")
_CODED = ("coding", "codingA", "codingB", "concept")


def prepare(core: Core, grant: Grant, asked: Interaction) -> Asked:
    """What is asked, read before the transaction; a large body in a thread. FhirError 400."""
    wanted = parameters(asked)
    require_taken(asked, wanted.given)
    return wanted


def parameters(asked: Interaction) -> Asked:
    """From the query and the body, which may be the one resource that is asked about. FhirError
    400."""
    bare = _BARE.get((asked.resource or {}).get("resourceType", ""))
    if bare is not None and asked.resource is not None:
        require(asked.resource)
        sent = Asked.named([(bare, Given(resource=asked.resource))], asked.language)
    else:
        sent = Asked.of(asked.resource, asked.language)
    query = [pair for pair in asked.parameters if not pair[0].startswith("_")]
    if not query:
        return sent
    own = Asked.query(query, asked.language)
    return Asked({**own.given, **sent.given}, asked.language)


async def answered(
    step: Step, asked: Interaction, wanted: Asked, answer: Answer, *, apart: bool = False
) -> Result:
    """200 with what is answered. `apart`: in a thread, since it may take long, as may all that is
    sent along or stored. FhirError."""
    of = await instance(step, asked)
    resources = [*_sent(wanted), *(() if of is None else (of,))]
    maps = asked.type == "ConceptMap"
    reached = await reaching(step, named(wanted), resources, maps=maps)
    if apart or resources or reached.touched:
        work = partial(answer, reached.terminology, wanted, of)
        made = await worked(step, work)
    else:
        made = answer(reached.terminology, wanted, of)
    touched = list(reached.touched)
    if asked.type and asked.id and not any(asked.id == id for _, id, _ in touched):
        return Result(200, encode(made), touched=((asked.type, asked.id, None), *touched))
    return Result(200, encode(made), touched=tuple(touched))


def named(asked: Asked) -> Iterator[str]:
    """The canonicals that a request names, in each validation of a batch too."""
    for name in _NAMING:
        for each in asked.given.get(name, ()):
            if isinstance(each.value, str):
                yield each.value
    for name in _CODED:
        yield from _systems(asked.given.get(name, ()))
    for each in asked.given.get("codeableConcept", ()):
        codings = each.value.get("coding", ()) if isinstance(each.value, Mapping) else ()
        if isinstance(codings, list):
            yield from _systems(tuple(Given(one) for one in codings))
    for each in asked.given.get("validation", ()):
        with suppress(FhirError):  # which is told in its place
            if each.resource is not None:
                yield from named(Asked.of(each.resource))


def _systems(given: tuple[Given, ...]) -> Iterator[str]:
    for each in given:
        system = each.value.get("system") if isinstance(each.value, Mapping) else None
        if isinstance(system, str):
            yield system


def _sent(asked: Asked) -> Iterator[Resource]:
    for name in ("valueSet", "codeSystem", "conceptMap", "tx-resource"):
        yield from (each.resource for each in asked.given.get(name, ()) if each.resource)
