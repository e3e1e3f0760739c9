"""Handles: read again by who made them, and by nobody else, whatever is made up."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pushd.credentials.handles import Handles

KEY = bytes(range(32))
handles = Handles(KEY)
numbers = st.integers(0, 2**32 - 1)


@given(numbers, numbers, numbers, numbers)
def test_what_was_made_is_read(purpose, app_id, number, of):
    made = handles.make(purpose, app_id, number, of)
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", made)
    assert Handles(KEY).read(purpose, app_id, made.lower()) == (number, of)
    assert handles.read(purpose ^ 1, app_id, made) is None
    assert handles.read(purpose, app_id ^ 1, made) is None
    assert Handles(bytes(32)).read(purpose, app_id, made) is None


@given(st.text(max_size=40) | st.from_regex(r"[0-9A-Fa-f ]{8}(-[0-9A-Fa-f ]{4}){3}-[0-9A-Fa-f ]{12}", fullmatch=True))
def test_whatever_is_made_up_is_none(text):
    assert handles.read(1, 1, text) is None
