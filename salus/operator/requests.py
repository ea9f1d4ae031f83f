"""What the operator's commands ask of a server, and what they are answered: one struct each, so
that both ends mean the same.

https://jcristharif.com/msgspec/structs.html#tagged-unions
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

# --- what is asked -------------------------------------------------------------------------------


class RegisterClient(Struct, frozen=True, kw_only=True, tag="register-client"):
    """`authentication`: none, client_secret or private_key_jwt; `native`: it runs on a device."""

    id: str
    name: str
    profile: str
    authentication: Literal["none", "client_secret", "private_key_jwt"]
    redirect_uris: tuple[str, ...] = ()
    launch_uri: str | None = None
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    scopes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    native: bool = True


class ListClients(Struct, frozen=True, tag="list-clients"):
    """All of them."""


class ShowClient(Struct, frozen=True, tag="show-client"):
    id: str


class RotateSecret(Struct, frozen=True, tag="rotate-secret"):
    id: str


class ChangeClient(Struct, frozen=True, tag="change-client"):
    id: str
    to: Literal["disabled", "enabled", "removed"]


class OfferRegistration(Struct, frozen=True, kw_only=True, tag="offer-registration"):
    """A token with which one app may register itself, with one of `profiles` and no more than
    `scopes` (empty: what the profile allows)."""

    profiles: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    days: int = 7


class AddUser(Struct, frozen=True, kw_only=True, tag="add-user"):
    """Without a password, the answer holds a link by which the user chooses one."""

    name: str
    who: str | None = None
    display: str = ""
    administrator: bool = False
    password: str | None = None


class ListUsers(Struct, frozen=True, tag="list-users"):
    """All of them."""


class ChangeUser(Struct, frozen=True, tag="change-user"):
    """`alone`: also where nobody who administers would be left."""

    name: str
    to: Literal["disabled", "enabled", "removed", "signed out"]
    alone: bool = False


class ResetUser(Struct, frozen=True, tag="reset-user"):
    """A link by which a user chooses another password; `factors`: the second factor as well."""

    name: str
    factors: bool = False


class LinkUser(Struct, frozen=True, tag="link-user"):
    """`who`: the resource that the user is from now on; None: none."""

    name: str
    who: str | None


class IssueToken(Struct, frozen=True, kw_only=True, tag="issue-token"):
    """`client` None: a client of the operator's own. `user`: on whose behalf; `patient`: in
    context."""

    client: str | None
    scope: str
    user: str | None = None
    patient: str | None = None
    minutes: int = 60


KeysHappening: TypeAlias = Literal[
    "key service's key replaced",
    "keys moved to another key service",
    "intermediate keys replaced",
    "keys backed up",
    "keys restored",
]


class NoteKeys(Struct, frozen=True, tag="note-keys"):
    """Tell the audit what happens to the keys."""

    what: KeysHappening


class RenewDataKeys(Struct, frozen=True, tag="renew-data-keys"):
    """Let every owner have a new data key at the next write."""


class NoteBackup(Struct, frozen=True, tag="note-backup"):
    """Tell the audit that the data is backed up."""


class ErasePatient(Struct, frozen=True, kw_only=True, tag="erase-patient"):
    """`dry`: tell what would go, and do nothing."""

    id: str
    basis: str = ""
    dry: bool = False


class HoldPatient(Struct, frozen=True, tag="hold-patient"):
    """A legal hold; `reason` None ends it."""

    id: str
    reason: str | None


class ListHolds(Struct, frozen=True, tag="list-holds"):
    """All of them."""


class ExpireAudit(Struct, frozen=True, tag="expire-audit"):
    """End the months of the audit before one ("2020-11"); None: those that the setting says."""

    before: str | None = None


class AddPiece(Struct, frozen=True, tag="add-piece"):
    """A piece of a package, in the form in which packages are kept; `upload`: which package's."""

    upload: str
    number: int
    data: bytes


class InstallPackage(Struct, frozen=True, kw_only=True, tag="install-package"):
    """Install what was sent in pieces; `strict`: only when all that it depends on is there."""

    upload: str
    pieces: int
    strict: bool = False


class ListPackages(Struct, frozen=True, tag="list-packages"):
    """All of them."""


class RemovePackage(Struct, frozen=True, tag="remove-package"):
    name: str
    version: str


class Reindex(Struct, frozen=True, tag="reindex"):
    """Index the types of these parameters (urls), these types or all anew; of none of them only
    tell how far it is. `finish`: answer when nothing is left to be indexed."""

    parameters: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    all: bool = False
    finish: bool = False


class FirstStart(Struct, frozen=True, tag="first-start"):
    """Make an administrator where there is nobody yet."""


Asked: TypeAlias = (
    RegisterClient
    | ListClients
    | ShowClient
    | RotateSecret
    | ChangeClient
    | OfferRegistration
    | AddUser
    | ListUsers
    | ChangeUser
    | ResetUser
    | LinkUser
    | IssueToken
    | ErasePatient
    | HoldPatient
    | ListHolds
    | ExpireAudit
    | AddPiece
    | InstallPackage
    | ListPackages
    | RemovePackage
    | Reindex
    | FirstStart
    | NoteBackup
    | NoteKeys
    | RenewDataKeys
)

