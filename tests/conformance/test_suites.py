"""The suites that come with the product are TestScripts of R4, and there is enough in them."""

import re

import pytest

from conformance.definitions import load
from conformance.suites import CORE, shipped
from conformance.validator import Validator

SUITES = shipped()


def test_there_are_at_least_sixty_tests_with_names_of_their_own():
    tests = [(name, test["name"]) for name, suite in SUITES.items() for test in suite.tests]
    assert len(tests) >= 60
    assert len(set(tests)) == len(tests)
    assert CORE not in SUITES


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_a_valid_test_script(name):
    script = SUITES[name].resource
    issues = Validator(load()).validate(script)
    assert {each.key for each in issues} <= {"dom-6"}, issues  # that asks for a narrative
    assert script["id"] == f"salus-{name}"
    assert script["copyright"] == "Public domain (CC0 1.0)"


@pytest.mark.parametrize("name", SUITES)
def test_every_test_claims_something_of_every_answer(name):
    for test in SUITES[name].tests:
        kinds = [next(iter(each)) for each in test["action"]]
        assert kinds[0] == "operation" and kinds[-1] == "assert", test["name"]
        assert "operation operation" not in " ".join(kinds), test["name"]
        assert all(next(iter(each.values())).get("description") for each in test["action"])


@pytest.mark.parametrize("name", SUITES)
def test_what_a_suite_makes_is_its_own_and_is_removed(name):
    """It may be run against any server, again and again: nothing has a name that somebody else
    could have given."""
    script = SUITES[name].resource
    fixtures = {each["id"]: each for each in script.get("fixture", ())}
    removed = {a["operation"].get("targetId") for a in script.get("teardown", {}).get("action", ())}
    for each in fixtures.values():
        assert each["autocreate"] == each["autodelete"]
    for part in (*script["test"], script.get("setup", {"action": []})):
        for action in part["action"]:
            asked = action.get("operation", {})
            if asked.get("type", {}).get("code") == "create" and "responseId" in asked:
                assert asked["responseId"] in removed, asked
    for resource in script.get("contained", ()):
        for family in re.findall(r"'family': '([^']+)'", str(resource)):
            assert "${C" in family
