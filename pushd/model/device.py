"""Installs and their devices: addresses of a kind that one gateway serves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

ID_MAX = 2**31 - 1
"""Numeric ids stay below 2^31: dialects show them to clients that read 32-bit integers."""


class GatewayName(StrEnum):
    """A gateway family; the value is stored and shown. Its number in outcome rows is its position, append-only."""

    APNS = "apns"
    FCM = "fcm"
    WEBPUSH = "webpush"
    HMS = "hms"
    SAFARI = "safari"
    EMAIL = "email"

    @property
    def number(self) -> int:
        """The small integer stored beside outcome codes."""
        return _GATEWAY_NUMBERS[self]


class Environment(StrEnum):
    """Which of a gateway's two worlds an address lives in; gateways with one world use `production`."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"


class Platform(StrEnum):
    """What an install runs on."""

    IOS = "ios"
    ANDROID = "android"
    WEB = "web"
    MACOS = "macos"
    HUAWEI = "huawei"
    EMAIL = "email"
    OTHER = "other"


class Shape(StrEnum):
    """Whose payloads an app's client SDK reads; what was registered without one reads pushd's own."""

    OWN = ""
    CONNECTYCUBE = "connectycube"
    KUMULOS = "kumulos"
    BACKENDLESS = "backendless"
    GRAVITEC = "gravitec"


class Kind(StrEnum):
    """What sort of address a device is. Ordinary messages reach alert kinds only; the rest must be asked for."""

    APNS = "apns"
    APNS_VOIP = "apns_voip"
    APNS_COMPLICATION = "apns_complication"
    APNS_FILEPROVIDER = "apns_fileprovider"
    APNS_LOCATION = "apns_location"
    APNS_LIVEACTIVITY = "apns_liveactivity"
    APNS_PUSHTOTALK = "apns_pushtotalk"
    APNS_CONTROLS = "apns_controls"
    APNS_WIDGETS = "apns_widgets"
    APNS_MDM = "apns_mdm"
    FCM = "fcm"
    WEBPUSH = "webpush"
    HMS = "hms"
    SAFARI = "safari"
    EMAIL = "email"
    APNS_CHANNEL = "apns_channel"
    """A broadcast channel of Live Activities: one address that stands for all who subscribed to it at Apple."""

    @property
    def gateway(self) -> GatewayName:
        """The gateway that serves this kind."""
        return _GATEWAYS[self]

    @property
    def number(self) -> int:
        """The small integer stored for this kind: its position, append-only."""
        return _KIND_NUMBERS[self]


_GATEWAY_NUMBERS = {name: number for number, name in enumerate(GatewayName)}
_KIND_NUMBERS = {kind: number for number, kind in enumerate(Kind)}
_GATEWAYS = {kind: GatewayName(kind.value.split("_", 1)[0]) for kind in Kind}

ALERT_KINDS = frozenset({Kind.APNS, Kind.FCM, Kind.WEBPUSH, Kind.HMS, Kind.SAFARI})


class Route(NamedTuple):
    """What a batch's rows share. `bundle` (bundle or package id) chooses the APNs topic, `shape` the payload alone."""

    app_id: int
    kind: Kind
    environment: Environment
    bundle: str
    shape: Shape = Shape.OWN


class Profile(NamedTuple):
    """What installs of an app have in common; what nobody named is empty."""

    app_id: int
    platform: str
    os_version: str
    app_version: str
    locale: str
    country: str
    time_zone: str


Text255 = Annotated[str, Meta(min_length=1, max_length=255)]
Tag = Annotated[str, Meta(min_length=1, max_length=255)]
DeviceId = Annotated[int, Meta(ge=1, le=ID_MAX)]
Locale = Annotated[str, Meta(max_length=35)]
Country = Annotated[str, Meta(max_length=2)]
TimeZone = Annotated[str, Meta(max_length=64)]
Version = Annotated[str, Meta(max_length=64)]


class SubscriptionKeys(Struct, frozen=True, kw_only=True):
    """The browser's public keys, in base64url."""

    p256dh: Annotated[str, Meta(max_length=128)]
    auth: Annotated[str, Meta(max_length=64)]


class Subscription(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A browser's `PushSubscription` as its `toJSON` gives it, or a UnifiedPush endpoint with its keys.

    What browsers may add to it is passed over.
    """

    endpoint: Annotated[str, Meta(max_length=2048)]
    keys: SubscriptionKeys
    application_server_key: Annotated[str, Meta(max_length=128)] | None = None
    """The VAPID public key that it was made with, in base64url: what serves it after a rotation, too.

    Absent: the app's key of now.
    """


class Registration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One address of one install, as a client registers it; the newest registration of an address wins.

    Fields that are absent (`UNSET`) stay as they are on the install; `null` clears them. `token` may be absent or
    null: the install then exists, keeps user, tags and attributes, and has no address to push to.
    """

    install_id: Text255
    kind: Kind = Kind.APNS
    token: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    environment: Environment = Environment.PRODUCTION
    bundle: Annotated[str, Meta(max_length=255)] | msgspec.UnsetType = msgspec.UNSET
    shape: Shape | msgspec.UnsetType = msgspec.UNSET
    """Whose client SDK reads the address's payloads; the empty text is pushd's own, which new addresses have."""
    user_id: Text255 | msgspec.UnsetType | None = msgspec.UNSET
    platform: Platform | msgspec.UnsetType | None = msgspec.UNSET
    tags: Annotated[list[Tag], Meta(max_length=1000)] | msgspec.UnsetType = msgspec.UNSET
    locale: Locale | msgspec.UnsetType | None = msgspec.UNSET
    time_zone: TimeZone | msgspec.UnsetType | None = msgspec.UNSET
    app_version: Version | msgspec.UnsetType | None = msgspec.UNSET
    os_version: Version | msgspec.UnsetType | None = msgspec.UNSET
    country: Country | msgspec.UnsetType | None = msgspec.UNSET
    alias: Text255 | msgspec.UnsetType | None = msgspec.UNSET
    """Another name of the install; installs may share one."""
    push_enabled: bool | msgspec.UnsetType = msgspec.UNSET
    in_app_consent: bool | msgspec.UnsetType = msgspec.UNSET
    subscription: Subscription | None = None
    """Of kind `webpush`, in place of a token."""


class Device(Struct, frozen=True, kw_only=True):
    """A device as the API shows it. The token is never shown whole: `token_hint` is its last four characters."""

    id: DeviceId
    install_id: str
    kind: Kind
    environment: Environment
    bundle: str
    shape: Shape
    token_hint: str
    user_id: str | None
    platform: Platform | None
    tags: list[str]
    locale: str | None
    time_zone: str | None
    app_version: str | None
    os_version: str | None
    country: str | None
    alias: str | None
    push_enabled: bool
    in_app_consent: bool
    reachable: bool
    """Has a live token and has push enabled."""
    retired_at: float | None
    retired_reason: str | None
    registered_at: float
    """UNIX seconds of the newest registration of this address."""
    first_seen_at: float
    """UNIX seconds of the install's first registration."""
    last_seen_at: float
    badge: int = 0
    """What pushd counts for it, where messages have it count (`badge_from`: `device.badge`)."""
