"""On the wire: https of today and nothing older, certificates that change, and proxies that are
believed only when they were named."""

import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from salus import tls
from salus.forwarded import Forwarded
from salus.problem import Problem
from tests.secured import Secured


def certificate(folder, name="salus.example", days=90):
    """Files of a certificate and its key, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file, made


@pytest.fixture(scope="module")
def https(tmp_path_factory):
    """A server with a certificate of its own."""
    folder = tmp_path_factory.mktemp("https")
    cert, key, _ = certificate(folder / "tls")
    server = Secured(folder)
    server.scheme = "https"
    server.verify = str(cert)
    server.arguments = ("--tls-cert", str(cert), "--tls-key", str(key))
    server.start()
    yield server
    assert server.stop() == 0


def offered(port, low, high):
    """The version that a handshake of these versions ends in. SSLError when it fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version, context.maximum_version = low, high
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return wrapped.version(), wrapped.getpeercert(binary_form=True)


def hello(version):
    """A ClientHello of an old version, with ciphers of its time, as its bytes are."""
    ciphers = bytes.fromhex("c014c00ac013c0090039003300350 02f000a".replace(" ", ""))
    body = version + bytes(32) + b"\0" + len(ciphers).to_bytes(2, "big") + ciphers + b"\x01\0"
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16" + version + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.requirement("L1")
def test_tls_of_today_is_spoken(https, version):
    assert offered(https.port, version, version)[0] == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


@pytest.mark.parametrize(
    "version", [b"\x03\x00", b"\x03\x01", b"\x03\x02"], ids=["3.0", "1.0", "1.1"]
)
@pytest.mark.requirement("L1")
def test_older_versions_are_refused(https, version):
    with socket.create_connection(("127.0.0.1", https.port), timeout=10) as plain:
        plain.sendall(hello(version))
        answer = plain.recv(100)

    # Nothing, or an alert (21) that is fatal (2); never a handshake (22).
    assert answer[:1] != b"\x16"
    assert answer == b"" or (answer[0], answer[5]) == (21, 2)


def test_plain_http_is_not_answered_on_the_https_port(https):
    with socket.create_connection(("127.0.0.1", https.port), timeout=10) as plain:
        plain.sendall(b"GET /fhir/metadata HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = plain.recv(1000)

    assert not answer.startswith(b"HTTP")


def test_links_and_issuer_are_https_and_commands_find_the_way(https):
    with https.client() as fhir:
        known = fhir.get("/.well-known/smart-configuration").json()
        page = fhir.get(
            "/Patient", headers={"authorization": f"Bearer {https.token('system/Patient.s')}"}
        ).json()

    assert known["issuer"] == https.url == f"https://127.0.0.1:{https.port}/fhir"
    assert page["link"][0]["url"].startswith(f"{https.url}/Patient")


def settled(port, wanted):
    """Wait until this certificate is served, ten times in a row."""
    row, until = 0, time.monotonic() + 60
    while row < 10:
        assert time.monotonic() < until, "the certificate is not served"
        _, served = offered(port, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)
        row = row + 1 if served == wanted else 0
        time.sleep(0.1)


def test_another_certificate_is_served_without_a_restart(https):
    _, _, made = certificate(https.data.parent / "tls")

    settled(https.port, made.public_bytes(serialization.Encoding.DER))
    assert https.process.poll() is None


def test_a_broken_certificate_is_said_and_the_one_of_before_served_on(https):
    cert = https.data.parent / "tls" / "cert.pem"
    good = cert.read_bytes()
    before = x509.load_pem_x509_certificate(good).public_bytes(serialization.Encoding.DER)
    settled(https.port, before)
    cert.write_bytes(good[:100])
    until = time.monotonic() + 60
    while "The certificate of before is served on" not in https.log.read_text():
        assert time.monotonic() < until
        time.sleep(0.2)

    settled(https.port, before)
    cert.write_bytes(good)


def test_a_key_of_another_certificate_is_refused_at_the_start(tmp_path):
    cert, _, _ = certificate(tmp_path / "a")
    _, key, _ = certificate(tmp_path / "b")

    with pytest.raises(Problem, match="are no certificate and its key"):
        tls.check((cert, key))


def test_it_is_known_how_long_a_certificate_lasts(tmp_path):
    assert tls.days_left(certificate(tmp_path / "a", days=7)[0]) == 7
    assert tls.days_left(certificate(tmp_path / "b", days=-3)[0]) == -3


# --- proxies -------------------------------------------------------------------------------------

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def seen(client, *headers):
    """The address and scheme that a request is taken to come from."""
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "scheme": "http", "client": (client, 1), "headers": encoded}
    found = Forwarded(PROXIES).scope(scope)
    return found["client"][0], found["scheme"]


