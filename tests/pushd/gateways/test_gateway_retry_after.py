"""Retry-After in the forms that gateways send (X-24)."""

from email.utils import formatdate

import pytest

from pushd.gateways.retry_after import retry_after_s

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0),
        (b"5", 5),
        (b" 7 ", 7),
        (b"86400", 3_600),
        (b"-5", 0),
        (b"9" * 400, 3_600),
        (formatdate(NOW + 60, usegmt=True).encode(), 60),
        (formatdate(NOW - 60, usegmt=True).encode(), 0),
        (formatdate(NOW + 1e6, usegmt=True).encode(), 3_600),
        (b"soon", None),
        (b"", None),
        (b"-", None),
        (b"5.5", None),
        (b"\xff\xfe", None),
        (b"Mon, 99 Foo 2026 00:00:00 GMT", None),
        (b"Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_x24_seconds_dates_and_garbage(value, seconds):
    assert retry_after_s([(b"x", b"1"), (b"Retry-After", value)], NOW, 3_600.0) == seconds


def test_absent():
    assert retry_after_s([(b"date", b"today")], NOW, 3_600.0) is None
