import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.errors import InvalidRequestError
from pushd.web.cursor import Cursors

CURSORS = Cursors(b"k" * 32)


@given(st.integers(0, 2**63 - 1), st.text(max_size=40))
def test_a_position_comes_back(position, scope):
    cursor = CURSORS.seal(scope, position)
    assert CURSORS.open(scope, cursor) == position
    assert cursor.isascii()


@given(st.integers(0, 19), st.integers(1, 255))
def test_no_byte_can_be_changed(at, mask):
    raw = bytearray(base64.urlsafe_b64decode(CURSORS.seal("listDevices 1", 77)))
    raw[at] ^= mask
    with pytest.raises(InvalidRequestError) as caught:
        CURSORS.open("listDevices 1", base64.urlsafe_b64encode(raw).decode())
    assert caught.value.faults[0].pointer == "cursor"


@given(st.text(max_size=60))
def test_other_text_is_refused(text):
    with pytest.raises(InvalidRequestError):
        CURSORS.open("listDevices 1", text)


def test_cursors_belong_to_listing_app_and_key():
    cursor = CURSORS.seal("listDevices 1", 77)
    for cursors, scope in ((CURSORS, "listDevices 2"), (CURSORS, "listUsers 1"), (Cursors(b"j" * 32), "listDevices 1")):
        with pytest.raises(InvalidRequestError):
            cursors.open(scope, cursor)
