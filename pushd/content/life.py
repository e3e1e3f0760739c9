"""How long a message lives and what it replaces: expiry and collapse ids, the same for every platform."""

from __future__ import annotations

from pushd.model.message import TTL_MAX_S, PushType
from pushd.model.notification import Send

_NOW_OR_NEVER = frozenset({PushType.PUSHTOTALK, PushType.CHANNEL})


def expires_at(send: Send, released_at: float) -> int:
    """UNIX seconds after which gateways must not deliver; 0: one attempt, not stored (A-34).

    Without a TTL that is 28 days from release, the longest that every gateway keeps a message: stated, never left to
    a gateway's own default. Push to Talk is now or never unless the caller says otherwise, and so are pushes to
    channels: one that was made to store nothing refuses every other expiry.
    """
    ttl_s = send.ttl_s
    if ttl_s is None:
        ttl_s = 0 if send.message.push_type in _NOW_OR_NEVER else TTL_MAX_S
    return int(released_at) + ttl_s if ttl_s else 0


def collapse_id(send: Send, notification_id: int) -> str | None:
    """What replaces an earlier message on the screen: the caller's id, else for alerts one of this very notification.

    So a push that had to be repeated replaces itself, and two notifications never merge by accident.
    """
    if send.collapse_id is not None:
        return send.collapse_id
    return f"pushd-{notification_id}" if send.message.push_type is PushType.ALERT else None
