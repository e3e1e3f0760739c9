"""Messages as APNs payloads: every field, every push type, sizes, expiry, priorities and overrides."""

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import apns, apns_channels
from pushd.content import life
from pushd.content.apns import render
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.device import ID_MAX
from pushd.model.message import Android, Button, LiveActivity, Media, Message, PushType, Sound
from tests.pushd.content.samples import NOW, PLAINEST, messages, send

PLAIN = Settings()


def payload_limit(push_type: PushType) -> int:
    broadcast = push_type is PushType.CHANNEL
    return apns_channels.PAYLOAD_BYTES_MAX if broadcast else apns.payload_limit(push_type.value)


def rendered(message: Message, settings: Settings = PLAIN, **fields):
    return render(message, send(message, **fields), settings, notification_id=7, now=NOW)


def payload(message: Message, settings: Settings = PLAIN) -> dict:
    return orjson.loads(rendered(message, settings).payload)


def aps(message: Message, settings: Settings = PLAIN) -> dict:
    return payload(message, settings)["aps"]


def test_a_full_alert():
    message = Message(
        title="T",
        subtitle="S",
        body="B",
        url="https://e.org/x",
        data={"k": {"n": [1, None]}},
        icon="https://e.org/i.png",
        image="https://e.org/p.png",
        media=[Media(url="https://e.org/a.mp4", type="video/mp4"), Media(url="https://e.org/b")],
        buttons=[Button(id="yes", text="Yes", url="app:yes"), Button(id="no", text="No")],
        badge_increment=-2,
        sound="bell.caf",
        category="CAT",
        thread="th",
        interruption_level="time-sensitive",
        relevance=0.5,
        content_available=True,
    )
    assert payload(message) == {
        "aps": {
            "alert": {"title": "T", "subtitle": "S", "body": "B"},
            "sound": "bell.caf",
            "category": "CAT",
            "thread-id": "th",
            "interruption-level": "time-sensitive",
            "relevance-score": 0.5,
            "content-available": 1,
            "mutable-content": 1,
        },
        "pushd": {
            "id": 7,
            "url": "https://e.org/x",
            "icon": "https://e.org/i.png",
            "image": "https://e.org/p.png",
            "media": [{"url": "https://e.org/a.mp4", "type": "video/mp4"}, {"url": "https://e.org/b"}],
            "buttons": [{"id": "yes", "text": "Yes", "url": "app:yes"}, {"id": "no", "text": "No"}],
            "badge_increment": -2,
        },
        "data": {"k": {"n": [1, None]}},
    }


def test_the_smallest_alert():
    assert payload(Message(body="B")) == {"aps": {"alert": {"body": "B"}, "sound": "default"}, "pushd": {"id": 7}}


@pytest.mark.parametrize(
    ("message", "title"),
    [
        (Message(body="B"), "App"),
        (Message(title="T", body="B"), "T"),
        (Message(title="", body="B"), None),
        (Message(badge=1), None),
    ],
)
def test_the_default_title_stands_in_for_an_absent_one(message, title):
    assert aps(message, Settings(default_title="App")).get("alert", {}).get("title") == title


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        (None, "default"),
        ("none", None),
        ("bell.caf", "bell.caf"),
        (Sound(name="bell.caf"), "bell.caf"),
        (Sound(name="none"), None),
        (Sound(critical=True, volume=0.25), {"critical": 1, "name": "default", "volume": 0.25}),
    ],
)
def test_sounds(sound, expected):
    assert aps(Message(body="B", sound=sound)).get("sound") == expected


def test_a_badge_alone_makes_no_noise():
    assert aps(Message(badge=3)) == {"badge": 3}


def test_badge_zero_clears():
    assert aps(Message(body="B", badge=0))["badge"] == 0


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message(body="B"), None),
        (Message(body="B", mutable_content=True), 1),
        (Message(body="B", image="https://e.org/p"), 1),
        (Message(body="B", image="https://e.org/p", mutable_content=False), None),
        (Message(body="B", media=[Media(url="https://e.org/p")]), 1),
        (Message(body="B", buttons=[Button(id="a", text="A")]), 1),
        (Message(body="B", badge_increment=1), 1),
        (Message(body="B", badge=1), None),
    ],
)
def test_what_the_service_extension_must_do_wakes_it(message, expected):
    assert aps(message).get("mutable-content") == expected


def test_what_is_androids_stays_androids():
    message = Message(body="B", android=Android(channel="c", priority="high"), display_time_s=5)
    assert payload(message) == payload(Message(body="B"))


