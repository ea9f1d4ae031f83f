"""An operation that is not there is refused with those that are, at that place."""

import asyncio

import pytest

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from fhir_server.operations.given import given
from fhir_server.server import Server
from fhir_server.storage.memory import MemoryStore
from smart_auth.grant import Grant
from tests.security.clinic import core


@pytest.mark.parametrize(
    ("type", "id", "code", "there", "not_there"),
    [
        (None, None, "validate", "$closure", "$validate,"),
        ("Patient", None, "closure", "$validate", "$closure"),
        ("Patient", "1", "lastn", "$everything", "$lastn"),
        ("Observation", None, "nothing", "$lastn", "$everything"),
    ],
)
def test_what_is_offered_is_that_of_the_level_and_the_type(type, id, code, there, not_there):
    caller = Caller(Grant.open(), "127.0.0.1", "here")
    asked = Interaction("operation", type=type, id=id, operation=code)
    with pytest.raises(FhirError) as refused:
        asyncio.run(Server(MemoryStore(), core()).perform(asked, caller))
    where = "the server" if type is None else f"a {type}" if id else type
    text = refused.value.issues[0].text
    begin = f"There is no such operation on {where}; there are: $"
    assert (text.startswith(begin), there in text, not_there in f"{text},") == (True, True, False)


def test_where_an_operation_is_asked_is_said():
    caller = Caller(Grant.open(), "127.0.0.1", "here")
    asked = Interaction("operation", operation="validate")
    with pytest.raises(FhirError) as refused:
        asyncio.run(Server(MemoryStore(), core()).perform(asked, caller))
    assert refused.value.issues[0].text.endswith(
        ". The one that is named is asked of [type] or [type]/[id]"
    )


@pytest.mark.parametrize("sent", [None, {"resourceType": "Parameters", "parameter": []}])
def test_a_parameter_that_an_operation_does_not_take_is_named(sent):
    asked = Interaction(
        "operation", operation="everything", parameters=(("strat", "2020"),), resource=sent
    )
    with pytest.raises(FhirError) as refused:
        given(asked, ("start", "end"))
    (issue,) = refused.value.issues
    assert (refused.value.status, issue.code, issue.text, issue.expression) == (
        400,
        "invalid",
        "$everything takes start, end, not `strat`; did you mean `start`?",
        None if sent is None else "Parameters.parameter",
    )
