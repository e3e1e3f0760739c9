"""Safari's push-package service: how much of it anybody may ask for, who need not have a key."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class SafariConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the web service that Safari 15 and older ask for packages; sending is the APNs gateway's."""

    packages_per_second_max: Annotated[int, Meta(ge=1)] = 100
    """Packages made for one app; past it 429."""
    sites_ready_max: Annotated[int, Meta(ge=1)] = 64
    """Sites whose icons and keys are kept ready in memory, those asked for last."""
    user_info_bytes_max: Annotated[int, Meta(ge=2)] = 4096
    """Of what a page tells about its visitor; it comes back in a header of later requests."""
    log_body_bytes_max: Annotated[int, Meta(ge=2)] = 16_384
    log_lines_max: Annotated[int, Meta(ge=1)] = 20
    """Lines taken of one request to the log."""
    log_line_chars_max: Annotated[int, Meta(ge=1)] = 300
    """Of each line, the rest is cut off."""
    log_lines_per_minute_max: Annotated[int, Meta(ge=1)] = 60
    """Lines of one app that are written to the daemon's log; the newest can be read all the same."""
    log_lines_kept: Annotated[int, Meta(ge=1)] = 50
    """Newest lines of one app that can be asked for."""
    log_apps_kept: Annotated[int, Meta(ge=1)] = 200
    """Apps whose lines can be asked for, those that were heard of last."""
