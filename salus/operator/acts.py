"""What the operator's commands do: one function each, found by what is asked.

https://www.rfc-editor.org/rfc/rfc7591, https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from salus.operator import (
    backups,
    clients,
    keyring,
    packages,
    patients,
    reindexing,
    requests,
    tokens,
    users,
)
from salus.problem import Problem
from salus.product import Product
from smart_auth.accounts import BadAccount
from smart_auth.errors import OAuthError
from smart_auth.passwords import WeakPassword
from smart_auth.scopes import BadScope

_ACTS: Mapping[type[Struct], Callable[[Product, Any], Awaitable[Struct]]] = {
    requests.RegisterClient: clients.register,
    requests.ListClients: clients.listed,
    requests.ShowClient: clients.show,
    requests.RotateSecret: clients.rotate,
    requests.ChangeClient: clients.change,
    requests.OfferRegistration: clients.offer,
    requests.AddUser: users.add,
    requests.ListUsers: users.listed,
    requests.ChangeUser: users.change,
    requests.ResetUser: users.reset,
    requests.LinkUser: users.link,
    requests.FirstStart: users.first,
    requests.IssueToken: tokens.issue,
    requests.ErasePatient: patients.erase,
    requests.HoldPatient: patients.hold,
    requests.ListHolds: patients.holds,
    requests.ExpireAudit: patients.expire,
    requests.AddPiece: packages.piece,
    requests.InstallPackage: packages.install,
    requests.ListPackages: packages.listed,
    requests.RemovePackage: packages.remove,
    requests.Reindex: reindexing.reindex,
    requests.NoteBackup: backups.note,
    requests.NoteKeys: keyring.note,
    requests.RenewDataKeys: keyring.renew,
}


async def perform(product: Product, asked: requests.Asked) -> Struct:
    """Do what is asked. Problem, with what to do instead."""
    try:
        return await _ACTS[type(asked)](product, asked)
    except OAuthError as error:
        raise Problem(error.description) from None
    except (BadAccount, WeakPassword, BadScope) as error:
        raise Problem(str(error)) from None
