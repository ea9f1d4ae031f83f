"""Keys wrapped by AWS KMS: requests are signed, contexts bind, and its faults are told apart."""

from __future__ import annotations

import time

import pytest

from fhir_server.storage.keys import page_key
from fhir_server.storage.keyservices.choice import KeyService, provider
from fhir_server.storage.keyservices.kms import KmsKeys
from fhir_server.storage.rotation import renew_service_key
from fhir_server.storage.store import StoreError, Unavailable
from fhir_server.storage.vault import Vault
from tests.storage.keyservices.servers import Kms, signature_of

KEY, FOR = b"k" * 32, b"salus intermediate 1 for data"

# https://docs.aws.amazon.com/general/latest/gr/signature-v4-test-suite.html
SCOPE = "20150830/us-east-1/service/aws4_request"
HOST, DATE = ("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")
FORM = ("content-type", "application/x-www-form-urlencoded")
VECTORS = {
    "get-vanilla": (
        ("GET", "/", [HOST, DATE], b""),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-vanilla-query-order-key-case": (
        ("GET", "/?Param2=value2&Param1=value1", [HOST, DATE], b""),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "post-vanilla": (
        ("POST", "/", [HOST, DATE], b""),
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-x-www-form-urlencoded": (
        ("POST", "/", [FORM, HOST, DATE], b"Param1=value1"),
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.fixture
def kms():
    with Kms() as served:
        yield served


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", Kms.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", Kms.secret)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


def keys(kms, key="one", **more):
    return KmsKeys(key, region=Kms.region, endpoint=kms.address, timeout_seconds=0.5, **more)


@pytest.mark.parametrize("name", VECTORS)
def test_the_server_of_these_tests_knows_the_published_signatures(name):
    request, signature = VECTORS[name]
    assert signature_of(*request, SCOPE, Kms.secret) == signature


def test_a_key_comes_back_for_what_it_was_wrapped_for(kms):
    wrapped = keys(kms).wrap(KEY, FOR)
    assert KEY not in wrapped
    assert keys(kms).unwrap(wrapped, FOR) == KEY
    with pytest.raises(
        StoreError, match=r"InvalidCiphertextException.*not what was wrapped"
    ) as refusal:
        keys(kms).unwrap(wrapped, b"another purpose")
    assert not isinstance(refusal.value, Unavailable)


def test_what_the_key_is_for_is_legible_in_the_trail_of_aws(kms):
    keys(kms).wrap(KEY, FOR)
    assert b'"EncryptionContext": {"salus": "salus intermediate 1 for data"}' in kms.asked[0][2]


@pytest.mark.parametrize("change", [slice(0, -1), slice(0, 9), slice(4, None)])
def test_a_damaged_key_is_refused(kms, change):
    wrapped = keys(kms).wrap(KEY, FOR)
    with pytest.raises(StoreError) as refusal:
        keys(kms).unwrap(wrapped[change], FOR)
    assert not isinstance(refusal.value, Unavailable)


def test_a_wrong_secret_is_refused(kms, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StoreError, match="SignatureDoesNotMatch") as refusal:
        keys(kms).wrap(KEY, FOR)
    assert not isinstance(refusal.value, Unavailable)


def test_without_credentials_it_says_what_to_give(kms, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="give Salus credentials"):
        keys(kms).wrap(KEY, FOR)


def test_a_former_key_still_opens_and_another_does_not(kms):
    wrapped = keys(kms, "one").wrap(KEY, FOR)
    assert keys(kms, "two", former=["one"]).unwrap(wrapped, FOR) == KEY
    with pytest.raises(StoreError, match="SALUS_AWS_KMS_FORMER_KEYS"):
        keys(kms, "two").unwrap(wrapped, FOR)
    with pytest.raises(StoreError, match=r"NotFoundException.*correct SALUS_AWS_KMS_KEY"):
        keys(kms, "three").wrap(KEY, FOR)


def test_rotation_moves_everything_to_the_key_that_is_named_now(kms, tmp_path):
    folder, data = tmp_path / "keys", tmp_path / "data"
    page, vault = page_key(data, keys(kms, "one")), Vault.open(folder, keys(kms, "one"))
    id = vault.fresh()
    blob = vault.cipher(id).encrypt(b"n" * 12, b"content", b"")
    vault.close()
    renew_service_key(folder, data, keys(kms, "two", former=["one"]))
    del kms.keys["one"]

    vault = Vault.open(folder, keys(kms, "two"))
    assert vault.cipher(id).decrypt(b"n" * 12, blob, b"") == b"content"
    assert page_key(data, keys(kms, "two")) == page
    vault.close()


@pytest.mark.parametrize(
    "fault, said",
    [
        (400, '{"__type": "ThrottlingException"}'),
        (500, '{"__type": "KMSInternalException"}'),
        (503, ""),
        (400, '{"__type": "KeyUnavailableException"}'),
        ("hang up", ""),
        ("hang", ""),
    ],
)
def test_what_may_pass_is_told_apart_and_passes(kms, fault, said):
    wrapped = keys(kms).wrap(KEY, FOR)
    kms.fault, kms.said = fault, said
    start = time.monotonic()
    with pytest.raises(Unavailable, match="AWS KMS, key one"):
        keys(kms).unwrap(wrapped, FOR)
    assert time.monotonic() - start < 8
    kms.fault = None
    assert keys(kms).unwrap(wrapped, FOR) == KEY


def test_one_throttled_request_is_repeated(kms):
    kms.fault, kms.said, kms.times = 400, '{"__type": "ThrottlingException"}', 1
    wrapped = keys(kms).wrap(KEY, FOR)
    assert keys(kms).unwrap(wrapped, FOR) == KEY


def test_nobody_there_is_unavailable():
    with Kms() as gone:
        address = gone.address
    made = KmsKeys("one", region=Kms.region, endpoint=address, timeout_seconds=0.5)
    with pytest.raises(Unavailable, match="does not answer"):
        made.wrap(KEY, FOR)


def test_the_settings_choose_it(kms, tmp_path):
    service = KeyService(
        "aws-kms", aws_kms_key="one", aws_kms_region=Kms.region, aws_kms_endpoint=kms.address
    )
    made = provider(service, tmp_path)
    assert made.where == "AWS KMS, key one"
    assert made.unwrap(made.wrap(KEY, FOR), FOR) == KEY
    with pytest.raises(StoreError, match="SALUS_AWS_KMS_KEY is not set"):
        provider(KeyService("aws-kms"), tmp_path)
    with pytest.raises(StoreError, match="must begin with https"):
        provider(
            KeyService("aws-kms", aws_kms_key="one", aws_kms_endpoint="http://far.example"),
            tmp_path,
        )
