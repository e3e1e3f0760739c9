"""Beacons: what service workers report without an API key, signed by message with a key of the install's own.

The daemon has one secret. From it comes a key for each install, which its app or page is given once, and with that key
the install signs each report over the notification that it is about: HMAC-SHA256 (RFC 2104). So the push stays the same
for all devices, a signature is good for one event of one notification on one install, and a key that leaks speaks for
that install alone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256

from pushd.model.receipt import Event

KEY_BYTES = 32


class Beacons:
    """Keys of installs, and the check of what they signed."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        assert len(secret) == KEY_BYTES
        self._secret = secret

    def key(self, app_id: int, install_id: str) -> str:
        """The key of an install of an app, in base64url without padding, for it alone."""
        return _text(self._key(app_id, install_id))

    def is_key(self, app_id: int, install_id: str, given: str) -> bool:
        """Whether this is the key of the install; the time it takes tells nothing of it."""
        return hmac.compare_digest(self.key(app_id, install_id).encode(), given.encode("utf-8", "surrogatepass"))

    def genuine(
        self, app_id: int, install_id: str, notification_id: int, event: Event, button: str | None, signature: str
    ) -> bool:
        """Whether this install signed this event; the time it takes tells nothing of the right signature."""
        try:
            given = base64.b64decode(signature.encode() + b"=" * (-len(signature) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        made = hmac.digest(self._key(app_id, install_id), signed(notification_id, event, button), sha256)
        return hmac.compare_digest(made, given)

    def _key(self, app_id: int, install_id: str) -> bytes:
        return hmac.digest(self._secret, b"%d\n%s" % (app_id, install_id.encode()), sha256)


def sign(key: str, notification_id: int, event: Event, button: str | None = None) -> str:
    """What a service worker makes with its install's key: the signature of one event, in base64url without padding."""
    secret = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True)
    return _text(hmac.digest(secret, signed(notification_id, event, button), sha256))


def signed(notification_id: int, event: Event, button: str | None) -> bytes:
    """The octets that are signed: notification, event and button, a line feed between them."""
    return f"{notification_id}\n{event.value}\n{button or ''}".encode()


def event_id(event: Event, button: str | None) -> str:
    """The id under which a beacon counts: however often it comes, one event of one notification counts once."""
    return f"beacon {event.value}" if button is None else f"beacon {event.value} {button}"


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
