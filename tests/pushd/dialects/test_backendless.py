"""Backendless' bodies, whatever is in them: a publication, or an error that names a field."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from pushd.dialects.backendless import payloads, publish, registrations, users, wire
from pushd.errors import InvalidRequestError
from pushd.model.audience import Installs
from pushd.model.message import PushType
from pushd.model.schedule import check as check_schedule

NOW = 1_800_000_000.0
texts = st.text(st.characters(codec="utf-8"), max_size=20)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
times = st.integers(0, 2**42) | st.floats(0, 1e20) | st.sampled_from([0, "", "1800000100000", False, True])
HEADERS = (
    *("ios-alert", "ios-alert-title", "ios-alert-body", "ios-badge", "ios-sound", "ios-content-available", "aps"),
    *("android-content-title", "android-content-text", "android-summary-subtext", "wp-title", "message", "from", "x"),
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "message": json | texts,
        "publisherId": json,
        "headers": st.dictionaries(st.sampled_from(HEADERS), json, max_size=6) | json,
        "publishPolicy": st.sampled_from(["PUSH", "push", "BOTH", "PUBSUB", "", None]) | json,
        "pushBroadcast": st.integers(-1, 17)
        | st.lists(st.sampled_from(["IOS", "FOR_ANDROID", "ALL", "FOR_NONE", "x"]), max_size=3).map("|".join)
        | json,
        "pushSinglecast": st.lists(texts, max_size=3) | json,
        "segmentQuery": texts | json,
        "publishAt": times | json,
        "repeatEvery": times | json,
        "repeatExpiresAt": times | json,
    },
)


def tried(make):
    """What was made, or the error that refuses it."""
    try:
        return make(), None
    except InvalidRequestError as error:
        return None, error


@given(st.binary(max_size=200) | (bodies | json).map(orjson.dumps), texts)
def test_any_body_is_a_publication_or_refused_at_a_field(raw, channel):
    asked, error = tried(lambda: publish.parse(wire.parse(raw), channel, NOW))
    if error is not None:
        assert error.faults
        assert isinstance(error.extra["code"], int)
    elif asked.send is not None:
        assert (asked.channel is None) == isinstance(asked.send.audience, Installs)
        assert check_schedule(asked.send) == []
        message = asked.send.message
        assert message.title or message.body or message.push_type is PushType.BACKGROUND


@given(st.dictionaries(st.sampled_from(HEADERS), texts | st.integers(0, 99), min_size=1), json)
def test_every_header_stays(given_headers, message):
    headers = payloads.headers_of(given_headers)
    made, error = tried(lambda: payloads.message_of(message, headers))
    if error is not None:
        assert not any(headers.get(name) for name in HEADERS[:3])
        return
    assert headers.items() <= made.data.items() | {("message", headers.get("message"))}
    orjson.dumps(made.data)


@given(st.integers(0, 15))
def test_masks_in_numbers_and_in_names_are_the_same(mask):
    names = [name for name, bit in (("IOS", 1), ("ANDROID", 2), ("WP", 4), ("OSX", 8)) if mask & bit] or ["NONE"]
    assert publish.mask_of(mask) == mask
    assert publish.mask_of(str(mask)) == mask
    assert publish.mask_of("|".join(names)) == mask
    assert publish.mask_of(" | ".join(f"for_{name}" for name in names)) == mask


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("deviceToken", "deviceId", "osVersion"), texts | json),
            "os": st.sampled_from(["IOS", "android", "OSX", "WP"]) | json,
            "channels": st.lists(texts, max_size=3) | json,
            "expiration": times | json,
        },
    )
)
def test_any_device_is_a_registration_or_refused_at_a_field(body):
    body = wire.parse(orjson.dumps(body))
    channels, no_channels = tried(lambda: registrations.channels_of(body.get("channels")))
    end, no_end = tried(lambda: registrations.end_of(body.get("expiration"), NOW))
    made, none_made = tried(lambda: registrations.registration_of(body, user=None, bundle="com.example"))
    assert all(error is None or error.faults for error in (no_channels, no_end, none_made))
    assert channels or no_channels
    assert end is None or end > NOW
    assert none_made or (made.install_id and made.token)


@given(st.dictionaries(st.sampled_from(["email", "login", "password", "name", "objectId", "a" * 65]), json))
def test_what_users_have_beside_fits_into_attributes(body):
    body = wire.parse(orjson.dumps(body))
    _, error = tried(lambda: users.names_of(body))
    assert error is None or error.extra["code"] == wire.Code.EMAIL_FORMAT
    made = users.attributes_of(body)
    assert not {"email", "password", "login", "objectId"} & set(made)
    assert all(not isinstance(value, dict) and value is not None for value in made.values())


@given(texts | json)
def test_numbers_are_read_from_whatever_holds_one(value):
    found = wire.number(value)
    assert found is None or isinstance(found, float)
    assert wire.number(str(1795336334.211)) == 1795336334.211
    assert wire.seconds(1795336334211.0) == wire.seconds(1795336334.211) == 1795336334.211
