"""What is made of profiles when a resource is written.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["off", "warn", "enforce"]
MODES: tuple[Mode, ...] = ("off", "warn", "enforce")


@dataclass(frozen=True, slots=True)
class Writing:
    """What is made of profiles when a resource is written: nothing, a warning where the writer
    asks for an OperationOutcome, or a refusal. `types` and `profiles` are the exceptions, by the
    resource's type and by the canonical that it claims."""

    usual: Mode = "warn"
    types: Mapping[str, Mode] = field(default_factory=dict)
    profiles: Mapping[str, Mode] = field(default_factory=dict)
    # Whether anything is ever refused: asked at every write.
    enforces: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        modes = (self.usual, *self.types.values(), *self.profiles.values())
        object.__setattr__(self, "enforces", "enforce" in modes)

    def of(self, type: str, canonical: str) -> Mode:
        """What holds for a profile that a resource of a type claims."""
        named = self.profiles.get(canonical) or self.profiles.get(canonical.partition("|")[0])
        return named or self.types.get(type, self.usual)


def writing(words: Iterable[str]) -> Writing:
    """The policy in words: `warn`, `Patient=enforce`, `http://.../us-core-patient=off`. ValueError
    for others."""
    usual: Mode = "warn"
    types: dict[str, Mode] = {}
    profiles: dict[str, Mode] = {}
    for word in words:
        name, bar, value = word.rpartition("=")
        mode = next((each for each in MODES if each == value), None)
        if mode is None:
            raise ValueError(f"has `{word}`, which does not end in off, warn or enforce")
        if not bar:
            usual = mode
        elif ":" in name:
            profiles[name] = mode
        else:
            types[name] = mode
    return Writing(usual, types, profiles)
