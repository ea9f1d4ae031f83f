"""What a patch asks of a resource without being allowed to read it.

https://hl7.org/fhir/R4/http.html#patch
"""

import base64
import json

import pytest

from tests.security.clinic import grant
from tests.security.people import VITAL, observation

_PATCH = [{"op": "replace", "path": "/status", "value": "amended"}]
_TEST = [{"op": "test", "path": "/status", "value": "final"}, *_PATCH]


@pytest.mark.requirement("11", "12")
@pytest.mark.parametrize("url", ["Observation/tested", "Observation?_id=tested"])
@pytest.mark.parametrize("value", ["final", "registered"])
def test_a_patch_that_tests_asks_what_is_there_and_needs_the_right_to_read(clinic, url, value):
    clinic.put(observation("Observation/tested", "Patient/a"))
    test = [{**_TEST[0], "value": value}, *_PATCH]
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {
                "request": {"method": "PATCH", "url": url},
                "resource": {
                    "resourceType": "Binary",
                    "contentType": "application/json-patch+json",
                    "data": base64.b64encode(json.dumps(test).encode()).decode(),
                },
            }
        ],
    }
    blind = grant("patient/Observation.us", patient="a")
    refused = clinic.ask(blind, "PATCH", url, test)
    assert (refused.status, refused.code) == (403, "forbidden")
    entry = clinic.ask(blind, "POST", "", bundle).json["entry"][0]
    assert entry["response"]["status"].startswith("403")
    assert clinic.ask(blind, "PATCH", "Observation/never", test).status == 403
    labs = grant(f"patient/Observation.us patient/Observation.r?category={VITAL}", patient="a")
    assert clinic.ask(labs, "PATCH", url, test).status == 404
    assert clinic.ask(blind, "PATCH", url, _PATCH).status == 200
    clinic.put(observation("Observation/tested", "Patient/a"))
    seeing = grant("patient/Observation.rus", patient="a")
    assert clinic.ask(seeing, "PATCH", url, test).status == (200 if value == "final" else 422)


_FHIR_JSON = [("content-type", "application/fhir+json")]


def _parameters(type, path, **parts):
    made = [{"name": "type", "valueCode": type}, {"name": "path", "valueString": path}]
    made += [{"name": name, **part} for name, part in parts.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": made}]}


_AMENDED = {"valueCode": "amended"}
_REPLACE = _parameters("replace", "Observation.status", value=_AMENDED)
# What succeeds or not by what the resource says, so that its status would tell a caller without r.
_ASKING = {
    "filters": _parameters("replace", "Observation.status.where($this = 'final')", value=_AMENDED),
    "selects by a condition": _parameters(
        "delete", "iif(Observation.status = 'final', Observation.id, {})"
    ),
    "replaces what may be absent": _parameters(
        "replace", "Observation.subject.display", value={"valueString": "x"}
    ),
    "adds what may be present": _parameters(
        "add",
        "Observation",
        name={"valueString": "issued"},
        value={"valueInstant": "2020-01-01T00:00:00Z"},
    ),
    "adds what a rule compares": _parameters(
        "add",
        "Observation",
        name={"valueString": "component"},
        value={"part": [{"name": "code", "valueCodeableConcept": {"text": "x"}}]},
    ),
    "deletes what may hold a contained resource": _parameters("delete", "Observation.device"),
    "deletes one of a list": _parameters("delete", "Observation.note"),
    "moves in a list": _parameters(
        "move",
        "Observation.category",
        source={"valueInteger": 0},
        destination={"valueInteger": 0},
    ),
}


@pytest.mark.requirement("11", "12")
@pytest.mark.parametrize("url", ["Observation/tested", "Observation?_id=tested"])
@pytest.mark.parametrize("sent", _ASKING.values(), ids=_ASKING)
def test_a_fhirpath_patch_that_asks_what_is_there_needs_the_right_to_read(clinic, url, sent):
    clinic.put(observation("Observation/tested", "Patient/a"))
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "PATCH", "url": url}, "resource": sent}],
    }
    blind = grant("patient/Observation.us", patient="a")

    def ask(caller, url, patch=sent):
        return clinic.ask(caller, "PATCH", url, patch, _FHIR_JSON)

    refused = ask(blind, url)
    assert (refused.status, refused.code) == (403, "forbidden")
    entry = clinic.ask(blind, "POST", "", bundle).json["entry"][0]
    assert entry["response"]["status"].startswith("403")
    transaction = clinic.ask(blind, "POST", "", {**bundle, "type": "transaction"})
    assert (transaction.status, transaction.code) == (403, "forbidden")
    assert ask(blind, "Observation/never").status == 403
    labs = grant(f"patient/Observation.us patient/Observation.r?category={VITAL}", patient="a")
    assert ask(labs, url).status == 404
    seeing = grant("patient/Observation.rus", patient="a")
    assert ask(seeing, url).status in (200, 422)
    assert ask(seeing, url, _REPLACE).status == 200
    assert ask(blind, url, _REPLACE).status == 200


@pytest.mark.requirement("11", "12")
def test_a_fhirpath_patch_reaches_only_what_the_caller_may_change(clinic):
    clinic.put(observation("Observation/tested", "Patient/a"))
    clinic.put(observation("Observation/other", "Patient/b"))
    mine = grant("patient/Observation.rus", patient="a")
    hidden = clinic.ask(mine, "PATCH", "Observation/other", _REPLACE, _FHIR_JSON)
    never = clinic.ask(mine, "PATCH", "Observation/never", _REPLACE, _FHIR_JSON)
    assert (hidden.status, hidden.body) == (never.status, never.body) == (404, hidden.body)
    given_away = _parameters(
        "replace", "Observation.subject", value={"valueReference": {"reference": "Patient/b"}}
    )
    refused = clinic.ask(mine, "PATCH", "Observation/tested", given_away, _FHIR_JSON)
    assert refused.status in (403, 404)
    before = clinic.ask(mine, "GET", "Observation/tested").json
    assert before["subject"] == {"reference": "Patient/a"}
    reading = grant("patient/Observation.rs", patient="a")
    refused = clinic.ask(reading, "PATCH", "Observation/tested", _REPLACE, _FHIR_JSON)
    assert (refused.status, refused.code) == (403, "forbidden")


@pytest.mark.requirement("11", "12")
def test_a_fhirpath_patch_answers_a_blind_caller_without_the_resource(clinic):
    clinic.put(observation("Observation/tested", "Patient/a"))
    blind = grant("patient/Observation.u", patient="a")
    prefer = [*_FHIR_JSON, ("prefer", "return=representation")]
    answer = clinic.ask(blind, "PATCH", "Observation/tested", _REPLACE, prefer)
    assert (answer.status, answer.body) == (200, b"")
