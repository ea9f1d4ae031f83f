"""Keys of clients by URL, and where the server does not go for them."""

import asyncio
import json
import ssl
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc.jwk import RSAKey

from smart_auth import clients, keysets
from smart_auth.addresses import is_public
from smart_auth.authority import Policy
from smart_auth.errors import OAuthError
from smart_auth.keysets import Unfetched
from smart_auth.model import HOUR, MINUTE, SECOND
from smart_auth.registrable import Registrable
from smart_auth.uris import fetch_problem, web_problem
from tests.smart_auth.served import CALLBACK, RSA, Served, jwks

NEW = RSAKey.generate_key(2048, parameters={"kid": "rsa-2"})


class Site(BaseHTTPRequestHandler):
    """Answers as the test set it, and counts."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"]))
        self.server.answer(self)

    def log_message(self, *arguments):
        pass


class Host(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments):
        """A client that hangs up is what some tests are about."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Site)
        self.asked = []
        self.name = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.name}/jwks"
        self.keys = jwks()
        self.control = None
        self.answer = self.send_keys

    def send_keys(self, request):
        self.send(request, 200, json.dumps(self.keys).encode())

    def send(self, request, status, body, **headers):
        request.send_response(status)
        if self.control is not None:
            request.send_header("Cache-Control", self.control)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def host():
    server = Host()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def trusting(folder, *names):
    with Served(folder, Policy(jwks_hosts=frozenset(names))) as served:
        yield served


@pytest.fixture
def served(tmp_path, host):
    """A server whose operator trusts the host of the keys."""
    with trusting(tmp_path, host.name) as server:
        server.backend(jwks_uri=host.url)
        yield server


def failed(answer):
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    return answer.json()["error_description"]


@pytest.mark.requirement("BS3", "BS4")
def test_keys_at_a_url_verify_and_are_kept_a_while(served, host):
    host.control = "max-age=60"
    for alg in ("RS384", "ES384", "RS384"):
        assert served.serve(served.assertion(alg)).status_code == 200

    assert host.asked == [("/jwks", host.name)]
    served.clock.pass_(MINUTE)
    assert served.serve(served.assertion()).status_code == 200
    assert len(host.asked) == 2


@pytest.mark.requirement("BS4")
@pytest.mark.parametrize(
    ("control", "kept"),
    [
        ("no-store", 0),
        ("no-cache, max-age=60", 0),
        ("max-age=0", 0),
        ("max-age=10", 10 * SECOND),
        ("private, max-age=7200", HOUR),
        (None, 5 * MINUTE),
        ("public", 5 * MINUTE),
    ],
)
def test_keys_are_kept_no_longer_than_their_owner_allows(served, host, control, kept):
    host.control = control
    served.serve(served.assertion())
    served.clock.pass_(max(kept - 1, 0))
    served.serve(served.assertion())
    assert len(host.asked) == (1 if kept else 2)
    served.clock.pass_(1)
    assert served.serve(served.assertion()).status_code == 200
    assert len(host.asked) == (2 if kept else 3)


@pytest.mark.requirement("BS4")
def test_for_an_unknown_kid_keys_are_fetched_again_once_a_minute(served, host):
    host.control = "max-age=3600"
    assert served.serve(served.assertion()).status_code == 200
    host.keys = jwks(RSA, NEW)
    failed(served.serve(served.assertion(key=NEW)))
    served.clock.pass_(61 * SECOND)

    assert served.serve(served.assertion(key=NEW)).status_code == 200
    assert len(host.asked) == 2
    for _ in range(3):
        failed(served.serve(served.assertion(header={"kid": "unknown"})))
    assert len(host.asked) == 2


@pytest.mark.requirement("BS4")
def test_jku_counts_only_when_it_is_the_registered_address(served, host):
    assert served.serve(served.assertion(header={"jku": host.url})).status_code == 200
    before = len(host.asked)

    assert "`jku`" in failed(served.serve(served.assertion(header={"jku": host.url + "2"})))
    assert len(host.asked) == before


