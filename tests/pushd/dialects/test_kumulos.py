"""Kumulos's bodies, whatever is in them: what they ask for, or an error at a field; batches are always taken."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.dialects.kumulos import channels, events, geofences, in_app, inbox, message, platforms, wire
from pushd.errors import InvalidRequestError
from pushd.model.message import TTL_MAX_S

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.lists(st.text(max_size=6) | st.integers(-5, 10), max_size=3)
TARGET = ("broadcast", "installIds", "userIds", "segmentUuid", "channelUuids", "geofenceIds", "geofenceTags")
SCHEDULE = {
    "sendAt": st.sampled_from(["2026-11-22 10:00", "2026-11-22", "x"]),
    "strategy": st.sampled_from(["local", "utc", "timezone", "intelligent"]),
    "pastTimes": st.sampled_from(["ignore", "nextDay"]),
    "timezone": st.sampled_from(["Europe/Berlin", "../x"]),
}
PARTS = {
    "title": st.text(max_size=8),
    "message": st.text(max_size=8),
    "content": st.fixed_dictionaries(
        {"title": st.just("T"), "message": st.just("M")}, optional={"data": json, "url": json}
    ),
    "template": st.text(max_size=4),
    "schedule": st.fixed_dictionaries({}, optional=SCHEDULE),
    "ios": st.dictionaries(st.sampled_from(["badge", "media", "sound", "relevanceScore", "category"]), json),
    "android": st.dictionaries(st.sampled_from(["pictureUrl", "sound", "notificationType", "highPriority"]), json),
    "buttons": st.lists(st.dictionaries(st.sampled_from(["id", "text"]), json), max_size=5),
    "ttl": json | st.fixed_dictionaries({"expiresIn": st.integers(0, 400), "units": st.sampled_from(["d", "h"])}),
    "presentedWhen": st.sampled_from(["immediately", "next-open", "never", "x"]),
    "inbox": st.dictionaries(st.sampled_from(["title", "subtitle", "availability", "imageUrl"]), json),
    "notification": st.dictionaries(st.sampled_from(["title", "message", "ios", "android", "ttl"]), json),
    **dict.fromkeys(("collapseId", "userMeta", "reportingMeta", "releaseWindowMinutes", "intelligentDelivery"), json),
}
targets = st.just({"broadcast": True}) | st.dictionaries(st.sampled_from(TARGET), names | json, max_size=3)
bodies = st.fixed_dictionaries({"target": targets}, optional={name: part | json for name, part in PARTS.items()})
raws = st.binary(max_size=60) | json.map(orjson.dumps) | bodies.map(orjson.dumps)


def understood(parse, given):
    """What was read, or where it is wrong."""
    try:
        return parse(given), ()
    except InvalidRequestError as error:
        return None, error.faults


@given(raws)
def test_any_body_is_a_notification_or_refused_at_a_field(raw):
    asked, faults = understood(lambda raw: message.notification(wire.fields_of(raw)), raw)
    assert (asked is None) == bool(faults)
    if asked is None:
        return
    assert asked.send.message.body
    assert 0 <= asked.send.ttl_s <= TTL_MAX_S
    orjson.dumps(asked.target.said)


@pytest.mark.parametrize("parse", [message.templated, in_app.parse, channels.new_of, geofences.parse])
@given(raw=raws)
def test_any_other_body_is_understood_or_refused_at_a_field(parse, raw):
    made, faults = understood(lambda raw: parse(wire.fields_of(raw)), raw)
    assert (made is None) == bool(faults)


SECTIONS = {
    "android": ("serverKey", "serviceAccount"),
    "ios": ("p12", "mode", "password", "p8", "keyId", "teamId", "bundleId"),
    "web": ("iconUrl",),
    "hcm": ("appId", "appIdPassword"),
    "safari": ("p12", "password", "iconUrl", "siteUrl"),
}
sections = st.fixed_dictionaries(
    {}, optional={name: json | st.dictionaries(st.sampled_from(keys), json) for name, keys in SECTIONS.items()}
)


@given(sections)
def test_any_configuration_is_credentials_or_faults(body):
    fields = wire.fields_of(orjson.dumps(body))
    made = platforms.parse(fields)
    # Of the web there is nothing that has to be said.
    assert made or fields.faults or not any(isinstance(said, dict) for name, said in body.items() if name != "web")


TYPES = (
    *("k.push.deviceRegistered", "k.push.deviceUnsubscribed", "k.push.notificationEnablementChanged"),
    *("k.stats.installTracked", "k.stats.userAssociated", "k.stats.userAssociationCleared", "k.inApp.statusUpdated"),
    *("k.message.delivered", "k.message.opened", "k.message.dismissed", "k.message.read", "k.message.inbox.deleted"),
    *("k.engage.locationUpdated", "k.engage.beaconEnteredProximity", "k.push.opened", "k.fg", "anything"),
)
DATA = ("token", "type", "id", "lat", "lng", "attributes", "app", "os", "device", "runtime", "consented", "bundleId")
event = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={
        "uuid": json,
        "timestamp": json,
        "userId": json,
        "data": st.dictionaries(st.sampled_from(DATA), json | st.integers(1, 5)) | json,
    },
)
good = {"type": "k.push.deviceRegistered", "uuid": "good", "data": {"type": 1, "token": "ab" * 32}}


@given(st.lists(event | json, max_size=6), st.lists(event | json, max_size=6))
def test_a_good_event_is_read_whatever_stands_around_it(before, after):
    batch = events.parse(orjson.loads(orjson.dumps([*before, good, *after])))
    assert any(isinstance(act, events.Address) and act.token == "ab" * 32 for act in batch.acts)
    assert len(batch.acts) <= 2 * (len(before) + len(after)) + 1


@given(st.text(max_size=30) | st.from_regex(r"after=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+ -]\d\d:?\d\d)", fullmatch=True))
def test_any_query_is_a_time_or_refused(query):
    at, faults = understood(inbox._after, query)
    assert (at is None or at >= 0) if not faults else faults[0].pointer == "/after"


@pytest.mark.parametrize("text", ["Z", "%2B0000", "+0000", " 0000", "%2B00:00", "-00:00"])
def test_times_are_read_in_every_spelling_of_utc(text):
    assert inbox._after(f"after=2021-01-01T00:00:00{text}") == 1_609_459_200
