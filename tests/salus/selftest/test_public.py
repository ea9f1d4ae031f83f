"""Public TestScripts run with our engine: they pass a real server, and fail broken ones."""

import json
from dataclasses import replace

import pytest

from conformance.definitions import load
from conformance.testscript import Engine, Target, suite
from conformance.testscript import test_report as report_of
from conformance.validator import Validator
from tests.front import Answered, front, in_xml, saying
from tests.salus.selftest.breakages import body, status, without
from tests.shared import shared

BASE, BULK = 23, 6
OPTIONS = {"PatientSearchFamilyName": "Chalmers", "PatientSearchGivenName": "Peter"}
PETER = {
    "resourceType": "Patient",
    "id": "example",
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
    ],
    "gender": "male",
    "birthDate": "1974-12-25",
}
# The scripts of the specification update Patient/example with what they call Patient/pat1.
DONALD = {"resourceType": "Patient", "id": "example", "name": [{"family": "Donald"}]}


def mock_health():
    base, bulk = (shared(f"suites/mock-health/{n}") for n in ("fhir-r4-base", "bulk-data-v2"))
    return [*suite(base), *suite(bulk)]


def unlike(runs):
    """What did not pass, and why."""
    return {
        run.script.name: [part.reason for part in run.parts if part.outcome != "pass"]
        for run in runs
        if run.outcome != "pass"
    }


def test_the_public_scripts_pass(server):
    scripts = mock_health()
    assert len(scripts) == BASE + BULK
    runs = Engine(Target({1: server.url}, server.token)).run_all(scripts)
    assert unlike(runs) == {}
    assert sum(len(run.tests) for run in runs) == BASE + BULK


@pytest.mark.parametrize("parallel", [1, 4])
def test_every_public_script_fails_some_broken_server(server, parallel):
    """Some ask only that nothing goes wrong within, others that something is there at all."""
    scripts, seen = mock_health(), set()
    for spoil in (
        saying(500, {"resourceType": "OperationOutcome"}),
        saying(404, {"resourceType": "OperationOutcome"}),
        saying(200, {"resourceType": "Bundle"}),
    ):
        with front(server.url, spoil) as url:
            runs = Engine(Target({1: url}, server.token)).run_all(scripts, parallel=parallel)
        seen |= {run.script.place for run in runs if run.outcome == "fail"}
    assert seen == {each.place for each in scripts}


def test_no_public_script_passes_where_nobody_answers(server):
    with front(server.url) as url:
        pass
    runs = Engine(Target({1: url})).run_all(mock_health())
    assert {run.outcome for run in runs} == {"error"}
    assert "No answer from http://127.0.0.1" in runs[0].parts[0].reason


# --- the specification's own examples ------------------------------------------------------------


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """What the examples refer to: JSON and XML, whichever a fixture is kept in."""
    from conformance.xml import to_xml

    folder = tmp_path_factory.mktemp("fixtures")
    (folder / "Patient-example.xml").write_bytes(to_xml(PETER))
    (folder / "Patient-pat1.json").write_text(json.dumps(DONALD))
    return folder


def small_ids(asked, ask):
    """An older server: ids have no capitals, and it speaks XML."""
    if "ID-may-not-contain-CAPITALS" in asked.path:
        told = saying(400, {"resourceType": "OperationOutcome", "issue": []})(asked, ask)
        return replace(told, body=b"")
    return in_xml(asked, ask)


def examples(fixtures):
    found = suite(shared("suites/r4-testscript-examples"), [fixtures])
    assert len(found) == 6
    return found


def run_examples(server, fixtures, spoil, **given):
    with front(server.url, spoil) as url:
        engine = Engine(Target({1: url, 2: url}, server.token), given=OPTIONS | given)
        # The read test reads what the others made: Patient/example is there from the start.
        with front(server.url) as fair:
            import httpx

            httpx.put(
                f"{fair}/Patient/example",
                json=PETER,
                headers={"Authorization": f"Bearer {server.token}"},
                trust_env=False,
                verify=False,
            ).raise_for_status()
        return engine.run_all(sorted(examples(fixtures), key=_reading_first))


def _reading_first(script):
    return ("read" not in script.place and "multi" not in script.place, script.place)


def test_the_examples_of_the_specification_pass_a_server_such_as_they_mean(server, fixtures):
    runs = run_examples(server, fixtures, small_ids)
    # Deleted just before, Patient/example comes back by an update: that is a 201.
    assert unlike(runs) == {}
    assert sum(len(run.tests) for run in runs) == 11
    assert {run.note for run in runs} == {
        "CapabilityStatement/example is not at hand and was not looked at"
    }


def test_their_reports_are_valid_and_say_what_was_done(server, fixtures):
    validator = Validator(load())
    for run in run_examples(server, fixtures, small_ids):
        report = report_of(run)
        assert not validator.validate(report, warnings=False)
        assert (report["result"], report["score"]) == ("pass", 100)
        assert report["testScript"]["reference"] == f"TestScript/{run.script.resource['id']}"
        assert [len(test["action"]) for test in report["test"]] == [
            len(test["action"]) for test in run.script.tests
        ]


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (status(500, 200), 6),
        (body(without("name"), "Patient"), 1),
        (body(without("type"), "Bundle"), 2),
        (body(lambda found: {**found, "link": []}, "Bundle"), 1),
    ],
    ids=["statuses", "names", "types of Bundles", "links"],
)
def test_the_examples_fail_a_broken_server(server, fixtures, spoil, seen):
    def both(asked, ask):
        return small_ids(asked, lambda again: spoil(again, ask))

    failed = [run for run in run_examples(server, fixtures, both) if run.outcome == "fail"]
    assert len(failed) >= seen


def test_a_server_without_xml_fails_what_wants_xml(server, fixtures):
    outcomes = {r.script.name: r.outcome for r in run_examples(server, fixtures, _plain)}
    assert outcomes["TestScript Example Read Test"] == "fail"
    assert outcomes["TestScript Example"] == "pass"


def _plain(asked, ask) -> Answered:
    return ask(asked)


def test_a_fixture_that_is_nowhere_is_told(server):
    runs = Engine(Target({1: server.url}, server.token)).run_all(
        suite(shared("suites/r4-testscript-examples/TestScript-testscript-example.json"))
    )
    assert (runs[0].outcome, runs[0].tests[0].outcome) == ("error", "skip")
    assert (
        "The fixture Patient/example is neither contained in the script nor a file near it"
        in runs[0].parts[0].reason
    )
