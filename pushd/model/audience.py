"""Whom a message is for: one composable expression."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pushd.model.device import (
    ID_MAX,
    Country,
    DeviceId,
    Environment,
    Kind,
    Locale,
    Platform,
    Tag,
    Text255,
    TimeZone,
)
from pushd.model.user import Email, UserId

TARGETS_MAX = 100_000
"""Ids that one leaf may name; larger audiences are tags, and bulk requests are many sends."""


class Broadcast(Struct, frozen=True, forbid_unknown_fields=True, tag="broadcast"):
    """Every reachable device of the app."""


class DeviceIds(Struct, frozen=True, forbid_unknown_fields=True, tag="devices", gc=False):
    """These devices."""

    ids: Annotated[list[DeviceId], Meta(min_length=1, max_length=TARGETS_MAX)]


class UserIds(Struct, frozen=True, forbid_unknown_fields=True, tag="users", gc=False):
    """The devices of these users, by external id."""

    ids: Annotated[list[Text255], Meta(min_length=1, max_length=TARGETS_MAX)]


class UserNumbers(Struct, frozen=True, forbid_unknown_fields=True, tag="user_numbers", gc=False):
    """The devices of these users, by numeric id."""

    ids: Annotated[list[UserId], Meta(min_length=1, max_length=TARGETS_MAX)]


class UserEmails(Struct, frozen=True, forbid_unknown_fields=True, tag="user_emails"):
    """The devices of the users with these e-mail addresses, in any case of their letters; users may share one."""

    emails: Annotated[list[Email], Meta(min_length=1, max_length=TARGETS_MAX)]


class Aliases(Struct, frozen=True, forbid_unknown_fields=True, tag="aliases", gc=False):
    """The devices of the installs with these aliases, exactly as they are spelt; installs may share one."""

    names: Annotated[list[Text255], Meta(min_length=1, max_length=TARGETS_MAX)]


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


class Installs(Struct, frozen=True, forbid_unknown_fields=True, tag="installs", gc=False):
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

    What an install opened counts for the devices that it had then. Days are whole ones in UTC: today, and so many
    before.
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


class Platforms(Struct, frozen=True, forbid_unknown_fields=True, tag="platform"):
    """Devices by what their install runs on."""

    any: Annotated[list[Platform], Meta(min_length=1, max_length=100)]


class Environments(Struct, frozen=True, forbid_unknown_fields=True, tag="environment", gc=False):
    """Devices by the environment of their gateway that their address lives in."""

    is_: Environment = msgspec.field(name="is")


class Kinds(Struct, frozen=True, forbid_unknown_fields=True, tag="kind", gc=False):
    """Devices by what sort of address they are."""

    any: Annotated[list[Kind], Meta(min_length=1, max_length=100)]


class PreferredKind(Struct, frozen=True, forbid_unknown_fields=True, tag="preferred_kind"):
    """Of the devices of an audience, for each user the reachable ones of the first of these kinds that he has there.

    A device that belongs to nobody is taken together with the others of its install.
    """

    of: Audience
    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=32)]


VersionText = Annotated[str, Meta(max_length=64, pattern=r"^[vV]?[0-9]")]


class AppVersion(Struct, frozen=True, forbid_unknown_fields=True, tag="app_version"):
    """Devices by the version of the app, compared part by part as numbers; pre-releases are below their release."""

    op: Literal["eq", "ne", "lt", "lte", "gt", "gte"]
    value: VersionText


class OsVersion(Struct, frozen=True, forbid_unknown_fields=True, tag="os_version"):
    """Devices by the version of the operating system, compared as versions of the app are."""

    op: Literal["eq", "ne", "lt", "lte", "gt", "gte"]
    value: VersionText


class Locales(Struct, frozen=True, forbid_unknown_fields=True, tag="locale"):
    """Devices by their whole locale, in any case, `_` being as good as `-`: pt-BR, pt_br."""

    any: Annotated[list[Locale], Meta(min_length=1, max_length=1000)]


class Languages(Struct, frozen=True, forbid_unknown_fields=True, tag="language"):
    """Devices by the beginning of their locale: pt is pt, pt-PT and pt-BR."""

    any: Annotated[list[Locale], Meta(min_length=1, max_length=1000)]


class Countries(Struct, frozen=True, forbid_unknown_fields=True, tag="country"):
    """Devices by the country that they were registered with, two letters in any case."""

    any: Annotated[list[Country], Meta(min_length=1, max_length=1000)]


class TimeZones(Struct, frozen=True, forbid_unknown_fields=True, tag="time_zone"):
    """Devices by the name of their time zone."""

    any: Annotated[list[TimeZone], Meta(min_length=1, max_length=1000)]


Seconds = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Days = Annotated[int, Meta(ge=1, le=36_500)]


class Seen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="seen"):
    """Devices by when their install was first, or (to the hour) last, seen; all bounds that are given hold."""

    which: Literal["first", "last"]
    since: Seconds | None = None
    """UNIX seconds, included."""
    before: Seconds | None = None
    """UNIX seconds, not included."""
    within_days: Days | None = None
    """In the last so many times 24 hours."""
    older_than_days: Days | None = None
    """Before the last so many times 24 hours."""


class UserKnown(Struct, frozen=True, forbid_unknown_fields=True, tag="user_known"):
    """Devices that belong to a user, or to nobody."""

    is_: bool = msgspec.field(name="is")


class PushEnabled(Struct, frozen=True, forbid_unknown_fields=True, tag="push_enabled"):
    """Devices whose install takes pushes, or was told not to."""

    is_: bool = msgspec.field(name="is")


class InAppConsent(Struct, frozen=True, forbid_unknown_fields=True, tag="in_app_consent"):
    """Devices whose install takes in-app messages, or does not."""

    is_: bool = msgspec.field(name="is")


Scalar = str | int | float | bool


class Attribute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="attribute"):
    """Devices by an attribute of their user. A value of another type never matches, not even `ne`.

    Texts compare by code point; where `value` is a time of RFC 3339, times compare as such. `contains` is a member of a
    list, or a part of a text. Objects, and members of lists that are not texts, exist and match nothing else.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    op: Literal["exists", "eq", "ne", "lt", "lte", "gt", "gte", "in", "contains", "starts_with"]
    value: Scalar | Annotated[list[Scalar], Meta(min_length=1, max_length=1000)] | None = None
    """None of `exists`; a list of `in`."""


class And(Struct, frozen=True, forbid_unknown_fields=True, tag="and", gc=False):
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
    | UserEmails
    | Aliases
    | Tags
    | Channels
    | Segment
    | Installs
    | TagsSegment
    | Outcome
    | Opened
    | InGeofences
    | Located
    | Platforms
    | Environments
    | Kinds
    | PreferredKind
    | AppVersion
    | OsVersion
    | Locales
    | Languages
    | Countries
    | TimeZones
    | Seen
    | UserKnown
    | PushEnabled
    | InAppConsent
    | Attribute
    | And
    | Or
    | Not
)
