"""The public terminology tests, each over HTTP: its request sent with the resources of its group,
its answer held against the suite's template."""

import asyncio
import json
from decimal import Decimal

import pytest

from conformance.json import encode, parse
from tests.security.clinic import EVERYBODY, Clinic, opened
from tests.shared import shared
from tests.terminology.templates import difference, in_r5, load, worded

SUITE = shared("suites/tx")
WORDING = load(SUITE / "messages.json")
PATHS = {
    "expand": "ValueSet/$expand",
    "validate-code": "ValueSet/$validate-code",
    "cs-validate-code": "CodeSystem/$validate-code",
    "lookup": "CodeSystem/$lookup",
}
STATEMENTS = {"metadata": "metadata", "term-caps": "metadata?mode=terminology"}
GROUPS = load(SUITE / "test-cases.json")["suites"]
CASES = [
    pytest.param(group, test, id=f"{group['name']}/{test['name']}")
    for group in GROUPS
    for test in group["tests"]
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server without anything stored."""
    from salus.app import _capability
    from salus.settings import Settings
    from tests.security.clinic import core

    settings = Settings(open=True, data=tmp_path_factory.mktemp("unused"))
    with asyncio.Runner() as runner:
        store = runner.run(opened(tmp_path_factory.mktemp("tx") / "data"))
        yield Clinic(store, runner, capability=_capability(settings, core().index))
        runner.run(store.close())


def test_the_suite_is_whole():
    assert [(group["name"], len(group["tests"])) for group in GROUPS] == [
        ("metadata", 2),
        ("simple-cases", 15),
        ("parameters", 35),
        ("validation", 54),
        ("language", 26),
        ("inactive", 12),
        ("notSelectable", 50),
        ("errors", 7),
        ("exclude", 8),
        ("search", 6),
    ]


@pytest.mark.parametrize(("group", "test"), CASES)
def test_the_answer_fits_the_template(served, group, test):
    template = load(SUITE / test["response"])
    if test["operation"] in STATEMENTS:  # which name the least that a server offers
        answer = served.ask(EVERYBODY, "GET", STATEMENTS[test["operation"]])
        assert difference(template, answer.json, subset=True) is None
        return
    answer = served.ask(
        EVERYBODY,
        "POST",
        PATHS[test["operation"]],
        encode(_request(group, test)),
        [("Accept-Language", test["Accept-Language"])] if "Accept-Language" in test else [],
    )
    assert (400 <= answer.status < 500) == (test.get("http-code") == "4xx"), answer.body
    given = in_r5(json.loads(answer.body, parse_float=Decimal))
    names = [test[name] for name in ("response", "response:flat") if name in test]
    found = [difference(worded(load(SUITE / name), WORDING.get(name, {})), given) for name in names]
    assert None in found, found[0]


def test_a_statement_that_there_is_not_is_refused(served):
    answer = served.ask(EVERYBODY, "GET", "metadata?mode=terminolgy")
    assert (answer.status, answer.json["issue"][0]["diagnostics"]) == (
        400,
        "mode is full, normative or terminology",
    )
    assert served.ask(EVERYBODY, "GET", "metadata?mode=full").status == 200


@pytest.mark.parametrize(
    "url",
    [
        "metadata?mode=terminology",
        "metadata",
        "ValueSet/$expand?url=http://terminology.hl7.org/ValueSet/v3-ActCode&property=*"
        "&includeDesignations=true&includeDefinition=true",
    ],
)
def test_what_is_answered_is_valid(served, url):
    resource = parse(served.ask(EVERYBODY, "GET", url).body)
    issues = served.server.core.validator.validate(resource)
    assert [each for each in issues if each.severity == "error"] == []


def _request(group, test):
    """The Parameters of a test, with what its group sets up sent along."""
    request = load(SUITE / test["request"])
    sent = [{"name": "tx-resource", "resource": load(SUITE / name)} for name in group["setup"]]
    return {**request, "parameter": [*request["parameter"], *sent]}
