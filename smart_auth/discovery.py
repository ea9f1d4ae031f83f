"""What clients learn of the authorization server before they ask for anything. One description,
from which every document is taken, so that no two can differ.

https://hl7.org/fhir/smart-app-launch/conformance.html, https://www.rfc-editor.org/rfc/rfc8414,
https://openid.net/specs/openid-connect-discovery-1_0.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smart_auth.authority import (
    APPS,
    AUTHORIZE,
    BRANDS,
    INTROSPECT,
    JWKS,
    REGISTER,
    REVOKE,
    TOKEN,
    USERINFO,
    Authority,
    Policy,
    Site,
)
from smart_auth.brands import identifier
from smart_auth.offered import offered
from smart_auth.profiles import (
    AUTHORIZATION_CODE,
    BASIC,
    CLIENT_CREDENTIALS,
    NONE,
    POST,
    PRIVATE_KEY_JWT,
    PROFILES,
    REFRESH_TOKEN,
)
from smart_auth.signing import ALGORITHM

CAPABILITIES = (
    "launch-standalone launch-ehr client-public client-confidential-symmetric "
    "client-confidential-asymmetric sso-openid-connect context-standalone-patient "
    "context-standalone-encounter context-ehr-patient context-ehr-encounter context-banner "
    "context-style permission-offline permission-online permission-patient permission-user "
    "permission-v1 permission-v2 authorize-post"
).split()
_USUAL = Policy()
_METHODS = [NONE, BASIC, POST, PRIVATE_KEY_JWT]
_PROVEN = [BASIC, POST, PRIVATE_KEY_JWT]  # by clients that are not just named
_ALGORITHMS = sorted({alg for each in PROFILES.values() for alg in each.algorithms}, reverse=True)

# The parts of the extension `oauth-uris` of a CapabilityStatement and the members of the
# description that they must equal.
_URIS = {
    "authorize": "authorization_endpoint",
    "token": "token_endpoint",
    "introspect": "introspection_endpoint",
    "manage": "management_endpoint",
    "register": "registration_endpoint",
    "revoke": "revocation_endpoint",
}
_SMART = (
    "issuer jwks_uri authorization_endpoint token_endpoint introspection_endpoint "
    "revocation_endpoint management_endpoint registration_endpoint userinfo_endpoint "
    "grant_types_supported response_types_supported response_modes_supported "
    "code_challenge_methods_supported token_endpoint_auth_methods_supported "
    "token_endpoint_auth_signing_alg_values_supported scopes_supported capabilities "
    "authorization_response_iss_parameter_supported user_access_brand_bundle "
    "user_access_brand_identifier"
).split()
_OAUTH = (
    "issuer authorization_endpoint token_endpoint jwks_uri registration_endpoint scopes_supported "
    "response_types_supported response_modes_supported grant_types_supported "
    "token_endpoint_auth_methods_supported token_endpoint_auth_signing_alg_values_supported "
    "revocation_endpoint revocation_endpoint_auth_methods_supported "
    "revocation_endpoint_auth_signing_alg_values_supported introspection_endpoint "
    "introspection_endpoint_auth_methods_supported "
    "introspection_endpoint_auth_signing_alg_values_supported code_challenge_methods_supported "
    "authorization_response_iss_parameter_supported"
).split()
_OPENID = [
    *_OAUTH,
    *(
        "userinfo_endpoint subject_types_supported id_token_signing_alg_values_supported "
        "claims_supported prompt_values_supported request_parameter_supported "
        "request_uri_parameter_supported"
    ).split(),
]


def smart_configuration(authority: Authority) -> dict[str, Any]:
    """`.well-known/smart-configuration` of the FHIR base."""
    return _taken(authority, _SMART)


def oauth_metadata(authority: Authority) -> dict[str, Any]:
    """`.well-known/oauth-authorization-server` of the issuer (RFC 8414)."""
    return _taken(authority, _OAUTH)


def openid_configuration(authority: Authority) -> dict[str, Any]:
    """`.well-known/openid-configuration` of the issuer."""
    return _taken(authority, _OPENID)


def oauth_uris(site: Site, policy: Policy = _USUAL) -> Mapping[str, str]:
    """The parts of the extension `oauth-uris` in CapabilityStatement.rest.security, by name."""
    endpoints = _endpoints(site, policy)
    return {part: endpoints[name] for part, name in _URIS.items() if name in endpoints}


def _taken(authority: Authority, names: list[str]) -> dict[str, Any]:
    whole = _description(authority)
    return {name: whole[name] for name in names if name in whole}


def _endpoints(site: Site, policy: Policy) -> dict[str, str]:
    found = {
        "authorization_endpoint": site.at(AUTHORIZE),
        "token_endpoint": site.at(TOKEN),
        "introspection_endpoint": site.at(INTROSPECT),
        "revocation_endpoint": site.at(REVOKE),
        "management_endpoint": site.at(APPS),
        "userinfo_endpoint": site.at(USERINFO),
        "jwks_uri": site.at(JWKS),
    }
    if policy.registration != "off":
        found["registration_endpoint"] = site.at(REGISTER)
    return found


def _description(authority: Authority) -> dict[str, Any]:
    site = authority.site
    return {
        "issuer": site.fhir,
        **_endpoints(site, authority.policy),
        "grant_types_supported": [AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        **{
            f"{endpoint}_endpoint_auth_{what}_supported": values
            for endpoint, methods in (
                ("token", _METHODS),
                ("revocation", _METHODS),
                ("introspection", _PROVEN),
            )
            for what, values in (("methods", methods), ("signing_alg_values", _ALGORITHMS))
        },
        "scopes_supported": offered(authority.directory),
        "capabilities": list(CAPABILITIES),
        "authorization_response_iss_parameter_supported": True,
        "user_access_brand_bundle": site.at(BRANDS),
        "user_access_brand_identifier": identifier(site),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "claims_supported": "iss sub aud exp iat auth_time amr nonce at_hash fhirUser".split(),
        "prompt_values_supported": ["none", "login", "consent"],
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }
