"""The conditions of a Questionnaire: each fault beside the fair case, and all that is said."""

import pytest
from hypothesis import given, settings

from conformance.questionnaires import conditions
from tests.conformance.mutants import mutants

AT = "Questionnaire.item[1].item[0].enableWhen[0]"
UNKNOWN = [("error", "not-found", f"{AT}.question")]
ODD = [("warning", "value", f"{AT}.answer")]
SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"


def questionnaire(question="1", type="boolean", operator="=", **more):
    answer = {k: more.pop(k) for k in list(more) if k.startswith("answer")}
    when = {"question": question, "operator": operator, **(answer or {"answerBoolean": True})}
    inner = {"linkId": "2.1", "type": "string", "enableWhen": [when]}
    items = [{"linkId": "1", "type": type}, {"linkId": "2", "type": "group", "item": [inner]}]
    return {"resourceType": "Questionnaire", "status": "draft", "item": items, **more}


@pytest.mark.parametrize(
    ("asked", "issues"),
    [
        ({}, []),
        ({"question": "zz"}, UNKNOWN),
        ({"question": "2.1"}, [("error", "invalid", f"{AT}.question")]),
        ({"question": "2", "operator": "exists"}, []),
        ({"question": "2"}, ODD),
        ({"type": "integer"}, ODD),
        ({"type": "integer", "answerDecimal": 1}, []),
        ({"type": "integer", "operator": "exists"}, []),
        ({"type": "choice", "answerCoding": {"code": "a"}}, []),
        ({"type": "choice", "answerString": "a"}, []),
        ({"type": "choice"}, ODD),
        ({"type": "text", "answerString": "a"}, []),
        ({"type": "date", "answerDateTime": "2020"}, []),
        ({"type": "quantity", "answerDecimal": 1}, ODD),
        ({"type": "of no kind"}, []),
        ({"question": "zz", "extension": [{"url": f"{SDC}assemble-expectation"}]}, []),
        ({"question": "zz", "extension": [{"url": "http://example.org/e"}]}, UNKNOWN),
    ],
)
def test_a_condition_asks_for_a_question_that_there_is(asked, issues):
    found = conditions(questionnaire(**asked))
    assert [(each.severity, each.code, each.expression) for each in found] == issues


@settings(max_examples=100, deadline=None)
@given(mutants(questionnaire()))
def test_nothing_that_is_malformed_raises(mutated):
    if isinstance(mutated, dict):
        list(conditions(mutated))
