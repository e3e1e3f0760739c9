"""A notification as a row of the store says it."""

from __future__ import annotations

from typing import Any

import msgspec

from pushd.model.notification import Notification, Send, State
from pushd.store.times import seconds, seconds_or_none


def read_notification(row: Any, state: State) -> Notification:
    """The notification of a row; its name may have been edited since it was sent."""
    send = msgspec.json.decode(row["send"], type=Send)
    if send.name != row["name"]:
        send = msgspec.structs.replace(send, name=row["name"])
    return Notification(
        id=row["id"],
        app_id=row["app_id"],
        send=send,
        created_at=seconds(row["created_at"]),
        released_at=seconds(row["released_at"]),
        expires_at=seconds_or_none(row["expires_at"]),
        state=state,
    )
