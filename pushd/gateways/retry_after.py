"""Retry-After as gateways send it: seconds or a date, believed within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Iterable[tuple[bytes, bytes]], now: float, max_s: float) -> float | None:
    """Seconds to wait, from 0 to `max_s`; None where there is no Retry-After that makes sense (RFC 9110 10.2.3).

    `now` is wall time in UNIX seconds. A date in the past and a negative number are 0.
    """
    for name, value in headers:
        if name.lower() == b"retry-after":
            seconds = _seconds(value.strip(), now)
            return None if seconds is None else min(max(seconds, 0.0), max_s)
    return None


def _seconds(value: bytes, now: float) -> float | None:
    digits = value[1:] if value[:1] == b"-" else value
    if digits.isdigit():
        return float(value[:20])
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp() - now
    except (ValueError, OverflowError):  # UnicodeDecodeError is one; dates beyond year 9999 overflow
        return None
