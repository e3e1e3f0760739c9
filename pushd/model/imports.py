"""Imports: files whose lines are carried out in the background, and how far each is."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from pushd.model.channel import SUBSCRIPTIONS_MAX, NewChannel
from pushd.model.device import ID_MAX, Registration, Text255
from pushd.model.user import UserChange

ImportId = Annotated[int, Meta(ge=1, le=ID_MAX)]
ChannelUuids = Annotated[list[Text255], Meta(max_length=SUBSCRIPTIONS_MAX)]

RECORD_DEVICES_MAX = 100
"""Addresses that one line may bring."""


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


class Records(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="records"):
    """Each line (NDJSON) is what moves here together: a channel, a user, his devices, what an install subscribed to."""

    create_channels: bool = False
    """Channels that a line subscribes to and that are not there are made; else the line comes to nothing."""
    source: Annotated[str, Meta(max_length=255)] = ""
    """What the lines were made from, for people, and for whoever goes on with it."""


Job: TypeAlias = Subscribe | Unsubscribe | Users | Records


class UserLine(UserChange, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of an import of users: channels by uuid, the rest as everywhere."""

    subscribe: ChannelUuids = field(default_factory=list)
    unsubscribe: ChannelUuids = field(default_factory=list)


class InstallLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An install that is there, or comes with the devices of its line: channels that it is subscribed to itself."""

    install_id: Text255
    subscribe: ChannelUuids = field(default_factory=list)
    unsubscribe: ChannelUuids = field(default_factory=list)


class RecordLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of an import of records: carried out as a whole, or refused as a whole."""

    channel: NewChannel | None = None
    """To be made; one that is there stays as it is."""
    user: UserLine | None = None
    devices: Annotated[list[Registration], Meta(max_length=RECORD_DEVICES_MAX)] = field(default_factory=list)
    """Addresses, as `PUT /devices` takes them."""
    install: InstallLine | None = None


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


class CheckCounts(Struct, frozen=True, kw_only=True):
    """What carrying lines out would come to; whoever is named again further down counts once."""

    lines: int = 0
    rejected: int = 0
    """Lines that would come to nothing."""
    users_made: int = 0
    users_changed: int = 0
    installs_made: int = 0
    installs_changed: int = 0
    installs_moved: int = 0
    """Those of them that would be another user's."""
    addresses_made: int = 0
    addresses_changed: int = 0
    """On a device that is there: with the token that it has, or a new one."""
    addresses_moved: int = 0
    """Tokens that another install has, or had further up, and would lose."""
    channels_made: int = 0
    subscriptions: int = 0
    """Of users and installs to channels, those that are there already included."""
