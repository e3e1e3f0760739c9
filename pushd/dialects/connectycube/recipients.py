"""Whom an event of ConnectyCube's is for: users by id or external id, within and without tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pushd.dialects.connectycube import wire
from pushd.errors import InvalidRequestError
from pushd.model.audience import TARGETS_MAX, And, Audience, Or, Tags, UserIds, UserNumbers
from pushd.model.device import ID_MAX

TAGS_MAX = 1_000
TAG_CHARS_MAX = 255
IDS_TOLD_MAX = 100
_TAGS = ("any", "all", "exclude")


def whom(given: dict[str, Any]) -> tuple[list[str], list[str], dict[str, list[str]], str | None]:
    """Ids, external ids and tags, and how the tags were said. InvalidRequestError where nobody is named."""
    user, external = wire.inside(given, "user"), wire.inside(given, "external_user")
    users, externals = wire.names(user.get("ids"), "user"), wire.names(external.get("ids"), "external_user")
    said = wire.inside(user, "tags")
    tags = {name: found for name in _TAGS if (found := wire.names(said.get(name), "tags"))} if said else {}
    if not (users or externals or tags):
        raise wire.wrong("user", "is missing: ids, external ids or tags of users")
    if max(len(users), len(externals)) > TARGETS_MAX:
        raise wire.wrong("user", f"has more than {TARGETS_MAX} ids")
    if users and any(not (one.isascii() and one.isdigit()) for one in users):
        raise wire.wrong("user", "has an id that is not a number")
    if not tags:
        return users, externals, tags, None
    if any(len(tag) > TAG_CHARS_MAX for each in tags.values() for tag in each) or any(
        len(each) > TAGS_MAX for each in tags.values()
    ):
        raise wire.wrong("tags", f"are more than {TAGS_MAX}, or longer than {TAG_CHARS_MAX} characters")
    return users, externals, tags, orjson.dumps({name: ",".join(each) for name, each in tags.items()}).decode()


def target(users: Sequence[str], externals: Sequence[str]) -> str | None:
    """The one user that is named; None: there are several, or none."""
    if len(users) + len(externals) != 1:
        return None
    return f"id:{int(users[0])}" if users else f"external:{externals[0]}"


def audience(users: list[str], externals: list[str], tags: dict[str, list[str]]) -> Audience:
    """(ids or external ids) and any and all but exclude; exclude alone starts from everyone."""
    leaves: list[Audience] = []
    if users:
        numbers = [int(each) for each in users if len(each) <= 10 and 0 < int(each) <= ID_MAX]
        leaves.append(UserNumbers(numbers or [ID_MAX]))
    if externals:
        leaves.append(UserIds([each[:TAG_CHARS_MAX] for each in externals]))
    named = leaves[0] if len(leaves) == 1 else Or(leaves)
    if not tags:
        return named
    tagged = Tags(**tags, of="user")
    return And([named, tagged]) if leaves else tagged


def nobody(named: Sequence[str]) -> InvalidRequestError:
    """What is said where there is nobody to send to."""
    said = f"Users with ids {', '.join(named[:IDS_TOLD_MAX])}" if named else "These users"
    detail = f"{said} do not have push notification subscriptions"
    return InvalidRequestError(detail, extra={"errors": [detail]})
