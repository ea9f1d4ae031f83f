"""Refusals of the authorization server, as OAuth names them.

https://www.rfc-editor.org/rfc/rfc6749#section-5.2, https://www.rfc-editor.org/rfc/rfc6750
"""

from __future__ import annotations

_STATUS = {
    "invalid_client": 401,
    "invalid_token": 401,
    "access_denied": 403,
    "insufficient_scope": 403,
    "slow_down": 429,
    "server_error": 500,
    "temporarily_unavailable": 503,
}


class OAuthError(Exception):
    """`error` is the standard's code, `description` says what to do, without a secret or anything
    about a patient; `headers` go with the answer (WWW-Authenticate, Retry-After)."""

    def __init__(
        self,
        error: str,
        description: str,
        *,
        status: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error, self.description, self.headers = error, description, headers
        self.status = status or _STATUS.get(error, 400)

    def body(self) -> dict[str, str]:
        """The JSON of the answer."""
        return {"error": self.error, "error_description": self.description}
