"""The terminology service: what FHIR asks of code systems, value sets and concept maps.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from conformance.outcome import FhirError, outcome
from conformance.packages import Packages
from conformance.patience import look
from terminology import capabilities, closure, expansion, lookup, mapping, validation
from terminology.asked import Asked, Given
from terminology.cache import Recent
from terminology.canonical import Canonical, canonical
from terminology.catalog import Catalog, Limits, Resource
from terminology.compose import Budget, Plan, plan
from terminology.displays import said, valid
from terminology.expansion import Listing
from terminology.issues import refusal
from terminology.lacking import Lacking, lacking
from terminology.languages import Languages, languages
from terminology.membership import Membership, membership
from terminology.provider import Provider
from terminology.rules import Context, VersionRules, pairs
from terminology.validation import Judge, Options

_PARAMETER = "http://hl7.org/fhir/StructureDefinition/valueset-expansion-parameter"
_VERSIONS = ("force-system-version", "system-version", "check-system-version")
_OWN_SETS = 64  # value sets that one overlay keeps compiled
_Key: TypeAlias = tuple[int, VersionRules, tuple[int, ...]]


def _stamp() -> tuple[str, str]:
    """The identifier of an expansion, and now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"urn:uuid:{uuid.uuid4()}", now


class Terminology:
    """Answers questions from a set of packages, built-in providers, and an overlay of resources.
    Nothing in it changes but what it remembers; reads are safe from several threads. Every method
    raises FhirError for what cannot be answered."""

    def __init__(
        self,
        packages: Packages,
        providers: Sequence[Provider] = (),
        limits: Limits | None = None,
        *,
        catalog: Catalog | None = None,
    ) -> None:
        limits = limits or Limits()
        self.catalog = catalog or Catalog(packages, providers, limits)
        self.limits = limits
        kept = limits.sets if catalog is None else _OWN_SETS
        self._plans: Recent[_Key, Plan] = Recent(kept)
        self._listings: Recent[_Key, Listing] = Recent(_OWN_SETS)
        self._members: dict[str, Membership | None] = {}
        self._systems: dict[str, Provider | None] = {}
        self._lacking: dict[str, Lacking] = {}

    def having(self, resources: Iterable[Resource]) -> Terminology:
        """The same with resources (CodeSystem, ValueSet, ConceptMap) that only it sees."""
        catalog = self.catalog.having(resources)
        return Terminology(catalog.packages, catalog.providers, self.limits, catalog=catalog)

    # --- operations ------------------------------------------------------------------------------

    def expand(self, asked: Asked, of: Resource | None = None) -> dict[str, Any]:
        """$expand: the ValueSet with its expansion. `of`: the value set of an instance."""
        here = self._sent(asked)
        resource = here._value_set(asked, of)
        asked = _defaulted(asked, resource)
        context = here._context(asked)
        wanted = expansion.wanted(asked, _languages(asked, resource))
        listing = here._listing(resource, context, inline=of is not None or _inline(asked))
        return expansion.expand(listing, asked, wanted, self.limits, _stamp())

    def validate_code(self, asked: Asked, of: Resource | None = None) -> dict[str, Any]:
        """ValueSet/$validate-code: Parameters."""
        here = self._sent(asked)
        resource = here._value_set(asked, of)
        asked = _defaulted(asked, resource)
        context = here._context(asked)
        options = _options(asked, _languages(asked, resource))
        try:
            made = here._plan(resource, context, inline=of is not None or _inline(asked))
        except FhirError as error:
            if error.issues[0].code != "not-found" or "supplement" in error.issues[0].text:
                raise
            return _unresolved(error, asked)
        judge = Judge(context._replace(supplements=made.supplements), made, options)
        return validation.answer(judge, asked, "systemVersion")

    def validate_in_system(self, asked: Asked, of: Resource | None = None) -> dict[str, Any]:
        """CodeSystem/$validate-code: Parameters."""
        sent = asked.resource("codeSystem", "CodeSystem") or of
        here = self._sent(asked, () if sent is None else (sent,))
        url = str(sent.get("url", "")) if sent is not None else asked.text("url")
        if asked.given.get("code"):
            named = url or asked.text("system")
            if not named:
                raise FhirError("required", "This operation needs `url`", status=400)
            asked = asked.also(system=named)
        options = _options(asked, _languages(asked, None))
        judge = Judge(here._context(asked), None, options)
        return validation.answer(judge, asked, "version")

    def lookup(self, asked: Asked) -> dict[str, Any]:
        """$lookup: Parameters."""
        here = self._sent(asked)
        return lookup.lookup(asked, here._context(asked), _languages(asked, None))

    def subsumes(self, asked: Asked) -> dict[str, Any]:
        """$subsumes: Parameters."""
        here = self._sent(asked)
        return lookup.subsumes(asked, here._context(asked))

    def find_matches(self, asked: Asked) -> dict[str, Any]:
        """$find-matches: Parameters."""
        here = self._sent(asked)
        return lookup.find_matches(asked, here._context(asked))

    def translate(self, asked: Asked, of: Resource | None = None) -> dict[str, Any]:
        """$translate: Parameters."""
        return mapping.translate(asked, self._sent(asked).catalog, of)

    def closure(
        self, asked: Asked, table: closure.Table | None
    ) -> tuple[dict[str, Any], closure.Table]:
        """$closure: the ConceptMap, and the table as it is to be kept."""
        here = self._sent(asked)
        return closure.closed(asked, here._context(asked), table)

    def batch_validate(self, asked: Asked) -> dict[str, Any]:
        """$batch-validate-code: one `validation` for each, in order; what cannot be answered is an
        OperationOutcome in its place."""
        given = asked.given.get("validation", ())
        if len(given) > self.limits.batch:
            text = f"A batch has at most {self.limits.batch} validations"
            raise refusal("too-costly", text=text)
        here = self._sent(asked)
        shared = {name: each for name, each in asked.given.items() if name not in _APART}
        answers = [here._validated(each, shared, asked.language) for each in given]
        made = [{"name": "validation", "resource": each} for each in answers]
        return {"resourceType": "Parameters", "parameter": made}

    def _validated(
        self, given: Given, shared: Mapping[str, tuple[Given, ...]], language: str | None
    ) -> dict[str, Any]:
        look()
        try:
            own = Asked.of(given.resource, language)
            asked = Asked({**shared, **own.given}, language)
            in_set = any(asked.given.get(name) for name in ("valueSet", "url", "context"))
            known = not asked.text("url") or self._is_set(asked)
            return self.validate_code(asked) if in_set and known else self.validate_in_system(asked)
        except FhirError as error:
            return outcome(error.issues)

    def _is_set(self, asked: Asked) -> bool:
        """Whether the url is not that of a code system."""
        at = canonical(asked.required("url"))
        known = self.catalog.resource("ValueSet", at)
        return known is not None or self.catalog.system(Canonical(at.url)) is None

    def capabilities(self) -> dict[str, Any]:
        """TerminologyCapabilities, but for who publishes it and when."""
        return capabilities.capabilities(self.catalog)

    # --- questions of validation and search ------------------------------------------------------

    def member(
        self, value_set: str, system: str | None, code: str, version: str | None = None
    ) -> bool | None:
        """Whether a code (of any system, when None) is in the value set that a canonical names;
        None when that cannot be told. `version` is that of the Coding, and decides nothing."""
        try:
            made = self._members[value_set]
        except KeyError:
            made = self._membership(value_set)
        if made is None:
            return None
        return made.anywhere(code) if system is None else made.holds(system, code)

    def lacking(self, value_set: str) -> Lacking:
        """What is not here of a value set whose codes cannot be told."""
        found = self._lacking.get(value_set)
        if found is None:
            if len(self._lacking) >= self.limits.sets:
                self._lacking.clear()
            found = self._lacking[value_set] = lacking(value_set, Context(self.catalog))
        return found

    def known(self, system: str, code: str, version: str | None = None) -> bool | None:
        """Whether a code system has a code; None when the system, or all of it, or the `version`
        that is given, is not here."""
        provider = self._system(system if version is None else f"{system}|{version}")
        if provider is None:
            return None
        if provider.locate(code) is not None:
            return True
        return False if provider.content == "complete" else None

    def versions(self, system: str) -> tuple[str, ...]:
        """Those of a code system that is here, newest first."""
        return self.catalog.known_versions(system) if self._system(system) is not None else ()

    def named(self, system: str) -> str:
        """A code system by its url, with the version that is asked where it has one."""
        provider = self._system(system)
        version = provider.version if provider is not None else None
        return f"{system}|{version}" if version else system

    def display_matches(self, system: str, code: str, display: str) -> bool | None:
        """Whether a display is one of the code's, in any language; None when that is unknown."""
        provider = self._system(system)
        concept = provider.locate(code) if provider is not None else None
        if concept is None:
            return None
        if display == concept.display:  # as nearly all are: its own is always one of them
            return True
        texts = valid(said(concept, provider, None), None)
        if not texts:
            return None
        return any(validation.same_display(display, text) for text, _ in texts)

    def members(self, value_set: str, most: int) -> list[tuple[str, str]]:
        """Every (system, code) of a value set. FhirError when there are more than `most`, or when
        they cannot be listed, or the set is unknown."""
        resource = self.catalog.resource("ValueSet", canonical(value_set))
        if resource is None:
            raise refusal("unknown-set", set=value_set, status=404)
        return self._members_of(self._plan(resource, Context(self.catalog), inline=False), most)

    def members_of(self, resource: Resource, most: int) -> list[tuple[str, str]]:
        """The same of a value set that somebody has, whatever it calls itself."""
        return self._members_of(plan(resource, Context(self.catalog)), most)

    def _members_of(self, made: Plan, most: int) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for each in made.members(Budget(self.limits.compared)):
            if len(found) >= most:
                text = f"The value set has more than {most} codes, too many for a search"
                raise refusal("too-costly", text=text, status=422)
            found.append((each.system, each.concept.code))
        return found

    def below(self, system: str, code: str, most: int) -> frozenset[str]:
        """A code and all that it subsumes. FhirError for an unknown system or code."""
        return self._near(system, code, most, below=True)

    def above(self, system: str, code: str, most: int) -> frozenset[str]:
        """A code and all that subsume it. FhirError for an unknown system or code."""
        return self._near(system, code, most, below=False)

    def _near(self, system: str, code: str, most: int, below: bool) -> frozenset[str]:
        at = canonical(system)
        provider = lookup.provider_of(Context(self.catalog), at.url, at.version)
        start = lookup.concept_of(provider, code).code
        near = provider.children if below else provider.parents
        found, waiting = {start}, [start]
        while waiting:
            for each in near(waiting.pop()):
                if each not in found:
                    found.add(each)
                    waiting.append(each)
            if len(found) > most:
                text = f"More than {most} codes are related to that one, too many for a search"
                raise refusal("too-costly", text=text, status=422)
        return frozenset(found)

    # --- what is read ----------------------------------------------------------------------------

    def _sent(self, asked: Asked, more: Sequence[Resource] = ()) -> Terminology:
        """With what the request sends along."""
        sent = (*asked.resources("tx-resource"), *more)
        return self.having(sent) if sent else self

    def _value_set(self, asked: Asked, of: Resource | None) -> Resource:
        """The value set that is asked about. FhirError 404."""
        sent = asked.resource("valueSet", "ValueSet") or of
        if sent is not None:
            return sent
        if asked.given.get("context"):
            text = "This server finds no value set by `context`; give its `url`"
            raise FhirError("not-supported", text)
        url = asked.text("url")
        if url is None:
            text = "This operation needs a value set: `url` or `valueSet`"
            raise FhirError("required", text, status=400)
        at = canonical(url, asked.text("valueSetVersion"))
        found = self.catalog.resource("ValueSet", at)
        if found is None:
            raise refusal("unknown-set", set=at, status=404)
        return found

    def _context(self, asked: Asked) -> Context:
        rules = VersionRules(*(pairs(asked.texts(name)) for name in _VERSIONS))
        named = asked.texts("useSupplement")
        return Context(self.catalog, rules, tuple(self.catalog.supplement(each) for each in named))

    def _plan(self, resource: Resource, context: Context, inline: bool) -> Plan:
        if inline:
            return plan(resource, context)
        return self._plans.get(_key(resource, context), lambda: plan(resource, context))

    def _listing(self, resource: Resource, context: Context, inline: bool) -> Listing:
        def made() -> Listing:
            return Listing(self._plan(resource, context, inline), self.limits)

        return made() if inline else self._listings.get(_key(resource, context), made)

    def _system(self, system: str) -> Provider | None:
        """The code system that a canonical names, if any of its codes are here."""
        if system in self._systems:
            return self._systems[system]
        found = self.catalog.system(canonical(system))
        if found is not None and found.content == "not-present":
            found = None
        if len(self._systems) >= self.limits.systems:
            self._systems.clear()
        self._systems[system] = found
        return found

    def _membership(self, value_set: str) -> Membership | None:
        try:
            resource = self.catalog.resource("ValueSet", canonical(value_set))
            if resource is None:
                return None
            planned = self._plan(resource, Context(self.catalog), inline=False)
            made = membership(planned, Budget(self.limits.compared))
        except FhirError:  # a value set that cannot be read decides nothing
            made = None
        if len(self._members) >= self.limits.sets:
            self._members.clear()
        self._members[value_set] = made
        return made


