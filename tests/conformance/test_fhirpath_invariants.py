"""Invariants hold or fail by their words, whatever way they are compiled."""

from decimal import Decimal

import pytest

from conformance.definitions import load
from conformance.fhirpath import Environment, FhirPathError, compile_invariant, equality, errata
from conformance.fhirpath.criteria import _general
from conformance.fhirpath.equality import Lasting, distinct, same_item, within
from conformance.fhirpath.parser import parse
from conformance.fhirpath.types import types_of
from conformance.fhirpath.values import Quantity
from tests.conformance.examples import examples

DEFINITIONS = load()
TYPES = types_of(DEFINITIONS)
# The validator has its own code for these.
NATIVE = {"ele-1", "ext-1", "dom-3", "txt-1", "txt-2"}


def constraints(path):
    """The invariants at a type or element, errata applied: (key, severity, expression)."""
    return [
        (each.key, each.severity, errata(each.key, each.expression))
        for each in DEFINITIONS.element(path).constraints
        if each.key not in NATIVE
    ]


def holds(key, path, value, resource=None, root=None):
    (expression,) = [found for name, _, found in constraints(path) if name == key]
    resource = resource or {"resourceType": "Basic"}
    invariant = compile_invariant(expression, path, DEFINITIONS)
    return invariant(value, Environment(resource, root or resource))


def document(**more):
    return {"resourceType": "Bundle", "type": "document", **more}


CONTAINER = {"resourceType": "Observation", "contained": [{"resourceType": "Patient", "id": "p"}]}
QUANTITY = {"value": Decimal("5.0"), "unit": "mg"}
ONE = {"code": "1", "system": "http://unitsofmeasure.org"}
# key, path, a value for which it holds, one for which it fails
PAIRS = [
    ("per-1", "Period", {"start": "2020-01-01", "end": "2020-01-02"}, {"start": "2021", "end": "2020"}),
    (
        "per-1",
        "Period",
        {"start": "2020-01-01T10:00:00+02:00", "end": "2020-01-01T09:00:00Z"},
        {"start": "2020-01-01T10:00:00Z", "end": "2020-01-01T11:00:00+02:00"},
    ),
    # A day is neither before nor after a moment in it: empty, so the invariant fails.
    ("per-1", "Period", {"start": "2023-06-21"}, {"start": "2023-06-21", "end": "2023-06-21T06:20:00Z"}),
    ("qty-3", "Quantity", {"code": "mg", "system": "x"}, {"code": "mg"}),
    ("rng-2", "Range", {"low": QUANTITY, "high": QUANTITY}, {"low": QUANTITY, "high": {**QUANTITY, "value": 4}}),
    ("rat-1", "Ratio", {"numerator": QUANTITY, "denominator": QUANTITY}, {"numerator": QUANTITY}),
    ("cpt-2", "ContactPoint", {"value": "1", "system": "phone"}, {"value": "1"}),
    ("att-1", "Attachment", {"data": "QQ==", "contentType": "text/plain"}, {"data": "QQ=="}),
    ("tim-9", "Timing.repeat", {"offset": 5, "when": ["AC", "PC"]}, {"offset": 5, "when": ["AC", "CM"]}),
    ("tim-4", "Timing.repeat", {"duration": Decimal("0.5")}, {"duration": Decimal(-1)}),
    ("ref-1", "Reference", {"reference": "Patient/1"}, {"reference": "#q"}),
    ("ref-1", "Reference", {"display": "x"}, {"reference": "#q"}),
    ("ref-1", "Reference", {"_reference": {"id": "x"}}, {"reference": "#"}),
    ("pat-1", "Patient.contact", {"name": {"text": "x"}}, {"gender": "male"}),
    ("obs-6", "Observation", {"valueBoolean": False}, {"_valueString": {"id": "x"}, "dataAbsentReason": {}}),
    ("obs-3", "Observation.referenceRange", {"text": "x"}, {"age": {}}),
    ("app-2", "Appointment", {"start": "x", "end": "y"}, {"start": "x"}),
    ("app-3", "Appointment", {"status": "waitlist"}, {"status": "booked", "start": "x"}),
    ("que-12", "Questionnaire.item", {"enableWhen": [{}]}, {"enableWhen": [{}, {}]}),
    (
        "que-7",
        "Questionnaire.item.enableWhen",
        {"operator": "exists", "answerBoolean": True},
        {"operator": "exists", "answerString": "true"},
    ),
    ("que-13", "Questionnaire.item", {"initial": [{}]}, {"initial": [{}, {}], "repeats": False}),
    ("ras-2", "RiskAssessment.prediction", {}, {"probabilityDecimal": Decimal("100.1")}),
    ("ras-2", "RiskAssessment.prediction", {"probabilityRange": {}}, {"probabilityDecimal": 101}),
    ("bdl-8", "Bundle.entry", {}, {"fullUrl": "http://x/Patient/1/_history/2"}),
    ("eld-3", "ElementDefinition.max", "12", "many"),
    ("eld-2", "ElementDefinition", {"min": 2, "max": "10"}, {"min": 2, "max": "1"}),
    ("eld-16", "ElementDefinition", {"sliceName": "a/b"}, {"sliceName": "a b"}),
    ("cnt-3", "Count", {"value": 3, **ONE}, {"value": Decimal("3.5"), **ONE}),
    ("spd-0", "SearchParameter", {}, {"name": "lower"}),
    ("org-2", "Organization.address", {"use": "work"}, {"use": "home"}),
    ("cpb-9", "CapabilityStatement.rest", {"resource": [{"type": "A"}, {"type": "B"}]}, {"resource": [{"type": "A"}] * 2}),
    ("dom-2", "Patient", {"contained": [{"resourceType": "Basic"}]}, {"contained": [{"resourceType": "Basic", "contained": [{"resourceType": "Basic"}]}]}),
    ("dom-4", "Patient", {"contained": [{"resourceType": "Basic", "meta": {"tag": [{}]}}]}, {"contained": [{"resourceType": "Basic", "meta": {"versionId": "1"}}]}),
]  # fmt: skip