@pytest.mark.requirement("BS4")
def test_an_assertion_of_nobody_makes_the_server_fetch_nothing(served, host):
    failed(served.serve(served.assertion(client="nobody")))
    failed(served.serve("x.y.z"))

    assert host.asked == []


@pytest.mark.requirement("Z7", "35", "52")
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda host, request: host.send(request, 302, b"", Location=host.url + "2"), "302"),
        (lambda host, request: host.send(request, 404, b""), "404"),
        (lambda host, request: host.send(request, 200, b"x" * 262_145), "bytes"),
        (lambda host, request: host.send(request, 200, b"<html>"), "no JSON"),
        (lambda host, request: host.send(request, 200, b"[" * 200_000), "no JSON"),
        (lambda host, request: host.send(request, 200, b"[]"), "no JSON object"),
        (lambda host, request: host.send(request, 200, b"{}"), "no JWK Set"),
        (lambda host, request: host.send(request, 200, b'{"keys":[{"kty":"oct"}]}'), "no key"),
    ],
)
def test_what_is_no_key_set_is_refused_and_asked_for_once(served, host, answer, why):
    host.answer = lambda request: answer(host, request)

    assert why in failed(served.serve(served.assertion()))
    failed(served.serve(served.assertion()))
    assert [path for path, _ in host.asked] == ["/jwks"]


@pytest.mark.requirement("Z7", "52")
def test_a_host_that_was_down_is_asked_again_soon(served, host):
    host.answer = lambda request: host.send(request, 503, b"")
    failed(served.serve(served.assertion()))
    host.answer = host.send_keys
    served.clock.pass_(5 * SECOND)

    assert served.serve(served.assertion()).status_code == 200


@pytest.mark.requirement("Z7", "52")
def test_a_slow_host_is_not_waited_for(served, host, monkeypatch):
    monkeypatch.setattr(keysets, "_SECONDS", 0.2)

    def drip(request):
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):
            for _ in range(20):
                request.wfile.write(b" ")
                request.wfile.flush()
                time.sleep(0.1)

    host.answer = drip
    began = time.monotonic()

    assert "in time" in failed(served.serve(served.assertion()))
    assert time.monotonic() - began < 1.5


@pytest.mark.requirement("Z7", "52", "45")
@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/jwks",
        "https://127.0.0.1/jwks",
        "https://localhost/jwks",
        "https://keys.localhost/jwks",
        "https://localhost./jwks",
        "https://keys.internal./jwks",
        "https://127.0.0.1./jwks",
        "https://224.0.0.1/jwks",
        "https://[fec0::1]/jwks",
        "https://[64:ff9b::10.0.0.1]/jwks",
        "https://keys.internal/jwks",
        "https://[::1]/jwks",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/jwks",
        "https://192.168.1.1/jwks",
        "https://2130706433/jwks",
        "https://0x7f.0.0.1/jwks",
        "https://0177.0.0.01/jwks",
        "https://127.1/jwks",
        "https://[::ffff:127.0.0.1]/jwks",
        "https://[fd00::1]/jwks",
        "https://keys.example@127.0.0.1/jwks",
        "https://keys.example/jwks#x",
        "https://keys.example/a/../jwks",
        "file:///etc/passwd",
        "ftp://keys.example/jwks",
        "//keys.example/jwks",
        "https:///jwks",
        "https://keys.example:0/jwks",
        "https://keys.example\\@evil.example/jwks",
    ],
)
def test_an_address_inside_is_neither_registered_nor_fetched(tmp_path, url):
    with trusting(tmp_path, "127.0.0.1:1") as served:
        with pytest.raises(OAuthError) as wrong:
            served.backend(jwks_uri=url)
        assert wrong.value.error == "invalid_client_metadata"
        with pytest.raises(Unfetched):
            served.run(keysets.fetch, url, frozenset(("127.0.0.1:1",)))


