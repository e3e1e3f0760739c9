"""SMTP for e-mail notifications: addresses that may stand in commands and headers, and what a relay's replies mean.

Theory. A reply is a code of three digits and mostly an enhanced code `class.subject.detail` (RFC 3463) in its text. The
same code means different things after MAIL, RCPT and DATA, so the stage decides with it. `lookup` turns them into a
position in `REASONS`, which callers may store: **the table only ever grows at its end**. Only exact enhanced codes, and
only after RCPT, end an address (G-04).

Sources: RFC 5321 sections 2.3.11, 4.1.2, 4.2; RFC 3463; RFC 4954 section 6; the registry of enhanced status codes.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

ADDRESS_CHARS_MAX = 254
"""RFC 5321 section 4.5.3.1.3: a path of 256 octets has two angle brackets."""
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_LOCAL})@{_LABEL}(?:\.{_LABEL})*")
LOCAL_CHARS_MAX = 64
_ENHANCED = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})(?:\s|$)")


class Stage(Enum):
    """Where in the exchange of one mail a reply came."""

    LOGIN = "login"
    """Greeting, EHLO, STARTTLS and AUTH."""
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"


class Verdict(Enum):
    """What a reply means for mail, address, sender and relay."""

    ACCEPTED = "accepted"
    MESSAGE_BAD = "message_bad"
    ADDRESS_DEAD = "address_dead"
    """There is no such mailbox: end the address."""
    RETRY = "retry"
    THROTTLED = "throttled"
    SENDER_BAD = "sender_bad"
    """The relay takes no mail from this sender, or does not know us: hold the credential, keep its mails."""


class SmtpReason(NamedTuple):
    """One line of the table."""

    name: str
    verdict: Verdict


REASONS: tuple[SmtpReason, ...] = (
    # Append only: positions are stored.
    SmtpReason("accepted_by_relay", Verdict.ACCEPTED),
    SmtpReason("mailbox_unknown", Verdict.ADDRESS_DEAD),
    SmtpReason("mailbox_moved", Verdict.ADDRESS_DEAD),
    SmtpReason("domain_takes_no_mail", Verdict.ADDRESS_DEAD),
    SmtpReason("mailbox_refused", Verdict.MESSAGE_BAD),
    SmtpReason("mailbox_full", Verdict.MESSAGE_BAD),
    SmtpReason("mail_too_large", Verdict.MESSAGE_BAD),
    SmtpReason("refused_by_policy", Verdict.MESSAGE_BAD),
    SmtpReason("mail_refused", Verdict.MESSAGE_BAD),
    SmtpReason("mailbox_busy", Verdict.RETRY),
    SmtpReason("relay_busy", Verdict.RETRY),
    SmtpReason("relay_throttles", Verdict.THROTTLED),
    SmtpReason("relay_closes", Verdict.RETRY),
    SmtpReason("sender_refused", Verdict.SENDER_BAD),
    SmtpReason("relay_refuses_login", Verdict.SENDER_BAD),
    SmtpReason("relay_refuses_service", Verdict.RETRY),
    SmtpReason("reply_out_of_order", Verdict.RETRY),
    SmtpReason("address_malformed", Verdict.ADDRESS_DEAD),
)
"""Every outcome that a relay's replies have here."""

LINES = {row.name: index for index, row in enumerate(REASONS)}

_DEAD = {(1, 1): "mailbox_unknown", (1, 6): "mailbox_moved", (1, 10): "domain_takes_no_mail"}


def check_address(text: str) -> str:
    """The address; ValueError, which never holds it, where it is none that SMTP carries without quoting."""
    match = _ADDRESS.fullmatch(text)
    if match is None or len(match["local"]) > LOCAL_CHARS_MAX or len(text) > ADDRESS_CHARS_MAX:
        raise ValueError("is not an e-mail address that can be written without quotes")
    return text


def is_address(text: bytes) -> bool:
    """Whether these octets may stand in a command and in a header as they are."""
    if not text.isascii():
        return False
    try:
        check_address(text.decode())
    except ValueError:
        return False
    return True


def lookup(stage: Stage, code: int, text: str) -> int:
    """The position in `REASONS` of a reply."""
    return LINES[_name(stage, code, _enhanced(code, text))]


def _enhanced(code: int, text: str) -> tuple[int, int]:
    """Subject and detail of the enhanced code; zeros where there is none of the reply's class."""
    match = _ENHANCED.match(text)
    if match is None or int(match[1]) != code // 100:
        return 0, 0
    return int(match[2]), int(match[3])


def _name(stage: Stage, code: int, enhanced: tuple[int, int]) -> str:
    if code == 421:
        return "relay_closes"
    if 200 <= code < 300:
        return "accepted_by_relay" if stage is Stage.DATA else "reply_out_of_order"
    if 400 <= code < 500:
        return _passing(stage, code, enhanced)
    if 500 <= code < 600:
        return _lasting(stage, code, enhanced)
    return "reply_out_of_order"


def _passing(stage: Stage, code: int, enhanced: tuple[int, int]) -> str:
    if code == 452 or enhanced[0] == 7 or enhanced in {(2, 1), (5, 3), (3, 2)}:
        return "relay_throttles"
    return "mailbox_busy" if stage is Stage.RCPT else "relay_busy"


def _lasting(stage: Stage, code: int, enhanced: tuple[int, int]) -> str:
    if code in (530, 534, 535, 538):
        return "relay_refuses_login"
    if stage is Stage.LOGIN:
        return "relay_refuses_service"
    if code == 552 or enhanced in {(3, 4), (2, 3)}:
        return "mailbox_full" if enhanced == (2, 2) else "mail_too_large"
    if stage is Stage.MAIL:
        return "sender_refused"
    if stage is Stage.RCPT:
        return _DEAD.get(enhanced, "refused_by_policy" if enhanced[0] == 7 else "mailbox_refused")
    return "refused_by_policy" if enhanced[0] == 7 else "mail_refused"
