"""When a message comes to one of its recipients: by his batch of its release, and by when it was paused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

BATCH_S = 60


class Released(Protocol):
    """A release; times are UNIX seconds, of its first batch."""

    released_at: float
    expires_at: float | None
    inbox_from: float | None
    inbox_to: float | None
    ends_at: float
    batches: int
    pauses: Sequence[float]


class Times(NamedTuple):
    """What one recipient's copy goes by, in UNIX seconds."""

    released_at: float
    """Infinity: not before it is resumed."""
    expires_at: float | None
    inbox_from: float | None
    inbox_to: float | None
    ends_at: float
    """The later of both ends."""


def times(message: Released, batch: int) -> Times:
    """The times of a recipient of a batch: what was to come while it was paused comes when it goes on."""
    if message.batches <= 1:
        return Times(message.released_at, message.expires_at, message.inbox_from, message.inbox_to, message.ends_at)
    at = message.released_at + batch * BATCH_S
    pauses = message.pauses
    for number in range(0, len(pauses), 2):
        end = pauses[number + 1] if number + 1 < len(pauses) else math.inf
        if pauses[number] <= at < end:
            at = end
    later = at - message.released_at
    expires = None if message.expires_at is None else min(message.expires_at + later, message.ends_at)
    opens = None if message.inbox_from is None else max(message.inbox_from, at)
    return Times(at, expires, opens, message.inbox_to, max(expires or 0.0, message.inbox_to or 0.0))
