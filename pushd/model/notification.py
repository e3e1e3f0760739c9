"""A notification: a message, its audience, how it is to be delivered, and what has come of it so far."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from pushd.model.audience import Audience
from pushd.model.device import GatewayName
from pushd.model.message import TTL_MAX_S, Message


class Delivery(StrEnum):
    """What happens to a push that was written and never answered."""

    AT_LEAST_ONCE = "at_least_once"
    """It is sent again; a duplicate replaces itself on the screen."""
    AT_MOST_ONCE = "at_most_once"
    """It is counted as lost."""


class State(StrEnum):
    """Where a notification stands; stored and shown."""

    RUNNING = "running"
    CANCELLED = "cancelled"
    DONE = "done"


class Send(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a producer asks for."""

    audience: Audience
    message: Message
    name: Annotated[str, Meta(max_length=255)] | None = None
    """For people; the only thing that stays editable."""
    transactional: bool = False
    """Its own links, and exempt from quiet hours and caps: for one-time passwords and the like."""
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    ttl_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | None = None
    """How long gateways may hold it, from release; 0: now or never, sent once all the same; absent: the default."""
    collapse_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """Replaces an earlier notification with the same id on the screen; at most 64 bytes of UTF-8."""
    push_tag: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    """Of the sender's own: reports compare what was sent under one with what was sent under others."""


class Notification(Struct, frozen=True, kw_only=True):
    """An accepted send as the fan-out and the store carry it."""

    id: int
    app_id: int
    send: Send
    created_at: float
    released_at: float
    expires_at: float | None
    """UNIX seconds after which no row goes out; null: no end but the gateways' own."""
    state: State = State.RUNNING


class Ledger(Struct, frozen=True, kw_only=True):
    """Counts that always add up: targeted = accepted + failed + expired + cancelled + suppressed + pending."""

    targeted: int = 0
    accepted: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    suppressed: int = 0
    pending: int = 0

    @property
    def drift(self) -> int:
        """How far the counts are from adding up; anything but 0 is a bug."""
        return self.targeted - (
            self.accepted + self.failed + self.expired + self.cancelled + self.suppressed + self.pending
        )


class ReasonCount(Struct, frozen=True, kw_only=True):
    """How many rows ended for one reason."""

    gateway: GatewayName
    reason: str
    outcome: str
    count: int


class NotificationView(Struct, frozen=True, kw_only=True):
    """A notification as the API shows it."""

    id: int
    name: str | None
    state: State
    audience: Any
    message: Message
    transactional: bool
    delivery: Delivery
    ttl_s: int | None
    collapse_id: str | None
    push_tag: str | None
    created_at: float
    finished_at: float | None
    counts: Ledger
    reasons: list[ReasonCount]


ErrorKind = Literal["unknown", "unsubscribed"]
