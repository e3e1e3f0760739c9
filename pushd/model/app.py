"""Apps (tenants), their settings, and the keys that act for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from pushd.model.caps import CAPS_MAX, Cap
from pushd.model.message import TTL_MAX_S
from pushd.model.quiet import QuietHours

AppId = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What messages of an app fall back to."""

    default_title: Annotated[str, Meta(max_length=1000)] | None = None
    icon: Annotated[str, Meta(max_length=2048)] | None = None
    """URL of the default icon."""
    site_url: Annotated[str, Meta(max_length=2048)] | None = None
    time_zone: Annotated[str, Meta(max_length=64)] = "UTC"
    """IANA name; for devices that have none."""
    locale: Annotated[str, Meta(max_length=35)] = "en"
    default_ttl_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | None = None
    """How long gateways may hold what says nothing of it; absent: as long as they can."""
    quiet_hours: QuietHours | None = None
    """By the clock of each device."""
    caps: Annotated[dict[Annotated[str, Meta(min_length=1, max_length=64)], Cap], Meta(max_length=CAPS_MAX)] = {}
    """By category."""
    client_sends_per_minute: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """How often each user of the app may send by the sessions of dialects that apps hold; 0: only servers send."""
    client_send_channels: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=255)]], Meta(max_length=1000)
    ] = []
    """The only channels to which they may; none: they may send to whomever they like."""
    client_user_search: bool = False
    """Whether users find others by the sessions of dialects that apps hold; else only servers do."""
    default_bundle: Annotated[str, Meta(max_length=255)] | None = None
    """Bundle id of Apple devices whose SDK names none."""
    open_clears_badge: bool = True
    """Whether the badge that pushd counts for a device begins at 0 again when its install opens a push."""


class App(Struct, frozen=True, kw_only=True):
    """A tenant: everything else belongs to exactly one."""

    id: AppId
    name: str
    settings: Settings
    created_at: float


class Role(StrEnum):
    """What a key may do."""

    ADMIN = "admin"
    """Every app of this installation; made by `pushd up` and `pushd key`, belongs to no app."""
    SERVER = "server"
    """Send and administer one app."""
    DEVICE = "device"
    """Register and report for one app, never send: this key may ship inside a client."""


class Key(Struct, frozen=True, kw_only=True):
    """An API key without its secret, which only the answer that creates it shows."""

    id: int
    app_id: AppId | None
    role: Role
    name: str
    hint: str
    """The first characters of the key, enough to tell keys apart."""
    created_at: float
    revoked_at: float | None
