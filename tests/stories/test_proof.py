"""Anybody who may read a version can prove it, offline and later; the log itself is open to who may
search all of the audit; and the operator verifies it while the server runs."""

import asyncio
import base64
import json
import time
import uuid

import httpx
import pytest

from fhir_server.log import checkpoint, merkle, note, receipt, tiles
from fhir_server.log.note import Verifier
from fhir_server.log.receipt import Policy
from tests.secured import patient

JSON = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def log(living):
    """The log's key, as the server tells it."""
    base = living.url.removesuffix("/fhir")
    return Verifier.parse(httpx.get(f"{base}/audit/key", trust_env=False).text)


def parts(answer):
    """The parameters of an answer, by name."""
    assert answer.status_code == 200, answer.text
    assert answer.json()["resourceType"] == "Parameters"
    found = {}
    for each in answer.json()["parameter"]:
        value = next(value for name, value in each.items() if name != "name")
        found.setdefault(each["name"], []).append(value)
    return found


def proven(answer, log):
    """What the receipt of an answer proves to who knows the log's key only."""
    text = parts(answer)["receipt"][0]
    return receipt.check(receipt.parse(text.encode()), Policy(log))


def test_every_version_has_a_proof_that_holds_without_the_server(fhir, log):
    made = fhir.post("/Patient", json={"resourceType": "Patient"}).json()
    url = f"/Patient/{made['id']}"
    first = fhir.get(url).content
    fhir.put(url, json={**made, "active": True})
    second = fhir.get(url).content
    fhir.delete(url)

    assert proven(fhir.get(f"{url}/$proof?version=1"), log).content == first
    assert proven(fhir.get(f"{url}/$proof", params={"version": "2"}), log).content == second
    gone = proven(fhir.get(f"{url}/$proof"), log)
    assert gone.content.startswith(b"deleted Patient/%s/_history/3 at " % made["id"].encode())
    asked = {"resourceType": "Parameters", "parameter": [{"name": "version", "valueInteger": 2}]}
    assert proven(fhir.post(f"{url}/$proof", json=asked), log).content == second


def test_the_parts_of_a_proof_fit_together(fhir, log):
    made = fhir.post("/Observation", json=_OBSERVATION).json()
    found = parts(fhir.get(f"/Observation/{made['id']}/$proof"))

    salt, content, entry = (base64.b64decode(found[n][0]) for n in ("salt", "content", "entry"))
    path = [base64.b64decode(each) for each in found.get("inclusion", [])]
    state, _ = checkpoint.opened(note.parse(found["checkpoint"][0].encode()), log)
    assert json.loads(content) == made
    assert len(salt) == 16
    assert merkle.leaf_hash(entry) == merkle.salted_leaf(salt, content)
    leaf, size = found["leaf"][0], found["size"][0]
    assert state.size == size
    assert merkle.verify_inclusion(merkle.leaf_hash(entry), leaf, size, path, state.root)


_OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "weight"}}


def test_an_event_of_the_audit_has_a_proof_and_asking_for_one_is_audited(fhir, log):
    made = fhir.post("/Patient", json={"resourceType": "Patient"}).json()
    name = f"Patient/{made['id']}"
    fhir.get(f"/{name}/$proof")
    events = fhir.get("/AuditEvent", params={"entity": name}).json()["entry"]
    displays = [each["resource"].get("subtype", [{}])[0].get("display") for each in events]
    assert "$proof" in displays
    for each in events:
        id = each["resource"]["id"]
        event = json.loads(proven(fhir.get(f"/AuditEvent/{id}/$proof"), log).content)
        assert event["id"] == id


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/Patient/{id}/$proof?version=9", 404),
        ("/Patient/nobody/$proof", 404),
        ("/Patient/{id}/$proof?version=x", 400),
        ("/Patient/{id}/$proof?leaf=1", 400),
        ("/Patient/$proof", 404),
        ("/$proof", 404),
    ],
)
def test_what_cannot_be_proven_is_refused(fhir, path, status):
    made = fhir.post("/Patient", json={"resourceType": "Patient"}).json()
    assert fhir.get(path.format(id=made["id"])).status_code == status


def test_the_capability_statement_names_the_operation(fhir):
    resources = fhir.get("/metadata").json()["rest"][0]["resource"]
    for each in resources:
        assert "proof" in {operation["name"] for operation in each["operation"]}, each["type"]


