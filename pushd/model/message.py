"""What is said: the message model, complete for every platform; `content/` renders it for each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

TTL_MAX_S = 2_419_200
"""28 days: the longest that any of the gateways keeps a message."""

ShortText = Annotated[str, Meta(max_length=1000)]
LongText = Annotated[str, Meta(max_length=4096)]
Url = Annotated[str, Meta(max_length=2048)]


class PushType(StrEnum):
    """What sort of push it is; all but `alert` and `background` reach only addresses registered for them."""

    ALERT = "alert"
    BACKGROUND = "background"
    VOIP = "voip"
    COMPLICATION = "complication"
    FILEPROVIDER = "fileprovider"
    LOCATION = "location"
    LIVEACTIVITY = "liveactivity"
    PUSHTOTALK = "pushtotalk"
    CONTROLS = "controls"
    WIDGETS = "widgets"
    MDM = "mdm"
    EMAIL = "email"
    """A mail: it reaches addresses of kind `email` and nothing else does."""
    CHANNEL = "channel"
    """An update or the end of a Live Activity for all subscribers of broadcast channels, kind `apns_channel`."""


class Button(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An action that the notification offers."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    text: Annotated[str, Meta(min_length=1, max_length=100)]
    url: Url | None = None
    icon: Url | None = None


class Sound(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A sound by name; `critical` breaks through silence on iOS (needs an entitlement), at `volume` 0…1."""

    name: ShortText = "default"
    critical: bool = False
    volume: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Media(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A picture, film or sound that the app attaches."""

    url: Url
    type: Annotated[str, Meta(max_length=127)] | None = None
    """MIME type."""


class Android(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What Android alone understands. A notification type or a channel, never both."""

    priority: Literal["normal", "high"] | None = None
    sound: ShortText | None = None
    picture: Url | None = None
    channel: ShortText | None = None
    notification_type: ShortText | None = None
    color: Annotated[str, Meta(pattern=r"^#[0-9a-fA-F]{6}$")] | None = None
    small_icon: ShortText | None = None
    click_action: ShortText | None = None


class LiveActivity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event of an iOS Live Activity.

    A start goes to push-to-start tokens, by push type `liveactivity`; updates and the end to the token of the activity
    itself, or by push type `channel` to everyone who subscribed to a channel.
    """

    event: Literal["start", "update", "end"]
    content_state: dict[str, Any]
    attributes_type: ShortText | None = None
    attributes: dict[str, Any] | None = None
    timestamp: Annotated[int, Meta(ge=0)] | None = None
    """UNIX seconds; the time of sending when absent."""
    stale_date: Annotated[int, Meta(ge=0)] | None = None
    dismissal_date: Annotated[int, Meta(ge=0)] | None = None
    input_channel: Annotated[str, Meta(max_length=240)] | None = None
    """Of a start: the id of the broadcast channel by which the new activity is updated (iOS 18)."""
    input_token: bool | None = None
    """Of a start: whether the app asks for a token by which the new activity is updated (iOS 18)."""


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One message, whatever it will become on each platform."""

    title: ShortText | None = None
    """Falls back to the app's default title where a platform needs one."""
    subtitle: ShortText | None = None
    body: LongText | None = None
    url: Url | None = None
    """Opened by a tap."""
    data: dict[str, Any] | None = None
    """Handed to the app as it is."""
    icon: Url | None = None
    image: Url | None = None
    media: Annotated[list[Media], Meta(max_length=10)] = []
    buttons: Annotated[list[Button], Meta(max_length=4)] = []
    display_time_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | None = None
    """How long a browser shows it; 0: until it is clicked."""
    priority: Literal["normal", "high"] = "high"
    """`normal` lets the device save power."""
    badge: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """Sets the badge; 0 clears it. Not together with `badge_increment`."""
    badge_increment: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    sound: ShortText | Sound | None = None
    """A name; `none` silences; absent: the platform's default."""
    category: ShortText | None = None
    thread: ShortText | None = None
    interruption_level: Literal["passive", "active", "time-sensitive", "critical"] | None = None
    relevance: Annotated[float, Meta(ge=0, le=1)] | None = None
    mutable_content: bool | None = None
    content_available: bool | None = None
    push_type: PushType = PushType.ALERT
    live_activity: LiveActivity | None = None
    android: Android | None = None
    overrides: dict[Literal["apns", "fcm", "webpush", "hms", "safari", "email"], dict[str, Any]] = {}
    """Per platform, merged over the rendered body key by key; a null removes a key (RFC 7396)."""
