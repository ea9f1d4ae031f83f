"""Each rule of access, broken on purpose: the comparison of test_property.py is seen to fail.

A rule that can be broken without a test noticing is not tested.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from fhir_server import access, owners, sight
from fhir_server.search import chains, includes, results
from fhir_server.search.context import SearchContext
from fhir_server.storage.store import EVERYTHING, All, AnyOf
from tests.security.test_property import compare, hospitals  # noqa: F401

SEEDS = range(16)


def includes_without_visible(patch):
    patch.setattr(
        includes,
        "_allowed",
        lambda found, context: [
            (type, includes.any_of(queries))
            for type, queries in found.items()
            if context.allowed(type)
        ],
    )


def includes_of_types_without_scope(patch):
    patch.setattr(
        includes,
        "_allowed",
        lambda found, context: [
            (type, All((includes.any_of(queries), context.visible(type))))
            if context.allowed(type)
            else (type, includes.any_of(queries))
            for type, queries in found.items()
        ],
    )


def hops_of_chains_without_visible(patch):
    patch.setattr(
        chains,
        "_visible",
        lambda type, rest, value, context, way: chains.read(type, rest, value, context, way),
    )


def types_of_chains_unchecked(patch):
    patch.setattr(chains, "_named", lambda parameter, type, context: [type])


def has_of_unchecked_types(patch):
    real = chains._reverse

    def reverse(type, name, value, context, way):
        return real(type, name, value, structs.replace(context, check=lambda _: None), way)

    patch.setattr(chains, "_reverse", reverse)


def matches_without_visible(patch):
    patch.setattr(
        SearchContext,
        "seen",
        lambda self, type, *asked: All(tuple(self.conceal(type, each) for each in asked)),
    )


def totals_without_visible(patch):
    async def total(step, parsed):
        if parsed.summary == "count" or parsed.total == "accurate":
            return await step.tx.count(parsed.type, parsed.query.queries[0])
        return None

    patch.setattr(results, "_total", total)


def versions_without_their_own_check(patch):
    async def then(step, version, seen, letter):
        return True

    patch.setattr(sight, "_then", then)


def deletions_always_shown(patch):
    real = sight._then

    async def then(step, version, seen, letter):
        return version.deleted or await real(step, version, seen, letter)

    patch.setattr(sight, "_then", then)


def history_without_the_current_check(patch):
    async def shows(self, version):
        seen = access.visible(self._step.core, self._step.grant, version.type, self._letter)
        return seen is EVERYTHING or await sight._then(self._step, version, seen, self._letter)

    patch.setattr(sight.Past, "_shows", shows)


def parameters_of_scopes_dropped(patch):
    patch.setattr(access, "_condition", lambda *_: EVERYTHING)


def only_the_first_parameter_of_a_scope(patch):
    real = access._granted

    def granted(index, grant, scope, *rest):
        return real(index, grant, scope._replace(query=scope.query[:1]), *rest)

    patch.setattr(access, "_granted", granted)


def only_the_first_scope_of_a_type(patch):
    real = access._any_of
    patch.setattr(access, "_any_of", lambda queries: real(list(queries)[:1]))


def all_scopes_of_a_type_at_once(patch):
    patch.setattr(access, "_any_of", access._all_of)


def letters_not_told_apart(patch):
    patch.setattr(access.Scope, "covers", lambda self, type, _: self.type in (type, "*"))


def types_matched_by_their_start(patch):
    patch.setattr(
        access.Scope,
        "covers",
        lambda self, type, letter: (
            letter in self.letters and (self.type == "*" or self.type[:1] == type[:1])
        ),
    )


def a_system_beside_a_patient(patch):
    patch.setattr(access, "in_force", lambda grant: grant.scopes)
    patch.setattr(
        access, "limit", lambda grant: None if any(s.context == "system" for s in grant.scopes) else frozenset(filter(None, [grant.patient]))
    )  # fmt: skip


def a_user_not_narrowed_by_a_patient(patch):
    real = access._granted

    def granted(index, grant, scope, *rest):
        if scope.context == "user" and grant.reach is None:
            return EVERYTHING
        return real(index, grant, scope, *rest)

    patch.setattr(access, "_granted", granted)


def a_reach_that_nobody_asks(patch):
    patch.setattr(
        access,
        "limit",
        lambda grant: (
            None
            if {each.context for each in grant.scopes} == {"user"}
            else frozenset(filter(None, [grant.patient]))
        ),
    )


def a_patient_that_goes_with_the_last_of_its_scopes(patch):
    real = access.limit
    patch.setattr(access, "limit", lambda grant: real(replace(grant, confined=False)))


def no_patient_in_context_is_every_patient(patch):
    real = access._compartments

    def compartments(index, grant, ids, *rest):
        return real(index, grant, ids, *rest) if ids else EVERYTHING

    patch.setattr(access, "_compartments", compartments)


def any_reference_makes_a_member(patch):
    def keys(type, index):
        known = index.parameters(type).values()
        return frozenset(key for each in known if each.kind == "reference" for key in each.keys)

    patch.setattr(owners, "belonging", keys)


def links_of_patients_widen(patch):
    real = access._compartments

    def compartments(index, grant, ids, type, *rest):
        found = real(index, grant, ids, type, *rest)
        linked = access.link("link", ("Patient",), ids)
        return AnyOf((found, linked)) if type == "Patient" and ids else found

    patch.setattr(access, "_compartments", compartments)


def types_without_a_rule_are_everybodys(patch):
    real = access._compartments

    def compartments(index, grant, ids, type, *rest):
        if type in ("Group", "Organization"):
            return EVERYTHING
        return real(index, grant, ids, type, *rest)

    patch.setattr(access, "_compartments", compartments)


def what_is_shared_is_writable_too(patch):
    real = access._compartments

    def compartments(index, grant, ids, type, *rest):
        return EVERYTHING if type in owners.SHARED else real(index, grant, ids, type, *rest)

    patch.setattr(access, "_compartments", compartments)


def targets_of_provenance_uncut(patch):
    async def reveal(step, versions):
        return versions

    patch.setattr(sight, "reveal", reveal)


def targets_that_are_cut_can_be_searched(patch):
    patch.setattr(access, "conceal", lambda core, grant, type, query: query)


def provenance_of_any_target(patch):
    real = access._compartments

    def compartments(index, grant, ids, type, *rest):
        if type == "Provenance" and ids:
            return EVERYTHING
        return real(index, grant, ids, type, *rest)

    patch.setattr(access, "_compartments", compartments)


def binaries_without_their_context(patch):
    real = access._compartments

    def compartments(index, grant, ids, type, *rest):
        return EVERYTHING if type == "Binary" and ids else real(index, grant, ids, type, *rest)

    patch.setattr(access, "_compartments", compartments)


def identity_reads_its_whole_type(patch):
    patch.setattr(access, "with_ids", lambda ids: EVERYTHING)


def links_for_everybody(patch):
    patch.setattr(results, "_caller", lambda step: "anybody")


def interactions_unchecked(patch):
    patch.setattr(access, "check", lambda core, grant, asked: None)


def a_search_of_everything_for_any_scope(patch):
    real = access.check_search
    patch.setattr(
        access, "check_search", lambda grant, type: None if type == "*" else real(grant, type)
    )


def the_owner_tells_of_every_scope(patch):
    def settled(core, grant, type, letter, owner):
        told = access._owned(core.index, grant, type, letter)
        return None if told is None or owner is None else owner in told.perhaps

    patch.setattr(access, "settled", settled)


def the_owner_tells_of_every_type(patch):
    patch.setattr(owners, "decides", lambda type, index: True)


READING = [
    includes_without_visible,
    includes_of_types_without_scope,
    hops_of_chains_without_visible,
    types_of_chains_unchecked,
    has_of_unchecked_types,
    matches_without_visible,
    totals_without_visible,
    versions_without_their_own_check,
    deletions_always_shown,
    history_without_the_current_check,
    parameters_of_scopes_dropped,
    only_the_first_parameter_of_a_scope,
    only_the_first_scope_of_a_type,
    all_scopes_of_a_type_at_once,
    letters_not_told_apart,
    types_matched_by_their_start,
    a_system_beside_a_patient,
    a_user_not_narrowed_by_a_patient,
    a_reach_that_nobody_asks,
    a_patient_that_goes_with_the_last_of_its_scopes,
    no_patient_in_context_is_every_patient,
    any_reference_makes_a_member,
    links_of_patients_widen,
    types_without_a_rule_are_everybodys,
    targets_of_provenance_uncut,
    targets_that_are_cut_can_be_searched,
    provenance_of_any_target,
    binaries_without_their_context,
    identity_reads_its_whole_type,
    the_owner_tells_of_every_scope,
    the_owner_tells_of_every_type,
    links_for_everybody,
    interactions_unchecked,
    a_search_of_everything_for_any_scope,
]


@pytest.mark.parametrize("broken", READING, ids=lambda each: each.__name__)
def test_a_rule_that_is_broken_is_seen_to_be(hospitals, monkeypatch, broken):  # noqa: F811
    broken(monkeypatch)
    assert _notices(hospitals), f"nobody noticed {broken.__name__}"


def _notices(hospitals) -> bool:  # noqa: F811
    for seed in SEEDS:
        try:
            compare(*hospitals(seed), seed)
        except AssertionError:
            return True
    return False