@pytest.mark.requirement("Z7", "52")
def test_a_name_that_resolves_to_an_address_inside_is_not_fetched(tmp_path, host, monkeypatch):
    asked = []

    async def resolve(loop, name, port, **options):
        asked.append(name)
        return [(2, 1, 6, "", ("203.0.114.7", port)), (2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    with trusting(tmp_path) as served:
        url = f"https://rebind.example:{host.server_port}/jwks"
        served.backend(jwks_uri=url)

        assert "private address" in failed(served.serve(served.assertion()))
    assert asked == ["rebind.example"]
    assert host.asked == []


@pytest.mark.requirement("Z7", "52")
def test_the_connection_goes_to_the_address_that_was_judged(tmp_path, host, monkeypatch):
    """A name that means another address a moment later is resolved no second time."""
    asked = []

    async def resolve(loop, name, port, **options):
        asked.append(name)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    name = f"keys.example:{host.server_port}"
    with trusting(tmp_path, name) as served:
        served.backend(jwks_uri=f"http://{name}/jwks")

        assert served.serve(served.assertion()).status_code == 200
    assert host.asked == [("/jwks", name)]
    assert set(asked) <= {"keys.example", "127.0.0.1"}
    assert asked.count("keys.example") == 1


def certificate(folder, name):
    """A certificate for a name, signed by itself: the files of it and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files[1].write_bytes(secret)
    return files


@pytest.mark.requirement("Z7", "52")
@pytest.mark.parametrize(
    ("of", "trusted", "status"),
    [("keys.example", True, 200), ("other.example", True, 401), ("keys.example", False, 401)],
)
def test_over_https_the_certificate_is_that_of_the_name(
    tmp_path, host, monkeypatch, of, trusted, status
):
    """Though the connection goes to a number."""
    pem, key = certificate(tmp_path, of)
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(pem, key)
    host.socket = here.wrap_socket(host.socket, server_side=True)
    believed = ssl.create_default_context(cafile=str(pem) if trusted else None)
    monkeypatch.setattr(keysets, "_tls", lambda: believed)

    async def resolve(loop, name, port, **options):
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    name = f"keys.example:{host.server_port}"
    with trusting(tmp_path, name) as served:
        served.backend(jwks_uri=f"https://{name}/jwks")

        assert served.serve(served.assertion()).status_code == status
    assert host.asked == ([("/jwks", name)] if status == 200 else [])


@pytest.mark.requirement("52")
@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("203.0.114.7", True),
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::8.8.8.8", False),
        ("::10.0.0.1", False),
        ("::ffff:0:10.0.0.1", False),
        ("::ffff:0:8.8.8.8", False),
        ("64:ff9b::8.8.8.8", True),
        ("64:ff9b:1::808:808", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:a00:1::", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("fec0::1", False),
        ("100::1", False),
        ("5f00::1", False),
        ("192.0.0.1", False),
        ("192.0.0.9", False),
        ("192.0.0.170", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
        ("192.0.1.1", True),
        ("2a00:1450:4001::1", True),
        ("no address", False),
    ],
)
def test_which_addresses_are_of_the_internet_at_large(address, public):
    assert is_public(address) is public


def test_a_trusted_host_is_trusted_as_it_is_written():
    trusted = frozenset(("keys.internal", "127.0.0.1:9000"))

    for url in ("http://keys.internal/a", "https://keys.internal:9/a", "http://127.0.0.1:9000/a"):
        assert fetch_problem(url, trusted) is None
    for url in ("http://127.0.0.1:9001/a", "http://x.keys.internal/a", "ftp://keys.internal/a"):
        assert fetch_problem(url, trusted) is not None


@pytest.mark.requirement("BS4")
def test_a_client_that_registers_other_keys_is_known_by_those(served, host):
    served.serve(served.assertion())
    asked = Registrable(
        name="Service",
        profile="backend",
        authentication="private_key_jwt",
        jwks=jwks(NEW),
        scopes=("system/Patient.rs",),
    )
    served.run(clients.update, served.authority, "service", asked)

    failed(served.serve(served.assertion()))
    assert served.serve(served.assertion(key=NEW)).status_code == 200


def test_a_launch_address_is_of_the_web():
    for uri, fine in (
        (CALLBACK, True),
        ("javascript:alert(1)", False),
        ("http://x.example", False),
    ):
        assert (web_problem(uri) is None) is fine
