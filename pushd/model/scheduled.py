"""Schedules as people see and change them: sends that are kept until their time, once or again and again."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from pushd.model.audience import Audience
from pushd.model.device import Text255
from pushd.model.in_app import InAppContent
from pushd.model.message import TTL_MAX_S, Message
from pushd.model.notification import Category, Delivery
from pushd.model.quiet import Policy
from pushd.model.schedule import Schedule
from pushd.model.template import BadgeFrom, Tags, TemplateRef, Variants


class ScheduleState(StrEnum):
    """Where a schedule stands."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    """It was switched off: nothing occurs until it is switched on."""
    ENDED = "ended"
    """There is no occurrence left."""
    CANCELLED = "cancelled"


class ScheduleView(Struct, frozen=True, kw_only=True):
    """A schedule as the API shows it: what was asked for, what comes next, and what came of it so far."""

    id: int
    """What the send was answered with. What is sent once keeps it; each occurrence of a recurrence has its own."""
    name: str | None
    state: ScheduleState
    active: bool
    revision: int
    """Grows with every change and every occurrence."""
    next_at: float | None
    """UNIX seconds of the earliest instant at which it goes out to anybody; null: at none."""
    next: list[float | str]
    """The next five occurrences, UNIX seconds; with `local` wall times, with `intelligent` days. A listing has none."""
    occurred: int
    """Occurrences that were sent."""
    skipped: int
    """Occurrences that were not: missed, or of an audience that could not be resolved."""
    schedule: Schedule | None
    intelligent_delivery: bool
    release_window_minutes: int | None
    audience: Audience
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
    in_app: InAppContent | None
    """Of in-app messages, what each says: then what sends alone have means nothing."""
    created_at: float
    ended_at: float | None
    cancelled_at: float | None


class ScheduleChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to change of a schedule; what is absent stays, and null takes back what was said."""

    name: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    audience: Audience | UnsetType = UNSET
    message: Message | UnsetType = UNSET
    template: TemplateRef | UnsetType | None = UNSET
    liquid: bool | UnsetType = UNSET
    content_tags: Tags | UnsetType = UNSET
    locales: Variants | UnsetType = UNSET
    badge_from: BadgeFrom | UnsetType | None = UNSET
    user_data: dict[Text255, Tags] | UnsetType = UNSET
    user_meta: dict[Text255, dict[str, Any]] | UnsetType = UNSET
    reporting_meta: dict[str, Any] | UnsetType = UNSET
    transactional: bool | UnsetType = UNSET
    delivery: Delivery | UnsetType = UNSET
    ttl_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | UnsetType | None = UNSET
    collapse_id: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType | None = UNSET
    push_tag: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType | None = UNSET
    category: Category | UnsetType | None = UNSET
    quiet_hours: Policy | UnsetType = UNSET
    schedule: Schedule | UnsetType | None = UNSET
    """Another time, judged as if it had been sent now; null: it goes out at once."""
    intelligent_delivery: bool | UnsetType = UNSET
    release_window_minutes: Annotated[int, Meta(ge=60, le=1440)] | UnsetType | None = UNSET
    in_app: InAppContent | UnsetType = UNSET
    """Of in-app messages, all that they say; what sends alone have cannot be said beside it."""
    active: bool | UnsetType = UNSET
    """Off: nothing occurs. On again: it goes on with the next occurrence; what would have occurred is not caught up."""
    revision: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    """Of the schedule as it was read: when it has another by now, nothing is changed."""


class OccurrenceView(Struct, frozen=True, kw_only=True):
    """An occurrence of a schedule whose time has come."""

    at: float | str
    """When it was due, as `next` of a schedule says it."""
    outcome: Literal["fired", "skipped"]
    notification_id: int | None
    """What was sent; null of what was skipped, and of in-app messages."""
    in_app_message_id: int | None
    """The same of in-app messages."""
    decided_at: float
    """UNIX seconds."""
