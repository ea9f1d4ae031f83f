"""Search parameters that are posted: building until every resource has their entries, then active.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import asyncio

import pytest

from conformance.outcome import FhirError
from fhir_server.interaction import Interaction
from fhir_server.search.guests import FAILED, MOST
from fhir_server.search.index import Index
from fhir_server.storage.store import Match
from smart_auth.grant import Grant, Scope
from tests.indexing.world import (
    EVERYBODY,
    RACE_PARAMETER,
    Served,
    counted,
    parameter,
    patient,
    race_of,
)
from tests.storage.conftest import memory, sqlite, with_store

__all__ = ["memory", "sqlite", "with_store"]

COUNT = 60
PATIENTS = range(COUNT)
INCOMPLETE = (503, "incomplete")
UNKNOWN = (400, "not-supported")


async def _with_patients(store) -> Served:
    served = Served(store)
    await served.parameters.settle()
    for number in PATIENTS:
        await served.put(patient(number))
    return served


async def _building(store) -> Served:
    served = await _with_patients(store)
    await served.put({**RACE_PARAMETER, "id": "race"})
    return served


def test_a_posted_parameter_finds_what_was_stored_before_it(with_store):
    async def story(store):
        served = await _building(store)
        await served.parameters.finish()
        assert await served.races() == counted(PATIENTS)
        missing = await served.total("Patient", ("race:missing", "true"))
        assert missing == sum(race_of(number) is None for number in PATIENTS)

    with_store(story)


def test_a_posted_parameter_is_known_by_its_answer_though_another_request_settles_meanwhile(
    with_store, monkeypatch
):
    stir = Index.stir

    def stirred(self):
        stir(self)
        self.stirred = False  # as it is while another's settling waits for its turn

    monkeypatch.setattr(Index, "stir", stirred)

    async def story(store):
        served = await _building(store)
        assert await served.refusal("Patient", ("race", "2106-3")) == INCOMPLETE

    with_store(story)


def test_a_composite_may_be_made_of_parameters_that_were_posted(with_store):
    parts = (
        parameter("use", "Patient.identifier.use"),
        parameter("value", "Patient.identifier.value", type="string"),
    )
    components = [
        {"definition": each["url"], "expression": each["expression"].split(".")[-1]}
        for each in parts
    ]
    both = parameter("both", "Patient.identifier", type="composite", component=components)
    identifier = [{"use": "official", "value": "x"}, {"use": "old", "value": "y"}]

    async def story(store):
        served = await _with_patients(store)
        with pytest.raises(FhirError) as early:
            await served.put({**both, "id": "both"})
        assert early.value.status == 422
        for each in parts:
            await served.put({**each, "id": each["code"]})
        await served.put({**both, "id": "both"})
        await served.put({"resourceType": "Patient", "id": "x", "identifier": identifier})
        await served.parameters.finish()
        assert await served.total("Patient", ("both", "official$x")) == 1
        assert await served.total("Patient", ("both", "official$y")) == 0

    with_store(story)


def test_a_search_by_a_parameter_that_is_building_is_refused_and_not_partial(with_store):
    async def story(store):
        served = await _building(store)
        search = served.refusal
        assert await search("Patient", ("race", "2106-3")) == INCOMPLETE
        assert await search("Patient", ("race:missing", "true")) == INCOMPLETE
        assert await search("Patient", ("race", "2106-3"), handling="lenient") == INCOMPLETE
        assert await search("Patient", ("_sort", "race")) == INCOMPLETE
        assert await search("Observation", ("subject:Patient.race", "2106-3")) == INCOMPLETE
        assert await search("Observation", ("subject.race", "2106-3")) == INCOMPLETE
        assert await search("Organization", ("_has:Patient:organization:race", "1")) == INCOMPLETE
        assert await search("Patient", ("gender", "other")) == (200, "")
        assert await search("Patient", ("rase", "2106-3")) == UNKNOWN
        told = None
        try:
            await served.search("Patient", ("race", "2106-3"))
        except FhirError as error:
            told = error.issues[0].text
        text = (
            "`race` of Patient is being indexed, 0 % are done: search by it again when it answers"
        )
        assert told == text

    with_store(story)


def test_a_reference_that_is_building_is_neither_followed_nor_included(with_store):
    async def story(store):
        served = await _with_patients(store)
        where = "Patient.extension('http://guide.example/mentor').value"
        more = {"type": "reference", "target": ["Practitioner"]}
        await served.put({**parameter("mentor", where, **more), "id": "mentor"})
        assert await served.refusal("Patient", ("mentor.name", "x")) == INCOMPLETE
        assert await served.refusal("Patient", ("_include", "Patient:mentor")) == INCOMPLETE
        asked = ("_revinclude", "Patient:mentor")
        assert await served.refusal("Practitioner", asked) == INCOMPLETE
        asked = ("_has:Patient:mentor:gender", "other")
        assert await served.refusal("Practitioner", asked) == INCOMPLETE
        await served.put(
            {"resourceType": "Practitioner", "id": "m", "name": [{"family": "Mentor"}]}
        )
        value = {
            "url": "http://guide.example/mentor",
            "valueReference": {"reference": "Practitioner/m"},
        }
        await served.put({**patient(0), "extension": [value]})
        await served.parameters.finish()
        assert await served.total("Patient", ("mentor.name", "mentor")) == 1
        assert await served.total("Practitioner", ("_has:Patient:mentor:gender", "other")) == 1
        found = await served.search("Patient", ("_id", "p0"), ("_include", "Patient:mentor"))
        assert [each["resource"]["id"] for each in found["entry"]] == ["p0", "m"]

    with_store(story)


def test_what_is_written_while_a_parameter_is_building_has_its_entries(with_store):
    async def story(store):
        served = await _building(store)
        for number in range(COUNT, COUNT + 9):
            await served.put(patient(number))
        await served.put({**patient(1), "extension": patient(2)["extension"]})
        await served.delete("Patient", "p4")
        await served.parameters.finish()
        due = counted(range(COUNT + 9))
        due[race_of(1)] -= 1
        due[race_of(2)] += 1
        due[race_of(4)] -= 1
        assert await served.races() == due

    with_store(story)


def test_a_write_that_was_prepared_before_the_parameter_came_has_its_entries_too(with_store):
    async def story(store):
        served = await _with_patients(store)
        asked = Interaction("update", "Patient", "late", resource={**patient(1), "id": "late"})
        from fhir_server.audit.event import Caller

        caller = Caller(EVERYBODY, "127.0.0.1", "here")
        plan = served.server.prepared(asked, caller)
        await served.put({**RACE_PARAMETER, "id": "race"})
        await served.parameters.finish()
        act = lambda tx: served.server.act(tx, asked, caller, plan)  # noqa: E731
        await served.server.commit(asked, caller, act, True)
        assert sum((await served.races()).values()) == sum(counted(PATIENTS).values()) + 1

    with_store(story)


def test_building_goes_on_where_it_stopped_when_the_process_ends(with_store):
    async def story(store):
        served = await _building(store)
        await served.parameters._step("Patient")
        done = served.parameters.building()["Patient"].done
        assert 0 < done < COUNT
        again = Served(store)
        await again.parameters.settle()
        assert again.parameters.building()["Patient"].done == done
        assert await again.refusal("Patient", ("race", "2106-3")) == INCOMPLETE
        await again.parameters.finish()
        assert await again.races() == counted(PATIENTS)
        third = Served(store)
        await third.parameters.settle()
        assert third.parameters.building() == {}
        assert await third.races() == counted(PATIENTS)

    with_store(story)


def test_a_parameter_of_a_type_that_nothing_is_stored_of_answers_at_once(with_store):
    async def story(store):
        served = Served(store)
        await served.parameters.settle()
        await served.put({**RACE_PARAMETER, "id": "race"})
        assert await served.total("Patient", ("race", "2106-3")) == 0
        await served.put(patient(3))
        assert sum((await served.races()).values()) == 1

    with_store(story)


@pytest.mark.parametrize("how", ["deleted", "retired"])
def test_a_parameter_that_ends_is_unknown_at_once_and_its_entries_go(with_store, how):
    async def story(store):
        served = await _building(store)
        await served.parameters.finish()
        if how == "deleted":
            await served.delete("SearchParameter", "race")
        else:
            await served.put({**RACE_PARAMETER, "id": "race", "status": "retired"})
        assert await served.refusal("Patient", ("race", "2106-3")) == UNKNOWN
        await served.parameters.finish()
        held = Match("race", "token")
        assert await store.transaction(lambda tx: tx.count("Patient", held)) == 0
        assert served.parameters.told() == []

    with_store(story)


def test_another_expression_is_built_before_it_answers(with_store):
    async def story(store):
        served = await _building(store)
        await served.parameters.finish()
        where = "Patient.extension.url"
        await served.put({**RACE_PARAMETER, "id": "race", "type": "uri", "expression": where})
        assert await served.refusal("Patient", ("race", "2106-3")) == INCOMPLETE
        await served.parameters.finish()
        assert await served.total("Patient", ("race", "2106-3")) == 0
        url = patient(1)["extension"][0]["url"]
        assert await served.total("Patient", ("race", url)) == sum(counted(PATIENTS).values())

    with_store(story)


async def _refusal(served: Served, resource, grant: Grant = EVERYBODY) -> tuple[int, str]:
    try:
        await served.put(resource, grant)
    except FhirError as error:
        return error.status, error.issues[0].code
    return 200, ""


def test_a_restatement_of_r4s_own_parameter_answers_at_once_without_entries(with_store):
    async def story(store):
        served = await _with_patients(store)
        again = parameter("gender", "Patient.gender", derivedFrom="http://hl7.org/x")
        await served.put({**again, "id": "gender"})
        assert served.parameters.building() == {}
        assert await served.total("Patient", ("gender", "other")) == COUNT
        other = parameter("sex", "(Patient.gender)")
        await served.put({**other, "id": "sex"})
        assert served.parameters.building() == {}
        assert await served.total("Patient", ("sex", "other")) == COUNT

    with_store(story)


def test_two_parameters_with_one_code_and_base_or_one_url_are_refused(with_store):
    async def story(store):
        served = await _building(store)
        other = {**RACE_PARAMETER, "id": "other", "url": "http://guide.example/other"}
        assert await _refusal(served, other) == (409, "duplicate")
        assert await _refusal(served, {**other, "base": ["DomainResource"]}) == (
            422,
            "not-supported",
        )
        same_url = {**RACE_PARAMETER, "id": "other", "code": "race-too"}
        assert await _refusal(served, same_url) == (409, "duplicate")
        assert await _refusal(served, {**other, "status": "draft"}) == (200, "")
        await served.delete("SearchParameter", "race")
        assert await _refusal(served, other) == (200, "")

    with_store(story)


SCOPES = tuple(Scope("system", "SearchParameter", "cruds") for _ in range(1))


def test_only_who_may_do_everything_changes_by_what_is_searched(with_store):
    async def story(store):
        served = await _building(store)
        app = Grant("an app", scopes=SCOPES)
        whole = Grant("a whole system", scopes=(Scope("system", "*", "cruds"),))
        mine = {**parameter("mine", "Patient.gender.extension('x').value"), "id": "mine"}
        assert await _refusal(served, mine, app) == (403, "forbidden")
        assert await _refusal(served, {**mine, "status": "draft"}, app) == (200, "")
        retired = {**RACE_PARAMETER, "id": "race", "status": "retired"}
        assert await _refusal(served, retired, app) == (403, "forbidden")
        with pytest.raises(FhirError) as refused:
            await served.delete("SearchParameter", "race", app)
        assert refused.value.status == 403
        await served.delete("SearchParameter", "mine", app)  # a draft
        assert await _refusal(served, mine, whole) == (200, "")

    with_store(story)


def test_an_expression_that_fails_on_a_resource_leaves_it_writable_and_is_counted(with_store):
    async def story(store):
        served = Served(store)
        await served.parameters.settle()
        one = parameter("one", "Patient.name.given.single()", type="string")
        many = parameter("many", "Patient.name.given.select($this & 'x')", type="string")
        await served.put({**one, "id": "one"})
        await served.put({**many, "id": "many"})
        names = [f"N{number}" for number in range(MOST + 1)]
        await served.put({**patient(0), "name": [{"given": ["Only"]}]})
        await served.put({**patient(1), "name": [{"given": names}]})
        assert await served.total("Patient", ("one", "only")) == 1
        assert await served.total("Patient", ("many", "onlyx")) == 1
        assert await served.total("Patient", ("many", "n5x")) == 0
        for code in ("one", "many"):
            mark = Match(code + FAILED, "token")
            assert await store.transaction(lambda tx, m=mark: tx.count("Patient", m)) == 1
        assert await served.total("Patient", ("given", "N5")) == 1  # R4's own are as ever

    with_store(story)


def test_a_scope_by_a_parameter_opens_what_it_describes_only_while_it_answers(with_store):
    async def story(store):
        served = await _building(store)
        scope = Scope("system", "Patient", "rs", (("race", race_of(1)),))
        grant = Grant("granular", scopes=(scope,))
        assert (await served.search("Patient", grant=grant))["total"] == 0
        await served.parameters.finish()
        assert (await served.search("Patient", grant=grant))["total"] == counted(PATIENTS)[
            race_of(1)
        ]
        await served.delete("SearchParameter", "race")
        assert (await served.search("Patient", grant=grant))["total"] == 0

    with_store(story)


def test_the_builder_in_the_background_builds_beside_writes_and_searches(with_store):
    async def story(store):
        served = await _with_patients(store)
        task = asyncio.create_task(served.parameters.run())
        await served.put({**RACE_PARAMETER, "id": "race"})
        written, seen = COUNT, set()
        while (found := await served.refusal("Patient", ("race", "2106-3"))) == INCOMPLETE:
            seen.add(found)
            await served.put(patient(written))
            written += 1
            await asyncio.sleep(0)
        assert found == (200, "")
        assert seen == {INCOMPLETE}
        assert await served.races() == counted(range(written))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with_store(story)