@pytest.mark.parametrize(
    ("client", "headers", "expected"),
    [
        ("10.1.1.1", [("x-forwarded-for", "192.0.2.1")], ("192.0.2.1", "http")),
        (
            "10.1.1.1",
            [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")],
            ("192.0.2.1", "https"),
        ),
        ("10.1.1.1", [("x-forwarded-for", "198.51.100.9, 192.0.2.1")], ("192.0.2.1", "http")),
        ("10.1.1.1", [("x-forwarded-for", "192.0.2.1, 10.2.2.2")], ("192.0.2.1", "http")),
        ("10.1.1.1", [("x-forwarded-for", "nonsense, 192.0.2.1")], ("192.0.2.1", "http")),
        ("10.1.1.1", [("x-forwarded-for", "192.0.2.1, nonsense")], ("10.1.1.1", "http")),
        ("10.1.1.1", [("x-forwarded-for", "[2001:db8::1]:443")], ("2001:db8::1", "http")),
        ("10.1.1.1", [("x-forwarded-for", "192.0.2.1:5555")], ("192.0.2.1", "http")),
        ("10.1.1.1", [("forwarded", "for=192.0.2.1;proto=https")], ("192.0.2.1", "https")),
        ("10.1.1.1", [("forwarded", 'For="[2001:db8::1]:99"')], ("2001:db8::1", "http")),
        ("10.1.1.1", [("forwarded", "for=_hidden")], ("10.1.1.1", "http")),
        ("::ffff:10.1.1.1", [("x-forwarded-for", "192.0.2.1")], ("192.0.2.1", "http")),
        ("10.1.1.1", [("x-forwarded-for", "192.0.2.1," * 1000)], ("10.1.1.1", "http")),
        ("10.1.1.1", [("x-forwarded-proto", "gopher")], ("10.1.1.1", "http")),
        ("10.1.1.1", [], ("10.1.1.1", "http")),
        ("192.0.2.9", [("x-forwarded-for", "192.0.2.1")], ("192.0.2.9", "http")),
        ("192.0.2.9", [("forwarded", "for=10.1.1.1;proto=https")], ("192.0.2.9", "http")),
    ],
)
@pytest.mark.requirement("47")
def test_where_a_request_came_from_is_what_trusted_proxies_say(client, headers, expected):
    assert seen(client, *headers) == expected


@pytest.mark.requirement("47")
def test_a_named_proxy_is_believed_by_the_audit_and_a_stranger_is_not(tmp_path):
    server = Secured(tmp_path)
    server.arguments = ("--behind-proxy", "--trusted-proxy", "127.0.0.1")
    server.start()
    try:
        with server.client(server.token()) as fhir:
            fhir.get("/Patient/nobody", headers={"x-forwarded-for": "192.0.2.77"})
            found = fhir.get("/AuditEvent?outcome=4").json()["entry"]
    finally:
        server.stop()

    addresses = {each["resource"]["agent"][0]["network"]["address"] for each in found}
    assert addresses == {"192.0.2.77"}
