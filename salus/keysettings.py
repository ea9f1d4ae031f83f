"""What the operator decides about keys: which key service wraps them, and how it is reached.

https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

if TYPE_CHECKING:
    from fhir_server.storage.keyservices.choice import KeyService


class KeySettings(BaseSettings):
    """The part of the settings that is about keys; a file holds what is secret of it."""

    key_provider: Literal["file", "pkcs11", "vault", "aws-kms"] = Field(
        default="file",
        description="what wraps the keys: a file in the folder of the keys, a PKCS#11 token, "
        "HashiCorp Vault's transit engine, or AWS KMS",
    )
    keys_on_this_machine: bool = Field(
        default=False,
        description="serve beyond this machine although the key that opens everything is in a "
        "file on it; the audit says so at each start",
    )
    key_service_seconds: float = Field(
        default=5.0, gt=0, le=60, description="how long the key service may take to answer"
    )
    key_cache_seconds: float = Field(
        default=60.0,
        ge=1,
        le=60,
        description="how long the server serves without its key service: opened keys are "
        "remembered for so long, and renewed at half of it",
    )
    pkcs11_module: Path | None = Field(
        default=None, description="library of the PKCS#11 token (.so)"
    )
    pkcs11_token: str = Field(default="", description="label of the PKCS#11 token")
    pkcs11_key: str = Field(
        default="salus", description="label of the key in the token; made there when it is missing"
    )
    pkcs11_pin_file: Path | None = Field(
        default=None, description="file with the PIN of the token's user, its owner's alone"
    )
    vault_address: str = Field(default="", description="address of HashiCorp Vault (https)")
    vault_mount: str = Field(
        default="transit", description="where Vault's transit engine is mounted"
    )
    vault_key: str = Field(
        default="salus", description="name of the transit key (type aes256-gcm96)"
    )
    vault_token_file: Path | None = Field(
        default=None,
        description="file with Vault's token, read again for each request: an agent may renew it",
    )
    vault_namespace: str = Field(default="", description="namespace in Vault, if any")
    vault_ca: Path | None = Field(
        default=None, description="certificates (PEM) to trust instead of the usual ones"
    )
    aws_kms_key: str = Field(
        default="",
        description="id, ARN or alias of the KMS key (symmetric); credentials are "
        "found as AWS's own tools find them",
    )
    aws_kms_former_keys: str = Field(
        default="", description="KMS keys that wrapped before and still open, separated by commas"
    )
    aws_kms_region: str = Field(
        default="", description="region of the KMS key, unless AWS's own settings name it"
    )
    aws_kms_endpoint: str = Field(
        default="", description="address of KMS, where it is not the usual one of the region"
    )

    @field_validator("pkcs11_module", "pkcs11_pin_file", "vault_token_file", "vault_ca")
    @classmethod
    def _absolute_file(cls, file: Path | None) -> Path | None:
        return None if file is None else file.expanduser().resolve()

    @model_validator(mode="after")
    def _soon_enough(self) -> KeySettings:
        """Half of the time that keys are remembered is left for the service to answer."""
        if self.key_cache_seconds < 2 * self.key_service_seconds:
            raise ValueError(
                "SALUS_KEY_CACHE_SECONDS must be at least twice SALUS_KEY_SERVICE_SECONDS: keys "
                "are renewed at half of it"
            )
        return self

    @property
    def key_service(self) -> KeyService:
        """What `keyservices.choice.provider` makes a KeyProvider of."""
        from fhir_server.storage.keyservices.choice import KeyService  # not for every command

        same = {each.name: getattr(self, each.name) for each in fields(KeyService)[1:]}
        former = tuple(each.strip() for each in self.aws_kms_former_keys.split(",") if each.strip())
        return KeyService(self.key_provider, **{**same, "aws_kms_former_keys": former})
