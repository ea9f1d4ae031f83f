"""A value set made ready: its includes and excludes with their code systems, filters and imports.

https://hl7.org/fhir/R4/valueset.html#compositions
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple

from conformance.outcome import FhirError
from conformance.patience import look, present
from terminology.canonical import Canonical, canonical
from terminology.catalog import Resource
from terminology.codesystem import RELATIONS, CodeSystem
from terminology.issues import refusal
from terminology.provider import Concept, Provider, Selection
from terminology.rules import Context

_OP = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.compose.include.filter.op"
SUPPLEMENT = "http://hl7.org/fhir/StructureDefinition/valueset-supplement"
_LOOK = 4_096  # comparisons between two looks at the clock
PARTIAL = frozenset({"fragment", "example"})  # content that says nothing of what is missing


class Member(NamedTuple):
    """A code of a value set. `reference` is what the set itself says of it; `nests` tells that it
    came with the hierarchy of its code system."""

    system: str
    version: str | None
    concept: Concept
    reference: Mapping[str, Any] | None
    provider: Provider | None
    nests: bool


class Budget:
    """How many comparisons may still be made for a value set, and whether there is time."""

    __slots__ = ("_left", "_most", "_next", "_patience")

    def __init__(self, most: int) -> None:
        self._left = self._most = most
        self._next = most - _LOOK
        self._patience = present()

    def spend(self, count: int) -> None:
        """FhirError when that is more than is left."""
        self._left -= count
        if self._left < self._next or self._left < 0:
            self._look()

    def _look(self) -> None:
        if self._left < 0:
            text = f"The value set takes more than {self._most} comparisons of codes"
            raise refusal("too-costly", text=text)
        self._next = self._left - _LOOK
        self._patience.look()


@dataclass(frozen=True, slots=True)
class Part:
    """One include or exclude. Without `system` it is the intersection of its imports."""

    system: str | None
    version: str | None  # as the value set, or a rule, asks
    provider: Provider | None
    references: Mapping[str, Mapping[str, Any]] | None
    selections: tuple[Selection, ...]
    imports: tuple[Plan, ...]
    known: tuple[str, ...] = ()  # versions of the code system, where the one that is asked is none

    @property
    def weight(self) -> int:
        """How many comparisons it takes to tell of one code."""
        return 1 + len(self.selections) + sum(each.weight for each in self.imports)

    @property
    def unknown(self) -> bool:
        """Whether its code system would have to be known to tell its codes."""
        return self.system is not None and self.provider is None and self.references is None

    def holds(self, system: str, code: str) -> bool:
        """Whether a code, in its defined spelling, is in it."""
        if self.system is not None and (system != self.system or not self._has(code)):
            return False
        return all(each.holds(system, code) for each in self.imports)

    def _has(self, code: str) -> bool:
        if self.references is not None:
            return code in self.references
        if self.provider is None:
            return False
        if self.selections:
            return all(each.holds(code) for each in self.selections)
        return self.provider.locate(code) is not None

    def members(self, budget: Budget) -> Iterator[Member]:
        """Its codes in order. FhirError when they cannot be listed."""
        if self.system is None:
            listed: Iterable[Member] = self.imports[0].members(budget) if self.imports else ()
            rest = self.imports[1:]
        else:
            listed, rest = self._listed(self.system, budget), self.imports
        cost = sum(each.weight for each in rest)
        for member in listed:
            budget.spend(cost)
            if all(each.holds(member.system, member.concept.code) for each in rest):
                yield member

    def _listed(self, system: str, budget: Budget) -> Iterator[Member]:
        provider = self.provider
        if self.references is not None:
            for code, reference in self.references.items():
                budget.spend(1)
                concept = _referred(provider, code, reference)
                if concept is not None:
                    yield Member(system, self._told(), concept, reference, provider, False)
            return
        if provider is None:
            raise unknown(system, self.version, self.known)
        nests = provider.hierarchical
        for concept in _selected(provider, self.selections, budget):
            yield Member(system, provider.version, concept, None, provider, nests)

    def _told(self) -> str | None:
        return self.provider.version if self.provider is not None else self.version


@dataclass(frozen=True, slots=True)
class Plan:
    """A value set: what of it is included and excluded. `inactive` False leaves out codes that
    are not active; `sets` are the value sets that it draws in."""

    resource: Resource
    include: tuple[Part, ...]
    exclude: tuple[Part, ...]
    inactive: bool | None
    supplements: tuple[Resource, ...]
    imported: tuple[Plan, ...]
    weight: int  # comparisons that it takes to tell of one code

    @property
    def name(self) -> str:
        """How issues call it."""
        url = self.resource.get("url")
        return str(Canonical(url, self.resource.get("version"))) if url else "(unidentified)"

    def holds(self, system: str, code: str, strict: bool = True) -> bool:
        """Whether a code is in it. Not `strict`: codes count that are left out only because they
        are not active."""
        part = next((each for each in self.include if each.holds(system, code)), None)
        if part is None or any(each.holds(system, code) for each in self.exclude):
            return False
        return not (strict and self.inactive is False and _inactive(part, system, code))

    def parts(self, system: str) -> Iterator[Part]:
        """The includes that draw on a code system, those of imports too."""
        for each in self.include:
            if each.system == system:
                yield each
            for one in each.imports:
                yield from one.parts(system)

    def systems(self) -> Iterator[Part]:
        """Every include and exclude that names a code system, those of imports too."""
        for each in (*self.include, *self.exclude):
            if each.system is not None:
                yield each
            for one in each.imports:
                yield from one.systems()

    def sets(self) -> Iterator[Plan]:
        """Every value set that it draws in by its url."""
        for each in self.imported:
            if each.resource.get("url") and not each.resource.get("_contained"):
                yield each
            yield from each.sets()

    def members(self, budget: Budget) -> Iterator[Member]:
        """Its codes in order, each once. FhirError when they cannot be listed."""
        cost = sum(each.weight for each in self.exclude)
        drawn = {each.system for each in self.include}
        for each in self.exclude:
            if each.unknown and each.system in drawn:
                raise unknown(str(each.system), each.version, each.known)
        seen: set[tuple[str, str]] = set()
        for part in self.include:
            for member in part.members(budget):
                budget.spend(cost)
                key = (member.system, member.concept.code)
                if key in seen:
                    continue
                seen.add(key)
                if self.inactive is False and member.concept.inactive:
                    continue
                if not any(each.holds(*key) for each in self.exclude):
                    yield member


def _inactive(part: Part, system: str, code: str) -> bool:
    """Whether a code of an include is not active, also where the include is of imports."""
    if part.system is None:
        return any(
            _inactive(each, system, code)
            for one in part.imports
            for each in one.include
            if each.holds(system, code)
        )
    concept = part.provider.locate(code) if part.provider is not None else None
    return concept is not None and concept.inactive


def unknown(system: str, version: str | None, known: Iterable[str] = ()) -> FhirError:
    """The refusal of a code system that is not here."""
    if version is None:
        return refusal("unknown-system", system=system)
    named = ", ".join(known) or "none"
    return refusal("unknown-system-version", system=system, version=version, known=named)


def _referred(provider: Provider | None, code: str, reference: Mapping[str, Any]) -> Concept | None:
    """The concept of a code that a value set lists; what the code system lacks is left out."""
    found = provider.locate(code) if provider is not None else None
    if found is not None:
        return found
    if provider is not None and provider.content == "complete":
        return None
    return Concept(code, reference.get("display"))


def _selected(
    provider: Provider, selections: tuple[Selection, ...], budget: Budget
) -> Iterator[Concept]:
    """What passes every filter, listed by the first that can."""
    cost = 1 + len(selections)
    first = next((each for each in selections if each.codes is not None), None)
    if first is None or first.codes is None:
        listed = provider.expand()
        if listed is None:
            text = f"The codes of {provider.url} cannot be listed: they follow a grammar"
            raise refusal("too-costly", text=text)
        for concept in listed:
            budget.spend(cost)
            if all(each.holds(concept.code) for each in selections):
                yield concept
        return
    for code in first.codes():
        budget.spend(cost)
        if all(each.holds(code) for each in selections if each is not first):
            found = provider.locate(code)
            if found is not None:
                yield found


# What a filter costs for each code of its system: those by relations cost what they find.
_COSTS: Mapping[str, int] = {
    **dict.fromkeys(RELATIONS, 0),
    "is-not-a": 1,  # which walk more than they find
    "descendent-leaf": 1,
    "regex": 5,
}

# --- reading ---------------------------------------------------------------------------------


class _Reading(NamedTuple):
    """What is known while a value set is read: those that are being read, how many there were, and
    how many includes and filters they had."""

    context: Context
    within: tuple[str, ...]
    read: list[int]
    parts: list[int]
    budget: Budget


def plan(resource: Resource, context: Context) -> Plan:
    """A value set made ready. FhirError for what it draws in and is not here, for circles, for
    filters that its code systems do not have."""
    return _plan(resource, _reading(resource, context), resource)


def _reading(resource: Resource, context: Context) -> _Reading:
    budget = Budget(context.catalog.limits.filtered)
    return _Reading(context, (str(resource.get("url")),), [0], [0], budget)


def _plan(resource: Resource, reading: _Reading, root: Resource) -> Plan:
    limits = reading.context.catalog.limits
    reading.read[0] += 1
    if len(reading.within) > limits.depth or reading.read[0] > limits.imports:
        raise refusal("too-costly", text="The value set imports too many others, or too deep")
    context = reading.context
    required = [
        context.catalog.supplement(str(each.get("valueCanonical", "")))
        for each in resource.get("extension", ())
        if each.get("url") == SUPPLEMENT
    ]
    if required:
        context = context._replace(supplements=(*context.supplements, *required))
    reading = reading._replace(context=context)
    compose = _composed(resource)
    include, exclude = compose.get("include", ()), compose.get("exclude", ())
    filters = sum(len(each.get("filter", ())) for each in (*include, *exclude))
    count = len(include) + len(exclude) + filters
    reading.parts[0] += count
    if count > limits.includes or reading.parts[0] > limits.drawn:
        text = (
            f"A value set has at most {limits.includes} includes and filters, and {limits.drawn}"
            " with those of what it imports"
        )
        raise refusal("too-costly", text=text)
    look()
    inactive = compose.get("inactive")
    made = [
        _part(each, f"ValueSet.compose.{name}[{at}]", reading, root)
        for name, parts in (("include", include), ("exclude", exclude))
        for at, each in enumerate(parts)
    ]
    return Plan(
        resource,
        tuple(made[: len(include)]),
        tuple(made[len(include) :]),
        inactive,
        context.supplements,
        tuple(each for part in made for each in part.imports),
        sum(each.weight for each in made),
    )


def _composed(resource: Resource) -> Mapping[str, Any]:
    """Its compose; of a value set that has an expansion only, the codes of that."""
    if "compose" in resource or "expansion" not in resource:
        return resource.get("compose", {})  # type: ignore[no-any-return]
    systems: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
    waiting = list(resource["expansion"].get("contains", ()))[::-1]
    while waiting:
        each = waiting.pop()
        waiting.extend(each.get("contains", ())[::-1])
        if "system" in each and "code" in each:
            systems.setdefault((each["system"], each.get("version")), []).append(each)
    return {
        "include": [
            {"system": system, "version": version, "concept": listed}
            for (system, version), listed in systems.items()
        ]
    }


def _part(raw: Mapping[str, Any], path: str, reading: _Reading, root: Resource) -> Part:
    system, version, provider = None, None, None
    if "system" in raw:
        at = canonical(raw["system"], raw.get("version"))
        system = at.url
        version = reading.context.rules.wanted(at.url, at.version)
        provider = reading.context.system(at.url, at.version)
    filters = raw.get("filter", ())
    selections = tuple(
        _filter(each, f"{path}.filter[{index}]", system, provider, reading.budget)
        for index, each in enumerate(filters)
    )
    references = None
    if "concept" in raw:
        listed = [each for each in raw["concept"] if "code" in each]
        references = {_spelled(provider, each["code"]): each for each in listed}
    imports = tuple(_import(str(each), reading, root) for each in raw.get("valueSet", ()))
    known = tuple(each for each in selections if each is not None)
    versions: tuple[str, ...] = ()
    if system is not None and provider is None:
        versions = reading.context.catalog.known_versions(system)
    return Part(system, version, provider, references, known, imports, versions)


def _spelled(provider: Provider | None, code: str) -> str:
    """A code as its system spells it."""
    if provider is None or provider.case_sensitive:
        return code
    found = provider.locate(code)
    return code if found is None else found.code


def _filter(
    raw: Mapping[str, Any],
    path: str,
    system: str | None,
    provider: Provider | None,
    budget: Budget,
) -> Selection | None:
    """None where the code system is unknown, which is told when its codes are asked for."""
    property, op = str(raw.get("property")), _op(raw)
    if not raw.get("value"):
        raise refusal(
            "filter-without-value", path, status=422, system=system, property=property, op=op
        )
    if provider is None:
        return None
    budget.spend(_COSTS.get(op, 1) * _weight(provider))
    try:
        found = provider.filter(property, op, str(raw["value"]))
    except FhirError as error:
        raise refusal("broken-set", path, status=422, text=str(error)) from error
    if op in RELATIONS and isinstance(provider, CodeSystem) and found.codes is not None:
        budget.spend(sum(1 for _ in found.codes()))
    return found


def _weight(provider: Provider) -> int:
    if isinstance(provider, CodeSystem):
        return provider.weight
    return len(provider) if isinstance(provider, Sized) else 1


def _op(raw: Mapping[str, Any]) -> str:
    """The operator; those that R4 lacks come in an extension, or as they are."""
    if "op" in raw:
        return str(raw["op"])
    extensions = raw.get("_op", {}).get("extension", ())
    found = (each.get("valueCode") for each in extensions if each.get("url") == _OP)
    return str(next(found, None))


def _import(text: str, reading: _Reading, root: Resource) -> Plan:
    if text.startswith("#"):
        contained = (each for each in root.get("contained", ()) if each.get("id") == text[1:])
        found = next(contained, None)
        found = {**found, "_contained": True} if found is not None else None
    else:
        found = reading.context.catalog.resource("ValueSet", canonical(text))
    if found is None or found.get("resourceType") != "ValueSet":
        raise refusal("unknown-set", set=text)
    name = text if text.startswith("#") else str(found.get("url"))
    if name in reading.within:
        raise refusal("broken-set", text=f"The value set {name} imports itself")
    within = reading._replace(within=(*reading.within, name))
    return _plan(found, within, root if text.startswith("#") else found)