# --- what is answered ----------------------------------------------------------------------------


class Done(Struct, frozen=True):
    """It happened."""


class ClientShown(Struct, frozen=True, kw_only=True):
    """A client as its operator sees it; `secret` only where it was just made. `used`: when a token
    was last issued to it, microseconds since 1970, None for never; `may`: what it may see, in
    words; `kids`: the names of its keys, where it registered the keys themselves."""

    id: str
    name: str
    profile: str
    authentication: str
    redirect_uris: tuple[str, ...]
    launch_uri: str | None
    scopes: tuple[str, ...]
    may: tuple[str, ...]
    origins: tuple[str, ...]
    registered: int
    registered_by: str
    disabled: bool
    grants: int
    used: int | None
    kids: tuple[str, ...] = ()
    secret: str | None = None


class Clients(Struct, frozen=True):
    clients: tuple[ClientShown, ...]


class Secret(Struct, frozen=True):
    """A secret that is shown this once; the one of before is taken for `overlap_hours` more."""

    secret: str
    overlap_hours: int


class Offered(Struct, frozen=True):
    """`policy`: the server's, on which it depends whether the token is needed or of use."""

    token: str
    policy: str


class UserShown(Struct, frozen=True, kw_only=True):
    """`link`: where the user chooses a password, when one was just made; `note`: what the operator
    should know of it."""

    name: str
    who: str | None
    display: str
    administrator: bool
    disabled: bool
    password: bool
    second_factor: bool
    link: str | None = None
    note: str | None = None


class Users(Struct, frozen=True):
    users: tuple[UserShown, ...]


class Token(Struct, frozen=True):
    """`scope`: what was granted; `expires_in`: seconds."""

    token: str
    scope: str
    expires_in: int


class DataKeysRenewed(Struct, frozen=True):
    """How many owners had a data key."""

    owners: int


class Erased(Struct, frozen=True, kw_only=True):
    """What went, or would go. `types`: resources by their type, with `versions` in all; `cut` and
    `gone`, of a dry run that had the time to look (`foreseen`): resources of others by type that
    would lose what names the patient, that would be removed; `changed`:
    resources of others that named the patient and do not any more, `redacted`: old versions of
    such, `removed`: what was about nothing else, `results`: remembered answers. `finished`: whether
    all of that is done already; `tidy`: whether no trace is left in the files; `left`: resources
    that stay as they are for a legal hold, `unread`: records that are damaged. `held`: whether a
    legal hold forbids it. `remains`: what stays, and why; `final`: the day from which on no copy of
    the keys is left."""

    id: str
    dry: bool
    types: tuple[tuple[str, int], ...]
    versions: int
    held: bool = False
    foreseen: bool = False
    cut: tuple[tuple[str, int], ...] = ()
    gone: tuple[tuple[str, int], ...] = ()
    finished: bool = False
    changed: int = 0
    redacted: int = 0
    removed: int = 0
    results: int = 0
    tidy: bool = False
    left: int = 0
    unread: int = 0
    remains: tuple[str, ...] = ()
    final: str | None = None


class Holds(Struct, frozen=True):
    """Id of the patient, reason and time (microseconds since 1970) of each."""

    holds: tuple[tuple[str, str, int], ...]


class Expired(Struct, frozen=True):
    """Each month that ended, and how many events it had."""

    months: tuple[tuple[str, int], ...]


class PackageShown(Struct, frozen=True, kw_only=True):
    """`counts`: resources by type; `size`: bytes as it is kept; `installed`: microseconds since
    1970, None for core; `missing`: what it depends on and is not there."""

    name: str
    version: str
    title: str
    counts: tuple[tuple[str, int], ...]
    size: int
    installed: int | None
    missing: tuple[str, ...]


class PackagesShown(Struct, frozen=True):
    packages: tuple[PackageShown, ...]


class PackageInstalled(Struct, frozen=True, kw_only=True):
    """`replaced`: whether it was there before; `dependencies`: name, version, and the version that
    is there instead, of those that are not there; `value_sets`, `profiles`: how many of what it
    names nobody has, by the address that they lie below."""

    name: str
    version: str
    title: str
    counts: tuple[tuple[str, int], ...]
    replaced: bool
    dependencies: tuple[tuple[str, str, str], ...]
    value_sets: tuple[tuple[str, int], ...]
    profiles: tuple[tuple[str, int], ...]


class SearchedBy(Struct, frozen=True, kw_only=True):
    """A search parameter beyond R4's: active, building, or refused and `why`; `failed`: on how many
    resources its expression gave nothing that could be indexed."""

    url: str
    origin: str
    state: str
    type: str = ""
    code: str = ""
    failed: int = 0
    why: str = ""


class Reindexed(Struct, frozen=True):
    """`building`: types that are being looked through, how many of their resources are done, of
    about how many."""

    parameters: tuple[SearchedBy, ...]
    building: tuple[tuple[str, int, int], ...]


class First(Struct, frozen=True):
    """`link`: where the first administrator chooses a password; None when somebody is there.
    `administered`: whether an administrator can sign in, or will by the link."""

    name: str | None
    link: str | None
    administered: bool = True
