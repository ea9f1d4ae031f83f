"""Search parameters that R4 does not have: which of a guide's are new, which say R4's own again, and
why others are refused.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import json
import tarfile
import time
from datetime import UTC
from functools import cache
from typing import Any

import pytest

from conformance import definitions
from conformance.outcome import FhirError
from fhir_server.search.added import Known, collect, require_searchable
from fhir_server.search.defined import Source
from fhir_server.search.expressions import LONGEST, NODES
from fhir_server.search.index import Index
from tests.indexing.world import parameter
from tests.shared import shared

NEW = {
    "3.1.1": {"Patient": {"ethnicity", "race"}},
    "6.1.0": {
        "CareTeam": {"role"},
        "Condition": {"asserted-date"},
        "Encounter": {"discharge-disposition"},
        "Goal": {"description"},
        "Patient": {"ethnicity", "gender-identity", "race"},
    },
}
NEW["7.0.0"] = NEW["6.1.0"]


@cache
def index() -> Index:
    return Index(definitions.load(), "http://clinic.example/fhir", UTC)


def known() -> Known:
    return Known(index().definitions, index().own, index().compile)


def of_package(name: str) -> list[Source]:
    with tarfile.open(shared(f"packages/{name}.tgz")) as file:
        members = [each for each in file.getmembers() if "/SearchParameter-" in each.name]
        read = (json.load(file.extractfile(each)) for each in members)  # type: ignore[arg-type]
        return [Source(each, name) for each in read]


def refusal(resource: dict[str, Any]) -> str:
    with pytest.raises(FhirError) as refused:
        require_searchable(known(), Source(resource, ""))
    assert refused.value.status == 422
    return refused.value.issues[0].text


@pytest.mark.parametrize("version", sorted(NEW))
def test_of_us_core_only_what_r4_lacks_has_entries_of_its_own(version):
    sources = of_package(f"hl7.fhir.us.core-{version}")
    found = collect(known(), sources)
    assert found.refusals == []
    assert {type: set(added) for type, added in found.added.items()} == NEW[version]
    restated = set(found.aliases.values())
    of_new = {each.parameter.definition.url for a in found.added.values() for each in a.values()}
    assert restated | of_new == {each.resource["url"] for each in sources}


def test_versions_of_a_guide_that_say_the_same_are_one_parameter():
    both = [*of_package("hl7.fhir.us.core-7.0.0"), *of_package("hl7.fhir.us.core-6.1.0")]
    both = [each._replace(origin=each.origin.replace("core-", "core#")) for each in both]
    found = collect(known(), both)
    assert {type: set(added) for type, added in found.added.items()} == NEW["7.0.0"]
    assert {each.origin for a in found.added.values() for each in a.values()} == {
        "hl7.fhir.us.core#7.0.0"
    }
    assert found.refusals == []


@pytest.mark.parametrize(
    "expression",
    [
        "Patient.contact.gender",
        "Patient.extension('http://x').value",
        "Patient.extension.where(url = 'http://x').extension.value.code",
        "Patient.extension.where(url='http://x').valueCodeableConcept",
        "Patient.contact.where(gender = 'male' and name.exists()).relationship",
        "Patient.communication.where(preferred = true).language",
        "Patient.birthDate.extension('http://x').value",
        "Patient.name.exists()",
        "Patient.contact.organization.where(resolve() is Organization).identifier.type",
        "iif(Patient.active, Patient.contact.gender, Patient.maritalStatus.coding)",
    ],
)
def test_expressions_that_walk_a_resource_once_are_taken(expression):
    require_searchable(known(), Source(parameter("own", expression), ""))


HOSTILE = {
    "Patient.repeat($this)": "repeat() is not supported",
    "Patient.descendants().code": "descendants() is not supported",
    "Patient.name.family.matches('(a+)+$')": "matches() is not supported",
    "Patient.name.given.replaceMatches('a','b')": "replaceMatches() is not supported",
    "Patient.name.given.replace('', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaa')": "replace() is not supported",
    "Patient.name.given.distinct()": "distinct() is not supported",
    "Patient.name.where(%resource.name.given = given)": "%resource is not supported there",
    "Patient.name.where(period.start < today())": "today() is not supported",
    "Patient.generalPractitioner.resolve().name": "resolve() is supported as",
    "Patient.name.given.where($index = 1)": "$index and $total are not supported",
    "Patient.name.where((given | family) = 'x')": "A union inside criteria",
    "Patient.name ~ Patient.name": "The operator ~ is not supported",
    "Patient.maritalStatus.memberOf('http://x')": "memberOf() is not supported",
    "Patient.extension.value.extension.value.extension.value": "leads to too many elements",
    "Patient.nothing": "`nothing` is not an element of Patient",
    "Patient.name.": "The expression cannot be used",
    "Observation.code": "No part of the expression speaks of Patient",
    "(" * 900 + "Patient.active" + ")" * 900: "cannot be used",
    "Patient.name.given = '" + "x" * LONGEST + "'": f"at most {LONGEST:,} characters",
    " or ".join(["Patient.active"] * NODES)[: LONGEST - 3]: "The expression",
}
HOSTILE["Patient" + ".where(name.exists()" * 9 + ")" * 9 + ".gender"] = "nested at most"


@pytest.mark.parametrize("expression", HOSTILE, ids=lambda text: text[:40])
def test_hostile_and_wrong_expressions_are_refused_at_once_by_name(expression):
    began = time.process_time()
    said = refusal(parameter("own", expression))
    assert HOSTILE[expression].partition("cannot be used")[0].strip() in said or "cannot" in said
    assert len(said) < 300
    assert time.process_time() - began < 5  # not a measure: what explodes takes minutes


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"type": "special"}, "the type special is not supported"),
        ({"code": "_own"}, "Codes that begin with _ are R4's"),
        ({"code": "a:b"}, "A code is letters, digits"),
        ({"code": "gender"}, "`gender` is R4's own and means something else"),
        ({"expression": None}, "has no expression"),
        ({"base": ["Provenance"], "expression": "Provenance.policy"}, "takes no search parameters"),
        ({"base": ["AuditEvent"], "expression": "AuditEvent.purposeOfEvent"}, "takes no search"),
        ({"xpathUsage": "phonetic"}, "this xpathUsage is not supported"),
        ({"type": "composite"}, "components belong to a composite"),
    ],
)
def test_what_cannot_be_searched_by_is_refused_with_its_reason(changed, said):
    made = {**parameter("own", "Patient.contact.gender"), **changed}
    assert said in refusal({name: value for name, value in made.items() if value is not None})


def test_a_composite_needs_components_that_are_there_and_leading_tokens():
    def composite(first: str) -> dict[str, Any]:
        components = [
            {"definition": first, "expression": "relationship"},
            {
                "definition": "http://hl7.org/fhir/SearchParameter/individual-gender",
                "expression": "gender",
            },
        ]
        return parameter("kin", "Patient.contact", type="composite", component=components)

    assert "A component names no search parameter" in refusal(composite("http://x/none"))
    name = "http://hl7.org/fhir/SearchParameter/individual-given"
    assert "must be of type token" in refusal(composite(name))
    kin = parameter("kinship", "Patient.contact.relationship")
    require_searchable(known(), Source(composite(kin["url"]), ""), [Source(kin, "x")])


def test_what_a_package_has_in_no_valid_form_is_refused_and_harms_nothing_else():
    whole = parameter("own", "Patient.contact.gender")
    broken = [
        {name: value for name, value in whole.items() if name != lost}
        for lost in ("url", "base", "code", "type", "expression")
    ]
    broken += [
        {**whole, "base": ["Elephant"]},
        {**whole, "expression": 5},
        {**whole, "base": None},
        {**whole, "type": "composite", "component": [{}]},
    ]
    sources = [Source(each, f"p#{at}") for at, each in enumerate(broken)]
    found = collect(known(), [*sources, Source(whole, "p#whole")])
    assert [each.origin for each in found.refusals] == [each.origin for each in sources]
    assert found.added["Patient"]["own"].origin == "p#whole"


def test_what_says_the_same_in_other_words_is_an_alias():
    again = [
        Source(parameter("gender", "(Patient.gender)"), "a"),
        Source(parameter("sex", "Patient.gender"), "b"),
        Source(parameter("name", "Patient.name.family", type="string", derivedFrom=NAME), "c"),
        Source(parameter("death-date", "Patient.deceased as dateTime", type="date"), "d"),
        Source(parameter("birthdate", "Patient.deceased.as(dateTime)", type="date"), "e"),
    ]
    found = collect(known(), again)
    assert found.added == {}
    assert {code for _, code in found.aliases} == {"gender", "name", "death-date"}
    assert found.named["Patient"]["sex"].keys == ("gender",)
    assert [(each.origin, each.type) for each in found.refusals] == [("e", "Patient")]


NAME = "http://hl7.org/fhir/SearchParameter/Patient-name"
