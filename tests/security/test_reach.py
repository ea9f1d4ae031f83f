"""Nobody who is limited to patients changes what decides which patients those are.

Section 11.1 of the negative tests, 12 and 25. https://hl7.org/fhir/R4/relatedperson.html
"""

import pytest

from tests.security import people
from tests.security.clinic import EVERYBODY, Clinic, grant, opened
from tests.security.people import reference

FAMILY = grant("user/*.cruds", reach=frozenset("a"), agent="RelatedPerson/r")
APP = grant("patient/*.cruds", patient="a")
DESK = grant("user/*.cruds", reach=None, agent="Practitioner/p")
RELATIVE = people.resource(
    "RelatedPerson/r", active=True, patient=reference("Patient/a"), period={"end": "2020-01-01"}
)
STRANGER = people.resource("RelatedPerson/s", active=True, patient=reference("Patient/b"))
PERSON = people.resource("Person/n", active=True, link=[{"target": reference("Patient/a")}])


@pytest.fixture
def clinic(runner, tmp_path):
    store = runner.run(opened(tmp_path / "data"))
    made = Clinic(store, runner)
    made.put(*people.ALL, RELATIVE, STRANGER, PERSON)
    yield made
    runner.run(store.close())


@pytest.mark.requirement("12", "25")
@pytest.mark.parametrize("caller", [FAMILY, APP])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (RELATIVE, {**RELATIVE, "period": {"end": "2099-01-01"}}),
        (RELATIVE, {**RELATIVE, "patient": reference("Patient/b")}),
        (PERSON, {**PERSON, "link": [*PERSON["link"], {"target": reference("RelatedPerson/s")}]}),
    ],
)
def test_a_relative_or_an_app_reads_what_decides_on_it_and_changes_none_of_it(
    clinic, caller, before, after
):
    name = f"{before['resourceType']}/{before['id']}"
    unknown = {**after, "id": "unknown"}

    assert clinic.ask(caller, "GET", name).status == 200
    assert clinic.ask(caller, "PUT", name, after).status == 404
    assert clinic.ask(caller, "DELETE", name).status == 404
    assert clinic.ask(caller, "PUT", f"{before['resourceType']}/unknown", unknown).status == 404
    assert clinic.ask(caller, "POST", before["resourceType"], before).status == 403
    assert clinic.ask(EVERYBODY, "GET", name).header("etag") == 'W/"1"'


def test_who_is_not_limited_keeps_the_register_of_relatives(clinic):
    renewed = {**RELATIVE, "period": {"end": "2099-01-01"}}

    assert clinic.ask(DESK, "PUT", "RelatedPerson/r", renewed).status == 200
