"""Sends to be accepted, and the rows that they are written as: a notification with its targets, or a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from pushd.bitset import Devices
from pushd.model.device import Kind
from pushd.model.dialect_event import KeptEvent
from pushd.model.notification import Delivery, Send
from pushd.store.literals import documents, moments, numbers

INLINE_TARGETS_MAX = 64
"""Up to this many devices are kept in the notification's own row, and their outcomes as rows; more: bitmaps."""

encode = msgspec.json.Encoder().encode
"""A send as JSON."""


class Idempotency(Struct, frozen=True, gc=False):
    """A caller's key, and SHA-256 of the request that it came with."""

    key: str
    body_hash: bytes


class Due(Struct, frozen=True):
    """When a schedule is to be looked at next, and the occurrence that it is looked at for."""

    at: float
    """UNIX seconds."""
    nominal: float
    """The occurrence's own instant, or its wall time as if that were UTC's."""


class Accept(Struct, frozen=True, kw_only=True, gc=False):
    """A send to be kept, with the devices that it resolved to."""

    app_id: int
    send: Send
    text: bytes = b""
    """The send as JSON, where that is known."""
    targeted: Devices
    node_id: int
    """Of the node that accepts it and will send it."""
    created_at: float
    released_at: float
    expires_at: float | None = None
    kinds: frozenset[Kind] = frozenset()
    """Kinds of address that it was resolved for; they follow from the message, so they are not stored."""
    idempotency: Idempotency | None = None
    answer: bytes = b""
    """What a repetition of the request is told, beside the id."""
    due: Due | None = None
    """Of what is kept as a schedule: it goes out when that comes, and resolves nobody before."""
    event: KeptEvent | None = None
    """Of a send in a vendor's words: what is told of it there, kept by the same commit."""
    suppressed: tuple[tuple[Devices, int], ...] = ()
    """Of what a schedule fires: those of the targets that get nothing, disjoint, with the code of the reason."""

    @property
    def recurring(self) -> bool:
        """Whether what is kept as a schedule is more than one notification."""
        return self.send.schedule is not None and self.send.schedule.recurrence is not None


def send_columns(ids: Sequence[int], accepts: Sequence[Accept]) -> list[Any]:
    """The arguments of accept_notifications from n_id on, without the keys."""
    sends = [accept.send for accept in accepts]
    lows: list[int] = []
    highs: list[int] = []
    devices: list[int] = []
    parts: list[tuple[int, int, Devices]] = []
    targeted = [len(accept.targeted) for accept in accepts]
    for row, (accept, count) in enumerate(zip(accepts, targeted, strict=True), 1):
        if count <= INLINE_TARGETS_MAX:
            lows.append(len(devices) + 1)
            devices += accept.targeted
        else:
            parts += [(row, part, piece) for part, piece in accept.targeted.parts()]
            lows.append(0)
        highs.append(len(devices))
    names = [send.name for send in sends]
    return [
        numbers(ids),
        numbers([accept.app_id for accept in accepts]),
        moments([accept.created_at for accept in accepts]),
        moments([accept.released_at for accept in accepts]),
        moments([accept.expires_at for accept in accepts]),
        names if any(name is not None for name in names) else [],  # what is missing of a column is null
        documents([accept.text or encode(accept.send) for accept in accepts]),
        numbers(targeted),
        numbers([send.delivery is Delivery.AT_MOST_ONCE for send in sends]),
        numbers(lows),
        numbers(highs),
        numbers(devices),
        *_due_columns(accepts),
        [row for row, _, _ in parts],
        [part for _, part, _ in parts],
        [len(piece) for _, _, piece in parts],
        [piece.dump() for _, _, piece in parts],
    ]


def event_columns(accepts: Sequence[Accept]) -> list[Any]:
    """The arguments of accept_notifications about those that are events of dialects; rows count from 1."""
    kept = [(row, accept.event) for row, accept in enumerate(accepts, 1) if accept.event is not None]
    if not kept:
        return ["{}", "{}", [], "{}", [], "", "{}"]
    events = [event for _, event in kept]
    return [
        numbers([row for row, _ in kept]),
        numbers([event.id for event in events]),
        [event.dialect.value for event in events],
        numbers([event.user_id for event in events]),
        [event.target for event in events],
        documents([encode(event.told) for event in events]),
        moments([event.created_at for event in events]),
    ]


def _due_columns(accepts: Sequence[Accept]) -> list[Any]:
    """Empty where nothing is kept as a schedule."""
    if not any(accept.due for accept in accepts):
        return ["{}", "{}", "{}"]
    return [
        moments([accept.due.at if accept.due else None for accept in accepts]),
        moments([accept.due.nominal if accept.due else None for accept in accepts]),
        numbers([accept.recurring for accept in accepts]),
    ]
