"""Users: the people behind installs, in an id space of their own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from pushd.model.device import ID_MAX, Tag, Text255
from pushd.model.quiet import QuietHours

Email = Annotated[str, Meta(min_length=1, max_length=254)]
UserId = Annotated[int, Meta(ge=1, le=ID_MAX)]


class UserChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A user as a producer writes it: created when new; absent fields stay, `null` clears."""

    external_id: Text255
    email: Annotated[str, Meta(max_length=254)] | msgspec.UnsetType | None = msgspec.UNSET
    tags: Annotated[list[Tag], Meta(max_length=1000)] | msgspec.UnsetType = msgspec.UNSET
    attributes: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    quiet_hours: QuietHours | msgspec.UnsetType | None = msgspec.UNSET
    """Beside the app's own."""


class User(Struct, frozen=True, kw_only=True):
    """A user as the API shows it; `id` is its numeric id."""

    id: UserId
    external_id: str
    email: str | None
    tags: list[str]
    attributes: dict[str, Any]
    quiet_hours: QuietHours | None
    created_at: float
