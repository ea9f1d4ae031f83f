"""What the operator decides about the log: who signs and witnesses it, who may have it, and where
its checkpoints go.

https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode


def _listed(given: Any) -> Any:
    """The parts of a comma-separated variable."""
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return given


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class LogSettings(BaseSettings):
    """The part of the settings that is about the log."""

    log_public: bool = Field(
        default=False,
        description="anybody may fetch the log's checkpoints and tiles, which hold hashes only; "
        "otherwise who may search all AuditEvents",
    )
    log_signer: str = Field(
        default="",
        description="address of a `salus audit signer` that has the log's key, away from the data; "
        "without it the key is here",
    )
    log_signer_key: str = Field(
        default="", description="the signer's verifier key, as it prints it"
    )
    log_signer_token: Path | None = Field(
        default=None, description="file of the token that the signer asks for"
    )
    log_witness: Listed = Field(
        default=(),
        description="witnesses that cosign the log, separated by commas: of each its verifier key, "
        "a space and its address",
    )
    log_publish_file: Path | None = Field(
        default=None,
        description="file that checkpoints of the log are appended to, best where nothing can be "
        "removed",
    )
    log_publish_url: str = Field(
        default="", description="address that checkpoints of the log are posted to"
    )
    log_publish_seconds: float = Field(
        default=60.0, ge=1, le=86_400, description="seconds between two checkpoints that go there"
    )

    @field_validator("log_signer_token", "log_publish_file")
    @classmethod
    def _absolute_path(cls, file: Path | None) -> Path | None:
        return None if file is None else file.expanduser().resolve()

    @model_validator(mode="after")
    def _signed_and_witnessed(self) -> LogSettings:
        """A signer and witnesses are named wholly."""
        if self.log_signer and not (self.log_signer_key and self.log_signer_token):
            raise ValueError(
                "SALUS_LOG_SIGNER needs SALUS_LOG_SIGNER_KEY and SALUS_LOG_SIGNER_TOKEN: `salus "
                "audit signer` prints both when it starts"
            )
        for each in self.log_witness:
            if len(each.split()) != 2:
                raise ValueError(
                    "SALUS_LOG_WITNESS takes, of each witness, its verifier key, a space and its "
                    f"address, not {each}"
                )
        return self
