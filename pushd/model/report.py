"""Reports: what came of a notification, as people and programs read it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pushd.model.device import GatewayName
from pushd.model.notification import Ledger, State
from pushd.model.receipt import Event

Status = Literal["scheduled", "published", "cancelled", "failed"]
"""`failed`: it is done, and not one device got it."""

UNKNOWN_PLATFORM = "unknown"
"""Of devices that are gone, or whose install never said what it runs on."""


class ReasonFigures(Struct, frozen=True, kw_only=True):
    """How many devices ended for one reason."""

    gateway: GatewayName
    outcome: str
    reason: str
    count: int
    explanation: str
    """The reason as a sentence."""


class GatewayFigures(Struct, frozen=True, kw_only=True):
    """What became of the devices that were settled by way of one gateway."""

    gateway: GatewayName
    accepted: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    suppressed: int = 0


class PlatformFigures(Struct, frozen=True, kw_only=True):
    """Devices by what their installs say now that they run on."""

    platform: str
    targeted: int
    opened: int
    clicked: int


class EventFigures(Struct, frozen=True, kw_only=True):
    """How often devices reported an event."""

    total: int = 0
    installs: int = 0
    """Each counted once."""
    users: int = 0
    """Each counted once; an install that belonged to nobody has none."""


class ButtonFigures(Struct, frozen=True, kw_only=True):
    """Clicks of one button."""

    button: str | None
    """Null: the notification itself, or the link in it."""
    total: int
    installs: int


class Report(Struct, frozen=True, kw_only=True):
    """What came of a notification so far."""

    notification_id: int
    name: str | None
    push_tag: str | None
    state: State
    status: Status
    created_at: float
    finished_at: float | None
    counts: Ledger
    gateways: list[GatewayFigures]
    platforms: list[PlatformFigures]
    reasons: list[ReasonFigures]
    events: dict[Event, EventFigures]
    """Every event, as reported; who clicked has opened it, see `opens`."""
    opens: EventFigures
    """Opened or clicked."""
    buttons: list[ButtonFigures]
    """Of clicks, the most frequent first."""
    open_rate: float | None
    """Installs that opened it to devices that a gateway took it for; null where there is none."""
    click_rate: float | None
    sent: int
    """Devices that a gateway took it for."""
    received: int
    """Installs that say that it reached them, in whichever words: delivered, received, or what can only come after."""
    clicked: int
    closed: int


class SeriesPoint(Struct, frozen=True, kw_only=True):
    """What was reported in one step of time."""

    start: int
    """UNIX seconds."""
    event: Event
    total: int


class FirstOpens(Struct, frozen=True, kw_only=True):
    """How many installs opened a notification for the first time in one step of time."""

    start: int
    installs: int


class Series(Struct, frozen=True, kw_only=True):
    """Events by time; steps in which nothing was reported are left out."""

    notification_id: int
    step_s: int
    since: float
    until: float
    points: list[SeriesPoint]
    first_opens: list[FirstOpens]


class InstallOpen(Struct, frozen=True, kw_only=True):
    """An install that opened a notification."""

    install_id: str
    opened_at: float
    """UNIX seconds of the first time."""


class UserOpen(Struct, frozen=True, kw_only=True):
    """A user that opened a notification, on whichever install."""

    user_id: str
    opened_at: float
    """UNIX seconds of the first time."""


class PushTag(Struct, frozen=True, kw_only=True):
    """What was sent under a tag."""

    push_tag: str
    notifications: int
    first_at: float
    last_at: float


class TagFigures(Struct, frozen=True, kw_only=True):
    """What came of the notifications under one tag."""

    push_tag: str
    notifications: int
    """As many of the newest as were asked for, and were there."""
    targeted: int
    accepted: int
    failed: int
    expired: int
    cancelled: int
    suppressed: int
    pending: int
    received: int
    """Devices whose install reported so; each is counted once for each notification."""
    opened: int
    clicked: int
    closed: int
    open_rate: float | None
    """Opened to accepted."""
    click_rate: float | None


class DeviceEvent(Struct, frozen=True, kw_only=True):
    """What an install reported of a notification."""

    event: Event
    at: float
    button: str | None


class Explanation(Struct, frozen=True, kw_only=True):
    """What became of one notification on one device, and why."""

    notification_id: int
    device_id: int
    targeted: bool
    outcome: str | None
    """Null: it was not sent to this device."""
    gateway: GatewayName | None
    reason: str | None
    at: float | None
    """UNIX seconds when that was settled."""
    explanation: str
    events: list[DeviceEvent]
    """What its install reported, the newest 100, in the order of their times."""
