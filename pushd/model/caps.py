"""Frequency caps: at most so many messages of a category for a user in any window of time."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MESSAGES_MAX = 100
WINDOW_MAX_S = 366 * 86_400
CAPS_MAX = 100
"""Categories of an app that have one."""


class Cap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most so many messages of a category for a user in any window of so many seconds."""

    messages: Annotated[int, Meta(ge=1, le=MESSAGES_MAX)]
    window_s: Annotated[int, Meta(ge=60, le=WINDOW_MAX_S)]
