"""A notification: a message, its audience, how it is to be delivered, and what has come of it so far."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from pushd.model.audience import Audience
from pushd.model.device import GatewayName, Text255
from pushd.model.message import TTL_MAX_S, Message
from pushd.model.quiet import Policy
from pushd.model.schedule import Schedule, When
from pushd.model.template import BadgeFrom, Tags, TemplateRef, Variants

Category = Annotated[str, Meta(min_length=1, max_length=64)]
"""What a sender calls a sort of his messages."""


class Delivery(StrEnum):
    """What happens to a push that was written and never answered."""

    AT_LEAST_ONCE = "at_least_once"
    """It is sent again; a duplicate replaces itself on the screen."""
    AT_MOST_ONCE = "at_most_once"
    """It is counted as lost."""


class State(StrEnum):
    """Where a notification stands; stored and shown."""

    SCHEDULED = "scheduled"
    """Its time has not come; it is a schedule still."""
    RUNNING = "running"
    PAUSED = "paused"
    """What was not sent waits until it is resumed, or its life ends."""
    CANCELLED = "cancelled"
    DONE = "done"


class Send(When, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What a producer asks for, and for when."""

    audience: Audience
    message: Message = Message()
    """What is said. Beside a template it is merged over the template's message, and may be absent."""
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
    category: Category | None = None
    """Of the sender's own, such as `marketing`, for frequency caps; nothing that devices see."""
    quiet_hours: Policy = Policy.HOLD
    """What quiet hours do to it where they apply to a device."""
    template: TemplateRef | None = None
    """Whose message is sent."""
    liquid: bool = False
    """Whether the texts of the message are Liquid, rendered for each device; those of a template always are."""
    content_tags: Tags = field(default_factory=dict)
    """What texts read by name, the same for all."""
    locales: Variants = field(default_factory=dict)
    """What is different for devices of a locale; others fall back from `pt-BR` to `pt`, and to the message itself."""
    user_data: dict[Text255, Tags] = field(default_factory=dict)
    """By external id, tags of that user alone: they stand before `content_tags`, and are `user_data` to texts."""
    badge_from: BadgeFrom | None = None
    """Where each device's own badge is: `user.unread`, or a tag; `badge_increment` is added to it, never below 0. Where
    there is no whole number, the message says what else becomes of the badge. `device.badge`: pushd counts, for each
    device, by `badge_increment` or 1."""
    user_meta: dict[Text255, dict[str, Any]] = field(default_factory=dict)
    """By external id, what that user's events carry; no device sees it."""
    reporting_meta: dict[str, Any] = field(default_factory=dict)
    """What all events of the notification carry; no device sees it."""


class Notification(Struct, frozen=True, kw_only=True, gc=False):
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
    """A notification as the API shows it: what was asked for, and what has come of it."""

    id: int
    name: str | None
    state: State
    schedule_id: int | None
    """Of the schedule that it is an occurrence of. What is sent once has the id of its schedule, and null here."""
    audience: Any
    message: Message
    template: TemplateRef | None
    liquid: bool
    content_tags: Tags
    locales: Variants
    badge_from: str | None
    transactional: bool
    delivery: Delivery
    ttl_s: int | None
    collapse_id: str | None
    push_tag: str | None
    reporting_meta: dict[str, Any]
    category: str | None
    quiet_hours: Policy
    schedule: Schedule | None
    intelligent_delivery: bool
    release_window_minutes: int | None
    created_at: float
    next_at: float | None
    """UNIX seconds of the earliest instant at which it goes out, or more of it does; null: all that goes has."""
    finished_at: float | None
    counts: Ledger
    reasons: list[ReasonCount]


class ReleaseState(StrEnum):
    """Where a release stands."""

    WAITING = "waiting"
    OPEN = "open"
    """It was released, and its devices are counted as those of its notification."""
    CANCELLED = "cancelled"


class ReleaseView(Struct, frozen=True, kw_only=True):
    """Some of a notification's devices, from one instant on: those of a zone, of an hour, a batch, or who was held."""

    number: int
    at: float
    """UNIX seconds."""
    targeted: int | None
    """Devices that it goes to; null: they are looked for when it is due."""
    state: ReleaseState
