"""Messages as FCM messages: every field on every platform, TTLs, sizes, overrides; a strict reader takes them all."""

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import fcm
from pushd.batch import Rendered
from pushd.content.fcm import TTL_FOLLOWS, render
from pushd.errors import InvalidRequestError
from pushd.gateways.fcm_forms import message as as_sent
from pushd.model.app import Settings
from pushd.model.device import ID_MAX
from pushd.model.message import Android, Button, Media, Message, PushType, Sound
from pushd.simulator import fcm_rules
from tests.pushd.content.samples import NOW, PLAINEST, messages, send

PLAIN = Settings()
TOKEN = "d3Fg_x:APA91b-" + "7" * 40


def rendered(message: Message, settings: Settings = PLAIN, **fields) -> Rendered:
    made = render(message, send(message, **fields), settings, notification_id=7, now=NOW)
    assert made is not None
    return made


def payload(message: Message, settings: Settings = PLAIN, **fields) -> dict:
    return orjson.loads(rendered(message, settings, **fields).payload)


def reading(payload_json: bytes):
    return fcm_rules.read(fcm.request_body(payload_json, fcm.Target("token", TOKEN)))


def test_f14_a_full_alert_on_all_platforms():
    message = Message(
        title="T",
        subtitle="S",
        body="B",
        url="https://e.org/x",
        data={"k": "v", "n": [1, None], "from": "me"},
        icon="https://e.org/i.png",
        image="https://e.org/p.png",
        media=[Media(url="https://e.org/a.mp4", type="video/mp4")],
        buttons=[Button(id="yes", text="Yes", url="app:yes", icon="https://e.org/y.png")],
        badge=3,
        sound="bell",
        display_time_s=0,
        interruption_level="time-sensitive",
        thread="th",
        android=Android(
            picture="https://e.org/a.png",
            channel="news",
            color="#aabbcc",
            small_icon="ic",
            click_action="OPEN",
        ),
    )
    body = payload(message, ttl_s=123, collapse_id="score")
    assert body["notification"] == {"title": "T", "body": "S\nB", "image": "https://e.org/p.png"}
    assert body["android"] == {
        "ttl": "123s",
        "priority": "HIGH",
        "collapse_key": "score",
        "notification": {
            "tag": "score",
            "channel_id": "news",
            "icon": "ic",
            "color": "#aabbcc",
            "click_action": "OPEN",
            "image": "https://e.org/a.png",
            "sound": "bell",
            "notification_count": 3,
            "notification_priority": "PRIORITY_HIGH",
        },
    }
    web = body["webpush"]
    assert (web["headers"]["TTL"], web["headers"]["Urgency"], len(web["headers"]["Topic"])) == ("123", "high", 32)
    assert web["fcm_options"] == {"link": "https://e.org/x"}
    assert web["notification"] == {
        "icon": "https://e.org/i.png",
        "tag": "score",
        "actions": [{"action": "yes", "title": "Yes", "icon": "https://e.org/y.png"}],
        "requireInteraction": True,
    }
    assert body["apns"]["headers"] == {
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(int(NOW) + 123),
        "apns-collapse-id": "score",
    }
    aps = body["apns"]["payload"]["aps"]
    assert (aps["alert"]["subtitle"], aps["badge"], aps["sound"], aps["thread-id"]) == ("S", 3, "bell", "th")
    assert (body["data"]["k"], body["data"]["n"]) == ("v", "[1,null]")
    ours = orjson.loads(body["data"]["pushd"])
    assert (ours["id"], ours["url"], ours["data"]) == (7, "https://e.org/x", {"from": "me"})
    assert ours["media"] == [{"url": "https://e.org/a.mp4", "type": "video/mp4"}]


def test_f13_the_tag_replaces_and_the_collapse_key_is_the_callers_alone():
    own = payload(Message(body="b"))["android"]
    assert (own["notification"]["tag"], "collapse_key" in own) == ("pushd-7", False)
    given_key = payload(Message(body="b"), collapse_id="score")["android"]
    assert (given_key["notification"]["tag"], given_key["collapse_key"]) == ("score", "score")


