"""Dialects: which of the hosted services' APIs are spoken here."""

from __future__ import annotations

from msgspec import Struct, field

from pushd.model.vendor_key import DialectName


class DialectsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the vendors' APIs."""

    spoken: list[DialectName] = field(default_factory=lambda: list(DialectName))
    """The others' paths answer as any unknown path does."""
    gravitec_plain_http: bool = False
    """Whether Gravitec's calls may be made without TLS; what a trusted proxy says of its clients counts."""
