"""$meta, $meta-add and $meta-delete: the profiles, tags and security labels of resources.

https://hl7.org/fhir/R4/resource-operation-meta.html, -meta-add.html and -meta-delete.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server import access, handlers, sight
from fhir_server.changes import absent
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Resource, Result, require_offered
from fhir_server.operations.given import body, given
from fhir_server.search.ranges import any_of
from fhir_server.search.results import context
from fhir_server.storage.store import EVENTS, All, Match, Page, Query, Version

_LABELS = ("profile", "security", "tag")
_MOST = 10_000  # labelled resources that one question looks through
_AT_ONCE = 200

Meta = dict[str, Any]


# --- reading -------------------------------------------------------------------------------------


async def read(step: Step, asked: Interaction) -> Result:
    """200 with the meta of a resource, or all labels of those that the caller may find. FhirError
    403, 404, 413."""
    given(asked, ())
    if asked.type and asked.id:
        version = await sight.current(step, asked.type, asked.id, "r")
        if version is None or version.deleted:
            raise absent(asked.type)
        shown = parse((await sight.reveal_one(step, version)).body)
        owners = (version.owner,) if version.owner else ()
        return Result(
            200,
            _told(shown.get("meta", {})),
            touched=((asked.type, asked.id, None),),
            patients=owners,
        )
    return await _summary(step, asked)


async def _summary(step: Step, asked: Interaction) -> Result:
    """The labels of all resources, or those of a type."""
    access.check_search(step.grant, asked.type or access.ANY)
    types = [asked.type] if asked.type else sorted(step.core.definitions.types - {EVENTS})
    found: Meta = {}
    looked = 0
    for type in types:
        query = _labelled(step, type)
        after = None
        while True:
            page = await step.tx.find(type, query, (), Page(_AT_ONCE, after))
            looked += len(page.versions)
            if looked > _MOST:
                text = f"More than {_MOST} resources have labels: ask of a type, or of a resource"
                raise FhirError("too-costly", text)
            for each in page.versions:
                found = _united(found, parse(each.body).get("meta", {}))
            after = page.after
            if after is None:
                break
    return Result(200, _told(found))


def _labelled(step: Step, type: str) -> Query:
    """The resources of a type that the caller may find and that have a label."""
    known = step.core.index.parameters(type)
    labels: list[Query] = [
        Match(key, shape)
        for label in _LABELS
        for key in known[f"_{label}"].keys
        for shape in ("token", "link")
    ]
    return All((any_of(labels), context(step).visible(type)))


def _told(meta: Meta) -> bytes:
    parameter = {"name": "return", "valueMeta": meta} if meta else {"name": "return"}
    return encode({"resourceType": "Parameters", "parameter": [parameter]})


# --- changing ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Relabelled:
    """A patch that changes what a meta says."""

    change: Callable[[Meta, Meta], Meta]
    given: Meta

    @property
    def tests(self) -> bool:
        """Whoever asks may read."""
        return False

    def applied(self, resource: Resource) -> Resource:
        """The resource with other labels."""
        meta = self.change(resource.get("meta", {}), self.given)
        rest = {name: value for name, value in resource.items() if name != "meta"}
        return {**rest, "meta": meta} if meta else rest


def _is_so(patch: _Relabelled, current: Version) -> bool:
    """Whether the labels already are what they are to be."""
    meta: Meta = parse(current.body).get("meta", {})
    return patch.change(meta, patch.given) == meta


def _changing(change: Callable[[Meta, Meta], Meta]) -> Callable[..., Any]:
    async def run(step: Step, asked: Interaction) -> Result:
        """200 with the meta as it is then; the resource has a new version if that says something
        else than before. FhirError 400, 403, 404, 422."""
        type, id = asked.type or "", asked.id or ""
        require_offered(type, "patch")
        current = await sight.current(step, type, id, "u")
        if current is None:
            raise absent(type)
        patch = _Relabelled(change, _meta(asked))
        if asked.if_match is None and not current.deleted and _is_so(patch, current):
            owners = (current.owner,) if current.owner else ()
            touched = ((type, id, None),)
            return Result(200, await _meta_now(step, asked), touched=touched, patients=owners)
        write = replace(asked, code="patch", resource=None, parameters=())
        result = await handlers.patched(step, write, patch)
        return replace(result, body=await _meta_now(step, asked), location=None)

    return run


async def _meta_now(step: Step, asked: Interaction) -> bytes:
    version = await sight.current(step, asked.type or "", asked.id or "", "r")
    if version is None:  # what was changed takes it out of sight
        return _told({})
    return _told(parse((await sight.reveal_one(step, version)).body).get("meta", {}))


def _meta(asked: Interaction) -> Meta:
    """The Meta that is sent. FhirError 400."""
    sent = [value for name, value in body(asked) if name == "meta"]
    given(asked, ("meta",))
    if len(sent) != 1 or not isinstance(sent[0], dict) or not sent[0].keys() & set(_LABELS):
        text = f"${asked.operation} takes meta, a Meta with a profile, tag or security label"
        raise FhirError("required", text, "Parameters.parameter", status=400)
    meta: Meta = sent[0]
    if any(not isinstance(meta.get(name, []), list) for name in _LABELS):
        raise FhirError("structure", "The labels of a Meta are lists", "Parameters.parameter")
    return {name: meta[name] for name in _LABELS if name in meta}


def _united(meta: Meta, more: Meta) -> Meta:
    """The meta with the labels of another that it does not have."""
    made = {**meta}
    for name in _LABELS:
        here = made.get(name, [])
        known = {_key(each) for each in here}
        fresh = [each for each in more.get(name, ()) if _key(each) not in known]
        if fresh:
            made[name] = [*here, *_once(fresh)]
    return made


def _once(labels: Iterable[Any]) -> list[Any]:
    found: dict[Any, Any] = {}
    for each in labels:
        found.setdefault(_key(each), each)
    return list(found.values())


def _without(meta: Meta, less: Meta) -> Meta:
    """The meta without the labels of another."""
    made = {**meta}
    for name in _LABELS:
        gone = {_key(each) for each in less.get(name, ())}
        left = [each for each in made.pop(name, ()) if _key(each) not in gone]
        if left:
            made[name] = left
    return made


def _key(label: Any) -> Any:
    """What makes a label the same: of a Coding its system and code."""
    return (label.get("system"), label.get("code")) if isinstance(label, dict) else str(label)


_DEFINITION = "http://hl7.org/fhir/OperationDefinition/Resource-"
_INSTANCE = frozenset({"instance"})
ALL = (
    Operation(
        "meta",
        frozenset({"system", "type", "instance"}),
        frozenset(),
        False,
        f"{_DEFINITION}meta",
        read,
        "r",
    ),
    Operation(
        "meta-add",
        _INSTANCE,
        frozenset(),
        True,
        f"{_DEFINITION}meta-add",
        _changing(_united),
        "ru",
    ),
    Operation(
        "meta-delete",
        _INSTANCE,
        frozenset(),
        True,
        f"{_DEFINITION}meta-delete",
        _changing(_without),
        "ru",
    ),
)