def test_f13_ttl_is_a_duration_and_what_is_left_of_it_goes_out():
    made = rendered(Message(body="b"), ttl_s=123)
    assert TTL_FOLLOWS in made.headers
    late = orjson.loads(as_sent(made, NOW + 100))
    assert (late["android"]["ttl"], late["webpush"]["headers"]["TTL"]) == ("23s", "23")
    assert {**late, "android": 0, "webpush": 0} == {**orjson.loads(made.payload), "android": 0, "webpush": 0}
    assert orjson.loads(as_sent(made, NOW + 900))["android"]["ttl"] == "0s"
    assert payload(Message(body="b"))["android"]["ttl"] == "2419200s"


def test_f13_now_or_never():
    made = rendered(Message(body="b"), ttl_s=0)
    assert made.expires_at == 0
    body = orjson.loads(as_sent(made, NOW + 50))
    assert (body["android"]["ttl"], body["webpush"]["headers"]["TTL"]) == ("0s", "0")
    assert body["apns"]["headers"]["apns-expiration"] == "0"


def test_f13_a_ttl_of_the_callers_stays_as_it_is():
    for override in ({"android": {"ttl": "3.5s"}}, {"webpush": {"headers": {"TTL": "9"}}}, {"android": None}):
        made = rendered(Message(body="b", overrides={"fcm": override}))
        assert as_sent(made, NOW + 100) == made.payload


def test_f34_data_alone_is_not_urgent_unless_android_is_told_so():
    quiet = Message(push_type=PushType.BACKGROUND, data={"k": "v"})
    body = payload(quiet)
    assert body["android"] == {"ttl": "2419200s", "priority": "NORMAL"}
    assert "notification" not in body
    assert body["apns"]["payload"] == {"aps": {"content-available": 1}}
    assert (body["apns"]["headers"]["apns-priority"], body["apns"]["headers"]["apns-push-type"]) == ("5", "background")
    loud = msgspec.structs.replace(quiet, android=Android(priority="high"))
    assert payload(loud)["android"]["priority"] == "HIGH"


def test_silence_and_sounds():
    assert "sound" not in payload(Message(body="b", sound="none"))["android"]["notification"]
    assert payload(Message(body="b", sound="none"))["webpush"]["notification"]["silent"] is True
    assert payload(Message(body="b"))["android"]["notification"]["sound"] == "default"
    both = Message(body="b", sound=Sound(name="ios"), android=Android(sound="droid"))
    assert payload(both)["android"]["notification"]["sound"] == "droid"


def test_the_apps_title_stands_in():
    assert payload(Message(body="b"), Settings(default_title="App"))["notification"]["title"] == "App"
    assert "link" not in payload(Message(body="b", url="app:open")).get("webpush", {}).get("fcm_options", {})


@pytest.mark.parametrize("push_type", [each for each in PushType if each not in (PushType.ALERT, PushType.BACKGROUND)])
def test_what_only_apple_has_is_not_for_fcm(push_type):
    message = PLAINEST[push_type]
    assert render(message, send(message), PLAIN, notification_id=7, now=NOW) is None


def test_f14_data_alone_asks_apple_for_priority_5_and_a_link_is_https():
    quiet = payload(Message(push_type=PushType.BACKGROUND, data={"k": "v"}), ttl_s=60)
    assert quiet["apns"]["headers"]["apns-priority"] == "5"
    assert quiet["apns"]["payload"]["aps"]["content-available"] == 1
    for url, options in (
        ("https://e.org/x", {"link": "https://e.org/x"}),
        ("http://e.org/x", None),
        ("app:page", None),
    ):
        assert payload(Message(body="b", url=url))["webpush"].get("fcm_options") == options


