"""ConnectyCube's events: what a body asks for, whom it is for and when, and how an event is told."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from pushd.dialects.connectycube import payloads, recipients, wire
from pushd.dialects.connectycube.subscriptions import CHANNELS, ENVIRONMENTS
from pushd.model.audience import And, Audience, Environments, Kinds, PreferredKind
from pushd.model.device import Kind
from pushd.model.dialect_event import DialectEvent, NewEvent, Told
from pushd.model.message import TTL_MAX_S
from pushd.model.notification import Send
from pushd.model.schedule import PastTimes, Recurrence, Schedule, Strategy

PERIODS = (86_400, 604_800, 2_592_000, 31_557_600)
TYPES = ("one_shot", "fixed_date", "period_date")
NAME_CHARS_MAX = 255
DATE_MAX = 32_503_679_999
_TIMES = frozenset(("date", "end_date", "period", "event_type"))
_ALIKE = (Kind.APNS_VOIP, Kind.APNS)
"""An iPhone that can ring is not notified beside."""


class Asked(Struct, frozen=True, kw_only=True):
    """An event as it was asked for, before it is known which channels there are."""

    channels: tuple[str, ...]
    """Those that it may go to."""
    universal: dict[str, Any] | None
    """The parameters; None: it was written for its one channel."""
    message: str
    environment: str
    audience: Audience
    """Whom it is for, in its environment."""
    named: tuple[str, ...]
    """Ids of users that were named."""
    name: str | None
    date: int | None
    end_date: int | None
    period: int | None
    tag_query: str | None
    target: str | None

    @property
    def rings(self) -> bool:
        """Whether iPhones that can ring do, and only the others are notified."""
        return self.universal is not None and bool(wire.truth(self.universal.get("ios_voip"), "ios_voip"))

    def audience_of(self, channel: str) -> Audience:
        """Whom it is for on one channel."""
        if channel == "email":
            return self.audience
        kind = CHANNELS[channel]
        if kind in _ALIKE and self.rings:
            return And([PreferredKind(of=self.audience, kinds=[*_ALIKE]), Kinds([kind])])
        parts = self.audience.of if isinstance(self.audience, And) else [self.audience]
        return And([*parts, Kinds([kind])])

    def event(self, channel: str, now: float) -> NewEvent:
        """The event of one channel. InvalidRequestError."""
        made = (
            payloads.for_channel(channel, self.message)
            if self.universal is None
            else payloads.made_for(channel, self.universal)
        )
        until = None if self.universal is None else payloads.lasts_until(self.universal)
        ttl_s = payloads.FCM_TTL_S if channel == "gcm" else None
        if until is not None:
            ttl_s = min(max(until - int(self.date or now), 0), TTL_MAX_S)
        send = Send(
            audience=self.audience_of(channel),
            message=made.message,
            name=self.name,
            ttl_s=ttl_s,
            schedule=schedule(self.date, self.end_date, self.period),
        )
        told = Told(
            channel=channel,
            environment=self.environment,
            message=made.told,
            universal=self.universal is not None,
            name=self.name,
            date=self.date,
            end_date=self.end_date,
            period=self.period,
            tag_query=self.tag_query,
        )
        return NewEvent(told=told, target=self.target, send=send, collapses=channel == "gcm")


def parse(body: dict[str, Any], now: float) -> Asked:
    """What a body asks for; InvalidRequestError."""
    given = wire.inside(body, "event")
    kind = wire.text(given.get("notification_type"))
    if kind not in {"push", "email"}:
        raise wire.wrong("notification_type", "is neither push nor email")
    environment = wire.text(given.get("environment"))
    if environment not in ENVIRONMENTS:
        raise wire.wrong("environment", "is neither development nor production")
    push_type = wire.text(given.get("push_type")) if kind == "push" else "email"
    if kind == "push" and push_type and push_type not in CHANNELS:
        raise wire.wrong("push_type", f"is none of {', '.join(CHANNELS)}")
    message = message_of(given)
    date, end_date, period = time_of(given, now)
    users, externals, tags, query = recipients.whom(given)
    fields = None if push_type else payloads.universal(message)
    channels = (push_type,) if push_type else ("apns", "gcm", "web")
    if fields is not None and wire.truth(fields.get("ios_voip"), "ios_voip"):
        channels = ("apns_voip", *channels)
    audience = recipients.audience(users, externals, tags)
    return Asked(
        channels=channels,
        universal=fields,
        message=message,
        environment=environment,
        audience=audience if kind == "email" else And([audience, Environments(ENVIRONMENTS[environment])]),
        named=(*users, *externals),
        name=name_of(given),
        date=date,
        end_date=end_date,
        period=period,
        tag_query=query,
        target=recipients.target(users, externals),
    )


def message_of(given: dict[str, Any]) -> str:
    """The message as it was given; InvalidRequestError where there is none."""
    message = wire.text(given.get("message"))
    if not message.strip():
        raise wire.wrong("message", "can't be blank")
    return message


def name_of(given: dict[str, Any]) -> str | None:
    """The name of an event."""
    name = wire.text(given.get("name"))
    if len(name) > NAME_CHARS_MAX:
        raise wire.wrong("name", f"is longer than {NAME_CHARS_MAX} characters")
    return name or None


def time_of(given: dict[str, Any], now: float) -> tuple[int | None, int | None, int | None]:
    """Date, end date and period, of which the type of the event follows. InvalidRequestError."""
    if _TIMES.isdisjoint(given):
        return None, None, None
    date, end_date, period = (wire.number(given.get(name), name) for name in ("date", "end_date", "period"))
    said = wire.text(given.get("event_type"))
    if said and said not in TYPES:
        raise wire.wrong("event_type", f"is none of {', '.join(TYPES)}")
    if period is not None and period not in PERIODS:
        raise wire.wrong("period", f"is none of {', '.join(map(str, PERIODS))}")
    if period is None and said == "period_date":
        raise wire.wrong("period", "is missing")
    if date is None and (period is not None or said == "fixed_date"):
        raise wire.wrong("date", "is missing")
    for name, at in (("date", date), ("end_date", end_date)):
        if at is not None and not 0 <= at <= DATE_MAX:
            raise wire.wrong(name, "is not a time in seconds")
    if date is not None and period is None and date < int(now):
        raise wire.wrong("date", "is in the past")
    if end_date is not None and (date is None or end_date < date or end_date < int(now)):
        raise wire.wrong("end_date", "is before the first date, or in the past")
    return date, end_date, period


def schedule(date: int | None, end_date: int | None, period: int | None) -> Schedule | None:
    """When an event occurs; None: at once."""
    if date is None:
        return None
    if period is None:
        return Schedule(strategy=Strategy.UTC, send_at=float(date), past_times=PastTimes.NEXT_DAY)
    ends_at = None if end_date is None else float(end_date)
    return Schedule(
        strategy=Strategy.UTC,
        past_times=PastTimes.IGNORE,
        recurrence=Recurrence(every_s=period, starts_at=float(date), ends_at=ends_at),
    )


def event_type(told: Told) -> str:
    """What of the three an event is."""
    return "period_date" if told.period is not None else "fixed_date" if told.date is not None else "one_shot"


def shown(event: DialectEvent) -> dict[str, Any]:
    """An event as it is told; types are those that Dart's parser insists on."""
    told = event.told
    return {
        "event": {
            "id": event.id,
            "event_type": event_type(told),
            "message": told.message,
            "date": told.date,
            "period": told.period,
            "name": told.name,
            "occured_count": event.occurred,
            "created_at": wire.iso(event.created_at),
            "updated_at": wire.iso(event.updated_at),
            "end_date": told.end_date,
            "active": event.active,
            "application_id": event.app_id,
            "user_id": event.user_id,
            "kind": "API",
            "environment": told.environment,
            "tag_query": told.tag_query,
            "notification_channel": {"name": told.channel},
        }
    }
