"""Gravitec's pushes, whatever is in them: a send, or an error that says where."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.dialects.gravitec import push, sites
from pushd.errors import InvalidRequestError
from pushd.model.message import TTL_MAX_S

NOW = 1_800_000_000.0
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TOP = ("send_date", "ttl", "push_tag", "display_time", "is_transactional", "segments", "payload", "audience")
PAYLOAD = ("message", "title", "icon", "image", "redirect_url", "buttons")
AUDIENCE = ("tokens", "aliases", "tags", "tags_segment")


def objects(names):
    return st.dictionaries(st.sampled_from(names), json)


bodies = st.builds(
    lambda top, payload, audience: top | {"payload": payload} | audience,
    objects(TOP),
    objects(PAYLOAD) | st.builds(lambda rest: rest | {"message": "Hello"}, objects(PAYLOAD)),
    st.just({}) | st.builds(lambda audience: {"audience": audience}, objects(AUDIENCE)),
)


@given(st.binary(max_size=200) | bodies.map(orjson.dumps) | json.map(orjson.dumps))
def test_any_body_is_a_send_or_refused_at_a_field(raw):
    try:
        send = push.parse(raw, NOW)
    except InvalidRequestError:
        return
    assert send.message.body
    assert 0 <= send.ttl_s <= TTL_MAX_S
    assert orjson.loads(push.answer(7, send, NOW))["id"] == "7"


SITE = ("appKey", "regID", "subscription", "lang", "timeZone", "tags", "tag", "alias")
calls = st.builds(lambda body: body | {"appKey": "x"}, objects(SITE)) | objects(SITE) | json


@given(st.binary(max_size=200) | calls.map(orjson.dumps))
def test_any_body_of_a_page_is_a_call_or_refused(raw):
    try:
        call = sites.parse(raw)
    except InvalidRequestError:
        return
    assert call.app_key
    assert all(1 <= len(tag) <= 255 for tag in call.tags)


@pytest.mark.parametrize("raw", [b"[" * 60_000, b'{"appKey":"x","y":' + b"[" * 60_000, b'{"appKey":"\xff"}'])
def test_bodies_that_go_deep_or_are_no_text_are_refused(raw):
    with pytest.raises(InvalidRequestError):
        sites.parse(raw)
    with pytest.raises(InvalidRequestError):
        push.parse(raw, NOW)
