"""Which key service wraps the keys, made from what the operator set.

https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from fhir_server.storage.keys import FileKeys, KeyProvider
from fhir_server.storage.store import StoreError

T = TypeVar("T")
Kind: TypeAlias = Literal["file", "pkcs11", "vault", "aws-kms"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class KeyService:
    """What the operator set about keys: `provider` says which of the others count. A file holds
    what is secret, never a variable."""

    provider: Kind = "file"
    pkcs11_module: Path | None = None
    pkcs11_token: str = ""
    pkcs11_key: str = "salus"
    pkcs11_pin_file: Path | None = None
    vault_address: str = ""
    vault_mount: str = "transit"
    vault_key: str = "salus"
    vault_token_file: Path | None = None
    vault_namespace: str = ""
    vault_ca: Path | None = None
    aws_kms_key: str = ""
    aws_kms_former_keys: tuple[str, ...] = ()
    aws_kms_region: str = ""
    aws_kms_endpoint: str = ""
    key_service_seconds: float = 5.0


def provider(service: KeyService, folder: Path) -> KeyProvider:
    """The one that is chosen; `folder` is that of the keys. StoreError where a setting is missing,
    or what it needs is not installed."""
    return _MADE[service.provider](service, folder)


def read_secret(file: Path, what: str) -> str:
    """What a file holds, without the space around it. StoreError."""
    try:
        mode = file.stat().st_mode
        held = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}, the {what}, cannot be read: {error}") from None
    if mode & stat.S_IRWXO:
        raise StoreError(
            f"{file}, the {what}, can be read by everybody on this machine: chmod 600 {file}, and "
            "replace what is in it"
        )
    if not held:
        raise StoreError(f"{file}, the {what}, is empty")
    return held


def _file(service: KeyService, folder: Path) -> KeyProvider:
    return FileKeys(folder)


def _pkcs11(service: KeyService, folder: Path) -> KeyProvider:
    from fhir_server.storage.keyservices.pkcs11 import TokenKeys

    return TokenKeys(
        _needed(service.pkcs11_module, "SALUS_PKCS11_MODULE", "the library of the token (.so)"),
        _needed(service.pkcs11_token, "SALUS_PKCS11_TOKEN", "the label of the token"),
        service.pkcs11_key,
        _needed(service.pkcs11_pin_file, "SALUS_PKCS11_PIN_FILE", "a file with the user's PIN"),
        timeout_seconds=service.key_service_seconds,
    )


def _transit(service: KeyService, folder: Path) -> KeyProvider:
    from fhir_server.storage.keyservices.transit import TransitKeys

    address = _needed(service.vault_address, "SALUS_VAULT_ADDRESS", "where Vault is")
    _private(address, "SALUS_VAULT_ADDRESS")
    return TransitKeys(
        address,
        service.vault_key,
        _needed(service.vault_token_file, "SALUS_VAULT_TOKEN_FILE", "a file with its token"),
        mount=service.vault_mount,
        namespace=service.vault_namespace,
        ca=service.vault_ca,
        timeout_seconds=service.key_service_seconds,
    )


def _kms(service: KeyService, folder: Path) -> KeyProvider:
    from fhir_server.storage.keyservices.kms import KmsKeys

    if service.aws_kms_endpoint:
        _private(service.aws_kms_endpoint, "SALUS_AWS_KMS_ENDPOINT")
    return KmsKeys(
        _needed(service.aws_kms_key, "SALUS_AWS_KMS_KEY", "the id, ARN or alias of the KMS key"),
        former=service.aws_kms_former_keys,
        region=service.aws_kms_region,
        endpoint=service.aws_kms_endpoint,
        timeout_seconds=service.key_service_seconds,
    )


_MADE: dict[Kind, Callable[[KeyService, Path], KeyProvider]] = {
    "file": _file,
    "pkcs11": _pkcs11,
    "vault": _transit,
    "aws-kms": _kms,
}


def _needed(given: T | None, variable: str, what: str) -> T:
    if not given:
        raise StoreError(f"{variable} is not set: it names {what}")
    return given


def _private(address: str, variable: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise StoreError(f"{variable} must begin with https://: keys travel there, not {address}")