@pytest.mark.parametrize("key, path, fair, fault", PAIRS)
def test_an_invariant_holds_for_the_fair_and_fails_for_the_fault(key, path, fair, fault):
    assert (holds(key, path, fair), holds(key, path, fault)) == (True, False)


def test_the_same_key_may_name_several_rules():
    moved = {"authoredOn": "2020-01-02", "lastModified": "2020-01-01"}
    assert not holds("inv-1", "Task", moved)
    assert not holds("inv-1", "Parameters.parameter", {"valueString": "x", "part": [{}]})
    assert holds("inv-1", "TestReport.setup.action", {"assert": {}})


def test_a_fragment_refers_within_the_container_only():
    resource = CONTAINER["contained"][0]
    assert holds("ref-1", "Reference", {"reference": "#p"}, CONTAINER)
    assert holds("ref-1", "Reference", {"reference": "#p"}, resource, CONTAINER)
    assert holds("ref-1", "Reference", {"reference": "#"}, resource, CONTAINER)
    assert not holds("ref-1", "Reference", {"reference": "#p"}, resource)


def test_resource_variables_speak_of_the_nearest_resource():
    code = {"coding": [{"code": "a"}]}
    observation = {"resourceType": "Observation", "valueString": "x", "code": code}
    assert holds("obs-7", "Observation", {**observation, "component": [{"code": {}}]}, observation)
    same = {**observation, "component": [{"code": code}]}
    assert not holds("obs-7", "Observation", same, same)
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {}}]}
    assert holds("bdl-3", "Bundle", batch, batch)
    assert not holds("bdl-3", "Bundle", document(entry=batch["entry"]), document())


def test_the_first_entry_of_a_document_is_a_composition():
    for type, expected in (("Composition", True), ("Basic", False)):
        bundle = document(entry=[{"resource": {"resourceType": type}}])
        assert holds("bdl-11", "Bundle", bundle, bundle) is expected
    assert not holds("bdl-11", "Bundle", document(), document())


def test_entries_of_one_version_are_found_twice():
    def entry(version):
        return {"fullUrl": "urn:x", "resource": {"resourceType": "Basic", "meta": version}}

    assert holds("bdl-7", "Bundle", document(entry=[entry({}), entry({"versionId": "1"})]))
    assert not holds("bdl-7", "Bundle", document(entry=[entry({}), entry({})]))
    assert holds("bdl-7", "Bundle", document(entry=[{}, {}]))


