"""US Core 3.1.1, 6.1.0 and 7.0.0 on the reference data over HTTP: every search with every variant
that the kits ask for, each answer exactly what a plain reading of the same resources gives.

https://hl7.org/fhir/us/core/
"""

import pytest

from conformance import definitions
from conformance.json import parse
from conformance.packages import Packages, read
from conformance.profiles import Profiles
from terminology import ucum
from terminology.providers import built_in
from terminology.service import Terminology
from tests.shared import shared
from tests.us_core import clinic, driver, must_support, rows


def test_guides_are_installed_while_the_server_is_in_use(opened, worlds):
    """Nothing else fails meanwhile, and a search by a parameter is refused until it is whole."""
    _, traffic = opened
    assert set(traffic.statuses) == {200, 201}
    assert min(traffic.statuses.values()) > 5
    totals = [answer["total"] for status, answer in traffic.building if status == 200]
    races = [worlds["6.1.0"].values(each, "race") for each in worlds["6.1.0"].all("Patient")]
    codes = [code for found in races for _, value in found for _, code in driver.tokens(value)]
    assert {*totals} == {codes.count("2106-3")}
    refused = {
        (status, answer["issue"][0]["code"]) for status, answer in traffic.building if status != 200
    }
    assert refused <= {(400, "not-supported"), (400, "invalid"), (503, "incomplete")}
    assert refused


def failures(world, asked):
    """What each row that fails says, and the rows for which no resource here has the values."""
    wrong, silent = {}, []
    for row in asked:
        try:
            if driver.run(world, row) == 0:
                silent.append(str(row))
        except AssertionError as error:
            wrong[str(row)] = str(error)[:500]
    return wrong, silent


def test_every_search_of_us_core_3_1_1_finds_exactly_what_is_there(worlds):
    asked = rows.of_metadata()
    assert len(asked) == 152
    assert failures(worlds["3.1.1"], asked) == ({}, [])


@pytest.mark.parametrize(
    ("version", "count", "required"), [("6.1.0", 258, 154), ("7.0.0", 310, 168)]
)
def test_every_search_of_a_later_us_core_finds_exactly_what_is_there(
    worlds, version, count, required
):
    asked = rows.of_table(version)
    assert (len(asked), sum(row.required for row in asked)) == (count, required)
    assert failures(worlds[version], asked) == ({}, [])


def test_an_altered_answer_would_be_seen(worlds):
    """The driver is no rubber stamp: where the server finds one resource more, the row fails."""
    world = worlds["3.1.1"]
    row = next(r for r in rows.of_metadata() if r.type == "Device" and r.names == ("patient",))
    kept = world.all("Device")
    patients = [each.get("patient", {}).get("reference") for each in kept]
    lost = next(n for n, each in enumerate(patients) if each and each in patients[:n])
    world._by_type["Device"] = [*kept[:lost], *kept[lost + 1 :]]
    try:
        wrong, _ = failures(world, [row])
    finally:
        world._by_type["Device"] = kept
    assert list(wrong) == [str(row)]


def of_group(world, group):
    """The resources that a group's first search finds."""
    named = (r for r in rows.of_metadata() if r.profile == group[":profile_url"])
    first = next(named, None)
    if first is None or not first.fixed:
        return world.all(group[":resource"])
    name = first.names[-1]
    return [
        each
        for each in world.all(group[":resource"])
        if any(driver.holds(world, each, name, text) for text in first.fixed)
    ]


@pytest.mark.parametrize("number", range(29))
def test_what_a_profile_of_3_1_1_must_support_is_there_and_can_be_read(worlds, number):
    group, world = rows.metadata()[number], worlds["3.1.1"]
    resources = of_group(world, group)
    assert resources
    assert must_support.missing(group, resources) == []
    for each in resources[:5]:
        answer = world.client.get(f"/{each['resourceType']}/{each['id']}")
        assert (answer.status_code, answer.json()) == (200, each)
    for path, references in must_support.references(group, resources):
        statuses = [_status(world, each) for each in references[:20]]
        assert 200 in statuses, (path, statuses)


def _status(world, reference):
    return 200 if reference.startswith("#") else world.client.get(f"/{reference}").status_code


def test_the_statement_names_what_each_profile_of_3_1_1_demands(server):
    with server.client() as client:
        statement = client.get("/metadata").json()
    assert [each for each in statement["instantiates"] if each.startswith(clinic.SERVER)] == [
        f"{clinic.SERVER}|{version}" for version in clinic.VERSIONS
    ]
    offered = {each["type"]: each for each in statement["rest"][0]["resource"]}
    for group in rows.metadata():
        told = offered[group[":resource"]]
        supported = {each.partition("|")[0] for each in told["supportedProfile"]}
        if group[":profile_url"].startswith(rows.CORE):
            assert group[":profile_url"] in supported
        codes = {each["code"] for each in told["interaction"]}
        demanded = {e[":code"] for e in group[":interactions"] if e[":expectation"] == "SHALL"}
        assert demanded <= codes
        names = {each["name"] for each in told["searchParam"]}
        assert {name for search in group[":searches"] for name in search[":names"]} <= names
        assert set(group[":revincludes"]) <= set(told.get("searchRevInclude", ()))
        assert set(group[":include_params"]) <= set(told.get("searchInclude", ()))


# Errors in the reference data itself: a patient without gender (of the client test), a smoking
# status outside of its value set, members of a CareTeam that 3.1.1 does not allow, a sex with a
# Coding where 6.1.0 and 7.0.0 want a code, codes that the code systems of these versions lack.
@pytest.mark.parametrize(("version", "most"), [("3.1.1", 4), ("6.1.0", 13), ("7.0.0", 5)])
def test_what_is_returned_meets_its_profiles_but_for_the_faults_of_the_data(worlds, version, most):
    """All 800 resources of the five patients: their faults are few, and each is a true one."""
    packages = Packages().including(read(clinic.package(version).read_bytes()))
    profiles = Profiles(definitions.load(), packages, Terminology(packages, built_in()), units=ucum)
    wrong, checked = [], 0
    for file in sorted(shared("data/us-core-reference").glob("uscore_bundle_patient_*.json")):
        for entry in clinic.mended(parse(file.read_bytes()))["entry"]:
            checked += 1
            wrong += [
                f"{entry['resource']['resourceType']} {issue.expression}: {issue.text}"
                for issue in profiles.validate(entry["resource"])
                if issue.severity == "error"
            ]
    assert (checked, len(wrong)) == (800, most), wrong
