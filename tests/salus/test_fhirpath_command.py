"""`salus fhirpath`: what an expression yields, one result a line."""

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from salus.cli import app

PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "birthDate": "1970-01-02",
    "name": [{"given": ["Ada", "Eva"], "family": "Två\nrader"}],
    "managingOrganization": {"reference": "Organization/o"},
}
ORGANIZATION = {"resourceType": "Organization", "id": "o", "name": "One"}
BUNDLE = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [{"resource": PATIENT}, {"resource": ORGANIZATION}],
}


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "patient.json"
    made.write_text(json.dumps(PATIENT, indent=2))
    return str(made)


def run(*arguments, **more):
    return CliRunner().invoke(app, ["fhirpath", *arguments], **more)


@pytest.mark.parametrize(
    ("expression", "lines"),
    [
        ("Patient.name.given", ["string\tAda", "string\tEva"]),
        ("name.family", ['string\t"Två\\nrader"']),
        ("birthDate + 1 'd'", ["System.Date\t1970-01-03"]),
        ("active | 1.50 | 2 'kg'", ["boolean\ttrue", "System.Decimal\t1.50",
                                    "System.Quantity\t2 'kg'"]),
        ("managingOrganization", ['Reference\t{"reference":"Organization/o"}']),
        ("2.54 'cm' = 1 '[in_i]'", ["System.Boolean\ttrue"]),
        ("gender", []),
    ],
)  # fmt: skip
def test_each_result_is_a_line_with_its_type(file, expression, lines):
    done = run(expression, file)
    assert (done.exit_code, done.stdout.splitlines()) == (0, lines)


def test_a_file_may_be_packed_and_one_that_is_not_there_is_named(file, tmp_path):
    packed = tmp_path / "patient.json.gz"
    packed.write_bytes(gzip.compress(Path(file).read_bytes()))
    done = run("name.given.first()", str(packed))
    assert (done.exit_code, done.stdout) == (0, "string\tAda\n")

    done = run("name", str(tmp_path / "no.json"))
    assert (done.exit_code, done.stderr) == (2, f"salus: There is no {tmp_path / 'no.json'}\n")


def test_a_name_that_no_type_has_is_shown_with_its_place(file):
    done = run("Patient.name.givn", file, "--strict")
    assert done.stderr.splitlines() == [
        "salus: `givn` is not an element of HumanName",
        "  Patient.name.givn",
        "               ^",
    ]
    done = run("name.givn | name.givn", file, "--strict")
    assert done.stderr == "salus: `givn` is not an element of HumanName\n"


def test_results_are_json_when_asked_for(file):
    done = run("name.given | managingOrganization", file, "--json")
    assert [json.loads(each) for each in done.stdout.splitlines()] == [
        {"type": "string", "value": "Ada"},
        {"type": "string", "value": "Eva"},
        {"type": "Reference", "value": {"reference": "Organization/o"}},
    ]


def test_standard_input_may_hold_a_resource_a_line(file):
    lines = "\n".join(json.dumps(each) for each in (PATIENT, ORGANIZATION)) + "\n\n"
    done = run("name.exists()", "-", input=lines)
    assert done.stdout.splitlines() == [
        "Patient/p\tSystem.Boolean\ttrue",
        "Organization/o\tSystem.Boolean\ttrue",
    ]


def test_json_of_several_resources_says_of_which(file):
    lines = "\n".join(json.dumps(each) for each in (PATIENT, ORGANIZATION))
    done = run("name.exists()", "-", "--json", input=lines)
    assert [json.loads(each) for each in done.stdout.splitlines()] == [
        {"resource": "Patient/p", "type": "System.Boolean", "value": True},
        {"resource": "Organization/o", "type": "System.Boolean", "value": True},
    ]


def test_a_refusal_of_a_server_is_told_where_it_yields_nothing():
    issue = {"severity": "error", "code": "login", "diagnostics": "Send an access token"}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    done = run("birthDate", "-", input=json.dumps(outcome))
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "standard input is an OperationOutcome: Send an access token\n"
    assert run("issue.code", "-", input=json.dumps(outcome)).stderr == ""


def test_references_in_a_bundle_are_resolved():
    path = "entry.resource.ofType(Patient).managingOrganization.resolve().name"
    done = run(path, "-", input=json.dumps(BUNDLE))
    assert done.stdout.splitlines() == ["string\tOne"]


def test_a_trace_is_told_beside_the_results(file):
    done = run("name.given.trace('all').first()", file)
    assert done.stdout.splitlines() == ["string\tAda"]
    assert done.stderr.splitlines() == ["all: string\tAda", "all: string\tEva"]


@pytest.mark.parametrize(
    ("arguments", "input", "said"),
    [
        (("name.", "-"), PATIENT, "A name was expected, not the end (at character 5)\n  name.\n       ^"),
        (("name.weigh()", "-"), PATIENT,
         "The function weigh() is not supported\n  name.weigh()\n       ^"),
        (("children().first()", "-", "--strict"), PATIENT,
         "first() needs an order, which children have not\n  children().first()\n             ^"),
        (("name.where(use = \"official\")", "-"), PATIENT,
         "Unexpected `\"`: strings stand between single quotes, as 'official' (at character 17)"),
        (("name and", "-"), PATIENT, "Unexpected end of the expression (at character 8)"),
        (("name.givn", "-", "--strict"), PATIENT, "`givn` is not an element of HumanName"),
        (("name", "-"), {"resourceType": "Nothing"},
         "standard input: R4 has no resource type Nothing"),
        (("name", "-"), {"name": "x"}, "standard input: a resource has a resourceType"),
        (("name", "-"), "", "standard input is empty: it should hold a resource as JSON"),
        (("name", "-"), '{"resourceType":"Patient"}\n{"resourceType"\n', "standard input, line 2: "),
        (("name", "-"), "{", "standard input: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(arguments, input, said):
    text = input if isinstance(input, str) else json.dumps(input)
    done = run(*arguments, input=text)
    assert done.exit_code == 2
    assert f"salus: {said}" in done.stderr


def test_a_file_that_is_not_there_is_said(tmp_path):
    done = run("name", str(tmp_path / "none.json"))
    assert done.exit_code == 2
    assert "none.json" in done.stderr
