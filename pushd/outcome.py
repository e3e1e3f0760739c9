"""What became of a row: outcomes, and the append-only tables of reasons behind each outcome byte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Outcome(IntEnum):
    """What became of one row. `ACCEPTED` means that the gateway took it, never that it was delivered."""

    PENDING = 0
    ACCEPTED = 1
    UNPROCESSED = 2
    UNAVAILABLE = 3
    THROTTLED = 4
    LOST = 5
    UNREGISTERED = 6
    REJECTED = 7
    MISCONFIGURED = 8
    EXPIRED = 9
    CANCELLED = 10
    SUPPRESSED = 11


RETRYABLE = frozenset({Outcome.UNPROCESSED, Outcome.UNAVAILABLE, Outcome.THROTTLED, Outcome.LOST})
"""Outcomes after which the row may go out again, within the message's life and by its policy."""

FAILED = frozenset(
    {
        Outcome.UNPROCESSED,
        Outcome.UNAVAILABLE,
        Outcome.THROTTLED,
        Outcome.LOST,
        Outcome.UNREGISTERED,
        Outcome.REJECTED,
        Outcome.MISCONFIGURED,
    }
)
"""Outcomes that count as failed in the ledger once they are final."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One line of a gateway's table: the byte that stands for it, its name in reports, and the outcome it means."""

    code: int
    name: str
    outcome: Outcome
    topic_only: bool = False
    """`MISCONFIGURED`, but for the route's topic (bundle) only: the credential itself still serves others."""
    pool_wide: bool = False
    """`THROTTLED`, for all that is sent with the credential and not for this row only: a quota."""
    slows_link: bool = False
    """Many such answers make the gateway slow down or close the link that brought them (A-51)."""


VENDOR_CODES_FROM = 64
"""Codes below are pushd's own and mean the same for every gateway; a vendor's table starts here."""

ACCEPTED = Reason(1, "accepted", Outcome.ACCEPTED)
NOT_WRITTEN = Reason(2, "not_written", Outcome.UNPROCESSED)
REFUSED_STREAM = Reason(3, "refused_stream", Outcome.UNPROCESSED)
ABOVE_GOAWAY = Reason(4, "above_goaway", Outcome.UNPROCESSED)
NO_CONNECTION = Reason(5, "no_connection", Outcome.UNPROCESSED)
CONNECTION_LOST = Reason(6, "connection_lost", Outcome.LOST)
RESPONSE_TIMEOUT = Reason(7, "response_timeout", Outcome.LOST)
STREAM_RESET = Reason(8, "stream_reset", Outcome.LOST)
STOPPED = Reason(9, "daemon_stopped", Outcome.LOST)
MALFORMED_RESPONSE = Reason(10, "malformed_response", Outcome.UNAVAILABLE)
EXPIRED = Reason(11, "expired", Outcome.EXPIRED)
CANCELLED = Reason(12, "cancelled", Outcome.CANCELLED)
UNREACHABLE = Reason(13, "no_longer_reachable", Outcome.SUPPRESSED)
NO_CREDENTIAL = Reason(14, "no_credential", Outcome.MISCONFIGURED)
PAYLOAD_TOO_LARGE = Reason(15, "payload_too_large", Outcome.REJECTED)
NOT_SUPPORTED = Reason(16, "not_supported_on_platform", Outcome.SUPPRESSED)
REQUEST_IMPOSSIBLE = Reason(17, "request_impossible", Outcome.REJECTED)
INTERNAL_ERROR = Reason(18, "internal_error", Outcome.UNAVAILABLE)
CERTIFICATE_REFUSED = Reason(19, "certificate_refused", Outcome.MISCONFIGURED)
CERTIFICATE_EXPIRED = Reason(20, "certificate_expired", Outcome.MISCONFIGURED)
TIME_PASSED = Reason(21, "time_passed", Outcome.SUPPRESSED)
QUIET_HOURS = Reason(22, "quiet_hours", Outcome.SUPPRESSED)
FREQUENCY_CAP = Reason(23, "frequency_cap", Outcome.SUPPRESSED)
TEMPLATE_FAILED = Reason(24, "template_failed", Outcome.REJECTED)

COMMON_REASONS = (
    ACCEPTED,
    NOT_WRITTEN,
    REFUSED_STREAM,
    ABOVE_GOAWAY,
    NO_CONNECTION,
    CONNECTION_LOST,
    RESPONSE_TIMEOUT,
    STREAM_RESET,
    STOPPED,
    MALFORMED_RESPONSE,
    EXPIRED,
    CANCELLED,
    UNREACHABLE,
    NO_CREDENTIAL,
    PAYLOAD_TOO_LARGE,
    NOT_SUPPORTED,
    REQUEST_IMPOSSIBLE,
    INTERNAL_ERROR,
    CERTIFICATE_REFUSED,
    CERTIFICATE_EXPIRED,
    TIME_PASSED,
    QUIET_HOURS,
    FREQUENCY_CAP,
    TEMPLATE_FAILED,
)


class Reasons:
    """A gateway's whole table, common and vendor's reasons by code. Tables only ever grow: codes are stored."""

    __slots__ = ("by_code", "outcomes", "slows_link")

    def __init__(self, vendor: Iterable[Reason] = ()) -> None:
        self.by_code: dict[int, Reason] = {}
        self.outcomes: NDArray[np.uint8] = np.zeros(256, np.uint8)
        self.slows_link: NDArray[np.bool_] = np.zeros(256, np.bool_)
        for reason in (*COMMON_REASONS, *vendor):
            assert 0 < reason.code < 256, reason
            assert reason.code not in self.by_code, reason
            self.by_code[reason.code] = reason
            self.outcomes[reason.code] = reason.outcome
            self.slows_link[reason.code] = reason.slows_link

    def outcome(self, code: int) -> Outcome:
        """The outcome that a stored code means."""
        return self.by_code[code].outcome

    def speaks_for_pool(self, code: int) -> bool:
        """Whether a Retry-After with this answer is for every row of the pool: the service is down, or a quota used."""
        reason = self.by_code[code]
        return reason.pool_wide or reason.outcome is Outcome.UNAVAILABLE

    def name(self, code: int) -> str:
        """The name that reports give to a stored code."""
        return self.by_code[code].name
