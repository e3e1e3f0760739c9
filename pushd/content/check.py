"""The rules that span fields of a send, checked before it is accepted: every fault points at its field."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from protocols import apns, apns_channels
from pushd.content import email, hms, safari
from pushd.content.apns import SILENT
from pushd.content.kinds import kinds
from pushd.content.platforms import refuse_unfit
from pushd.errors import Fault, InvalidRequestError
from pushd.model.app import Settings
from pushd.model.device import ID_MAX, GatewayName, Kind, Shape
from pushd.model.message import LiveActivity, Message, PushType, Sound
from pushd.model.notification import Send
from pushd.model.schedule import check as time_faults

_EVERYWHERE = frozenset({"push_type", "priority", "overrides"})
_EXTRAS = frozenset({"url", "data", "icon", "image", "media"})
_TEXTS = frozenset({"title", "subtitle", "body", "sound", "category", "thread", "buttons"})
_FIELDS: dict[PushType, frozenset[str]] = {
    PushType.ALERT: frozenset(Message.__struct_fields__) - {"live_activity"},
    PushType.BACKGROUND: _EXTRAS | {"content_available", "android"},
    PushType.VOIP: _EXTRAS | _TEXTS,
    PushType.COMPLICATION: _EXTRAS | _TEXTS,
    PushType.FILEPROVIDER: frozenset({"data"}),
    PushType.LOCATION: _EXTRAS,
    PushType.LIVEACTIVITY: frozenset({"live_activity", "title", "body", "sound", "relevance"}),
    PushType.PUSHTOTALK: _EXTRAS | _TEXTS,
    PushType.CONTROLS: frozenset(),
    PushType.WIDGETS: frozenset(),
    PushType.MDM: frozenset({"data"}),
    PushType.EMAIL: frozenset({"title", "body", "url"}),
    PushType.CHANNEL: frozenset({"live_activity", "title", "body", "sound", "relevance"}),
}
"""Fields that mean something in a push of each type; others are refused, for dropping them would be silent."""

_VISIBLE = ("title", "subtitle", "body", "badge", "badge_increment", "sound", "content_available", "overrides")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]+")
_SCHEMES_REFUSED = frozenset({"javascript", "vbscript", "data", "blob", "file"})
"""Schemes that run or read something where a link is opened."""


NO_SHAPES: Mapping[GatewayName, Collection[Shape]] = {}
_LAST_SECOND = 9_999_999_999.0
"""The latest time that ten digits write; the year is 2286."""


def validate(
    send: Send,
    settings: Settings,
    served: Collection[GatewayName] = (),
    url_formats: Collection[str] = (),
    shapes: Mapping[GatewayName, Collection[Shape]] = NO_SHAPES,
) -> None:
    """Nothing, or InvalidRequestError with every fault of the send; at last its size on each platform (A-40).

    `served` are the gateways that the app has credentials for: what it cannot send to, it need not fit. Of an app
    that has none yet, every platform that the message reaches is asked. `url_formats` are those of its websites, and
    `shapes` those of its devices.
    """
    faults = [fault for rule in _RULES for fault in rule(send)] + time_faults(send)
    if not faults and Kind.SAFARI in kinds(send.message.push_type):
        faults = [*safari.faults_of_link(send.message, url_formats)]
    if faults:
        raise InvalidRequestError("The send breaks rules between its fields", faults=faults)
    # The notification has no id and no time of release yet; the largest ones take the most room.
    reached = {kind.gateway for kind in kinds(send.message.push_type)}
    asked = reached & {*served} or reached
    refuse_unfit(asked, send, settings, notification_id=ID_MAX, now=_LAST_SECOND, shapes=shapes)


def validate_time(send: Send) -> None:
    """Nothing, or InvalidRequestError with every fault of the send's time: all there is to ask of a plain one."""
    if faults := time_faults(send):
        raise InvalidRequestError("The send breaks rules between its fields", faults=faults)


def _meaningful(send: Send) -> Iterator[Fault]:
    message = send.message
    present = msgspec.to_builtins(message)  # defaults are left out
    for name in present:
        if name not in _FIELDS[message.push_type] | _EVERYWHERE:
            yield Fault(f"/message/{name}", f"has no meaning in a push of type {message.push_type.value}")
    if message.push_type is PushType.ALERT and not any(name in present for name in _VISIBLE):
        yield Fault("/message", "an alert without title, body, badge or sound shows nothing; data alone is background")


def _either_or(send: Send) -> Iterator[Fault]:
    message = send.message
    if message.badge is not None and message.badge_increment is not None:
        yield Fault("/message/badge_increment", "a badge is set or incremented, not both")
    if message.badge_increment is not None and message.mutable_content is False:
        yield Fault("/message/mutable_content", "badge_increment is applied by the service extension: it needs this")
    if message.android and message.android.channel is not None and message.android.notification_type is not None:
        yield Fault("/message/android/notification_type", "a channel or a notification type, not both")
    if message.push_type is PushType.BACKGROUND and message.content_available is False:
        yield Fault("/message/content_available", "a background push is content-available by definition")


def _sound(send: Send) -> Iterator[Fault]:
    sound = send.message.sound
    if not isinstance(sound, Sound):
        return
    if sound.critical and sound.name == SILENT:
        yield Fault("/message/sound/name", f'a critical sound cannot be "{SILENT}"')
    if not sound.critical and sound.volume != 1.0:
        yield Fault("/message/sound/volume", "only a critical sound has a volume")


