"""The query string: order, paging, display, leniency, limits, and the caller's rights."""

from collections.abc import Callable

import pytest

from conformance.outcome import FhirError, Issue
from fhir_server.limits import Limits
from fhir_server.search.context import Search
from fhir_server.storage.store import (
    EVERYTHING,
    All,
    Condition,
    Match,
    Query,
    ReferredBy,
    RefersTo,
    Sort,
)
from tests.search.world import World

EMPTY = World([])


def parsed(url: str, **changed: object) -> Search:
    return EMPTY.parse(url, **changed)


def refusal(url: str, **changed: object) -> tuple[int, str, str]:
    with pytest.raises(FhirError) as refused:
        parsed(url, **changed)
    issue = refused.value.issues[0]
    return refused.value.status, issue.code, issue.text


# --- what is shown -------------------------------------------------------------------------------


def test_a_search_without_parameters_asks_for_everything_that_may_be_seen() -> None:
    assert parsed("Patient") == Search("Patient", All((EVERYTHING,)))


def test_sort_keys_follow_one_another_and_the_clinical_date_is_carried_by_links() -> None:
    assert parsed("Observation?_sort=-date,code,patient,value-quantity,_id").sort == (
        Sort(("date",), "range", descending=True, carried=True),
        Sort(("code",), "token"),
        Sort(("subject",), "link"),
        Sort(("value-quantity",), "range"),
        Sort(("_id",), "token"),
    )


def test_sorting_by_a_union_takes_the_values_of_all_its_parameters() -> None:
    assert parsed("Observation?_sort=combo-code&_sort=-_lastUpdated").sort == (
        Sort(("code", "component-code"), "token"),
        Sort(("_lastUpdated",), "range", descending=True),
    )


@pytest.mark.parametrize("key", ["nme", "near", "-code-value-quantity", "", "name:asc"])
def test_what_has_no_order_is_no_sort_key(key: str) -> None:
    type = "Location" if key == "near" else "Observation"
    status, code, text = refusal(f"{type}?_sort=name,{key}" if key == "" else f"{type}?_sort={key}")
    assert (status, code) == (400, "not-supported")
    assert f"`_sort` takes search parameters of {type}" in text


def test_count_is_capped_and_zero_asks_for_the_count_alone() -> None:
    assert parsed("Patient?_count=20").count == 20
    assert parsed("Patient?_count=5000").count == Limits().page
    zero = parsed("Patient?_count=0&_summary=true")
    assert (zero.count, zero.summary) == (0, "count")


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ("_count=-1", "`_count` is a number of resources, 0 or more"),
        ("_count=ten", "`_count` is a number of resources, 0 or more"),
        ("_count=٣", "`_count` is a number of resources, 0 or more"),
        ("_total=maybe", "`_total` is one of none estimate accurate"),
        ("_summary=short", "`_summary` is one of true text data count false"),
        ("_elements=id,", "`_elements` is a list of element names"),
    ],
)
def test_a_malformed_control_is_refused_even_when_lenient(parameter: str, text: str) -> None:
    assert refusal(f"Patient?{parameter}", handling="lenient") == (400, "invalid", text)


def test_summary_elements_and_total_are_handed_on() -> None:
    search = parsed("Patient?_summary=data&_elements=name,birthDate&_total=accurate")
    assert (search.summary, search.elements, search.total) == (
        "data",
        ("name", "birthDate"),
        "accurate",
    )


def test_the_self_link_shows_what_was_used_and_not_how_it_was_formatted() -> None:
    search = parsed("Patient?_format=json&name=Eve&_pretty=true&_count=2&_contained=false")
    assert search.used == (("name", "Eve"), ("_count", "2"), ("_contained", "false"))


# --- strict and lenient --------------------------------------------------------------------------