def test_a33_background_has_priority_5_and_nothing_to_show():
    for urgency in ("high", "normal"):
        message = Message(push_type=PushType.BACKGROUND, data={"sync": True}, priority=urgency)
        assert payload(message) == {"aps": {"content-available": 1}, "pushd": {"id": 7}, "data": {"sync": True}}
        assert dict(rendered(message).headers) == {"apns-push-type": "background", "apns-priority": "5"}


@pytest.mark.parametrize(("urgency", "priority"), [("high", "10"), ("normal", "5")])
def test_a33_alert_priorities(urgency, priority):
    assert dict(rendered(Message(body="B", priority=urgency)).headers)["apns-priority"] == priority


def test_voip_carries_what_the_app_needs_and_fills_in_nothing():
    message = Message(push_type=PushType.VOIP, body="Ann calls", data={"call": "x"})
    assert payload(message, Settings(default_title="App")) == {
        "aps": {"alert": {"body": "Ann calls"}},
        "pushd": {"id": 7},
        "data": {"call": "x"},
    }


def test_types_whose_keys_the_system_reads():
    assert payload(PLAINEST[PushType.FILEPROVIDER]) == {"container-identifier": "c", "domain": "d"}
    assert payload(PLAINEST[PushType.MDM]) == {"mdm": "magic"}
    assert payload(PLAINEST[PushType.WIDGETS]) == {"aps": {"content-changed": True}}
    assert payload(PLAINEST[PushType.CONTROLS]) == {"aps": {"content-changed": True}}
    assert payload(PLAINEST[PushType.LOCATION]) == {"aps": {}, "pushd": {"id": 7}}


def test_a_live_activity_starts():
    message = Message(
        push_type=PushType.LIVEACTIVITY,
        title="T",
        body="B",
        relevance=1.0,
        live_activity=LiveActivity(
            event="start",
            content_state={"score": "0:0"},
            attributes_type="Match",
            attributes={"teams": ["a", "b"]},
            stale_date=1_700_003_600,
        ),
    )
    assert payload(message) == {
        "aps": {
            "timestamp": 1_700_000_000,
            "event": "start",
            "content-state": {"score": "0:0"},
            "attributes-type": "Match",
            "attributes": {"teams": ["a", "b"]},
            "stale-date": 1_700_003_600,
            "alert": {"title": "T", "body": "B", "sound": "default"},
            "relevance-score": 1.0,
        }
    }


def test_a_live_activity_goes_on_and_ends():
    update = LiveActivity(event="update", content_state={"s": 1}, timestamp=5)
    assert aps(Message(push_type=PushType.LIVEACTIVITY, live_activity=update)) == {
        "timestamp": 5,
        "event": "update",
        "content-state": {"s": 1},
    }
    end = LiveActivity(event="end", content_state={}, dismissal_date=9)
    silent = Message(push_type=PushType.LIVEACTIVITY, body="Over", sound="none", live_activity=end)
    assert aps(silent) == {
        "timestamp": 1_700_000_000,
        "event": "end",
        "content-state": {},
        "dismissal-date": 9,
        "alert": {"body": "Over"},
    }


@pytest.mark.parametrize(
    ("push_type", "ttl_s", "expires_at"),
    [
        (PushType.ALERT, 0, 0),
        (PushType.ALERT, None, 1_700_000_000 + 28 * 86_400),
        (PushType.ALERT, 60, 1_700_000_060),
        (PushType.PUSHTOTALK, None, 0),
        (PushType.PUSHTOTALK, 30, 1_700_000_030),
    ],
)
def test_a34_zero_and_absent_differ(push_type, ttl_s, expires_at):
    assert rendered(PLAINEST[push_type], ttl_s=ttl_s).expires_at == expires_at


def collapse(message: Message, **fields) -> str | None:
    return rendered(message, **fields).collapse_id


def test_a35_collapse_ids():
    assert collapse(Message(body="B")) == "pushd-7"
    assert collapse(Message(body="B"), collapse_id="mine") == "mine"
    assert collapse(PLAINEST[PushType.BACKGROUND]) is None
    assert collapse(PLAINEST[PushType.BACKGROUND], collapse_id="mine") == "mine"
    hashed = collapse(Message(body="B"), collapse_id="日本")
    assert hashed is not None
    assert hashed == apns.collapse_header("日本")