def _live_activity(send: Send) -> Iterator[Fault]:
    message = send.message
    if message.push_type not in (PushType.LIVEACTIVITY, PushType.CHANNEL):
        return
    activity = message.live_activity
    if activity is None:
        yield Fault("/message/live_activity", f"a push of type {message.push_type.value} needs its event")
        return
    if message.push_type is PushType.CHANNEL:
        yield from _broadcast(activity, send)
    yield from _activity_start(activity, message)
    if activity.event != "end" and activity.dismissal_date is not None:
        yield Fault("/message/live_activity/dismissal_date", "only the end of an activity has a dismissal date")


def _broadcast(activity: LiveActivity, send: Send) -> Iterator[Fault]:
    if activity.event == "start":
        detail = "a channel updates and ends activities; they start by push type liveactivity with input_channel"
        yield Fault("/message/live_activity/event", detail)
    if send.collapse_id is not None:
        yield Fault("/collapse_id", "has no meaning in a push of type channel")


def _activity_start(activity: LiveActivity, message: Message) -> Iterator[Fault]:
    given = {"attributes_type": activity.attributes_type, "attributes": activity.attributes}
    for name, value in given.items():
        if activity.event == "start" and value is None:
            yield Fault(f"/message/live_activity/{name}", "an activity cannot start without it")
        if activity.event != "start" and value is not None:
            yield Fault(f"/message/live_activity/{name}", "only the start of an activity has it")
    yield from _activity_input(activity)
    if activity.event == "start" and not (message.title and message.body):
        yield Fault("/message/title", "an activity starts with an alert: title and body are needed")


def _activity_input(activity: LiveActivity) -> Iterator[Fault]:
    for name, value in {"input_channel": activity.input_channel, "input_token": activity.input_token}.items():
        if activity.event != "start" and value is not None:
            yield Fault(f"/message/live_activity/{name}", "only the start of an activity has it")
    if activity.input_channel is None:
        return
    if activity.input_token:
        yield Fault("/message/live_activity/input_token", "an activity is updated by a channel or by a token, not both")
    try:
        apns_channels.check_channel_id(activity.input_channel)
    except ValueError as error:
        yield Fault("/message/live_activity/input_channel", str(error))


def _system_keys(send: Send) -> Iterator[Fault]:
    required = {PushType.FILEPROVIDER: "container-identifier", PushType.MDM: "mdm"}.get(send.message.push_type)
    if required is not None and not isinstance((send.message.data or {}).get(required), str):
        kind = send.message.push_type.value
        yield Fault(f"/message/data/{required}", f"a push of type {kind} needs this text, which iOS itself reads")


def _links(send: Send) -> Iterator[Fault]:
    return link_faults(send.message)


def link_faults(message: Message) -> Iterator[Fault]:
    """What of a message should be a link and is none, or one that a tap must not open."""
    taps = {"/message/url": message.url}
    files = {"/message/icon": message.icon, "/message/image": message.image}
    for at, button in enumerate(message.buttons):
        taps[f"/message/buttons/{at}/url"] = button.url
        files[f"/message/buttons/{at}/icon"] = button.icon
    for at, media in enumerate(message.media):
        files[f"/message/media/{at}/url"] = media.url
    if message.android:
        files["/message/android/picture"] = message.android.picture
    for pointer, url in taps.items():
        if url is not None and not _is_link(url):
            yield Fault(pointer, "not an absolute URL that a tap may open")
    for pointer, url in files.items():
        if url is not None and not _is_web_address(url):
            yield Fault(pointer, "not an absolute http or https URL")


def _buttons(send: Send) -> Iterator[Fault]:
    seen: set[str] = set()
    for at, button in enumerate(send.message.buttons):
        if button.id in seen:
            yield Fault(f"/message/buttons/{at}/id", "another button has this id")
        seen.add(button.id)


def _collapse_id(send: Send) -> Iterator[Fault]:
    if send.collapse_id is not None:
        try:
            apns.check_collapse_id(send.collapse_id)
        except ValueError as error:
            yield Fault("/collapse_id", str(error))


def _overrides(send: Send) -> Iterator[Fault]:
    aps = send.message.overrides.get("apns", {}).get("aps", {})
    if aps is not None and not isinstance(aps, dict):
        yield Fault("/message/overrides/apns/aps", "aps is an object, or null to leave it out")
    for name in hms.TARGETS:
        if name in send.message.overrides.get("hms", {}):
            yield Fault(f"/message/overrides/hms/{name}", "whom a message is for is its audience's to say")


def _email(send: Send) -> Iterator[Fault]:
    override = send.message.overrides.get("email", {})
    for name, value in override.items():
        if name not in email.FIELDS:
            yield Fault(f"/message/overrides/email/{name}", f"a mail has {', '.join(sorted(email.FIELDS))}")
        elif not isinstance(value, str):
            yield Fault(f"/message/overrides/email/{name}", "is a text")
    if send.message.push_type is PushType.EMAIL and not (send.message.body or override.get("text")):
        yield Fault("/message/body", "a mail needs a text")


def _safari(send: Send) -> Iterator[Fault]:
    return safari.faults(send.message)


_RULES: tuple[Callable[[Send], Iterator[Fault]], ...] = (
    _meaningful,
    _either_or,
    _sound,
    _live_activity,
    _system_keys,
    _links,
    _buttons,
    _collapse_id,
    _overrides,
    _email,
    _safari,
)


def _is_link(url: str) -> bool:
    # Deep links (myapp:open/7) are as good as web addresses.
    return bool(_SCHEME.fullmatch(url)) and url.partition(":")[0].lower() not in _SCHEMES_REFUSED


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(_SCHEME.fullmatch(url)) and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
