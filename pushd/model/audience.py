"""Whom a message is for: one composable expression."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pushd.model.device import ID_MAX, DeviceId, Tag, Text255
from pushd.model.user import UserId

TARGETS_MAX = 100_000
"""Ids that one leaf may name; larger audiences are tags, and bulk requests are many sends."""


class Broadcast(Struct, frozen=True, forbid_unknown_fields=True, tag="broadcast"):
    """Every reachable device of the app."""


class DeviceIds(Struct, frozen=True, forbid_unknown_fields=True, tag="devices"):
    """These devices."""

    ids: Annotated[list[DeviceId], Meta(min_length=1, max_length=TARGETS_MAX)]


class UserIds(Struct, frozen=True, forbid_unknown_fields=True, tag="users"):
    """The devices of these users, by external id."""

    ids: Annotated[list[Text255], Meta(min_length=1, max_length=TARGETS_MAX)]


class UserNumbers(Struct, frozen=True, forbid_unknown_fields=True, tag="user_numbers"):
    """The devices of these users, by numeric id."""

    ids: Annotated[list[UserId], Meta(min_length=1, max_length=TARGETS_MAX)]


class Tags(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="tags"):
    """Devices by tag: with any of `any` and all of `all` and none of `exclude`; `exclude` alone starts from everyone.

    `of` says whose tags: the device's install's, its user's, or either's.
    """

    any: Annotated[list[Tag], Meta(max_length=1000)] = []
    all: Annotated[list[Tag], Meta(max_length=1000)] = []
    exclude: Annotated[list[Tag], Meta(max_length=1000)] = []
    of: Literal["device", "user", "either"] = "either"


class Channels(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="channels"):
    """Devices subscribed to channels, themselves or through their user; channels are named by uuid.

    To any of `any` and all of `all` and none of `exclude`; `exclude` alone starts from everyone.
    """

    any: Annotated[list[Text255], Meta(max_length=1000)] = []
    all: Annotated[list[Text255], Meta(max_length=1000)] = []
    exclude: Annotated[list[Text255], Meta(max_length=1000)] = []


class Segment(Struct, frozen=True, forbid_unknown_fields=True, tag="segment"):
    """Devices of a stored segment, by its uuid, as the segment is when the audience is resolved."""

    id: Text255


class Installs(Struct, frozen=True, forbid_unknown_fields=True, tag="installs"):
    """The devices of these installs, by the id that each install gave itself."""

    ids: Annotated[list[Text255], Meta(min_length=1, max_length=TARGETS_MAX)]


class TagElement(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a `tags_segment`."""

    association: Literal["AND", "AND_NOT", "OR", "OR_NOT"]
    name: Tag


class TagsSegment(Struct, frozen=True, forbid_unknown_fields=True, tag="tags_segment"):
    """Devices by tag, the device's own or its user's, folded from the left: each step narrows or widens what is there.

    The first AND or OR starts with the tagged, the first AND_NOT or OR_NOT with everyone untagged. Tags must be known
    to the app, and each may stand here once, in any case of its letters.
    """

    elements: Annotated[list[TagElement], Meta(min_length=1, max_length=256)]


class Outcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="outcome"):
    """Devices by what became of an earlier notification there, as of when this audience is resolved.

    `not_opened` is whoever it was sent to and did not open it; whoever clicked has opened it.
    """

    notification_id: Annotated[int, Meta(ge=1, le=ID_MAX)]
    is_: Literal["targeted", "accepted", "failed", "opened", "not_opened", "clicked"] = msgspec.field(name="is")
    reasons: Annotated[list[Text255], Meta(max_length=100)] = []
    """Of `failed`: for one of these, as its reports name them; none: for any."""
    buttons: Annotated[list[Text255], Meta(max_length=100)] = []
    """Of `clicked`: one of these; none: any, or the notification itself."""


class Opened(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="opened"):
    """Devices whose install opened any notification of the app lately, or did not.

    Days are whole ones in UTC: today, and so many before.
    """

    is_: bool = msgspec.field(name="is")
    within_days: Annotated[int, Meta(ge=1, le=366)]


class InGeofences(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="geofence"):
    """Devices that are in a geofence as of when this audience is resolved: in any, in one of `ids`, in one with a tag.

    Geofences that are not enabled hold nobody.
    """

    any: Literal[True] | None = None
    ids: Annotated[list[Annotated[int, Meta(ge=1, le=ID_MAX)]], Meta(max_length=1000)] = []
    tags: Annotated[list[Tag], Meta(max_length=1000)] = []


class Located(Struct, frozen=True, forbid_unknown_fields=True, tag="located"):
    """Devices of which it is known where they are, or is not."""

    is_: bool = msgspec.field(name="is")


class And(Struct, frozen=True, forbid_unknown_fields=True, tag="and"):
    """Devices in every one of these audiences."""

    of: Annotated[list[Audience], Meta(min_length=1, max_length=100)]


class Or(Struct, frozen=True, forbid_unknown_fields=True, tag="or"):
    """Devices in at least one of these audiences."""

    of: Annotated[list[Audience], Meta(min_length=1, max_length=100)]


class Not(Struct, frozen=True, forbid_unknown_fields=True, tag="not"):
    """Devices of the app outside this audience."""

    of: Audience


Audience = (
    Broadcast
    | DeviceIds
    | UserIds
    | UserNumbers
    | Tags
    | Channels
    | Segment
    | Installs
    | TagsSegment
    | Outcome
    | Opened
    | InGeofences
    | Located
    | And
    | Or
    | Not
)
