"""Mails as octets: what the rows of a message share is made once, each row adds its recipient and its id.

Headers are made by the standard library's policy, which refuses line breaks in values; recipients are checked octets
(RFC 5322; RFC 2369 and RFC 8058 for unsubscribing; RFC 3834 for `Auto-Submitted`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from pushd.content.email import Mail
from pushd.model.credential import EmailSender

POLICY = SMTP.clone(cte_type="7bit")
"""Octets that any relay carries, 8BITMIME or not."""

DEVICE = "{device}"
"""Stands in an unsubscribe URL for the device's id, so that one click ends one address."""


class Shared(NamedTuple):
    """What the mails of one message from one sender have in common."""

    octets: bytes
    """Headers and body, without To, Message-ID and List-Unsubscribe."""
    domain: str
    """Of Message-IDs: the sender's."""
    unsubscribe_url: str
    unsubscribe_mail: str

    def mail(self, recipient: bytes, notification_id: int, device_id: int) -> bytes:
        """The mail for one recipient. Its id is the same on every attempt, so that a repetition shows as one."""
        headers = [
            b"To: " + recipient,
            f"Message-ID: <pushd.{notification_id}.{device_id}@{self.domain}>".encode(),
        ]
        ways = []
        if self.unsubscribe_url:
            ways.append(f"<{self.unsubscribe_url.replace(DEVICE, str(device_id))}>")
        if self.unsubscribe_mail:
            ways.append(f"<mailto:{quote(self.unsubscribe_mail, safe='@+')}?subject=unsubscribe%20{device_id}>")
        if ways:
            headers.append(f"List-Unsubscribe: {', '.join(ways)}".encode())
        if self.unsubscribe_url:
            headers.append(b"List-Unsubscribe-Post: List-Unsubscribe=One-Click")
        return b"\r\n".join(headers) + b"\r\n" + self.octets


def shared(payload: bytes, sender: EmailSender, now: float) -> Shared:
    """What the mails of a rendered message share; ValueError where a header cannot be made."""
    mail = msgspec.json.decode(payload, type=Mail)
    message = EmailMessage(policy=POLICY)
    message["Subject"] = mail.subject
    message["From"] = formataddr((sender.from_name, sender.from_address))
    if sender.reply_to:
        message["Reply-To"] = sender.reply_to
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Auto-Submitted"] = "auto-generated"
    message["Precedence"] = "bulk"
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    return Shared(
        message.as_bytes(),
        sender.from_address.rpartition("@")[2],
        sender.unsubscribe_url,
        sender.unsubscribe_mail,
    )
