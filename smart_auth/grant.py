"""Who is asking and what they were granted: all that the rest of the server knows of a caller.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """`agent`: the caller's own resource ("Practitioner/1"), if any; `name`: how the audit calls
    it, never a patient's name; `unrestricted`: every interaction on every resource. Whatever is not
    granted is denied."""

    name: str
    agent: str | None = None
    unrestricted: bool = False

    @classmethod
    def open(cls) -> Grant:
        """The caller of a server that was started with --open: anybody on this machine."""
        return cls("anonymous (open server)", unrestricted=True)

    @classmethod
    def operator(cls, name: str) -> Grant:
        """A command on the server's own machine, which holds the keys anyway."""
        return cls(name, unrestricted=True)