def test_two_notifications_never_merge():
    message = Message(body="B")
    ids = {render(message, send(message), PLAIN, notification_id=n, now=NOW).collapse_id for n in (1, 2)}
    assert len(ids) == 2


def test_overrides_merge_over_the_body():
    message = Message(
        title="T",
        body="B",
        data={"a": 1},
        overrides={
            "apns": {"aps": {"alert": {"title": None, "loc-key": "K"}, "sound": None}, "data": None, "x": [1]},
            "fcm": {"aps": {"sound": "never"}},
        },
    )
    assert payload(message) == {"aps": {"alert": {"body": "B", "loc-key": "K"}}, "pushd": {"id": 7}, "x": [1]}


@pytest.mark.parametrize("push_type", [each for each in PushType if each is not PushType.EMAIL])
def test_a40_the_limit_is_exact_in_bytes(push_type):
    limit = payload_limit(push_type)
    plain = PLAINEST[push_type]
    empty = len(rendered(msgspec.structs.replace(plain, overrides={"apns": {"x": ""}})).payload)
    # Two bytes a letter, so that characters and bytes cannot be taken for each other.
    fill = "ä" * ((limit - empty) // 2) + "a" * ((limit - empty) % 2)
    exact = msgspec.structs.replace(plain, overrides={"apns": {"x": fill}})
    assert len(rendered(exact).payload) == limit
    with pytest.raises(InvalidRequestError) as caught:
        rendered(msgspec.structs.replace(plain, overrides={"apns": {"x": fill + "aaa"}}))
    (fault,) = caught.value.faults
    assert fault.pointer == "/message/overrides/apns"
    assert f"{limit + 3} bytes, 3 over the limit of {limit}" in fault.detail


def test_a40_the_pointer_names_the_largest_field():
    for field, value in {"body": "日" * 1500, "title": "日" * 1500, "data": {"k": "日" * 1500}}.items():
        with pytest.raises(InvalidRequestError) as caught:
            rendered(Message(**{"body": "b", field: value, "overrides": {"fcm": {"x": "y" * 9000}}}))
        assert caught.value.faults[0].pointer == f"/message/{field}"


@pytest.mark.parametrize("value", [2**70, "\ud800"])
def test_what_devices_cannot_parse_is_refused(value):
    with pytest.raises(InvalidRequestError):
        rendered(Message(body="B", data={"k": value}))


def test_nesting_is_bounded():
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    with pytest.raises(InvalidRequestError):
        rendered(Message(body="B", data={"k": deep}))


@given(messages, st.integers(1, ID_MAX))
def test_a40_rendering_never_exceeds_the_limit(message, notification_id):
    if message.push_type in (PushType.LIVEACTIVITY, PushType.CHANNEL) and message.live_activity is None:
        return
    try:
        made = render(message, send(message), PLAIN, notification_id=notification_id, now=NOW)
    except InvalidRequestError:
        return
    assert len(made.payload) <= payload_limit(message.push_type)
    assert isinstance(orjson.loads(made.payload), dict)
    assert all(value.isascii() and value.isprintable() for _, value in made.headers)


@pytest.mark.parametrize(("ttl_s", "told", "tried"), [(None, 0, 300), (0, 0, None), (60, 60, 60)])
def test_a34_a_broadcast_is_not_stored_unless_asked_and_is_tried_for_a_while(ttl_s, told, tried):
    update = PLAINEST[PushType.CHANNEL]
    assert rendered(update, ttl_s=ttl_s).expires_at == (1_700_000_000 + told if told else 0)
    assert life.tried_until(send(update, ttl_s=ttl_s), NOW) == (1_700_000_000 + tried if tried else 0)


def test_a38_a_broadcast_is_a_live_activitys_push_on_the_wire():
    assert dict(rendered(PLAINEST[PushType.CHANNEL]).headers) == {
        "apns-push-type": "liveactivity",
        "apns-priority": "10" if PLAINEST[PushType.CHANNEL].priority == "high" else "5",
    }


def test_a_start_says_how_the_activity_is_updated():
    def start(**fields):
        activity = LiveActivity(event="start", content_state={}, attributes_type="A", attributes={}, **fields)
        return aps(Message(push_type=PushType.LIVEACTIVITY, title="T", body="B", live_activity=activity))

    assert start(input_channel="AAAA")["input-push-channel"] == "AAAA"
    assert start(input_token=True)["input-push-token"] == 1
    assert not {"input-push-channel", "input-push-token"} & start(input_token=False).keys()
