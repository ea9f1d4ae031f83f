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
