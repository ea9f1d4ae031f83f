"""A server whose key service goes away refuses clearly after a while, and recovers by itself; with
another key service it does not start."""

from __future__ import annotations

import time

import pytest

from salus.operator.ask import ask
from salus.operator.requests import IssueToken, Token
from salus.settings import Settings
from tests.living import Living
from tests.storage.keyservices.servers import Transit

PATIENT = b'{"resourceType":"Patient","id":"ann","name":[{"family":"Ann"}]}'
JSON = {"content-type": "application/fhir+json"}


@pytest.fixture
def service():
    with Transit() as served:
        yield served


@pytest.fixture
def server(tmp_path, service):
    token = tmp_path / "token"
    token.write_text(Transit.token)
    token.chmod(0o600)
    served = Living(
        tmp_path,
        SALUS_KEY_PROVIDER="vault",
        SALUS_VAULT_ADDRESS=service.address,
        SALUS_VAULT_TOKEN_FILE=str(token),
        SALUS_KEY_CACHE_SECONDS="2",
        SALUS_KEY_SERVICE_SECONDS="0.5",
    )
    served.start()
    yield served
    served.stop()


def until(client, path, status):
    """Ask until the answer has that status, for at most fifteen seconds."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        answer = client.get(path)
        if answer.status_code == status:
            return answer
        time.sleep(0.1)
    raise AssertionError(answer.text)


def test_the_server_refuses_clearly_and_recovers_by_itself(server, service):
    with server.client() as client:
        assert client.put(f"{server.url}/Patient/ann", content=PATIENT, headers=JSON).is_success
        service.fault = 503
        assert client.get(f"{server.url}/Patient/ann").status_code == 200  # for a while
        refused = until(client, f"{server.url}/Patient/ann", 503)
        (issue,) = refused.json()["issue"]
        written = client.put(f"{server.url}/Patient/ann", content=PATIENT, headers=JSON)
        service.fault = None
        back = until(client, f"{server.url}/Patient/ann", 200)

    assert refused.headers["retry-after"].isdigit()
    assert issue["code"] == "transient"
    assert "Ann" not in refused.text
    assert written.status_code == 503
    assert back.json()["name"] == [{"family": "Ann"}]
    log = server.log.read_text()
    assert "The key service does not serve: HashiCorp Vault at" in log
    assert "serves again" in log


def test_a_start_by_another_key_service_is_refused(server, service):
    server.stop()
    server.environment = {
        name: value
        for name, value in server.environment.items()
        if not name.startswith(("SALUS_KEY_", "SALUS_VAULT_"))
    }
    with pytest.raises(AssertionError, match="wrapped by the provider vault"):
        server.start()


def test_few_calls_serve_many_patients(server, service):
    with server.client() as client:
        entries = [
            {
                "resource": {"resourceType": "Patient", "id": f"p{number}", "active": True},
                "request": {"method": "PUT", "url": f"Patient/p{number}"},
            }
            for number in range(300)
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert client.post(server.url, json=bundle, headers=JSON).status_code == 200
    server.stop()
    server.environment["SALUS_KEY_CACHE_SECONDS"] = "60"
    server.start()
    before = len(service.asked)
    with server.client() as client:
        found = client.get(f"{server.url}/Patient?active=true&_count=300").json()
    assert len(found["entry"]) == 300
    assert len(service.asked) - before <= 10


def test_a_key_file_beside_a_server_for_others_is_refused_or_audited(tmp_path):
    server = Living(tmp_path)
    server.arguments = ("--host", "0.0.0.0", "--behind-proxy", "--base-url", "https://fhir.example")
    with pytest.raises(AssertionError, match="say --keys-on-this-machine"):
        server.start()
    server.arguments = (*server.arguments, "--keys-on-this-machine")
    server.start()
    try:
        settings = Settings(data=server.data, keys=server.keys)
        token = ask(settings, IssueToken(client=None, scope="system/AuditEvent.rs"), Token).token
        with server.client() as client:
            found = client.get(
                f"{server.url}/AuditEvent",
                params={"_count": 100},
                headers={"authorization": f"Bearer {token}"},
            ).json()
    finally:
        server.stop()
    told = [each["resource"].get("outcomeDesc") for each in found["entry"]]
    assert told.count("started with --keys-on-this-machine") == 1
