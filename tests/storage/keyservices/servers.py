"""Servers of ours that answer as HashiCorp Vault and AWS KMS are published to, and that can fail.

https://developer.hashicorp.com/vault/api-docs/secret/transit
https://docs.aws.amazon.com/kms/latest/APIReference/
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Served:
    """A server on a port of its own. `fault` is what happens instead of an answer: a status, with
    `said` as its body, "hang", "hang up" or "nonsense"; `times` how often (None: always)."""

    def __init__(self):
        self.fault, self.said, self.times = None, "", None
        self.asked = []  # (path, headers, body)
        self._released = threading.Event()
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                served.asked.append((self.path, dict(self.headers), body))
                if (fault := served.faulty()) is not None:
                    return self.fail(fault)
                return self.reply(*served.answer(self.path, self.headers, body))

            def fail(self, fault):
                if fault == "hang":
                    served._released.wait(10)
                if fault in ("hang", "hang up"):
                    self.close_connection = True
                    return None
                if fault == "nonsense":
                    return self.reply(200, b"<html>no key service</html>")
                return self.reply(fault, served.said.encode())

            def reply(self, status, content):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def faulty(self):
        if self.fault is None or self.times == 0:
            return None
        if self.times is not None:
            self.times -= 1
        return self.fault


class Transit(Served):
    """Vault's transit engine at `transit/` with one aes256-gcm96 key, `salus`. Old versions of
    Vault do not know associated_data: `binds` False."""

    token = "s.a-token-of-the-test"

    def __init__(self, binds=True):
        super().__init__()
        self.binds, self.namespace = binds, None
        self.versions = {1: AESGCM.generate_key(256)}
        self.oldest = 1  # min_decryption_version

    def answer(self, path, headers, body):
        if headers.get("X-Vault-Namespace") != self.namespace:
            return refused(404, "no handler for route")
        if headers.get("X-Vault-Token") != self.token:
            return refused(403, "permission denied")
        match path.removeprefix("/v1/transit/").split("/"):
            case ["encrypt", "salus"]:
                return self.encrypt(json.loads(body))
            case ["decrypt", "salus"]:
                return self.decrypt(json.loads(body))
            case ["keys", "salus", "rotate"]:
                self.versions[max(self.versions) + 1] = AESGCM.generate_key(256)
                return 200, json.dumps({"data": {"latest_version": max(self.versions)}}).encode()
            case _:
                return refused(404, "no handler for route")

    def bound(self, asked):
        return base64.b64decode(asked.get("associated_data", "")) if self.binds else b""

    def encrypt(self, asked):
        version, nonce = max(self.versions), secrets.token_bytes(12)
        plain = base64.b64decode(asked["plaintext"], validate=True)
        sealed = nonce + AESGCM(self.versions[version]).encrypt(nonce, plain, self.bound(asked))
        text = f"vault:v{version}:{base64.b64encode(sealed).decode()}"
        return data({"ciphertext": text, "key_version": version})

    def decrypt(self, asked):
        found = re.fullmatch(r"vault:v(\d+):(.+)", asked["ciphertext"])
        if not found:
            return refused(400, "invalid ciphertext: no prefix")
        version = int(found[1])
        if version < self.oldest:
            return refused(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            sealed = base64.b64decode(found[2], validate=True)
            plain = AESGCM(self.versions[version]).decrypt(
                sealed[:12], sealed[12:], self.bound(asked)
            )
        except (InvalidTag, ValueError, KeyError):
            return refused(400, "cipher: message authentication failed")
        return data({"plaintext": base64.b64encode(plain).decode()})


def data(content):
    return 200, json.dumps({"request_id": "1", "lease_id": "", "data": content}).encode()


def refused(status, text):
    return status, json.dumps({"errors": [text]}).encode()


class Kms(Served):
    """AWS KMS in one region, whose keys are `keys`; it holds every request to its signature."""

    access, secret, region = (
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "eu-central-1",
    )

    def __init__(self):
        super().__init__()
        self.keys = {"one": AESGCM.generate_key(256), "two": AESGCM.generate_key(256)}

    def answer(self, path, headers, body):
        if (refusal := self.unsigned(path, headers, body)) is not None:
            return failed(400, refusal)
        asked = json.loads(body)
        if asked["KeyId"] not in self.keys:
            return failed(400, "NotFoundException")
        context = json.dumps(asked.get("EncryptionContext", {}), sort_keys=True).encode()
        match headers["X-Amz-Target"]:
            case "TrentService.Encrypt":
                nonce, plain = secrets.token_bytes(12), base64.b64decode(asked["Plaintext"])
                sealed = AESGCM(self.keys[asked["KeyId"]]).encrypt(nonce, plain, context)
                blob = json.dumps([asked["KeyId"], (nonce + sealed).hex()]).encode()
                return self.done("CiphertextBlob", blob, asked)
            case "TrentService.Decrypt":
                return self.decrypt(asked, context)
            case _:
                return failed(400, "UnknownOperationException")

    def decrypt(self, asked, context):
        try:
            name, text = json.loads(base64.b64decode(asked["CiphertextBlob"]))
            sealed = bytes.fromhex(text)
        except ValueError:
            return failed(400, "InvalidCiphertextException")
        if name != asked["KeyId"]:
            return failed(400, "IncorrectKeyException")
        try:
            plain = AESGCM(self.keys[name]).decrypt(sealed[:12], sealed[12:], context)
        except InvalidTag:
            return failed(400, "InvalidCiphertextException")
        return self.done("Plaintext", plain, asked)

    def done(self, name, content, asked):
        text = base64.b64encode(content).decode()
        return 200, json.dumps({name: text, "KeyId": asked["KeyId"]}).encode()

    def unsigned(self, path, headers, body):
        """Why the signature does not hold, as AWS would name it."""
        given = headers.get("Authorization", "")
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/[^/]+/[^/]+/aws4_request), "
            r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})",
            given,
        )
        if not found:
            return "MissingAuthenticationTokenException"
        access, scope, names, signature = found.groups()
        day = headers["X-Amz-Date"][:8]
        if access != self.access or scope != f"{day}/{self.region}/kms/aws4_request":
            return "UnrecognizedClientException"
        age = time.time() - time.mktime(time.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
        if abs(age + time.timezone) > 300 or not {"host", "x-amz-date"} <= set(names.split(";")):
            return "SignatureDoesNotMatch"
        signed = [(name, headers[name]) for name in names.split(";")]
        ours = signature_of("POST", path, signed, body, scope, self.secret)
        return None if hmac.compare_digest(ours, signature) else "SignatureDoesNotMatch"


def failed(status, code):
    return status, json.dumps({"__type": code, "message": "of the test"}).encode()


def signature_of(method, path, headers, body, scope, secret):
    """The signature (version 4) of a request; `headers` are those that are signed, by name.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
    parts = urlsplit(path)
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
    )
    lines = [f"{name}:{' '.join(value.split())}" for name, value in headers]
    signed = ";".join(name for name, _ in headers)
    digest = hashlib.sha256(body).hexdigest()
    request = "\n".join((method, parts.path, query, *lines, "", signed, digest))
    stamp = dict(headers)["x-amz-date"]
    asked = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, asked))
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
