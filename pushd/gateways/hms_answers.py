"""Every outcome byte of the HMS gateway: Huawei's result codes in pushd's words."""

from __future__ import annotations

from collections.abc import Mapping

from protocols import hms_reasons
from protocols.hms_reasons import ILLEGAL_TOKEN, Verdict
from pushd.gateways.apns_exchange import UNKNOWN_ANSWERS
from pushd.outcome import VENDOR_CODES_FROM, Outcome, Reason, Reasons

OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.ACCEPTED: Outcome.ACCEPTED,
    Verdict.PARTIAL: Outcome.ACCEPTED,
    Verdict.TOKENS_BAD: Outcome.UNREGISTERED,
    Verdict.TOKEN_BAD: Outcome.UNREGISTERED,
    Verdict.MESSAGE_BAD: Outcome.REJECTED,
    Verdict.RETRY: Outcome.UNAVAILABLE,
    Verdict.THROTTLED: Outcome.THROTTLED,
    Verdict.LOGIN_STALE: Outcome.UNAVAILABLE,
    Verdict.CREDENTIAL_BAD: Outcome.MISCONFIGURED,
}
"""What Huawei's verdicts mean in pushd's words."""

CODES = tuple(VENDOR_CODES_FROM + index for index in range(len(hms_reasons.REASONS)))
"""The outcome byte of each line of Huawei's table."""

ILLEGAL = CODES[ILLEGAL_TOKEN]
UNKNOWN = UNKNOWN_ANSWERS.labels("hms")

REASONS = Reasons(
    Reason(
        CODES[index],
        row.name,
        OUTCOMES[row.verdict],
        pool_wide=row.verdict is Verdict.THROTTLED,
    )
    for index, row in enumerate(hms_reasons.REASONS)
)
"""Every outcome byte of this gateway; a plain success is the common one."""