def test_a_choice_is_tested_as_the_type_that_its_value_has():
    high = {"value": 5, "code": "%", "system": "http://unitsofmeasure.org"}
    path = "RiskAssessment.prediction.probability[x]"
    assert holds("ras-1", path, Decimal("0.5"))
    assert holds("ras-1", path, {"high": high})
    assert not holds("ras-1", path, {"high": {**high, "code": "1"}})


@pytest.mark.parametrize("value", [None, 5, "text", [], {"start": 5, "end": {}}, {"start": []}])
def test_a_value_of_another_shape_fails_without_harm(value):
    assert (
        compile_invariant("start <= end", "Period", DEFINITIONS)(value, Environment({}, {}))
        is False
    )


@pytest.mark.parametrize("number", ["1E+999999999", "1E-999999999", "9" * 5000])
def test_numbers_of_any_size_are_compared_and_never_written_out(number):
    value = {"value": Decimal(number)}
    environment = Environment({}, {})

    def ask(expression):
        return compile_invariant(expression, "Quantity", DEFINITIONS)(value, environment)

    assert ask("value > 0")
    assert not ask("value = 5")
    for expression in ("value + 1 > 0", "value.round(2) > 0", "value.toInteger() > 0"):
        assert ask(expression) in (True, False)
    for expression in ("value.toString().length() < 20000", "value.floor() >= 0", "value ~ 1"):
        assert ask(expression) in (True, False)


REFUSED = {
    "weigh('x')": "The function weigh() is not supported",
    "a.where()": "where() does not take 0 arguments",
    "%nothing": "The variable %nothing is not defined",
    "value is Nothing": "`Nothing` is not a type",
    "matches('(')": None,
    "code.matches('(')": "A regular expression cannot be read",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_not_supported_is_refused_by_name_when_compiled(expression):
    if REFUSED[expression] is None:
        # A pattern that is not a plain field's is met when it runs: the invariant fails.
        compiled = compile_invariant(expression, "string", DEFINITIONS)
        assert compiled("x", Environment({}, {})) is False
        return
    with pytest.raises(FhirPathError) as refused:
        compile_invariant(expression, "Coding", DEFINITIONS)
    assert str(refused.value) == REFUSED[expression]


def test_every_invariant_of_the_base_definitions_compiles():
    compiled = set()
    for structure in DEFINITIONS.structures.values():
        for element in structure.elements:
            for key, _, expression in constraints(element.path):
                compile_invariant(expression, element.path, DEFINITIONS)
                compiled.add((key, expression))
    assert len(compiled) >= 236


def visited(type, path, value, environment):
    """Each value with its type, element and environment, from the outside in."""
    yield type, path, value, environment
    if not isinstance(value, dict):
        return
    for key, step in TYPES.members(type).items():
        found = value.get(key) or []
        for each in found if step.many else [found]:
            if isinstance(each, dict) and "resourceType" in each and TYPES.resource(step.type):
                root = environment.root if step.path.endswith(".contained") else each
                inner = Environment(each, root)
                yield from visited(each["resourceType"], each["resourceType"], each, inner)
            elif each is not None and each != []:
                yield from visited(step.type, step.path, each, environment)


def compiled(place, type):
    """Each invariant at a place in both forms: the one in use, and the general compiler's."""
    for key, severity, expression in constraints(place):
        direct = compile_invariant(expression, place, DEFINITIONS)
        yield key, severity, direct, _general(TYPES, parse(expression), type)


def test_the_official_examples_meet_the_invariants_in_every_form():
    """The direct closures answer what the general compiler answers, and no error is reported."""
    known = {}
    failed, asked = set(), 0
    for resource in examples():
        around = Environment(resource, resource)
        name = resource["resourceType"]
        for type, path, value, environment in visited(name, name, resource, around):
            for place in {type, path}:
                if place not in known:
                    known[place] = list(compiled(place, type))
                for key, severity, direct, general in known[place]:
                    answer = direct(value, environment)
                    assert answer is (general(value, environment) is True), (key, place)
                    asked += 1
                    if severity == "error" and not answer:
                        failed.add((key, name, resource["id"]))
    assert failed == set()
    assert asked > 15_000


QUICK = pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("item.linkId.distinct().count() = 2", True),
        ("item.all(%resource.item.linkId contains linkId)", True),
        ("item.where(%context.item.linkId contains linkId).count() = 3", True),
        ("item.all(%resource.item.where(linkId = 'a').exists())", True),
        ("item.linkId.subsetOf(%resource.item.linkId)", True),
        ("item.linkId.intersect('a' | 'z').count() = 1", True),
        ("item.linkId.exclude('a').count() = 1", True),
        ("item.text.subsetOf(%resource.item.linkId)", False),
    ],
)


