"""HMS answers: Huawei's table of result codes, what each means for us, and a parser of hostile bodies.

Theory. There are two layers: the HTTP status, and in a 200 or a 400 a `code` (H-06). A 200 alone is no success. `code`
decides where there is one, else the status. `lookup` turns both into a position in `REASONS`, which callers may store:
**the table only ever grows at its end**. Only an exact code, a text as documented, ends tokens (G-04, X-30).

Source: Huawei, "Push Kit REST API: Sending Messages", result codes.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, NamedTuple

import orjson

BODY_BYTES_MAX = 262_144
"""A partial success lists up to a thousand tokens, escaped twice."""


class Verdict(Enum):
    """What an answer means for the rows of a request, the credential and the service."""

    ACCEPTED = "accepted"
    PARTIAL = "partial"
    """All but the tokens it lists are accepted; never send any of it again."""
    TOKENS_BAD = "tokens_bad"
    """None of the tokens is one of this app: retire them, behind the breaker, for a wrong app id says the same."""
    TOKEN_BAD = "token_bad"  # noqa: S105  a device token's state, not a password
    """This one is none, as a partial success says."""
    MESSAGE_BAD = "message_bad"
    RETRY = "retry"
    THROTTLED = "throttled"
    """The app's quota is used up: slow it down."""
    LOGIN_STALE = "login_stale"
    """The access token is refused: fetch another once, repeat once."""
    CREDENTIAL_BAD = "credential_bad"


class HmsReason(NamedTuple):
    """One line of the table."""

    code: str
    """Huawei's result code; empty: the HTTP status alone."""
    status: int
    """HTTP status where there is no code; 0: any."""
    name: str
    verdict: Verdict


def _code(code: str, name: str, verdict: Verdict) -> HmsReason:
    return HmsReason(code, 0, f"{code}_{name}", verdict)


def _status(status: int, name: str, verdict: Verdict) -> HmsReason:
    return HmsReason("", status, name, verdict)


REASONS: tuple[HmsReason, ...] = (
    # Append only: positions are stored.
    _code("80000000", "success", Verdict.ACCEPTED),
    _code("80100000", "partial_success", Verdict.PARTIAL),
    _code("80100001", "bad_parameter", Verdict.MESSAGE_BAD),
    _code("80100003", "bad_structure", Verdict.MESSAGE_BAD),
    _code("80100004", "bad_ttl", Verdict.MESSAGE_BAD),
    _code("80100013", "bad_collapse_key", Verdict.MESSAGE_BAD),
    _code("80100016", "sensitive_content", Verdict.MESSAGE_BAD),
    _code("80100017", "too_many_topic_tasks", Verdict.RETRY),
    _code("80100018", "content_refused", Verdict.MESSAGE_BAD),
    _code("80200001", "unauthenticated", Verdict.LOGIN_STALE),
    _code("80200003", "access_token_expired", Verdict.LOGIN_STALE),
    _code("80200005", "jwt_expired", Verdict.LOGIN_STALE),
    _code("80300002", "no_permission", Verdict.CREDENTIAL_BAD),
    _code("80300007", "all_tokens_invalid", Verdict.TOKENS_BAD),
    _code("80300008", "message_too_large", Verdict.MESSAGE_BAD),
    _code("80300010", "bad_token_count", Verdict.MESSAGE_BAD),
    _code("80300011", "no_right_to_high_priority", Verdict.MESSAGE_BAD),
    _code("80300013", "bad_receipt_address", Verdict.MESSAGE_BAD),
    _code("80600003", "oauth_backend_failed", Verdict.RETRY),
    _code("81000001", "internal_error", Verdict.RETRY),
    # What has no code, by status.
    _status(200, "status_200_without_code", Verdict.RETRY),
    _status(400, "status_400", Verdict.MESSAGE_BAD),
    _status(401, "status_401", Verdict.LOGIN_STALE),
    _status(403, "status_403", Verdict.CREDENTIAL_BAD),
    _status(404, "status_404", Verdict.CREDENTIAL_BAD),
    _status(429, "status_429", Verdict.THROTTLED),
    _status(499, "status_4xx", Verdict.MESSAGE_BAD),
    _status(500, "status_500", Verdict.RETRY),
    _status(502, "status_502", Verdict.RETRY),
    _status(503, "flow_control", Verdict.THROTTLED),
    _status(599, "status_5xx", Verdict.RETRY),
    _status(0, "no_answer_of_hms", Verdict.RETRY),
    # What pushd itself reads out of an answer.
    _status(1, "illegal_token", Verdict.TOKEN_BAD),
    _status(2, "partial_success_unreadable", Verdict.ACCEPTED),
    _status(3, "unauthenticated_again", Verdict.CREDENTIAL_BAD),
    _status(4, "oauth_refused", Verdict.CREDENTIAL_BAD),
)
"""Every answer that Huawei documents, and lines by class for the rest: 499 any other 4xx, 599 any other 5xx."""

_BY_CODE = {row.code: index for index, row in enumerate(REASONS) if row.code}
_BY_STATUS = {row.status: index for index, row in enumerate(REASONS) if not row.code}

ILLEGAL_TOKEN = _BY_STATUS[1]
PARTIAL_UNREADABLE = _BY_STATUS[2]
UNAUTHENTICATED_AGAIN = _BY_STATUS[3]
OAUTH_REFUSED = _BY_STATUS[4]

_ENDS_TOKENS = frozenset({Verdict.PARTIAL, Verdict.TOKENS_BAD})
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Answer(NamedTuple):
    """What an answer says."""

    line: int
    """Its place in `REASONS`."""
    known: bool
    """Whether Huawei documents it."""
    request_id: str
    """To name to Huawei's support; empty where none came."""
    illegal: frozenset[bytes] | None
    """The tokens that a partial success calls illegal; None where it cannot be read."""

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        return REASONS[self.line].verdict


def parse_answer(status: int, body: bytes) -> Answer:
    """What an answer says, whatever its body is: HTML, cut off, of other types (G-08)."""
    said = _object(body)
    code, exact = said.get("code"), True
    if isinstance(code, int) and not isinstance(code, bool):
        code, exact = str(code), False
    request_id = said.get("requestId")
    name = request_id if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id) else ""
    index = _BY_CODE.get(code) if isinstance(code, str) and status < 500 else None
    if index is None:
        return Answer(_by_status(status), False, name, None)
    verdict = REASONS[index].verdict
    if verdict in _ENDS_TOKENS and not exact:
        return Answer(_BY_STATUS[0], False, name, None)
    illegal = _illegal(said.get("msg")) if verdict is Verdict.PARTIAL else None
    if verdict is Verdict.PARTIAL and illegal is None:
        return Answer(PARTIAL_UNREADABLE, False, name, None)
    return Answer(index, True, name, illegal)


def _by_status(status: int) -> int:
    if status >= 200 and status in _BY_STATUS:  # below stands what no server says
        return _BY_STATUS[status]
    return _BY_STATUS[499 if 400 <= status < 500 else 599 if 500 <= status < 600 else 0]


def _illegal(msg: Any) -> frozenset[bytes] | None:
    """The tokens in a partial success's `msg`, which is JSON in a text."""
    told = _object(msg.encode("utf-8", "replace")) if isinstance(msg, str) else {}
    tokens, failures = told.get("illegal_tokens"), told.get("failure")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return None
    if isinstance(failures, int) and failures != len(tokens):
        return None  # it contradicts itself: end none
    return frozenset(token.encode("utf-8", "replace") for token in tokens)


def _object(text: bytes) -> dict[str, Any]:
    if len(text) > BODY_BYTES_MAX:
        return {}
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
