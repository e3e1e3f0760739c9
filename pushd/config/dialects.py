"""Dialects: which of the hosted services' APIs are spoken here, and what anybody may ask of them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from pushd.model.vendor_key import DialectName


class DialectsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the vendors' APIs."""

    spoken: list[DialectName] = field(default_factory=lambda: list(DialectName))
    """The others' paths answer as any unknown path does."""
    gravitec_plain_http: bool = False
    """Whether Gravitec's calls may be made without TLS; what a trusted proxy says of its clients counts."""
    gravitec_redirect_url_required: bool = False
    """Whether a push has to say its `redirect_url`, as Gravitec's page has it; else the site's address stands in."""
    followers_per_minute_max: Annotated[int, Meta(ge=1)] = 60
    """Browsers that register themselves without a key, from one client address (of IPv6: a /64); past it 429."""
    followers_of_app_per_minute_max: Annotated[int, Meta(ge=1)] = 6_000
    """The same of one app, from everywhere."""
    follower_calls_per_minute_max: Annotated[int, Meta(ge=1)] = 120
    """What one such browser may ask for: its tags, its alias, a new subscription; past it 429."""
    wrong_passwords_max: Annotated[int, Meta(ge=1)] = 10
    """So many for one account, one after the other, and then no more than below; past it 429, be the password right."""
    wrong_passwords_per_hour_max: Annotated[int, Meta(ge=1)] = 100
    """The same in the long run."""
    backendless_domains: dict[str, str] = {}
    """By host name, the Backendless application id whose own domain it is: what comes there below `/api` is its app's,
    and needs no API key."""