UNKNOWN = [
    ("race=x", "`race` is not a search parameter of Patient"),
    ("nme=x", "`nme` is not a search parameter of Patient; did you mean `name`?"),
    ("name=", "`name` has no value"),
    ("_text=x", "`_text` is not supported; search a string parameter with :contains"),
    ("_filter=x", "`_filter` is not supported; write its conditions as parameters"),
    ("_contained=true", "`_contained` is supported as false only"),
    ("_count:exact=1", "`_count` takes no modifier"),
    (
        "gender:exactly=http://x",
        "`gender` of Patient (token) has no modifier `:exactly`; it takes :above :below :in :missing"
        " :not :not-in :of-type :text",
    ),
    ("_include=Patient:nobody", "`nobody` is no reference parameter of Patient"),
    (
        "_include=Pateint:link",
        "`_include` names a type that does not exist; did you mean `Patient`",
    ),
    ("_include=Patient:link:Medication", "`link` of Patient refers to no Medication"),
    ("_include=Observation:subject", "`_include=Observation:...` adds nothing to a search on"),
    ("_include:twice=Patient:link", "`_include` has no modifier `:twice`; it takes :iterate"),
]


@pytest.mark.parametrize(("parameter", "text"), UNKNOWN)
def test_what_is_not_known_is_refused_when_strict(parameter: str, text: str) -> None:
    status, code, said = refusal(f"Patient?{parameter}")
    assert (status, code) == (400, "not-supported")
    assert text in said


@pytest.mark.parametrize(("parameter", "text"), UNKNOWN)
def test_what_is_not_known_is_ignored_and_said_when_lenient(parameter: str, text: str) -> None:
    search = parsed(f"Patient?family=x&{parameter}", handling="lenient")
    assert search.used == (("family", "x"),)
    assert search.query == parsed("Patient?family=x").query
    (issue,) = search.ignored
    assert issue == Issue("warning", "not-supported", issue.text)
    assert issue.text.startswith("Ignored: ")
    assert text in issue.text


def test_a_value_that_cannot_be_read_is_refused_even_when_lenient() -> None:
    status, code, _ = refusal("Patient?birthdate=yesterday", handling="lenient")
    assert (status, code) == (400, "invalid")


@pytest.mark.parametrize("handling", ["strict", "lenient"])
def test_the_keys_of_access_cannot_be_asked(handling: str) -> None:
    status, code, _ = refusal("Patient?_salus:owner=Patient/1", handling=handling)
    assert (status, code) == (400, "not-supported")


@pytest.mark.parametrize(
    "url",
    ["Patient?birthdate=Secretname", "Observation?value-quantity=Secretname|a|b", "Patient?gender:no=Secretname",
     "Observation?subject=Secretname/", "Patient?identifier=Secretname|a|b", "Patient?active:missing=Secretname"],
)  # fmt: skip
def test_no_refusal_repeats_a_value(url: str) -> None:
    assert "Secretname" not in refusal(url)[2]


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("mmHg", "`mmHg` is no unit of UCUM; did you mean `mm[Hg]`?"),
        ("celsius", "`celsius` is no unit of UCUM; did you mean `Cel`?"),
        ("MG/DL", "`MG/DL` is no unit of UCUM; did you mean `mg/dL`?"),
        ("Secretname", "The unit that is asked of `value-quantity` is no unit of UCUM."),
    ],
)
def test_a_unit_that_ucum_does_not_have_is_refused_unless_leniency_is_asked_for(
    unit: str, said: str
) -> None:
    url = f"Observation?value-quantity=gt37|http://unitsofmeasure.org|{unit}"
    status, code, text = refusal(url)
    assert (status, code) == (400, "invalid")
    assert text.startswith(said)
    assert "Secretname" not in text
    assert parsed(url, handling="lenient").query != parsed("Observation").query
    for fine in (f"gt37||{unit}", f"gt37|http://elsewhere.org|{unit}", "37", "37|urn:x"):
        assert parsed(f"Observation?value-quantity={fine}").used


def test_a_unit_where_a_system_stands_is_refused() -> None:
    status, code, text = refusal("Observation?value-quantity=37|Cel", handling="lenient")
    assert (status, code) == (400, "invalid")
    assert "number|system|code or number||code" in text


# --- limits --------------------------------------------------------------------------------------


