"""The rules that span fields: each fault points at its field, and what passes can be rendered."""

import msgspec
import pytest
from hypothesis import given

from pushd.content.apns import render
from pushd.content.check import validate
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.device import ID_MAX
from pushd.model.message import Android, Button, LiveActivity, Media, Message, PushType, Sound
from tests.pushd.content.samples import NOW, PLAINEST, messages, send

LIVE, BACKGROUND = PushType.LIVEACTIVITY, PushType.BACKGROUND
START = {"event": "start", "content_state": {}}
FULL_START = START | {"attributes_type": "A", "attributes": {}}


def pointers(message: Message, **fields) -> list[str]:
    try:
        validate(send(message, **fields), Settings())
    except InvalidRequestError as error:
        return [fault.pointer for fault in error.faults]
    return []


def live(**fields) -> Message:
    return Message(push_type=LIVE, title="T", body="B", live_activity=LiveActivity(**fields))


@pytest.mark.parametrize("push_type", PushType)
def test_the_plainest_push_of_every_type_passes(push_type):
    assert pointers(PLAINEST[push_type]) == []


@pytest.mark.parametrize(
    "message",
    [
        Message(title="T"),
        Message(badge=0),
        Message(badge_increment=-1),
        Message(body="B", url="myapp://open?x=1", image="https://e.org/x"),
        Message(body="B", sound=Sound(critical=True, volume=0.5)),
        Message(body="B", android=Android(channel="c")),
        Message(content_available=True),
        Message(overrides={"apns": {"aps": {"alert": "raw"}}}),
        live(**FULL_START),
        live(event="end", content_state={}, dismissal_date=5),
        Message(push_type=BACKGROUND, data={"a": 1}, priority="normal"),
    ],
)
def test_sound_messages_pass(message):
    assert pointers(message) == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message(), ["/message"]),
        (Message(data={"a": 1}), ["/message"]),
        (Message(badge=1, badge_increment=1), ["/message/badge_increment"]),
        (Message(badge_increment=1, mutable_content=False), ["/message/mutable_content"]),
        (
            Message(body="B", android=Android(channel="c", notification_type="t")),
            ["/message/android/notification_type"],
        ),
        (Message(body="B", sound=Sound(volume=0.5)), ["/message/sound/volume"]),
        (Message(body="B", sound=Sound(name="none", critical=True)), ["/message/sound/name"]),
        (Message(push_type=LIVE), ["/message/live_activity"]),
        (Message(body="B", live_activity=LiveActivity(event="end", content_state={})), ["/message/live_activity"]),
        (live(**START), ["/message/live_activity/attributes_type", "/message/live_activity/attributes"]),
        (
            Message(push_type=LIVE, title="T", live_activity=LiveActivity(**FULL_START)),
            ["/message/title"],
        ),
        (live(event="update", content_state={}, attributes={}), ["/message/live_activity/attributes"]),
        (live(event="update", content_state={}, dismissal_date=1), ["/message/live_activity/dismissal_date"]),
        (
            Message(push_type=BACKGROUND, title="T", badge=1, sound="s"),
            ["/message/title", "/message/badge", "/message/sound"],
        ),
        (Message(push_type=BACKGROUND, content_available=False), ["/message/content_available"]),
        (Message(push_type=PushType.WIDGETS, data={"a": 1}), ["/message/data"]),
        (Message(push_type=PushType.FILEPROVIDER), ["/message/data/container-identifier"]),
        (Message(push_type=PushType.MDM, data={"mdm": 1}), ["/message/data/mdm"]),
        (Message(body="B", url="javascript:alert(1)"), ["/message/url"]),
        (Message(body="B", url="JavaScript:alert(1)"), ["/message/url"]),
        (Message(body="B", url="/relative"), ["/message/url"]),
        (Message(body="B", url="https://e.org/a b"), ["/message/url"]),
        (Message(body="B", url="https://e.org/\r\nx"), ["/message/url"]),
        (Message(body="B", icon="ftp://e.org/i", image="https:///x"), ["/message/icon", "/message/image"]),
        (Message(body="B", image="https://[::1"), ["/message/image"]),
        (Message(body="B", media=[Media(url="https://e.org"), Media(url="x")]), ["/message/media/1/url"]),
        (
            Message(body="B", buttons=[Button(id="a", text="A"), Button(id="a", text="B", url="x", icon="y")]),
            ["/message/buttons/1/url", "/message/buttons/1/icon", "/message/buttons/1/id"],
        ),
        (Message(body="B", android=Android(picture="x")), ["/message/android/picture"]),
        (Message(body="B", overrides={"apns": {"aps": 1}}), ["/message/overrides/apns/aps"]),
        (Message(body="日" * 1500), ["/message/body"]),
    ],
)
def test_faults_point_at_their_field(message, expected):
    assert pointers(message) == expected


def test_a35_the_collapse_id_counts_bytes():
    assert pointers(Message(body="B"), collapse_id="ä" * 32) == []
    assert pointers(Message(body="B"), collapse_id="ä" * 33) == ["/collapse_id"]
    assert pointers(Message(body="B"), collapse_id="a\nb") == ["/collapse_id"]


def test_every_fault_is_told_at_once():
    message = Message(badge=1, badge_increment=1, url="x", live_activity=LiveActivity(event="end", content_state={}))
    assert set(pointers(message, collapse_id="ä" * 60)) == {
        "/message/live_activity",
        "/message/badge_increment",
        "/message/url",
        "/collapse_id",
    }


@given(messages)
def test_what_passes_renders_under_any_id_at_any_time(message):
    if pointers(message):
        return
    for notification_id, now in ((1, NOW), (ID_MAX, NOW), (ID_MAX, 9_999_999_999.0)):
        render(message, send(message), Settings(), notification_id=notification_id, now=now)


def test_messages_survive_the_store():
    for message in PLAINEST.values():
        assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


@pytest.mark.parametrize(
    ("activity", "fields", "expected"),
    [
        ({"event": "update", "content_state": {}}, {}, []),
        ({"event": "end", "content_state": {}, "dismissal_date": 5}, {}, []),
        (FULL_START, {}, ["/message/live_activity/event"]),
        ({"event": "update", "content_state": {}}, {"collapse_id": "c"}, ["/collapse_id"]),
        (
            {"event": "update", "content_state": {}, "input_channel": "AAAA"},
            {},
            ["/message/live_activity/input_channel"],
        ),
    ],
)
def test_what_a_channel_takes(activity, fields, expected):
    message = Message(push_type=PushType.CHANNEL, title="T", body="B", live_activity=LiveActivity(**activity))
    assert pointers(message, **fields) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input_channel": "AAAA"}, []),
        ({"input_token": True}, []),
        ({"input_channel": "AAAA", "input_token": False}, []),
        ({"input_channel": "AAAA", "input_token": True}, ["/message/live_activity/input_token"]),
        ({"input_channel": "no id"}, ["/message/live_activity/input_channel"]),
    ],
)
def test_how_a_new_activity_is_updated(fields, expected):
    assert pointers(live(**FULL_START, **fields)) == expected
