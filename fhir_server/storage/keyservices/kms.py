"""Keys wrapped by AWS KMS, which keeps its own keys to itself.

https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fhir_server.storage.keys import FORMATS, check_format
from fhir_server.storage.store import StoreError, Unavailable

try:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
    )
except ModuleNotFoundError:
    raise StoreError(
        "SALUS_KEY_PROVIDER is aws-kms, which needs the package botocore: install salus-fhir[aws]"
    ) from None

_FORMAT = FORMATS["aws-kms"]  # begins what is wrapped here; the CiphertextBlob follows
_ATTEMPTS = 2

# Codes after which asking again may help, beside every answer from 500 on.
_AGAIN = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "KMSInternalException",
        "RequestTimeout",
    }
)

# What else KMS refuses, and what to do.
_REFUSED = {
    "InvalidCiphertextException": "what is asked is not what was wrapped, or was damaged since: "
    "check which keys.db belongs to this key",
    "IncorrectKeyException": "it was wrapped by another KMS key: name that in SALUS_AWS_KMS_KEY or "
    "SALUS_AWS_KMS_FORMER_KEYS",
    "AccessDeniedException": "allow kms:Encrypt and kms:Decrypt of this key to who Salus runs as",
    "NotFoundException": "correct SALUS_AWS_KMS_KEY and SALUS_AWS_KMS_REGION",
    "DisabledException": "enable the key",
    "KMSInvalidStateException": "cancel its deletion, or enable the key",
}
_UNCONFIGURED = (NoCredentialsError, NoRegionError, PartialCredentialsError, ProfileNotFound)


class KmsKeys:
    """A KeyProvider that asks KMS, as whoever the usual chain of credentials says. `former`: keys
    that wrapped before and still open."""

    def __init__(
        self,
        key: str,
        *,
        former: Sequence[str] = (),
        region: str = "",
        endpoint: str = "",
        timeout_seconds: float = 5.0,
    ) -> None:
        self.where = f"AWS KMS, key {key}"
        self._key, self._former = key, tuple(former)
        self._region, self._endpoint, self._timeout = region, endpoint, timeout_seconds
        self._lock = threading.Lock()
        self._client: Any = None

    def wrap(self, key: bytes, context: bytes) -> bytes:
        reply = self._asked(
            lambda client: client.encrypt(
                KeyId=self._key, Plaintext=key, EncryptionContext=_bound(context)
            )
        )
        return _FORMAT + bytes(reply["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        check_format(wrapped, "aws-kms", self.where)
        blob = wrapped[len(_FORMAT) :]
        for key in (self._key, *self._former):
            try:
                return self._decrypted(key, blob, context)
            except _AnotherKey as error:
                last = error
        raise StoreError(str(last)) from None

    def keep_apart(self, data: Path) -> None:
        """They are on other machines."""

    def renew(self) -> str:
        """KMS rotates the material of a key by itself; another key is a matter of settings."""
        return (
            "Everything is wrapped anew by the present key. To use another, name it in "
            "SALUS_AWS_KMS_KEY and this one in SALUS_AWS_KMS_FORMER_KEYS, restart, and rotate again"
        )

    def retire(self) -> None:
        """Former keys are KMS's."""

    def _decrypted(self, key: str, blob: bytes, context: bytes) -> bytes:
        reply = self._asked(
            lambda client: client.decrypt(
                KeyId=key, CiphertextBlob=blob, EncryptionContext=_bound(context)
            )
        )
        return bytes(reply["Plaintext"])

    def _asked(self, call: Callable[[Any], Any]) -> Any:
        try:
            client = self._opened()
            try:
                return call(client)
            finally:
                client.close()  # its connections; the next call opens others
        except ClientError as error:
            raise self._refusal(error) from None
        except _UNCONFIGURED as error:
            raise StoreError(
                f"{self.where} cannot be asked ({error}): set SALUS_AWS_KMS_REGION, and give Salus "
                "credentials (a role, or AWS's own variables)"
            ) from None
        except BotoCoreError as error:
            raise Unavailable(
                f"{self.where} does not answer ({type(error).__name__}): check the way to it"
            ) from None

    def _opened(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = botocore.session.get_session().create_client(
                    "kms",
                    region_name=self._region or None,
                    endpoint_url=self._endpoint or None,
                    config=Config(
                        connect_timeout=self._timeout,
                        read_timeout=self._timeout,
                        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
                    ),
                )
            return self._client

    def _refusal(self, error: ClientError) -> StoreError:
        code = str(error.response.get("Error", {}).get("Code", "no code"))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = f"{self.where} answers {status} ({code})"
        if code in _AGAIN or status >= 500 or status == 429:
            return Unavailable(f"{said}: wait until it serves again")
        kind = _AnotherKey if code == "IncorrectKeyException" else StoreError
        return kind(f"{said}: {_REFUSED.get(code, 'check its settings')}")


class _AnotherKey(StoreError):
    """It was wrapped by another KMS key than was asked."""


def _bound(context: bytes) -> dict[str, str]:
    """The encryption context, legible in CloudTrail."""
    return {"salus": quote(context, safe=" /")}
