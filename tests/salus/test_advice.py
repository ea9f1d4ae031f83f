"""`salus doctor` says what weakens a server that works."""

import pytest

from salus.advice import advice, urgent
from salus.operator.requests import AddUser, ClientShown, UserShown
from salus.settings import Settings
from tests.salus.test_tls import certificate
from tests.secured import PASSWORD, Secured


def named(findings):
    return [each.wrong for each in findings]


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (90, []),
        (14, []),
        (13, ["expires in 13 days"]),
        (0, ["expires in 0 days"]),
        (-1, ["expired"]),
    ],
)
def test_a_certificate_is_to_be_renewed_in_time(tmp_path, days, said):
    cert, key, _ = certificate(tmp_path / "tls", days=days)
    key.chmod(0o600)
    found = named(urgent(Settings(tls_cert=cert, tls_key=key)))

    assert [text for text, wanted in zip(found, said, strict=True) if wanted in text] == found


def test_a_key_that_others_can_read_is_said(tmp_path):
    cert, key, _ = certificate(tmp_path / "tls")
    key.chmod(0o644)

    assert named(urgent(Settings(tls_cert=cert, tls_key=key))) == [
        f"Other users of this machine can read {key}"
    ]


def test_what_is_no_pair_is_said(tmp_path):
    cert, _, _ = certificate(tmp_path / "a")
    _, key, _ = certificate(tmp_path / "b")
    (found,) = named(urgent(Settings(tls_cert=cert, tls_key=key)))

    assert "are no certificate and its key" in found


def test_a_store_of_strong_accounts_and_apps_needs_no_advice_and_another_does(tmp_path):
    server = Secured(tmp_path)
    server.app("growth", "patient/*.rs")
    before = named(advice(server.settings))
    server.app("old", "patient/*.rs", profile="smart-1")
    weak = AddUser(name="root", administrator=True, password=PASSWORD)
    server.operator(weak, UserShown)
    changed = {"registration": "open", "jwks_hosts": ("a:1",), "behind_proxy": True}
    loose = server.settings.model_copy(update=changed)

    assert before == []
    assert named(advice(loose)) == [
        "Behind a proxy that is not named, everybody seems to come from one address: the audit "
        "tells nobody from another, and who guesses passwords uses up the attempts of all",
        "Any app may register itself",
        "Keys are fetched from private addresses: a:1",
        "The client old may do without PKCE (profile smart-1)",
        "The administrator root signs in with a password alone",
    ]


def test_a_server_behind_a_nameless_proxy_says_so_when_it_starts(tmp_path):
    server = Secured(tmp_path)
    server.arguments = ("--behind-proxy",)
    server.start()
    server.stop()
    told = server.log.read_text()
    server.arguments = ("--behind-proxy", "--trusted-proxy", "127.0.0.1")
    server.log.unlink()
    server.start()
    server.stop()

    said = "Warning: Behind a proxy that is not named, everybody seems to come from one address"
    assert said in told
    assert "--trusted-proxy" in told
    assert "Warning" not in server.log.read_text()


def test_a_client_that_nobody_uses_is_named():
    day = 86_400_000_000
    client = ClientShown(
        id="dusty", name="Dusty", profile="smart-2", authentication="nothing", redirect_uris=(),
        launch_uri=None, scopes=(), may=(), origins=(), registered=1, registered_by="operator",
        disabled=False, grants=1, used=100 * day,
    )  # fmt: skip
    from salus import advice as module

    assert named(module._of_client(client, 190 * day)) == []
    assert named(module._of_client(client, 191 * day)) == [
        "Nobody has used the client dusty for 91 days"
    ]


def test_doctor_looks_at_a_server_that_runs(secured):
    told = secured.command("doctor")

    assert told.returncode == 0, told.stdout
    assert "Nothing is wrong" in told.stdout
