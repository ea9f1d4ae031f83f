"""Who is asking and what they were granted: all that the rest of the server knows of a caller.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Context: TypeAlias = Literal["patient", "user", "system"]
LETTERS = "cruds"  # create, read, update, delete, search, in the order of the standard


class Scope(NamedTuple):
    """One clinical scope. `type` is a resource type or `*`; `letters` some of LETTERS, in their
    order; `query` the decoded search parameters of a granular scope, all of which must hold."""

    context: Context
    type: str
    letters: str
    query: tuple[tuple[str, str], ...] = ()

    def covers(self, type: str, letter: str) -> bool:
        """Whether the scope speaks of an interaction on a type at all."""
        return letter in self.letters and self.type in (type, "*")


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """What one access token allows. Whatever is not granted is denied.

    `name`: how the audit calls the caller, never a patient's name; `agent`: the caller's own
    resource ("Practitioner/1"), if any; `unrestricted`: every interaction on every resource.
    `id`: of the grant behind the token, to which paging links are bound; `client`: the app's id.
    `patient`: id of the one patient in context, to which `patient/` scopes are limited.
    `reach`: ids of the patients to whose compartments `user/` scopes are limited; None: the user
    is not limited to patients. `identity`: `openid fhirUser` was granted, so the agent's own
    resource, and no other, may be read whatever the scopes say. `confined`: the grant was given
    with `patient/` scopes, so all of it is limited to that patient, also where none of them is
    left: fewer scopes never open more. `account`: the user's login.

    Two grants are the same only when they are one object, so what is compiled for a grant is found
    again without looking at its fields.
    """

    name: str
    agent: str | None = None
    unrestricted: bool = False
    id: str = ""
    client: str = ""
    scopes: tuple[Scope, ...] = ()
    patient: str | None = None
    reach: frozenset[str] | None = frozenset()
    identity: bool = False
    confined: bool = False
    account: str | None = None

    @classmethod
    def open(cls) -> Grant:
        """The caller of a server that was started with --open: anybody on this machine."""
        return cls("anonymous (open server)", unrestricted=True)

    @classmethod
    def operator(cls, name: str) -> Grant:
        """A command on the server's own machine, which holds the keys anyway."""
        return cls(name, unrestricted=True)


NOBODY = Grant("unauthenticated")  # whoever shows no valid token
