"""Every outcome byte of the e-mail gateway: a relay's replies in pushd's words."""

from __future__ import annotations

from collections.abc import Mapping

from protocols import smtp
from protocols.smtp import Stage, Verdict
from pushd.outcome import ACCEPTED, VENDOR_CODES_FROM, Outcome, Reason, Reasons

OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.ACCEPTED: Outcome.ACCEPTED,
    Verdict.MESSAGE_BAD: Outcome.REJECTED,
    Verdict.ADDRESS_DEAD: Outcome.UNREGISTERED,
    Verdict.RETRY: Outcome.UNAVAILABLE,
    Verdict.THROTTLED: Outcome.THROTTLED,
    Verdict.SENDER_BAD: Outcome.MISCONFIGURED,
}
"""What a relay's verdicts mean in pushd's words."""

REASONS = Reasons(
    Reason(VENDOR_CODES_FROM + index, row.name, OUTCOMES[row.verdict]) for index, row in enumerate(smtp.REASONS)
)
"""Every outcome byte of this gateway."""

BAD_ADDRESS = VENDOR_CODES_FROM + smtp.LINES["address_malformed"]


def code_of(stage: Stage, code: int, text: str) -> int:
    """The outcome byte of a reply."""
    line = smtp.lookup(stage, code, text)
    return ACCEPTED.code if smtp.REASONS[line].verdict is Verdict.ACCEPTED else VENDOR_CODES_FROM + line
