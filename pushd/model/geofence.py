"""Geofences, what crossing them sends, and where devices are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from pushd.model.audience import Audience
from pushd.model.device import ID_MAX, Tag, Text255
from pushd.model.message import TTL_MAX_S, Message
from pushd.model.notification import Category, Delivery, Send
from pushd.model.quiet import Policy

GeofenceId = Annotated[int, Meta(ge=1, le=ID_MAX)]
FenceTags = Annotated[list[Tag], Meta(max_length=100)]
MIN_INTERVAL_MAX_S = 30 * 86_400


class Trigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is sent to an install that crosses a fence: a send without an audience."""

    message: Message
    name: Text255 | None = None
    transactional: bool = False
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    ttl_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | None = None
    collapse_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    category: Category | None = None
    """Of the sender's own, for frequency caps."""
    quiet_hours: Policy = Policy.HOLD
    """What quiet hours do to it where they apply to a device."""
    min_interval_s: Annotated[int, Meta(ge=0, le=MIN_INTERVAL_MAX_S)] = 3600
    """An install that crosses again within this time is sent nothing; 0: every crossing counts."""

    def send(self, audience: Audience, name: str | None = None) -> Send:
        """The send to an audience; `name` where it has none of its own."""
        return Send(
            audience=audience,
            message=self.message,
            name=self.name or name,
            transactional=self.transactional,
            delivery=self.delivery,
            ttl_s=self.ttl_s,
            collapse_id=self.collapse_id,
            category=self.category,
            quiet_hours=self.quiet_hours,
        )


class Geofence(Struct, frozen=True, kw_only=True):
    """A geofence as it is stored."""

    id: GeofenceId
    app_id: int
    name: str
    bounds: dict[str, Any]
    """The GeoJSON Feature as it was given."""
    enabled: bool
    tags: list[str]
    on_enter: Trigger | None
    on_exit: Trigger | None
    activation_count: int
    """How often an install has entered it."""
    exit_count: int
    last_activated_at: float | None
    created_at: float
    updated_at: float
    revision: int


class NewGeofence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A geofence to be made."""

    name: Text255
    bounds: dict[str, Any]
    enabled: bool = True
    tags: FenceTags = []
    on_enter: Trigger | None = None
    on_exit: Trigger | None = None


class GeofenceChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes of a geofence: absent fields stay, `null` clears."""

    name: Text255 | UnsetType = UNSET
    bounds: dict[str, Any] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    tags: FenceTags | UnsetType = UNSET
    on_enter: Trigger | UnsetType | None = UNSET
    on_exit: Trigger | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceImage:
    """What the index knows of a fence; applied where its revision is newer."""

    id: int
    app_id: int
    revision: int
    enabled: bool
    bounds: str
    """JSON of the Feature."""
    tags: tuple[str, ...] = ()
    enter_interval_s: int | None = None
    """Between two sends to one install that enters; None: nothing is sent."""
    exit_interval_s: int | None = None
    shape: Any = None
    """The bounds as the index takes them (`targeting.geometry.Shape`), where they were worked out before."""


class LocationReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a device says that it is."""

    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    accuracy: Annotated[float, Meta(ge=0, le=1e7)] | None = None
    """Metres."""
    at: Annotated[float, Meta(ge=0, le=1e10)] | None = None
    """UNIX seconds; absent: now."""


class Location(Struct, frozen=True, kw_only=True):
    """Where an install was last."""

    latitude: float
    longitude: float
    accuracy: float | None
    at: float


@dataclass(slots=True, eq=False, kw_only=True)
class LocationRows:
    """Where devices are, as columns; applied where revisions are newer."""

    ids: NDArray[np.uint32]
    app_ids: NDArray[np.int32]
    revisions: NDArray[np.int32]
    """0: forgotten, whatever was known."""
    latitudes: NDArray[np.int32]
    """In 10^-7 degrees, as longitudes."""
    longitudes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, ids: NDArray[np.uint32], at: NDArray[np.intp]) -> LocationRows:
        """Rows of other ids, each with what stands at its place in these."""
        columns = {name: getattr(self, name)[at] for name in self.__slots__ if name != "ids"}
        return LocationRows(ids=ids, **columns)

    def part(self, start: int, stop: int) -> LocationRows:
        """Some of the rows."""
        columns = {name: getattr(self, name)[start:stop] for name in self.__slots__}
        return LocationRows(**columns)