@QUICK
def test_what_asks_only_of_the_resource_answers_the_same_for_every_item(expression, wanted):
    resource = {
        "resourceType": "Questionnaire",
        "item": [{"linkId": "a"}, {"linkId": "a", "text": "b"}, {"linkId": "c"}],
    }
    other = {"resourceType": "Questionnaire", "item": [{"linkId": "z"}]}
    invariant = compile_invariant(expression, "Questionnaire", DEFINITIONS)
    assert invariant(resource, Environment(resource, resource)) is wanted
    # Nothing of one resource is remembered for the next.
    invariant(other, Environment(other, other))
    assert invariant(resource, Environment(resource, resource)) is wanted


DATES = ["2020", "2020-01", "2020-01-01", "2020-01-01T10:00:00Z", "2020-01-01T12:00:00.0+02:00", "2020-01-01T10:00:00", "x"]  # fmt: skip
AMOUNTS = [
    Quantity(Decimal(1), "g"),
    Quantity(1000, "mg"),
    Quantity(1, "mg"),
    Quantity(Decimal("1.0"), "apple"),
    Quantity(1, "apple"),
    Quantity(1, "year", calendar=True),
    Quantity(12, "month", calendar=True),
    Quantity(7, "day", calendar=True),
    Quantity(1, "wk"),
    Quantity(Decimal("0." + "1" * 40), "g"),
    Quantity(Decimal("0." + "1" * 41), "g"),
]
ITEMS = [
    *(("dateTime", text, None) for text in DATES),
    ("date", "2020-01", None),
    *(("System.Quantity", amount, None) for amount in AMOUNTS),
    ("Quantity", {"value": 1, "unit": "g", "code": "g", "system": "http://unitsofmeasure.org"}, None),
    ("boolean", True, None),
    ("integer", 1, None),
    ("decimal", Decimal("1.00"), None),
    ("string", "1", None),
    ("Coding", {"code": "a", "userSelected": True}, None),
    ("Coding", {"userSelected": True, "code": "a"}, None),
    ("Coding", {"code": "a", "userSelected": False}, None),
    ("HumanName", {"given": ["a", "b"]}, None),
    ("HumanName", {"given": ["b", "a"]}, None),
]  # fmt: skip


@pytest.mark.parametrize("left", ITEMS)
def test_items_share_a_key_when_and_only_when_they_are_equal(left):
    assert [equality.key(left) == equality.key(right) for right in ITEMS] == [
        same_item(left, right) is True for right in ITEMS
    ]


def test_an_item_without_a_value_equals_none_and_is_one_among_distinct_ones():
    bare = ("string", None, {"extension": []})
    assert not within(bare, Lasting([bare]))
    assert not within(bare, [bare])
    assert distinct([bare, bare]) == [bare]


class Counted(dict):
    """A resource that counts how often it is asked for something."""

    asked = 0

    def get(self, key, default=None):
        self.asked += 1
        return super().get(key, default)


@pytest.mark.parametrize("size", [10, 100])
@pytest.mark.parametrize("variable", ["resource", "context", "rootResource"])
def test_what_asks_only_of_the_resource_is_evaluated_once(variable, size):
    items = [{"linkId": f"{at}"} for at in range(size)]
    resource = Counted(resourceType="Questionnaire", item=items)
    expression = f"item.all(%{variable}.item.where(linkId = '0').exists())"
    invariant = compile_invariant(expression, "Questionnaire", DEFINITIONS)
    assert invariant(resource, Environment(resource, resource)) is True
    assert resource.asked <= 6


def test_what_would_cost_too_much_is_not_told_as_broken():
    invariant = compile_invariant(
        "name.given.descendants().combine(%resource.name.given.descendants()).count() = 1"
        " or descendants().where($this = 'none').exists()",
        "Patient",
        DEFINITIONS,
    )
    for many, answer in ((10, False), (250_000, True)):
        patient = {"resourceType": "Patient", "name": [{"given": ["x"]}] * many}
        assert invariant(patient, Environment(patient, patient)) is answer