def test_who_may_not_read_a_version_gets_no_proof_of_it(secured):
    with secured.client(secured.token()) as every:
        mine, other = f"p-{uuid.uuid4().hex[:8]}", f"p-{uuid.uuid4().hex[:8]}"
        for each in (mine, other):
            every.put(f"/Patient/{each}", content=patient(each), headers=JSON).raise_for_status()
        absent = every.get("/Patient/nobody/$proof")
    secured.app(f"app-{mine}", "patient/*.rs")
    secured.user(f"u-{mine}", who=f"Patient/{mine}")
    token = secured.token("patient/*.rs", f"app-{mine}", f"u-{mine}", mine)
    with secured.client(token) as one:
        assert one.get(f"/Patient/{mine}/$proof").status_code == 200
        hidden = one.get(f"/Patient/{other}/$proof")
    with secured.client(secured.token("system/Observation.rs")) as blind:
        assert blind.get(f"/Patient/{mine}/$proof").status_code == 403
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json()["issue"] == absent.json()["issue"]


# --- the log itself ------------------------------------------------------------------------------


class Site:
    """The paths of the log, asked by somebody or nobody."""

    def __init__(self, base, token=None):
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._base = f"{base}/audit/"

    def get(self, path):
        return httpx.get(f"{self._base}{path}", headers=self._headers, trust_env=False)


def test_the_tiles_give_the_root_that_was_signed(living, fhir, log):
    for _ in range(140):  # with its event, each is two leaves
        fhir.post("/Patient", json={"resourceType": "Patient"})
    time.sleep(1.5)
    site = Site(living.url.removesuffix("/fhir"))
    state, _ = checkpoint.opened(note.parse(site.get("checkpoint").content), log)
    assert state.size > 256
    found = {}
    for place in tiles.places(state.size):
        answer = site.get(f"tile/{tiles.path(place)}")
        assert answer.status_code == 200
        assert len(answer.content) == place.width * merkle.HASH
        assert "immutable" in answer.headers["cache-control"]
        found[place.level, place.number] = answer.content

    async def read(level, number):
        return found[level, number]

    assert asyncio.run(merkle.root(state.size, read)) == state.root


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/999",
        "tile/0/00",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/9/000",
        "tile/0/x000/000",
        "tile/0/../checkpoint",
        "tile/",
        "tile/0/000.p/1.p/1",
    ],
)
def test_what_is_no_tile_is_not_found(living, path):
    assert Site(living.url.removesuffix("/fhir")).get(path).status_code == 404


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ("system/AuditEvent.s", 200),
        ("system/*.rs", 200),
        ("system/AuditEvent.r", 403),
        ("system/Patient.rs", 403),
        ("system/AuditEvent.s?outcome=4", 403),
        (None, 401),
    ],
)
def test_the_log_is_for_who_may_search_all_of_the_audit(secured, scope, status):
    site = Site(secured.base, secured.token(scope) if scope else None)
    time.sleep(1.3)
    assert site.get("checkpoint").status_code == status
    assert site.get("tile/0/000.p/1").status_code == status
    assert site.get("key").status_code == 200
    if status == 401:
        assert "Bearer" in site.get("checkpoint").headers["www-authenticate"]


def test_the_operator_verifies_the_log_while_the_server_runs(secured):
    with secured.client(secured.token()) as fhir:
        fhir.put("/Patient/verified", content=patient("verified"), headers=JSON)
    done = secured.command("audit", "verify", "--json")
    report = json.loads(done.stdout)

    assert (done.returncode, report["well"], report["findings"]) == (0, True, [])
    assert report["leaves"] == report["records"] + report["notices"] + report["erased"]
    shown = secured.command("audit", "key").stdout.strip()
    assert shown == Site(secured.base).get("key").text.strip()


def test_what_an_erasure_removed_something_from_is_gone_for_proofs_and_told_by_verify(secured):
    erased = f"p-{uuid.uuid4().hex[:8]}"
    members = [{"entity": {"reference": f"Patient/{id}"}} for id in (erased, "other")]
    group = {"resourceType": "Group", "id": f"g-{erased}", "type": "person", "actual": True}
    with secured.client(secured.token()) as every:
        every.put(f"/Patient/{erased}", content=patient(erased), headers=JSON).raise_for_status()
        url = f"/Group/{group['id']}"
        every.put(url, json={**group, "member": members}).raise_for_status()
        done = secured.command("patient", "erase", erased, "--basis", "Request 12", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert every.get(f"{url}/_history/1").status_code == 200
        proof = every.get(f"{url}/$proof?version=1")
        assert every.get(f"{url}/$proof").status_code == 200
    assert proof.status_code == 410
    assert proof.json()["issue"][0]["code"] == "deleted"
    assert "it was before, as the notice at leaf" in proof.json()["issue"][0]["diagnostics"]

    report = json.loads(secured.command("audit", "verify", "--json").stdout)
    assert (report["well"], report["findings"]) == (True, [])
    told = [(each["kind"], each["leaves"], each["basis"]) for each in report["told"]]
    assert told[-1] == ("redacted", 1, "Something named was erased")
    assert told[-2][::2] == ("erased", "Request 12")
    shown = secured.command("audit", "verify").stdout
    assert "1 leaf redacted. Basis: Something named was erased" in shown
