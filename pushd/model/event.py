"""Events: what happened, as webhooks and streams tell it, and the webhooks that are told."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

BATCH_MAX = 500
"""Events of one request to a webhook."""
URL_CHARS_MAX = 2048


class EventType(StrEnum):
    """What happened; the value is shown, the number stored."""

    ACCEPTED = "notification.accepted"
    """A send was accepted: it survives any crash from there."""
    RELEASED = "notification.released"
    """A notification began to go out, or a further part of one that goes out in parts."""
    FINISHED = "notification.finished"
    """Every device of a notification has its outcome; the counts are final."""
    OUTCOMES = "notification.outcomes"
    """Some devices got their outcomes: sums since the event before."""
    DEVICE_OUTCOMES = "notification.device_outcomes"
    """The same device by device; only for who asks for it by name."""
    DELIVERED = "receipt.delivered"
    RECEIVED = "receipt.received"
    OPENED = "receipt.opened"
    CLICKED = "receipt.clicked"
    DISMISSED = "receipt.dismissed"
    READ = "receipt.read"
    REGISTERED = "device.registered"
    """New devices."""
    RETIRED = "device.retired"
    """Tokens that a gateway called dead."""
    SUBSCRIPTION_CHANGED = "subscription.changed"
    """Users or installs joined or left channels, or installs switched push on or off."""
    SCHEDULE_FIRED = "schedule.fired"
    SCHEDULE_SKIPPED = "schedule.skipped"
    USER_DELETED = "user.deleted"
    WEBHOOK_DISABLED = "webhook.disabled"
    """A webhook of the app was disabled, for the reason given."""
    IN_APP_RELEASED = "in_app.released"
    """An in-app message is there for its recipients from now on."""
    IN_APP_DELIVERED = "in_app.delivered"
    IN_APP_OPENED = "in_app.opened"
    IN_APP_READ = "in_app.read"
    IN_APP_DISMISSED = "in_app.dismissed"
    IN_APP_DELETED = "in_app.deleted"
    """A recipient took it out of his inbox."""
    CHANNEL_DELETED = "channel.deleted"
    """A channel is gone, and with it every subscription to it."""
    REVIVED = "device.revived"
    """Tokens that an operator took back from retirement."""

    @property
    def number(self) -> int:
        """The small integer stored for this type: its position from 1, append-only."""
        return _NUMBERS[self]


_NUMBERS = {type_: number for number, type_ in enumerate(EventType, 1)}
TYPES = {number: type_ for type_, number in _NUMBERS.items()}
"""Types by number."""


def bits(types: Iterable[EventType]) -> int:
    """A set of types as bits by their numbers."""
    found = 0
    for each in types:
        found |= 1 << each.number
    return found


DEFAULT_BITS = bits(set(EventType) - {EventType.DEVICE_OUTCOMES})
"""What listeners get that name no types."""


def types_of(mask: int) -> list[EventType]:
    """The types that bits stand for, in order."""
    return [each for each in EventType if mask >> each.number & 1]


class Event(Struct, frozen=True, kw_only=True):
    """One event."""

    id: str
    """Never used for another one. It may come again under this id, to webhooks above all."""
    type: EventType
    at: float
    """When it happened, UNIX seconds."""
    data: dict[str, Any]
    """By type; see the page on events."""


Name = Annotated[str, Meta(max_length=255)]
Types = Annotated[list[EventType], Meta(min_length=1, max_length=len(EventType))]
Url = Annotated[str, Meta(min_length=1, max_length=URL_CHARS_MAX)]
BatchMax = Annotated[int, Meta(ge=1, le=BATCH_MAX)]


class NewWebhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook to be made."""

    url: Url
    """Where events are posted to: https, a host name, no user and no fragment."""
    name: Name = ""
    """For people."""
    types: Types | None = None
    """Of events that it gets; absent: all but notification.device_outcomes."""
    batch_max: BatchMax = 100
    """Events of one request; 1: each for itself."""


class WebhookChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes of a webhook: absent fields stay."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    name: Name | msgspec.UnsetType = msgspec.UNSET
    types: Types | msgspec.UnsetType | None = msgspec.UNSET
    batch_max: BatchMax | msgspec.UnsetType = msgspec.UNSET


class WebhookState(StrEnum):
    """Whether a webhook is called; stored and shown."""

    ACTIVE = "active"
    PAUSED = "paused"
    """By request. Its events wait."""
    DISABLED = "disabled"
    """After failures. Its events wait until it is resumed."""


class Webhook(Struct, frozen=True, kw_only=True):
    """A webhook, without its secret, which only the answers that make one show."""

    id: int
    name: str
    url: str
    types: list[EventType]
    batch_max: int
    state: WebhookState
    reason: str | None
    """Why it is disabled."""
    attempts: int
    """Failures in a row."""
    failing_since: float | None
    failure: str | None
    """The last one, in a word."""
    next_at: float | None
    """When it is tried again."""
    delivered_at: float | None
    """When a request was last answered with a success."""
    letters: int
    """Dead letters: events that it refused again and again."""
    created_at: float
    updated_at: float


class Letter(Struct, frozen=True, kw_only=True):
    """A dead letter: an event that a webhook refused again and again."""

    id: int
    event_id: str
    type: EventType
    at: float
    """When the event happened."""
    attempts: int
    failure: str
    """The last one, in a word."""
    died_at: float
    replaying: bool
    """Whether it is to be sent anew."""
