"""How long a message lives and what it replaces: expiry and collapse ids, the same for every platform."""

from __future__ import annotations

import msgspec

from pushd.model.app import Settings
from pushd.model.message import TTL_MAX_S, PushType
from pushd.model.notification import Send

BROADCAST_PATIENCE_S = 300
"""A push to a channel that Apple may not store is tried for so long; devices drop updates older than their own."""

_NOT_STORED = frozenset({PushType.PUSHTOTALK, PushType.CHANNEL})


def expires_at(send: Send, released_at: float) -> int:
    """UNIX seconds after which gateways must not deliver; 0: one attempt, not stored (A-34).

    Without a TTL that is 28 days from release, the longest that every gateway keeps a message: stated, never left to
    a gateway's own default. Push to Talk is now or never unless the caller says otherwise, and so are pushes to
    channels: one that was made to store nothing refuses every other expiry.
    """
    ttl_s = send.ttl_s
    if ttl_s is None:
        ttl_s = 0 if send.message.push_type in _NOT_STORED else TTL_MAX_S
    return int(released_at) + ttl_s if ttl_s else 0


def tried_until(send: Send, released_at: float) -> int:
    """UNIX seconds after which we try no more; 0: after one attempt. Else it is what gateways are told.

    What is said to a channel is not stored by Apple, which is no reason to say it once only: an outage of a minute
    would leave every subscriber with an old score.
    """
    if send.ttl_s is None and send.message.push_type is PushType.CHANNEL:
        return int(released_at) + BROADCAST_PATIENCE_S
    return expires_at(send, released_at)


def lasting(send: Send, settings: Settings) -> Send:
    """The send with what its app says of the life of messages, where it says nothing itself.

    What is now or never by its type says so from then on, so that a resume knows it too; the app's default is not for
    such, nor for pushes to channels.
    """
    if send.ttl_s is not None or send.message.push_type is PushType.CHANNEL:
        return send
    ttl_s = 0 if send.message.push_type in _NOT_STORED else settings.default_ttl_s
    return send if ttl_s is None else msgspec.structs.replace(send, ttl_s=ttl_s)


def collapse_id(send: Send, notification_id: int) -> str | None:
    """What replaces an earlier message on the screen: the caller's id, else for alerts one of this very notification.

    So a push that had to be repeated replaces itself, and two notifications never merge by accident.
    """
    if send.collapse_id is not None:
        return send.collapse_id
    return f"pushd-{notification_id}" if send.message.push_type is PushType.ALERT else None
