"""Segments: audiences with a name, stored, and evaluated anew each time they are used."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from pushd.model.audience import Audience
from pushd.model.device import ID_MAX, Text255


class NewSegment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A segment to be made; a uuid is made up where none is given."""

    name: Text255
    audience: Audience
    uuid: Text255 | None = None


class SegmentChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes of a segment: absent fields stay."""

    name: Text255 | msgspec.UnsetType = msgspec.UNSET
    audience: Audience | msgspec.UnsetType = msgspec.UNSET


class Segment(Struct, frozen=True, kw_only=True):
    """A segment as the API shows it."""

    id: Annotated[int, Meta(ge=1, le=ID_MAX)]
    uuid: str
    name: str
    audience: Audience
    created_at: float
    updated_at: float
