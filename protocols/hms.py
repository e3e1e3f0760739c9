"""HMS Push Kit requests: paths, tokens, limits and bodies around a list of tokens, checked before a byte is made.

Theory. One request carries one message for up to a thousand tokens. The message is encoded once, with an empty list at
its end; a request is that text with the tokens joined into it, so no JSON is made per token. Tokens hold nothing that
JSON would have to escape, which `check_token` sees to.

Sources: Huawei, "Push Kit REST API: Sending Messages" (v1, v2), "OAuth 2.0-based Authentication: Client Credentials".
Answers are in `protocols.hms_reasons`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

TOKENS_MAX = 1_000
"""Tokens of one request (H-04)."""

MESSAGE_BYTES_MAX = 4_096
"""Bytes of `message`, tokens not counted (H-04)."""

TTL_MAX_S = 1_296_000
"""15 days (H-05)."""

TOKEN_PATH = "/oauth2/v3/token"  # noqa: S105  a path
"""Of the OAuth endpoint (H-01)."""

TOKEN_CHARS_MAX = 512
_TOKEN = re.compile(rf"[!#-\[\]-~]{{1,{TOKEN_CHARS_MAX}}}")
_ID = re.compile(r"[0-9]{1,20}")

_HEAD, _TAIL = b'{"validate_only":false,"message":', b"}"
_EMPTY_LIST = b'"token":[]}'
FRAME_BYTES = len(_HEAD) + len(_TAIL) + len(_EMPTY_LIST)
"""What `frame` adds to a message that has at least one field: its closing brace becomes a comma."""


def check_id(text: str) -> str:
    """The id of an app or a project; ValueError for what cannot be one and must not enter a path."""
    if not _ID.fullmatch(text):
        raise ValueError("an id of HMS is a number")
    return text


def check_token(token: str) -> str:
    """The token; ValueError, which never holds it, when it cannot be one."""
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"an HMS token is printable ASCII without quotes, of at most {TOKEN_CHARS_MAX} characters")
    return token


def is_token(token: bytes) -> bool:
    """Whether this may enter a body as it is."""
    return token.isascii() and _TOKEN.fullmatch(token.decode()) is not None


def send_path(client_id: str, project_id: str = "") -> str:
    """The path of sends: by project (v2) where one is given, else by client id (v1, H-03)."""
    if project_id:
        return f"/v2/{check_id(project_id)}/messages:send"
    return f"/v1/{check_id(client_id)}/messages:send"


def frame(message: bytes) -> bytes:
    """The body of a request that has no tokens yet, around an encoded message with at least one field."""
    assert message[-1:] == b"}"
    assert len(message) > 2
    return _HEAD + message[:-1] + b"," + _EMPTY_LIST + _TAIL


def body(framed: bytes, tokens: Sequence[bytes]) -> bytes:
    """The body of a request for these tokens: 1 to 1,000, each once (H-04)."""
    assert 0 < len(tokens) <= TOKENS_MAX
    cut = len(framed) - 3  # before `]}}`
    return framed[:cut] + b'"' + b'","'.join(tokens) + b'"' + framed[cut:]


def probe_frame() -> bytes:
    """The body, without its token, of a request that is only checked and reaches nobody."""
    return frame(b'{"data":"{}"}').replace(b'"validate_only":false', b'"validate_only":true', 1)