def test_as_many_parameters_and_values_as_the_limits_allow_and_not_one_more() -> None:
    limits = Limits(parameters=3, values=3)
    assert parsed("Patient?name=a&name=b&gender=a,b,c", limits=limits).used
    assert refusal("Patient?name=a&name=b&name=c&name=d", limits=limits) == (
        400,
        "too-costly",
        "A search takes at most 3 parameters",
    )
    assert refusal("Patient?gender=a,b,c,d", limits=limits) == (
        400,
        "too-costly",
        "`gender` of Patient takes at most 3 values",
    )


def test_a_chain_is_as_long_as_the_limit_and_no_longer() -> None:
    limits = Limits(chain=2)
    assert parsed("Observation?patient.organization.name=x", limits=limits).used
    assert refusal("Observation?patient.organization.partof.name=x", limits=limits) == (
        400,
        "too-costly",
        "A chain has at most 2 hops",
    )


def test_as_many_sort_keys_as_the_limit_and_no_more() -> None:
    assert len(parsed(f"Patient?_sort={','.join(['name'] * 8)}").sort) == 8
    assert refusal(f"Patient?_sort={','.join(['name'] * 9)}")[2] == "`_sort` takes at most 8 keys"


def test_a_chain_over_many_types_must_name_them() -> None:
    assert parsed("Observation?part-of.part-of.status=x").used
    status, _, text = refusal("Observation?part-of.part-of.part-of.part-of.status=x")
    assert (status, "name one, as in `part-of:" in text) == (400, True)


def test_a_refusal_does_not_repeat_a_long_name() -> None:
    assert len(refusal(f"Patient?{'x' * 9999}=1")[2]) < 200
    assert len(refusal(f"Patient?name:{'x' * 9999}=1")[2]) < 200


# --- the caller's rights -------------------------------------------------------------------------


def mine(type: str) -> Query:
    return Match(f"_salus:{type}", "token")


def only(*allowed: str) -> Callable[[str], None]:
    def check(type: str) -> None:
        if type not in allowed:
            raise FhirError("forbidden", f"No scope for {type}")

    return check


def test_what_the_caller_may_see_is_asked_of_every_type_on_the_way() -> None:
    query = parsed("Observation?patient.organization.name=x", visible=mine).query
    name = Match("name", "text", (Condition("text", "prefix", "x"),))
    organization = RefersTo("organization", "Organization", All((name, mine("Organization"))))
    patient = RefersTo("subject", "Patient", All((organization, mine("Patient"))))
    assert query == All((patient, mine("Observation")))


def test_what_the_caller_may_see_is_asked_of_the_source_of_has() -> None:
    query = parsed("Patient?_has:Observation:patient:status=final", visible=mine).query
    final = Match("status", "token", (Condition("code", "eq", "final"),))
    observations = ReferredBy("Observation", "subject", All((final, mine("Observation"))))
    assert query == All((observations, mine("Patient")))


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("Encounter", "Encounter"),
        ("Observation?patient.name=x", "Patient"),
        ("Observation?subject:Group.identifier=x", "Group"),
        ("Observation?_has:Provenance:target:agent=x", "Provenance"),
        ("Observation?_include=Observation:patient", "Patient"),
        ("Observation?_include=Observation:subject:Group", "Group"),
        ("Observation?_revinclude=Provenance:target", "Provenance"),
    ],
)
def test_a_type_that_the_search_names_is_refused_without_a_scope(url: str, refused: str) -> None:
    assert refusal(url, check=only("Observation")) == (403, "forbidden", f"No scope for {refused}")


def test_a_type_that_a_chain_only_may_lead_to_is_left_out_without_a_scope() -> None:
    check = only("Observation", "Device", "Location")
    query = parsed("Observation?subject.identifier=x", check=check).query
    assert isinstance(query, All)
    both = EMPTY.parse("Observation?subject.identifier=x").query
    assert str(both).count("RefersTo") == 4
    assert str(query).count("RefersTo") == 2
    assert refusal("Observation?subject.identifier=x", check=only("Observation"))[0] == 403
