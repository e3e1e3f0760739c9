"""Imports: files whose lines are carried out in the background, and how far each is."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from pushd.model.channel import SUBSCRIPTIONS_MAX
from pushd.model.device import ID_MAX, Text255
from pushd.model.user import UserChange

ImportId = Annotated[int, Meta(ge=1, le=ID_MAX)]
ChannelUuids = Annotated[list[Text255], Meta(max_length=SUBSCRIPTIONS_MAX)]


class Subscribe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="subscribe"):
    """Each line is a user, or an install, to be subscribed to a channel: CSV of one column, without a header."""

    channel: Text255
    of: Literal["users", "installs"] = "users"


class Unsubscribe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="unsubscribe"):
    """Each line is a user, or an install, to be taken off a channel."""

    channel: Text255
    of: Literal["users", "installs"] = "users"


class Users(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="users"):
    """Each line is a user to be created or changed, and channels that he is subscribed to or taken off."""

    format: Literal["ndjson", "csv"] = "ndjson"
    """`csv`: with a header of `external_id`, `email`, `tags`, `attributes.NAME`, `subscribe`, `unsubscribe`."""


Job: TypeAlias = Subscribe | Unsubscribe | Users


class UserLine(UserChange, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of an import of users: channels by uuid, the rest as everywhere."""

    subscribe: ChannelUuids = field(default_factory=list)
    unsubscribe: ChannelUuids = field(default_factory=list)


class ImportState(Enum):
    """Where an import is."""

    UPLOADING = "uploading"
    """Takes parts, until it is started."""
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """It cannot be gone on with: `failure` says why. What was done before stays."""
    CANCELLED = "cancelled"
    """What was done before stays."""


class Import(Struct, frozen=True, kw_only=True):
    """An import as the API shows it."""

    id: ImportId
    job: Job
    state: ImportState
    parts: int
    """Parts that were uploaded."""
    lines: int
    """Lines that were uploaded, blank ones and a header included."""
    done: int
    """Lines that are carried out or refused."""
    rejected: int
    """Lines that came to nothing."""
    failure: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None


class ImportPart(Struct, frozen=True, kw_only=True):
    """A part that was uploaded."""

    part: int
    lines: int
    digest: str
    """SHA-256 of its bytes, in hexadecimal digits."""


class ImportReject(Struct, frozen=True, kw_only=True):
    """A line that came to nothing, and why."""

    line: int
    """From 1, of the whole file."""
    value: str
    """What the line named, or its beginning."""
    reason: str
