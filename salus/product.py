"""The parts of a running Salus that its pages, its FHIR API and its operator's commands share.

https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.audit.publishing import Publisher
from fhir_server.server import Server
from salus.ending import Ending
from salus.settings import Settings
from smart_auth.authority import Authority
from smart_auth.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Product:
    """Made once when the store opens. `operator`: the key of the operator's channel, known to
    whoever can read the data and the keys. `log`: where the log is signed; `ending`: what ends
    while the server runs."""

    settings: Settings
    server: Server
    authority: Authority
    tokens: Tokens
    operator: bytes
    log: Publisher
    ending: Ending
