"""What the operator decides about validation against profiles.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from fhir_server.writing import Writing, writing
from salus.logsettings import Listed


class ValidationSettings(BaseSettings):
    """The part of the settings that is about profiles on a write."""

    validate_profiles: Listed = Field(
        default=("warn",),
        description="what is made of the profiles that a written resource claims: off, warn (told "
        "to who asks for an OperationOutcome) or enforce (refused with 422). Exceptions follow, "
        "separated by commas, by type or by profile: warn,Patient=enforce,http://...=off",
    )

    @field_validator("validate_profiles")
    @classmethod
    def _readable(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for type in writing(words).types:
            _require_type(type)
        return words

    @property
    def writing(self) -> Writing:
        """The policy."""
        return writing(self.validate_profiles)


def _require_type(name: str) -> None:
    """ValueError for what is no type of R4: of what is misspelt nothing would be enforced."""
    from conformance.definitions import load  # commands that need none start without
    from fhir_server.search.nearest import nearest

    types = load().types
    if name not in types:
        raise ValueError(
            f"names `{name}`, which is no resource type of R4, and no profile, whose url it would "
            f"name in full{nearest(name, types)}"
        )
