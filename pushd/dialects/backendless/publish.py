"""Backendless' `POST messaging/{channel}`: what its body says, whom it is for, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pushd.dialects.backendless import payloads, wire
from pushd.dialects.backendless.wire import Code
from pushd.model.audience import TARGETS_MAX, And, Audience, Channels, Installs, Kinds, Not, Or, Platforms, Segment
from pushd.model.device import Kind, Platform
from pushd.model.notification import Send
from pushd.model.schedule import EVERY_MAX_S, EVERY_MIN_S, INSTANT_MAX, PastTimes, Recurrence, Schedule, Strategy

NAME_CHARS_MAX = 255
IOS, ANDROID, WP, OSX = 1, 2, 4, 8
ALL = 7
"""Whoever asks for these asks for everything: there was nothing else when the mask was made."""
MASK_MAX = 15
_SYSTEMS = {"IOS": IOS, "ANDROID": ANDROID, "WP": WP, "OSX": OSX, "ALL": MASK_MAX, "NONE": 0}
_POLICIES = ("PUSH", "PUBSUB", "BOTH")
_OPTIONS = ("pushBroadcast", "pushSinglecast", "segmentQuery")
_APPLE, _ANDROID = Kinds([Kind.APNS]), Kinds([Kind.FCM, Kind.HMS])
_MAC = Platforms([Platform.MACOS])


@dataclass(frozen=True, slots=True)
class Asked:
    """A publication as it was asked for."""

    send: Send | None
    """None: there is no push in it."""
    channel: str | None = None
    """Whose devices get it; None: nobody's, or single devices."""

    @property
    def is_scheduled(self) -> bool:
        """Whether it waits for its time."""
        return self.send is not None and self.send.schedule is not None


def parse(body: dict[str, Any], channel: str, now: float) -> Asked:
    """What a body asks for. InvalidRequestError, with the vendor's number where it has one."""
    if not 0 < len(channel) <= NAME_CHARS_MAX:
        raise wire.wrong("channel", f"is not a name of 1 to {NAME_CHARS_MAX} characters")
    headers = payloads.headers_of(body.get("headers"))
    schedule = schedule_of(body, now)
    audience = _audience(body, channel)
    if audience is None or not _is_push(body, headers):
        return Asked(None)
    message = payloads.message_of(body.get("message"), headers)
    send = Send(audience=audience, message=message, schedule=schedule)
    return Asked(send, None if isinstance(audience, Installs) else channel)


def _is_push(body: dict[str, Any], headers: dict[str, str]) -> bool:
    """Whether devices get anything; where no policy is given, push headers and options tell."""
    policy = wire.text(body.get("publishPolicy")).strip().upper()
    if policy and policy not in _POLICIES:
        raise wire.wrong("publishPolicy", f"is none of {', '.join(_POLICIES)}")
    if policy:
        return policy != "PUBSUB"
    return any(map(payloads.is_of_push, headers)) or any(body.get(name) for name in _OPTIONS)


# Whom -------------------------------------------------------------------------------------------------------------


def _audience(body: dict[str, Any], channel: str) -> Audience | None:
    """Whom it is for; None: nobody. Single devices are reached whatever the channel and the systems say."""
    single = _devices(body.get("pushSinglecast"))
    if single:
        return Installs(single)
    parts: list[Audience] = [Channels(any=[channel])]
    if body.get("pushBroadcast") is not None:
        mask = mask_of(body["pushBroadcast"])
        if not mask & ~WP:
            return None
        if mask & ALL != ALL:
            parts.append(_systems(mask))
    segment = body.get("segmentQuery")
    if segment:
        name = wire.text(segment).strip()
        if not 0 < len(name) <= NAME_CHARS_MAX:
            raise wire.wrong("segmentQuery", "is not the uuid of a segment")
        parts.append(Segment(name))
    return parts[0] if len(parts) == 1 else And(parts)


def _devices(given: Any) -> list[str]:
    said = given.split(",") if isinstance(given, str) else [] if given is None else given
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise wire.wrong("pushSinglecast", "is not a list of device ids")
    found = list(dict.fromkeys(each.strip() for each in said if each.strip()))
    if len(found) > TARGETS_MAX or any(len(each) > NAME_CHARS_MAX for each in found):
        raise wire.wrong("pushSinglecast", f"has more than {TARGETS_MAX} device ids, or one that is none")
    return found


def mask_of(given: Any) -> int:
    """The mask of systems, as number or in names: 3, `IOS|ANDROID`, `FOR_IOS|FOR_ANDROID`. InvalidRequestError."""
    value = wire.number(given)
    if value is not None:
        if not value.is_integer() or not 0 <= value <= MASK_MAX:
            raise wire.wrong("pushBroadcast", f"is not a mask of 0 to {MASK_MAX}")
        return int(value)
    names = [each.strip().upper().removeprefix("FOR_") for each in wire.text(given).replace(",", "|").split("|")]
    if not isinstance(given, str) or not set(names) <= set(_SYSTEMS):
        raise wire.wrong("pushBroadcast", "is neither a mask nor names such as IOS|ANDROID")
    mask = 0
    for each in names:
        mask |= _SYSTEMS[each]
    return mask


def _systems(mask: int) -> Audience:
    leaves: list[Audience] = []
    if mask & ANDROID:
        leaves.append(_ANDROID)
    if mask & IOS and mask & OSX:
        leaves.append(_APPLE)
    elif mask & (IOS | OSX):
        leaves.append(And([_APPLE, Not(_MAC) if mask & IOS else _MAC]))
    return leaves[0] if len(leaves) == 1 else Or(leaves)


# When -------------------------------------------------------------------------------------------------------------


def schedule_of(body: dict[str, Any], now: float) -> Schedule | None:
    """When it goes out; None: at once. InvalidRequestError 5030 and 5003."""
    at = _instant(body.get("publishAt"), now, "publishAt", Code.PUBLISH_AT)
    begins = now if at is None else at
    expires = _instant(body.get("repeatExpiresAt"), begins, "repeatExpiresAt", Code.REPEAT_EXPIRES_AT)
    every = _every(body.get("repeatEvery"))
    if every is None:
        return None if at is None else Schedule(strategy=Strategy.UTC, send_at=at, past_times=PastTimes.NEXT_DAY)
    recurrence = Recurrence(every_s=every, starts_at=at, ends_at=expires)
    return Schedule(strategy=Strategy.UTC, past_times=PastTimes.IGNORE, recurrence=recurrence)


def _instant(given: Any, after: float, name: str, code: int) -> float | None:
    """UNIX seconds of a time in milliseconds; nothing and 0 are none."""
    if given is None or given in ("", 0) or given is False:
        return None
    value = wire.number(given)
    if value is None or not after < value / 1000 <= INSTANT_MAX:
        raise wire.wrong(name, "is not a time to come, in milliseconds", code)
    return value / 1000


def _every(given: Any) -> int | None:
    """Seconds from one to the next; shorter ones than pushd keeps are stretched."""
    if given is None or given in ("", 0) or given is False:
        return None
    value = wire.number(given)
    if value is None or not 0 < value <= EVERY_MAX_S:
        raise wire.wrong("repeatEvery", f"is not a number of seconds up to {EVERY_MAX_S}")
    return max(round(value), EVERY_MIN_S)