@given(messages)
def test_f15_names_have_one_spelling(message):
    """proto3 JSON takes `collapseKey` for `collapse_key`; what FCM hands on as it is keeps its own names."""
    message = msgspec.structs.replace(message, overrides={})
    try:
        made = render(message, send(message), PLAIN, notification_id=7, now=NOW)
    except InvalidRequestError:
        return
    body = {} if made is None else orjson.loads(made.payload)
    body.get("webpush", {}).pop("notification", None)
    waiting = [body]
    while waiting:
        part = waiting.pop()
        assert all(key == key.lower() for key in part)
        given_as_it_is = ("data", "payload", "headers")
        waiting += [each for key, each in part.items() if isinstance(each, dict) and key not in given_as_it_is]


def test_overrides_reach_every_part():
    override = {
        "fcm_options": {"analytics_label": "spring"},
        "android": {"notification": {"ticker": "t"}, "direct_boot_ok": True, "collapse_key": "c"},
        "apns": {"live_activity_token": "abc"},
        "data": {"extra": "1", "pushd": None},
        "notification": None,
    }
    body = payload(Message(body="b", overrides={"fcm": override}))
    assert body["fcm_options"] == {"analytics_label": "spring"}
    assert (body["android"]["notification"]["ticker"], body["android"]["collapse_key"]) == ("t", "c")
    assert body["data"] == {"extra": "1"}
    assert "notification" not in body
    assert isinstance(reading(orjson.dumps(body)), fcm_rules.Message)


@pytest.mark.parametrize(
    ("override", "pointer"),
    [
        ({"token": "x"}, "token"),
        ({"topic": "x"}, "topic"),
        ({"condition": "x"}, "condition"),
        ({"android": 7}, "android"),
        ({"data": {"k": 7}}, "data/k"),
        ({"data": {"from": "x"}}, "data/from"),
        ({"android": {"data": {"google.a/b": "x"}}}, "android/data/google.a~1b"),
        ({"webpush": {"data": [1]}}, "webpush/data"),
        ({"webpush": {"headers": 7}}, "webpush/headers"),
    ],
)
def test_f11_f12_overrides_that_fcm_could_not_take_are_refused(override, pointer):
    with pytest.raises(InvalidRequestError) as caught:
        payload(Message(body="b", overrides={"fcm": override}))
    assert [fault.pointer for fault in caught.value.faults] == [f"/message/overrides/fcm/{pointer}"]


def test_f16_platform_and_excess_are_named():
    with pytest.raises(InvalidRequestError) as caught:
        payload(Message(title="t", data={"k": "x" * 5000}))
    (fault,) = caught.value.faults
    assert fault.pointer == "/message/data"
    assert "fcm payload" in fault.detail
    assert "over the limit of 4096" in fault.detail


def test_f16_what_just_fits_is_taken_and_one_byte_more_is_not():
    def sized(extra):
        return Message(title="t", data={"k": "x" * extra})

    low, high = 0, 5_000
    while low + 1 < high:
        middle = (low + high) // 2
        try:
            payload(sized(middle))
            low = middle
        except InvalidRequestError:
            high = middle
    assert isinstance(reading(rendered(sized(low)).payload), fcm_rules.Message)
    body = payload(sized(low))
    body["data"]["k"] += "x"
    assert reading(orjson.dumps(body)).reason == "INVALID_ARGUMENT"


@given(messages, st.integers(0, 4000) | st.none(), st.none() | st.just("score"))
def test_a_strict_reader_takes_every_message(message, ttl_s, collapse_id):
    message = msgspec.structs.replace(message, overrides={})  # what the caller writes himself is his affair
    try:
        made = render(
            message,
            send(message, ttl_s=ttl_s, collapse_id=collapse_id),
            Settings(),
            notification_id=ID_MAX,
            now=NOW,
        )
    except InvalidRequestError:
        assert len(message.body or "") > 2_000  # nothing else of these messages is large
        return
    if made is None:
        return
    for late_s in (0, 50):
        said = reading(as_sent(made, NOW + late_s))
        assert isinstance(said, fcm_rules.Message), said
