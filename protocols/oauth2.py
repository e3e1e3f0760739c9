"""OAuth 2.0 as gateways need it: assertion and client-credentials grants as forms, and token answers parsed.

Sources: RFC 6749 sections 4.4, 5.1 and 5.2; RFC 7523 section 2.1 (a JWT as a grant); Google, "Using OAuth 2.0 for
server to server applications"; Huawei, "OAuth 2.0-based authentication" (client credentials).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa

from protocols import jwt

FORM_TYPE = "application/x-www-form-urlencoded"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_LIFETIME_S = 3_600
"""The longest that Google takes (F-01)."""

ANSWER_BYTES_MAX = 65_536
"""A longer answer is not a token endpoint's (G-08)."""
TOKEN_CHARS_MAX = 4_096
LIFETIME_MAX_S = 86_400
"""A token is never trusted for longer than a day, whatever it is said to last."""

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What may enter a header; b64token of RFC 6750 section 2.1 and what vendors make of it."""
_ERROR = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")

REFUSALS = frozenset(
    {
        "invalid_grant",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_request",
        "access_denied",
        "account_not_found",
        "deleted_client",
    }
)
"""Errors that asking again cannot mend (RFC 6749 section 5.2, and Google's own)."""


class AccessToken(NamedTuple):
    """What a token endpoint gave: the token, and for how many seconds it is good."""

    value: str
    lifetime_s: float

    def __repr__(self) -> str:
        return f"AccessToken(lifetime_s={self.lifetime_s!r})"


class TokenError(ValueError):
    """No token came: `error` is the endpoint's word where it is one, `refused` whether asking again cannot help."""

    def __init__(self, error: str, *, refused: bool) -> None:
        super().__init__(f"no access token: {error}")
        self.error = error
        self.refused = refused


def assertion(
    private_key: rsa.RSAPrivateKey,
    *,
    key_id: str,
    issuer: str,
    audience: str,
    scope: str,
    now: float,
    lifetime_s: int = ASSERTION_LIFETIME_S,
) -> bytes:
    """The signed JWT by which a service account asks for a token; `now` in UNIX seconds (F-01)."""
    issued_at = int(now)
    claims = {"iss": issuer, "scope": scope, "aud": audience, "iat": issued_at, "exp": issued_at + lifetime_s}
    return jwt.rs256(private_key, {"typ": "JWT", "kid": key_id}, claims)


def assertion_form(signed: bytes) -> bytes:
    """The form that exchanges an assertion (RFC 7523 section 2.1)."""
    return urlencode({"grant_type": JWT_GRANT, "assertion": signed.decode()}).encode()


def client_credentials_form(client_id: str, client_secret: str, scope: str = "") -> bytes:
    """The form that exchanges a client's id and secret (RFC 6749 sections 2.3.1 and 4.4.2)."""
    fields = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    return urlencode(fields | ({"scope": scope} if scope else {})).encode()


def parse_answer(status: int, body: bytes) -> AccessToken:
    """The token of an answer; TokenError, which quotes nothing but a known word, for any other (F-05)."""
    answer = _object(body)
    if status != 200:
        error = answer.get("error")
        if isinstance(error, int):  # Huawei numbers its errors
            error = str(error)
        word = error if isinstance(error, str) and _ERROR.fullmatch(error) else f"status {status}"
        # Only what the endpoint itself says in OAuth's words is final: a middlebox refuses in words of its own.
        raise TokenError(word, refused=status in (400, 401, 403) and word in REFUSALS)
    value, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
    if not isinstance(value, str) or len(value) > TOKEN_CHARS_MAX or not _TOKEN.fullmatch(value):
        raise TokenError("an answer without a usable token", refused=False)
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenError("a token of another type than Bearer", refused=False)
    return AccessToken(value, _lifetime(answer.get("expires_in")))


def _lifetime(value: Any) -> float:
    """Seconds that a token is good; TokenError for no sane number (RFC 6749 section 5.1 only recommends one)."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise TokenError("a token without a lifetime", refused=False)
    return float(min(value, LIFETIME_MAX_S))


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > ANSWER_BYTES_MAX:
        return {}
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
