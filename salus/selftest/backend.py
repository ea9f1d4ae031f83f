"""A token for a client that proves itself by a key, as backend services do.

https://hl7.org/fhir/smart-app-launch/backend-services.html
"""

from __future__ import annotations

import json
import secrets
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from salus.problem import Problem

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIFE_SECONDS = 240  # of an assertion; the guide allows five minutes
_TIMEOUT_SECONDS = 30.0
_ALGORITHMS = {"EC": "ES384", "RSA": "RS384"}


def backend_token(
    url: str, client: str, key: Path, scope: str, verify: ssl.SSLContext | bool = True
) -> str:
    """The access token that the server at a FHIR base gives to a client. Problem."""
    made, algorithm = _key(key)
    with httpx.Client(verify=verify, trust_env=False, timeout=_TIMEOUT_SECONDS) as http:
        try:
            endpoint = _endpoint(http, url)
            answer = http.post(
                endpoint,
                data={
                    "grant_type": "client_credentials",
                    "scope": scope,
                    "client_assertion_type": ASSERTION,
                    "client_assertion": _assertion(client, endpoint, made, algorithm),
                },
            )
        except httpx.HTTPError as error:
            raise Problem(f"No token could be asked for: {error}") from None
    told = _object(answer)
    token = told.get("access_token")
    if answer.status_code != 200 or not isinstance(token, str):
        why = told.get("error_description") or told.get("error") or f"status {answer.status_code}"
        raise Problem(f"The server gives {client} no token: {why}")
    return token


def _key(path: Path) -> tuple[ECKey | RSAKey, str]:
    try:
        found = json.loads(path.read_bytes())
        kind = ECKey if found.get("kty") == "EC" else RSAKey
        algorithm = found.get("alg") or _ALGORITHMS[found.get("kty")]
        return kind.import_key(found), str(algorithm)
    except OSError as error:
        raise Problem(f"The key {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, AttributeError, JoseError):
        raise Problem(f"{path} is no private JWK, EC or RSA") from None


def _endpoint(http: httpx.Client, url: str) -> str:
    place = f"{url.rstrip('/')}/.well-known/smart-configuration"
    answer = http.get(place, headers={"Accept": "application/json"})
    endpoint = _object(answer).get("token_endpoint")
    if not isinstance(endpoint, str):
        raise Problem(f"{place} names no token endpoint")
    return endpoint


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _assertion(client: str, endpoint: str, key: ECKey | RSAKey, algorithm: str) -> str:
    now = int(time.time())
    claims = {
        "iss": client,
        "sub": client,
        "aud": endpoint,
        "iat": now,
        "exp": now + _LIFE_SECONDS,
        "jti": secrets.token_urlsafe(16),
    }
    header = {"alg": algorithm, "kid": key.kid or key.thumbprint(), "typ": "JWT"}
    return jwt.encode(header, claims, key, algorithms=[algorithm])
