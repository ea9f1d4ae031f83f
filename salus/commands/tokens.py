"""`salus token`: an access token for curl, given by the operator.

https://www.rfc-editor.org/rfc/rfc6750
"""

from __future__ import annotations

from typing import Annotated

from salus.commands.asking import Data, Keys, answered
from salus.operator import requests
from salus.terminal import err, explained, option


def token(
    scope: Annotated[str, option(help="What it is for, as SMART scopes.")],
    client: Annotated[
        str | None, option(help="The app it is for [the operator's own, for system/ scopes].")
    ] = None,
    user: Annotated[str | None, option(help="On whose behalf, for user/ and patient/.")] = None,
    patient: Annotated[str | None, option(help="Id of the patient in context.")] = None,
    minutes: Annotated[int, option(help="How long it lives.", min=1, max=1440)] = 60,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Print an access token; that it was given is in the audit.

    [bold]Examples[/]

      curl -H "Authorization: Bearer $(salus token --scope 'system/*.rs')" http://127.0.0.1:8080/fhir/Patient

      salus token --client growth --user maria --patient ada --scope "patient/*.rs"
    """
    with explained():
        asked = requests.IssueToken(
            client=client, scope=scope, user=user, patient=patient, minutes=minutes
        )
        made = answered(data, keys, asked, requests.Token)
    err.print(
        f"Grants {made.scope} for {made.expires_in // 60} minutes", highlight=False, markup=False
    )
    print(made.token)
