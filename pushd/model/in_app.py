"""In-app messages: what is said inside the app, to whom, for how long, and what became of it with each recipient."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, UnsetType

from pushd.model.audience import Audience
from pushd.model.device import ID_MAX, Text255
from pushd.model.message import TTL_MAX_S, LongText, Message, ShortText, Url
from pushd.model.notification import Delivery, Send
from pushd.model.receipt import TIME_MAX
from pushd.model.schedule import Schedule, When
from pushd.model.template import Locale, Tags, TemplateRef

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
    """Released, some of it at least: its recipients can fetch it."""
    PAUSED = "paused"
    """Its time does not come until it is resumed; who has it has it."""
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
    badge_from: Literal["device.badge"] | None = None
    """Has pushd count the badges of those who are pushed to."""
    user_meta: dict[Text255, dict[str, Any]] = {}
    """By external id, what that user's events of the push carry; no device sees it."""
    reporting_meta: dict[str, Any] = {}
    """What all events of the push carry; no device sees it."""

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
            badge_from=self.badge_from,
            user_meta=self.user_meta,
            reporting_meta=self.reporting_meta,
        )


class InAppVariant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is different for devices of a locale: each part is merged over the message's own; null removes."""

    content: dict[str, Any] = {}
    data: dict[str, Any] = {}
    inbox: dict[Literal["title", "subtitle", "image"], LongText | None] = {}


InAppVariants = Annotated[dict[Locale, InAppVariant], Meta(max_length=60)]


class InAppContent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an in-app message says, and how it is shown."""

    content: dict[str, Any] = {}
    """What the app draws it from: handed over as it is. Beside a template it is merged over the template's content."""
    template: TemplateRef | None = None
    """Of kind `in_app`: its content, with the tags in their places."""
    liquid: bool = False
    """Whether texts of content, data and inbox entry are Liquid, rendered for each reader; a template's always are."""
    content_tags: Tags = {}
    """What texts read by name, the same for all."""
    locales: InAppVariants = {}
    """What is different for devices of a locale; others fall back from `pt-BR` to `pt`, and to the message itself."""
    presented_when: PresentedWhen
    ttl: Ttl | None = None
    """Required, unless it is never presented."""
    data: dict[str, Any] | None = None
    """Handed to the app as it is."""
    inbox: InboxEntry | None = None
    """Where given, it is in the inbox, too."""
    push: InAppPush | None = None


class NewInApp(InAppContent, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An in-app message as a producer asks for it."""

    audience: Audience
    """Whom it is for: recipients are the users of these devices, and those of their installs that have no user."""
    name: Annotated[str, Meta(max_length=255)] | None = None
    """For people."""
    send_at: Instant | None = None
    """UNIX seconds at which it is released, to whoever is in the audience then; absent: at once."""
    schedule: Schedule | None = None
    """The same as sends have it, recurrences too; not beside `send_at`."""
    intelligent_delivery: bool = False
    """As soon as possible at each user's preferred hour; not together with `schedule`."""
    release_window_minutes: Annotated[int, Meta(ge=60, le=1440)] | None = None
    """It comes to equal parts of its recipients, one a minute, over so many minutes; with `push`, the push does."""

    @property
    def when(self) -> When:
        """What it says of its time."""
        return When(
            schedule=self.schedule,
            intelligent_delivery=self.intelligent_delivery,
            release_window_minutes=self.release_window_minutes,
        )

    @property
    def said(self) -> InAppContent:
        """What it says, without to whom and when."""
        return InAppContent(**{name: getattr(self, name) for name in InAppContent.__struct_fields__})


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
    liquid: bool = False
    content_tags: Tags = {}
    locales: InAppVariants = {}


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
    suppressed: int
    """Who did not get it, as its time had passed for them; no recipients."""


class InAppView(Struct, frozen=True, kw_only=True):
    """An in-app message as the API shows it to its sender."""

    id: int
    name: str | None
    state: InAppState
    audience: Any
    content: Any
    template: TemplateRef | None
    """Whose content it is, in the version of then."""
    liquid: bool
    content_tags: Tags
    locales: InAppVariants
    presented_when: PresentedWhen
    ttl: Ttl | None
    data: Any
    inbox: InboxEntry | None
    push: Any
    created_at: float
    send_at: float | None
    """When it was to be released to the first; null: when it was made."""
    schedule_id: int | None
    """Of the schedule that it is an occurrence of. What is released once has the id of its schedule, and null here."""
    schedule: Schedule | None
    """By which more of it is to come; null: by none."""
    next_at: float | None
    """UNIX seconds of the next instant at which it comes to anybody; null: all that comes has begun to."""
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
    inbox: Any
    """Title, subtitle, image, and when it is there; null: it is not in the inbox."""
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
