"""What an expression may cost, and what it may ask of its surroundings: http://hl7.org/fhirpath/N1/"""

import re
from contextlib import suppress
from time import perf_counter

import pytest

from conformance.definitions import load
from conformance.fhirpath import Environment, FhirPathError, compile_expression
from conformance.fhirpath.function import LONGEST
from conformance.fhirpath.items import plain
from conformance.fhirpath.regex import pattern
from conformance.fhirpath.syntax import TooMuch
from terminology import ucum

DEFINITIONS = load()
PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "name": [{"given": [f"name{n}" for n in range(200)], "family": "a" * 5_000}],
    "managingOrganization": {"reference": "Organization/1"},
    "maritalStatus": {"coding": [{"system": "s", "code": "M"}]},
}


def ask(expression, host=None, strict=False, trace=None):
    run = compile_expression(expression, "Patient", DEFINITIONS, strict=strict, trace=trace)
    return [plain(each)[1] for each in run(PATIENT, Environment(PATIENT, PATIENT, host))]


HOSTILE = [
    "descendants().select(%context.descendants()).select(%context.descendants()).count()",
    "descendants().aggregate($total.combine($total), 1 | 2).count()",
    "name.given.aggregate($total & $total, 'aaaaaaaaaa').length()",
    "name.given.all(%context.name.given.all(%context.name.given.all($this.exists())))",
    "name.family.toChars().select(%context.name.family.toChars()).count()",
    "name.family.replace('a', '" + "b" * 5_000 + "')",
    "(1|2|3|4|5|6|7|8|9)" + ".select((1|2|3|4|5|6|7|8|9))" * 12,
    "name.given.select(%context.name.given.where(matches($this & %context.id & 'a?a?a?')))",
    "name.family.toChars().select(%context.name.family.contains($this & 'b')).count()"
    ".select(%context.name.family.toChars().where(%context.name.family.contains('b')))",
    "name.family.toChars().where(%context.name.family.matches('b(?=c)'))",
]


@pytest.mark.parametrize("expression", HOSTILE)
def test_a_hostile_expression_ends_with_its_budget(expression):
    with pytest.raises(FhirPathError, match=r"too much|at most|too long"):
        ask(expression)


def test_what_is_asked_for_in_earnest_is_far_from_the_budget():
    assert ask("descendants().where($this is HumanName).given.count()") == [200]
    assert ask("name.given.where($this in %context.name.given).count()") == [200]


@pytest.mark.parametrize(
    "source",
    [
        "(a+)+$",
        "(a|a)*b",
        "(a|aa)+$",
        "([a-z]|a)+c",
        "a*a*a*a*a*b",
        "(.*)(.*)(.*)(.*)x",
        "a.*b",
        "^(a?){300}a{300}$",
        "a?" * 300 + "b",
        "(a|aa)" * 60 + "b",
        "(?m)^a*a*a*a*b",
    ],
)
@pytest.mark.parametrize("length", [60, 900, 200_000])
def test_a_regular_expression_takes_linear_time(source, length):
    assert pattern(source).search("a" * length + "!") is False


def test_a_simple_regular_expression_goes_the_faster_way():
    for source in (r"^[A-Z]{2}\d{3}$", r"^[A-Za-z0-9\-\.]{1,64}$", "(urn:oid:)?[0-9.]+$"):
        going_back = pattern(source)._for("AB123")
        assert going_back is pattern(source)._plain is not None


def test_a_regular_expression_that_cannot_be_linear_reads_short_texts_only():
    assert pattern("a(?=b)").search("ab") is True
    with pytest.raises(FhirPathError, match="would take too long"):
        pattern("a(?=b)").search("ab" * 1_000)
    with pytest.raises(FhirPathError, match="would take too long"):
        pattern(r"(a+)+\1").search("ab")
    with pytest.raises(FhirPathError, match=f"at most {LONGEST}"):
        pattern("a").substituted("b" * 1_000, "a" * 20_000)


WIDE = "[\0-\ufffe\U0010ffff]"
COSTLY = {
    "wide sets": WIDE * 198,
    "wide sets that ignore case": "(?i)" + WIDE * 198,
    "wide sets that ignore case in a group": f"(?i:{WIDE * 198})",
    "wide sets behind which it looks": "(?i)" + WIDE * 198 + "(?=a)",
    "wide ranges": "[" + "\1-\ufffe" * 600 + "]",
    "sets that leave out much": "[^\0-\ufffe]" * 330,
    "many small sets that ignore case": "(?i)" + "[a-zA-Z]" * 240,
    "many sets beyond the first characters": "[\u0100\u0102\u0104]" * 390,
    "many times a large set": "[" + "".join(map(chr, range(256, 1800, 9))) + "]{999}",
    "many times a large set, in linear time": "[\u0100-\uffff]*" + "[\u0100-\ufffe]{999}" * 3,
    "repeats in repeats": "(?:" * 200 + "a" + "){1,65535}" * 20 + ")" * 180,
}


