"""ConnectyCube's bodies and messages, whatever is in them: an event, or an error that names a field."""

import base64
from urllib.parse import unquote_plus

import orjson
from hypothesis import given
from hypothesis import strategies as st

from pushd.content.platforms import render
from pushd.dialects.connectycube import events, payloads, search, wire
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.device import GatewayName, Shape
from pushd.model.message import PushType
from pushd.model.notification import Send

NOW = 1_800_000_000.0
texts = st.text(max_size=20)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("notification_type", "push_type", "environment", "event_type", "date", "end_date", "period", "name", "user")
good = {"notification_type": "push", "environment": "production", "user": {"ids": "1"}}
encoded = json.map(lambda value: base64.b64encode(orjson.dumps(value)).decode())
messages = st.one_of(
    texts,
    encoded,
    encoded.map(lambda text: f"payload={text}"),
    st.tuples(encoded, encoded).map(lambda pair: f"data.message={pair[0]}&data.x={pair[1]}"),
)
bodies = st.builds(
    lambda push_type, message, rest: {"event": good | push_type | {"message": message} | rest},
    st.sampled_from(["apns", "apns_voip", "gcm", "web", None]).map(lambda kind: {"push_type": kind} if kind else {}),
    messages,
    st.dictionaries(st.sampled_from(FIELDS), json, max_size=2),
)


@given(st.binary(max_size=200) | (bodies | json).map(orjson.dumps), st.booleans())
def test_any_body_is_an_event_or_refused_at_a_field(raw, is_form):
    try:
        asked = events.parse(wire.parse(raw, is_form), NOW)
        made = [asked.event(channel, NOW) for channel in asked.channels]
    except InvalidRequestError:
        return
    assert made
    for each in made:
        assert each.told.message
        assert (each.send.schedule is None) == (each.told.date is None)


@given(st.text(st.characters(exclude_characters="&z"), max_size=200))
def test_any_name_of_a_form_is_taken_apart_or_refused(name):
    try:
        made = wire.parse(f"event[user][ids]=2&z[]=3&{name}=1".encode("utf-8", "replace"), is_form=True)
    except InvalidRequestError:
        return
    assert made["z"][0] == "3"


@given(
    st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=8), st.text(st.characters(codec="utf-8"), max_size=40))
)
def test_what_is_told_of_android_survives_darts_decoder_and_ours(custom):
    told = payloads.made_for("gcm", {"message": "x", **custom}).told
    assert not {"+", "/"} & set(told)
    assert told.startswith("data.message=")
    pairs = [pair.partition("=") for pair in told.split("&")]
    read = {name: unquote_plus(base64.b64decode(value, validate=True).decode()) for name, _, value in pairs}
    sent = in_shape(GatewayName.FCM, payloads.for_channel("gcm", told).message)
    assert read == {f"data.{name}": value for name, value in sent["data"].items()}


def in_shape(gateway, message):
    """What a device of the vendor's gets."""
    send = Send(audience=Broadcast(), message=message)
    made = render(gateway, send, Settings(), notification_id=7, now=NOW, shape=Shape.CONNECTYCUBE)
    return orjson.loads(made.payload)


SAID = {
    **dict.fromkeys(
        ("title", "ios_sound", "ios_category", "ios_thread_id"), st.sampled_from(["", "a", "none", "x" * 1001])
    ),
    **dict.fromkeys(("ios_content_available", "ios_mutable_content"), st.sampled_from([0, 1, "1"])),
    "ios_badge": st.integers(0, 9),
    "ios_loc_data": st.just({"title_loc_key": "T"}),
    "aps": st.sampled_from([{}, {"sound": "theirs"}, {"alert": "theirs"}, {"url-args": ["a"]}]),
    "ios_push_type": st.sampled_from(["alert", "background"]),
    "custom": json.filter(lambda value: value is not None),
}


@given(st.sampled_from(["apns", "apns_voip", "web"]), st.fixed_dictionaries({"message": texts}, optional=SAID))
def test_devices_get_what_is_told_to_the_octet_by_fields_or_by_overrides(channel, fields):
    made = payloads.made_for(channel, fields)
    gateway = GatewayName.WEBPUSH if channel == "web" else GatewayName.APNS
    told = orjson.loads(base64.b64decode(made.told.removeprefix("payload=")))
    if made.message.push_type is PushType.BACKGROUND:
        told["aps"].setdefault("content-available", 1)  # by definition
    assert in_shape(gateway, made.message) == told
    if {*fields} <= {"message", "custom"} and fields["message"]:
        assert not made.message.overrides


@given(
    st.sampled_from([*search._FIELDS, "", "full_name"]),
    st.recursive(
        st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
)
def test_any_condition_is_values_or_refused_at_a_field(field, value):
    try:
        made = search._values(field, value)
    except InvalidRequestError:
        return
    assert made
    assert all(type(each) is str for each in made)
