"""In-app messages: what is said inside the app, to whom, for how long, and what became of it with each recipient."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, UnsetType

from pushd.model.audience import Audience
from pushd.model.device import ID_MAX
from pushd.model.message import TTL_MAX_S, Message, ShortText, Url
from pushd.model.notification import Delivery, Send
from pushd.model.receipt import TIME_MAX
from pushd.model.schedule import Schedule
from pushd.model.template import Tags, TemplateRef

EVENTS_MAX = 5_000
"""Of one request."""
LETTERS_MAX = 500
"""Recipients up to which a message is kept as a row for each; more: bitmaps."""
DAY_S = 86_400

MessageId = Annotated[int, Meta(ge=1, le=ID_MAX)]
Instant = Annotated[float, Meta(ge=0, le=TIME_MAX)]


class PresentedWhen(StrEnum):
    """When the app shows a message by itself."""

    IMMEDIATELY = "immediately"
    """As soon as it has it."""
    NEXT_OPEN = "next_open"
    """When it is next opened."""
    NEVER = "never"
    """It waits in the inbox."""


class InAppState(StrEnum):
    """Where an in-app message stands."""

    SCHEDULED = "scheduled"
    LIVE = "live"
    """Released: its recipients can fetch it."""
    ENDED = "ended"
    CANCELLED = "cancelled"


class InboxEvent(StrEnum):
    """What a recipient, or his app, did with a message."""

    DELIVERED = "delivered"
    """The app has it."""
    OPENED = "opened"
    """It was shown."""
    READ = "read"
    """It was marked as read."""
    DISMISSED = "dismissed"
    """It was closed."""
    DELETED = "deleted"
    """It was deleted from the inbox."""


class Ttl(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For how long after its release a message is presented: days or hours, one of them."""

    days: Annotated[int, Meta(ge=1, le=365)] | None = None
    hours: Annotated[int, Meta(ge=1, le=365 * 24)] | None = None

    @property
    def seconds(self) -> int:
        """The same in seconds."""
        return (self.days or 0) * DAY_S + (self.hours or 0) * 3_600


class InboxEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a message stands in the inbox."""

    title: Annotated[ShortText, Meta(min_length=1)]
    subtitle: ShortText | None = None
    image: Url | None = None
    available_from: Instant | None = None
    """UNIX seconds; absent: from its release on."""
    available_to: Instant | None = None
    """UNIX seconds; absent: for as long as the installation keeps inboxes (`inbox.keep_days`)."""


class InAppPush(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A push that goes along: an ordinary send to those recipients that can be pushed to.

    Its `data` gets `in_app_message_id`, so that opening it can show the message.
    """

    message: Message
    name: Annotated[str, Meta(max_length=255)] | None = None
    transactional: bool = False
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    ttl_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | None = None
    collapse_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None

    def send(self, audience: Audience, message_id: int) -> Send:
        """The push as a send."""
        data = {**(self.message.data or {}), "in_app_message_id": message_id}
        return Send(
            audience=audience,
            message=msgspec.structs.replace(self.message, data=data),
            name=self.name,
            transactional=self.transactional,
            delivery=self.delivery,
            ttl_s=self.ttl_s,
            collapse_id=self.collapse_id,
        )


class NewInApp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An in-app message as a producer asks for it."""

    audience: Audience
    """Whom it is for: recipients are the users of these devices, and those of their installs that have no user."""
    content: dict[str, Any] = {}
    """What the app draws it from: handed over as it is. Beside a template it is merged over the template's content."""
    template: TemplateRef | None = None
    """Of kind `in_app`: its content, with the tags in their places."""
    content_tags: Tags = {}
    presented_when: PresentedWhen
    ttl: Ttl | None = None
    """Required, unless it is never presented."""
    data: dict[str, Any] | None = None
    """Handed to the app as it is."""
    inbox: InboxEntry | None = None
    """Where given, it is in the inbox, too."""
    push: InAppPush | None = None
    name: Annotated[str, Meta(max_length=255)] | None = None
    """For people."""
    send_at: Instant | None = None
    """UNIX seconds at which it is released, to whoever is in the audience then; absent: at once."""
    schedule: Schedule | None = None
    """The same by strategy `utc` or `timezone`, as sends have it; without a recurrence, and not beside `send_at`."""


class InAppChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may change of an in-app message: absent fields stay."""

    name: Annotated[str, Meta(max_length=255)] | UnsetType | None = msgspec.UNSET
    ends_at: Instant | UnsetType = msgspec.UNSET
    """An earlier end of both presentation and inbox, in UNIX seconds."""


class InAppBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every recipient is given, as it is stored: JSON that is handed on is not read."""

    content: msgspec.Raw
    presented_when: PresentedWhen
    data: msgspec.Raw = msgspec.Raw(b"null")
    ttl: Ttl | None = None
    inbox: InboxEntry | None = None
    template: TemplateRef | None = None
    """Whose content it is, in the version of then; recipients are not told."""


class InAppCounts(Struct, frozen=True, kw_only=True):
    """Of how many recipients what was reported."""

    recipients: int
    """Users, and installs without one."""
    users: int
    delivered: int
    opened: int
    read: int
    dismissed: int
    deleted: int


class InAppView(Struct, frozen=True, kw_only=True):
    """An in-app message as the API shows it to its sender."""

    id: int
    name: str | None
    state: InAppState
    audience: Any
    content: Any
    template: TemplateRef | None
    """Whose content it is, in the version of then."""
    presented_when: PresentedWhen
    ttl: Ttl | None
    data: Any
    inbox: InboxEntry | None
    push: Any
    created_at: float
    send_at: float | None
    released_at: float | None
    expires_at: float | None
    """From then on it is not presented any more."""
    ends_at: float | None
    """From then on it is neither presented nor in the inbox."""
    cancelled_at: float | None
    updated_at: float
    notification_id: int | None
    """Of the push that went along, once it was accepted."""
    counts: InAppCounts


class InAppRecipient(Struct, frozen=True, kw_only=True):
    """A recipient who did something, and when first; one of `user_id` and `install_id` says who."""

    user_id: str | None
    install_id: str | None
    delivered_at: float | None
    opened_at: float | None
    read_at: float | None
    dismissed_at: float | None
    deleted_at: float | None


class InboxMessage(Struct, frozen=True, kw_only=True):
    """An in-app message as one recipient has it; times are UNIX seconds."""

    id: int
    presented_when: PresentedWhen
    content: Any
    data: Any
    inbox: InboxEntry | None
    sent_at: float
    expires_at: float | None
    """From then on it is not to be presented any more."""
    updated_at: float
    """Of the message, or of what was done with it: the later one."""
    delivered_at: float | None
    opened_at: float | None
    read_at: float | None
    dismissed_at: float | None
    deleted_at: float | None
    cancelled_at: float | None
    """It was withdrawn: nobody is to see it any more."""


class InboxReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One thing that was done with one message."""

    message_id: MessageId
    event: InboxEvent
    at: Instant | None = None
    """UNIX seconds by the device's clock; absent: now. Kept between the release and the arrival."""


def faults_of_ttl(ttl: Ttl) -> str | None:
    """What is wrong with it; None when nothing is."""
    return None if (ttl.days is None) != (ttl.hours is None) else "is either days or hours"