@pytest.mark.parametrize("source", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("text", ["a", "ab" * 600], ids=["short", "long"])
def test_a_regular_expression_is_compiled_in_bounded_time(source, text):
    begun = perf_counter()
    with suppress(TooMuch):
        pattern(source).search(text)
    assert perf_counter() - begun < 0.2


def test_what_ignores_case_in_earnest_is_read():
    for source in ("(?i)^[a-z]+$", "(?i:[a-z])+", "(?i)[^a-f0-9]"):
        assert pattern(source).search("SALUS") is True
    assert pattern("(?i)[à-ÿ]{2}").search("ÄÖ") is True


def ways(count):
    return " or ".join(f"name.family.matches('.{{0,999}}x{n:03}')" for n in range(count))


def test_a_long_search_is_paid_by_the_size_of_the_regular_expression():
    begun = perf_counter()
    with pytest.raises(TooMuch):
        ask(ways(100))
    assert perf_counter() - begun < 2
    assert ask("name.family.matches('^[a-z]{1,64}$') or name.family.matches('(a|b)+')") == [True]


def test_a_replacement_that_looks_to_the_end_for_each_match_ends_with_its_budget():
    text = "iif(true, " + "'" + "a" * 9_000 + "')"
    begun = perf_counter()
    for template in ("", "$1" * 4_000):
        with pytest.raises(TooMuch):
            ask(f"(1 | 2 | 3 | 4).select({text}.replaceMatches('(a.*b.*c)|a', '{template}'))")
    assert perf_counter() - begun < 2


class Told:
    """Surroundings that know one of each."""

    units = ucum

    def resolve(self, reference):
        return ("Organization", {"resourceType": "Organization", "name": "One"})

    def member_of(self, value_set, value):
        return {"http://known": value == {"coding": [{"system": "s", "code": "M"}]}}.get(value_set)

    def conforms_to(self, canonical, value):
        return {"http://known": value["resourceType"] == "Patient"}.get(canonical)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("managingOrganization.resolve().name", ["One"]),
        ("maritalStatus.memberOf('http://known')", [True]),
        ("maritalStatus.coding.memberOf('http://known')", [False]),
        ("maritalStatus.memberOf('http://unknown')", []),
        ("conformsTo('http://known')", [True]),
        ("1 '[in_i]' = 2.54 'cm'", [True]),
        ("(1 '[in_i]' | 2.54 'cm').count()", [1]),
        ("37 'Cel' < 99 '[degF]'", [True]),
        ("1 'kg'.comparable(1 'm')", [False]),
        ("(2 'm' * 3).value = 6", []),
        ("2 'm' * 3 's' = 6 'm.s'", [True]),
        ("(1 'm').toQuantity('cm') = 100 'cm'", [True]),
        ("(37 'Cel').toQuantity('[degF]')", []),
    ],
)
def test_the_host_answers_what_lies_outside_of_the_resource(expression, answer):
    assert ask(expression, Told()) == answer


def test_without_a_host_nothing_is_made_up():
    assert ask("managingOrganization.resolve()") == []
    assert ask("1 '[in_i]' = 2.54 'cm'") == [False]
    for expression in ("conformsTo('http://known')", "maritalStatus.memberOf('http://known')"):
        with pytest.raises(FhirPathError, match="cannot be answered here"):
            ask(expression)
    with pytest.raises(FhirPathError, match="not known here"):
        ask("conformsTo('http://unknown')", Told())


def test_a_trace_is_told_to_who_asked_and_changes_nothing():
    told = []
    traced = "name.given.first().trace('given', length()) | %context.id.trace('id')"
    found = ask(traced, trace=lambda name, items: told.append((name, [i[1] for i in items])))
    assert found == ask("name.given.first() | id") == ["name0", "p"]
    assert told == [("given", [5]), ("id", ["p"])]


STRICT = {
    "name.givn": "`givn` is not an element of HumanName",
    "name.where(givn = 'a')": "`givn` is not an element of HumanName",
    "(deceased as boolean).start": "`start` is not an element of boolean",
    "Observation.status": "`Observation` is not an element of Patient",
    "children().first()": "first() needs an order, which children have not",
    "descendants()[0]": "An index needs an order, which children have not",
    "multipleBirthInteger": "`multipleBirthInteger` is not an element of Patient",
}


@pytest.mark.parametrize("expression", STRICT)
def test_strict_mode_tells_before_anything_is_evaluated(expression):
    with pytest.raises(FhirPathError, match=re.escape(STRICT[expression])):
        compile_expression(expression, "Patient", DEFINITIONS, strict=True)
    ask(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "Patient.name.given.first()",
        "contained.name.given",
        "name.given.extension('u').value",
        "name.where(use = 'usual').given[0]",
        "managingOrganization.resolve().name",
        "contained.ofType(Organization).name",
        "children().where($this is HumanName).exists()",
        "multipleBirth.ofType(integer) + 1",
    ],
)
def test_strict_mode_leaves_what_may_be(expression):
    ask(expression, Told(), strict=True)


def test_variables_of_value_sets_extensions_and_code_systems_are_urls():
    assert ask(
        "%`vs-administrative-gender` | %`ext-patient-birthTime` | %sct | %loinc | %ucum"
    ) == [
        "http://hl7.org/fhir/ValueSet/administrative-gender",
        "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
        "http://snomed.info/sct",
        "http://loinc.org",
        "http://unitsofmeasure.org",
    ]
    assert ask("%'vs-x'") == ["http://hl7.org/fhir/ValueSet/x"]
