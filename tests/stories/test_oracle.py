"""Every total of the oracle over HTTP, on hospitals loaded by `salus load`."""

import json
import subprocess
import sys

import pytest

from tests.living import Living
from tests.shared import shared

# file, tier of the oracle, resources in the file
SETS = {
    "bench60": ("smart-bench60.ndjson.gz", 18_133),
    "full615": ("smart-615.ndjson.gz", 191_093),
    "us80": ("us80.ndjson.gz", 46_497),
}


def load(server: Living, path) -> subprocess.CompletedProcess:
    """`salus load` into a running server."""
    return subprocess.run(
        [sys.executable, "-m", "salus", "load", str(path), "--url", server.url],
        capture_output=True,
        text=True,
        env=server.environment,
    )


def expected_totals(tier: str) -> dict[str, int]:
    tiers = json.loads(shared("data/synthea/oracle-totals.json").read_text())
    return next(each["totals"] for each in tiers if each["tier"] == tier)


def totals(server: Living, queries) -> dict[str, int]:
    """What the server counts for each query."""
    with server.client() as client:
        return {query: _total(client, query) for query in queries}


def _total(client, query: str) -> int:
    type, _, parameters = query.partition("?")
    pairs = [pair.split("=", 1) for pair in parameters.split("&")]
    answer = client.get(f"/{type}", params=[*map(tuple, pairs), ("_summary", "count")])
    assert answer.status_code == 200, answer.text
    return answer.json()["total"]


def resources(server: Living) -> int:
    """How many resources the server holds, events left out."""
    with server.client() as client:
        return client.get("", params={"_summary": "count"}).json()["total"]


# The second one in `make soak`: loading it takes a minute.
@pytest.fixture(scope="module", params=["bench60", pytest.param("us80", marks=pytest.mark.slow)])
def hospital(request, tmp_path_factory):
    yield from _loaded(request.param, tmp_path_factory)


def _loaded(tier, tmp_path_factory):
    file, count = SETS[tier]
    path = shared(f"data/synthea/{file}")
    server = Living(tmp_path_factory.mktemp(tier)).start()
    done = load(server, path)
    assert done.returncode == 0, done.stdout + done.stderr
    yield tier, count, server
    assert server.stop() == 0


def test_a_hospital_is_loaded_whole_and_every_search_counts_what_the_oracle_counts(hospital):
    tier, count, server = hospital
    assert resources(server) == count
    wanted = expected_totals(tier)
    assert totals(server, wanted) == wanted


@pytest.mark.parametrize(
    "hospital", [pytest.param("us80", marks=pytest.mark.slow)], indirect=True, scope="module"
)
def test_conditional_references_of_a_loaded_hospital_are_resolved(hospital):
    _, _, server = hospital
    with server.client() as client:
        page = client.get("/Encounter", params={"_count": "100"}).json()
        encounters = [entry["resource"] for entry in page["entry"]]
        assert not any("?" in json.dumps(each.get("participant", [])) for each in encounters)
        someone = encounters[0]["participant"][0]["individual"]["reference"]
        assert client.get(f"/{someone}").status_code == 200


@pytest.mark.slow
def test_a_hospital_of_191_093_resources_is_loaded_whole_and_counted_right(tmp_path_factory):
    for tier, count, server in _loaded("full615", tmp_path_factory):
        assert resources(server) == count
        wanted = expected_totals(tier)
        assert totals(server, wanted) == wanted


def test_no_name_or_identifier_can_be_found_in_any_file_of_the_data_folder(hospital):
    _, _, server = hospital
    with server.client() as client:
        page = client.get("/Patient", params={"_count": "20"}).json()
    words = set()
    for patient in (entry["resource"] for entry in page["entry"]):
        words |= {name["family"] for name in patient["name"]}
        words |= {each["value"] for each in patient["identifier"] if len(each["value"]) > 6}
        words.add(patient["id"])
    assert len(words) > 40
    for file in (path for path in server.data.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not [word for word in words if word.encode() in content], file.name