_APART = frozenset({"validation", "tx-resource", "cache-id"})


def _key(resource: Resource, context: Context) -> _Key:
    """What a plan is remembered by: the very resources, not what they call themselves. Whatever is
    remembered holds them, so that no other can have their place."""
    return id(resource), context.rules, tuple(id(each) for each in context.supplements)


def _inline(asked: Asked) -> bool:
    return bool(asked.given.get("valueSet"))


def _defaulted(asked: Asked, resource: Resource) -> Asked:
    """With the parameters that a value set wants its expansions made with, where the request has
    none of its own."""
    more = {}
    for name, value in _wishes(resource):
        if name not in asked.given:
            more[name] = (Given(value),)
    return Asked({**asked.given, **more}, asked.language) if more else asked


def _wishes(resource: Resource) -> Iterator[tuple[str, Any]]:
    for each in resource.get("compose", {}).get("extension", ()):
        if each.get("url") == _PARAMETER:
            parts = {one.get("url"): one for one in each.get("extension", ())}
            name, value = parts.get("name", {}), parts.get("value", {})
            named = next((name[key] for key in name if key.startswith("value")), None)
            found = next((value[key] for key in value if key.startswith("value")), None)
            if isinstance(named, str) and found is not None:
                yield named, found


def _languages(asked: Asked, resource: Resource | None) -> Languages | None:
    """What the request says, or its header, or the value set."""
    if asked.given.get("displayLanguage"):
        return languages(asked.text("displayLanguage"))
    try:
        header = languages(asked.language)
    except FhirError:  # a header that is no list says nothing
        header = None
    own = resource.get("language") if resource is not None else None
    return header or languages(own)


def _options(asked: Asked, wanted: Languages | None) -> Options:
    return Options(
        wanted,
        asked.flag("inferSystem") is True,
        asked.flag("abstract"),
        asked.flag("activeOnly") is True,
        asked.flag("lenient-display-validation") is True,
        asked.flag("valueset-membership-only") is True,
    )


def _unresolved(error: FhirError, asked: Asked) -> dict[str, Any]:
    """The answer when a value set draws in what is not here."""
    concept = asked.structure("codeableConcept")
    found = [validation.Verdict(each) for each, _ in validation.codings(asked, "systemVersion")]
    shown = found[0] if concept is None else None
    return validation.parameters(error.issues, shown, concept, found)
