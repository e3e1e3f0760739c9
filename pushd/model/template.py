"""Templates: messages and in-app contents with gaps, stored in versions, and what a send fills the gaps with."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from pushd.model.audience import Audience
from pushd.model.device import ID_MAX, Text255
from pushd.model.message import TTL_MAX_S, Message

Tags = dict[Annotated[str, Meta(min_length=1, max_length=100)], Any]
"""Values by the name under which a template reads them."""
Locale = Annotated[str, Meta(pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,4}$")]
"""A language tag (RFC 5646), such as `pt-BR`; `pt_BR` is the same."""
Variants = Annotated[dict[Locale, dict[str, Any]], Meta(max_length=60)]
"""By locale, what is different there: merged over the message or the content key by key (RFC 7396)."""
BadgeFrom = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*([.][A-Za-z0-9_-]+){0,3}$", max_length=255)]
"""What texts read under this name, such as `user.unread`."""
Version = Annotated[int, Meta(ge=1, le=ID_MAX)]


class TemplateKind(StrEnum):
    """What a template makes."""

    NOTIFICATION = "notification"
    IN_APP = "in_app"


class Syntax(StrEnum):
    """How gaps are written."""

    LIQUID = "liquid"
    """`{{ user.first_name | default: "you" }}`, with conditions, loops and filters."""
    SMART_TEXT = "smart_text"
    """`{Users.first_name}` for what is known of a user, `{place}` for a tag; nothing else."""


class TemplateRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which template a send uses, at which version: the newest one where none is named."""

    uid: Text255
    version: Version | None = None


class NewTemplate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A template to be made, or what it is from now on; a uid is made up where none is given."""

    name: Text255
    """Of the app's templates only one has it: some clients know templates by their names."""
    uid: Text255 | None = None
    kind: TemplateKind = TemplateKind.NOTIFICATION
    syntax: Syntax = Syntax.LIQUID
    message: Message | None = None
    """Of kind `notification`: its texts may have gaps, those of `data` and `overrides` too."""
    content: dict[str, Any] | None = None
    """Of kind `in_app`: any JSON; its texts may have gaps."""
    locales: Variants = {}
    audience: Audience | None = None
    """Whom `POST /templates/{uid}/send` reaches where it names nobody."""
    ttl_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | None = None
    """Of sends that have none of their own."""
    device_templates: Annotated[dict[str, dict[str, Any]], Meta(max_length=8)] = {}
    """By platform, what an SDK of devices fetches under the template's name; nothing that pushd reads."""


class TemplateChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes of a template: absent fields stay, `null` clears. Every change makes a new version."""

    name: Text255 | msgspec.UnsetType = msgspec.UNSET
    syntax: Syntax | msgspec.UnsetType = msgspec.UNSET
    message: Message | msgspec.UnsetType = msgspec.UNSET
    content: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    locales: Variants | msgspec.UnsetType = msgspec.UNSET
    audience: Audience | msgspec.UnsetType | None = msgspec.UNSET
    ttl_s: Annotated[int, Meta(ge=0, le=TTL_MAX_S)] | msgspec.UnsetType | None = msgspec.UNSET
    device_templates: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class Template(Struct, frozen=True, kw_only=True):
    """A template at one of its versions, as the API shows it."""

    id: Annotated[int, Meta(ge=1, le=ID_MAX)]
    uid: str
    name: str
    kind: TemplateKind
    syntax: Syntax
    version: int
    message: Message | None
    content: dict[str, Any] | None
    locales: dict[str, dict[str, Any]]
    audience: Audience | None
    ttl_s: int | None
    device_templates: dict[str, dict[str, Any]]
    required_tags: list[str]
    """Tags that a send has to bring."""
    optional_tags: list[str]
    """Tags that it may bring: the template says what is to be done without them."""
    user_attributes: list[str]
    """What it reads of the user."""
    created_at: float
    updated_at: float
    """When this version was made."""
