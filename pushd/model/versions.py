"""Versions of apps and operating systems, comparable."""

from __future__ import annotations

import re
from functools import lru_cache

Key = tuple[tuple[int, ...], int, tuple[tuple[int, int, str], ...]]

_PARTS = re.compile(r"[0-9]+|[A-Za-z]+")
_NUMBER_MAX = 18
"""Digits of a part that count as a number."""


@lru_cache(maxsize=65_536)
def version_key(text: str) -> Key | None:
    """What a version sorts by; None of what does not begin with a number.

    Numbers count part by part, missing ones as 0: 1.10 is above 1.9, and 1.0 is 1. A pre-release, which begins at the
    first hyphen or letter, is below its release; its parts sort as those of Semantic Versioning 2.0.0 (section 11) do.
    What follows a `+` says how it was built and does not count.
    """
    parts = _PARTS.findall(text.strip().lstrip("vV").partition("+")[0].replace("-", " zz ", 1))
    release: list[int] = []
    while parts and parts[0].isdigit():
        release.append(int(parts.pop(0)[:_NUMBER_MAX]))
    if not release:
        return None
    while release and not release[-1]:
        release.pop()
    if parts and parts[0] == "zz":
        parts.pop(0)
    before = tuple((0, int(part[:_NUMBER_MAX]), "") if part.isdigit() else (1, 0, part.lower()) for part in parts)
    return tuple(release), 0 if before else 1, before
