"""Whom a message is for: one composable expression."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from pushd.model.device import DeviceId, Tag, Text255
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


class And(Struct, frozen=True, forbid_unknown_fields=True, tag="and"):
    """Devices in every one of these audiences."""

    of: Annotated[list[Audience], Meta(min_length=1, max_length=100)]


class Or(Struct, frozen=True, forbid_unknown_fields=True, tag="or"):
    """Devices in at least one of these audiences."""

    of: Annotated[list[Audience], Meta(min_length=1, max_length=100)]


class Not(Struct, frozen=True, forbid_unknown_fields=True, tag="not"):
    """Devices of the app outside this audience."""

    of: Audience


Audience = Broadcast | DeviceIds | UserIds | UserNumbers | Tags | And | Or | Not
