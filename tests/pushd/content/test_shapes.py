"""Payloads in vendors' shapes, as their client SDKs read them."""

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.batch import Rendered
from pushd.content.check import validate
from pushd.content.platforms import SHAPES, render
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.device import GatewayName, Shape
from pushd.model.message import Android, Button, Message, PushType
from pushd.model.notification import Send
from pushd.outcome import NOT_SUPPORTED
from tests.pushd.content import clients

NOW, ID = 1_700_000_000.0, 4711
APNS, FCM, HMS, WEB = GatewayName.APNS, GatewayName.FCM, GatewayName.HMS, GatewayName.WEBPUSH
FULL = Message(
    title="Apples",
    subtitle="are ripe",
    body="Come and pick",
    url="https://shop.example/a",
    data={"order": "7", "n": 1, "deep": {"a": [True]}},
    icon="https://shop.example/i.png",
    image="https://shop.example/p.jpg",
    buttons=[Button(id="yes", text="Yes", url="https://shop.example/y")],
    sound="chime.caf",
    badge=3,
)


def made(gateway, shape, message=None, *, app=None, **fields):
    send = Send(audience=Broadcast(), message=message or Message(**fields))
    rendered = render(gateway, send, app or Settings(), notification_id=ID, now=NOW, shape=Shape(shape))
    assert isinstance(rendered, Rendered), rendered
    body = orjson.loads(rendered.payload)
    return body["message"] if gateway is HMS else body


# ConnectyCube


def test_connectycube_on_android_is_data_alone():
    message = made(FCM, "connectycube", FULL)
    title, text, data = clients.cube_android(message)
    assert (title, text) == ("Apples", "are ripe\nCome and pick")
    assert data == {
        "order": "7",
        "n": "1",
        "deep": '{"a":[true]}',
        "url": FULL.url,
        "icon": FULL.icon,
        "photo": FULL.image,
        "buttons": '[{"id":"yes","text":"Yes","url":"https://shop.example/y"}]',
    }
    # Of FCM's tokens some are iPhones': they have an alert all the same.
    assert clients.aps_of(message["apns"]["payload"])["alert"]["body"] == "Come and pick"
    assert message["android"]["priority"] == "HIGH"


def test_connectycube_on_ios_has_data_beside_aps():
    payload = made(APNS, "connectycube", FULL)
    title, text, rest = clients.cube_ios(payload)
    assert (title, text) == ("Apples", "Come and pick")
    assert rest["n"] == 1
    assert rest["deep"] == {"a": [True]}
    assert rest["photo"] == FULL.image
    assert payload["aps"]["badge"] == 3
    assert "pushd" not in payload
    ringing = made(APNS, "connectycube", push_type=PushType.VOIP, body="Anna calls", data={"call": "1"})
    assert clients.cube_ios(ringing) == (None, "Anna calls", {"aps": None, "call": "1"})
    silent = made(APNS, "connectycube", push_type=PushType.BACKGROUND, data={"aps": 1, "x": 2})
    assert silent == {"aps": {"content-available": 1}, "x": 2}


def test_connectycube_in_browsers_is_within_data():
    title, text, rest = clients.cube_web(made(WEB, "connectycube", FULL))
    assert (title, text, rest["photo"], rest["n"]) == ("Apples", "are ripe\nCome and pick", FULL.image, 1)
    assert clients.cube_web(made(WEB, "connectycube", body="a", app=Settings(default_title="Orchard")))[0] == "Orchard"
    assert clients.cube_web(made(WEB, "connectycube", title="only"))[1] == ""


# Kumulos


def test_kumulos_on_android_is_what_its_receiver_reads():
    message = msgspec.structs.replace(FULL, android=Android(channel="orders", sound="bell", priority="normal"))
    for gateway, client in ((FCM, clients.kumulos_fcm), (HMS, clients.kumulos_hms)):
        shown = client(made(gateway, "kumulos", message))
        assert shown["a"]["k.buttons"] == [{"id": "yes", "text": "Yes"}]
        assert shown["a"]["k.channel"] == "orders"
        assert shown["a"]["deep"] == {"a": [True]}
        del shown["a"]
        assert shown == {
            "id": ID,
            "url": FULL.url,
            "title": "Apples",
            "alert": "are ripe\nCome and pick",
            "bicon": FULL.image,
            "sound": "bell",
        }
    important = made(FCM, "kumulos", title="a", body="b", android=Android(notification_type="important"))
    assert clients.kumulos_fcm(important)["a"]["k.notificationType"] == "important"


@pytest.mark.parametrize("fields", [{"body": "only"}, {"title": "only"}, {"title": "", "body": "only"}])
def test_kumulos_on_android_always_has_a_title_and_a_text(fields):
    shown = clients.kumulos_fcm(made(FCM, "kumulos", **fields))
    assert (shown["title"], shown["alert"]) == ("only", "only")
    app = Settings(default_title="Orchard")
    assert clients.kumulos_fcm(made(FCM, "kumulos", body="b", app=app))["title"] == "Orchard"


def test_kumulos_in_the_background_runs_its_handler():
    shown = clients.kumulos_fcm(made(FCM, "kumulos", push_type=PushType.BACKGROUND, data={"a": 1}))
    assert (shown["bgn"], shown["a"]["a"], "title" in shown) == ("1", 1, False)
    told = clients.kumulos_ios(made(APNS, "kumulos", push_type=PushType.BACKGROUND, data={"a": 1}))
    assert told["aps"] == {"content-available": 1}
    assert clients.kumulos_fcm(made(FCM, "kumulos", title="a", body="b", content_available=True))["bgn"] == "1"


def test_kumulos_on_ios_is_what_its_extension_reads():
    told = clients.kumulos_ios(made(APNS, "kumulos", FULL))
    assert told["aps"] == {
        "alert": {"title": "Apples", "subtitle": "are ripe", "body": "Come and pick"},
        "badge": 3,
        "sound": "chime.caf",
        "mutable-content": 1,
    }
    assert (told["id"], told["url"], told["picture"]) == (ID, FULL.url, FULL.image)
    assert told["a"]["k.buttons"] == [{"id": "yes", "text": "Yes"}]
    plain = clients.kumulos_ios(made(APNS, "kumulos", body="a", sound="none", mutable_content=False))
    assert "sound" not in plain["aps"]
    assert plain["aps"]["mutable-content"] == 1
    along = clients.kumulos_ios(made(APNS, "kumulos", body="a", data={"in_app_message_id": 6, "own": 1}))
    assert along["a"]["k.deepLink"] == {"type": 1, "data": {"id": 6}}
    assert along["a"]["own"] == 1
    assert (
        "k.deepLink" not in clients.kumulos_ios(made(APNS, "kumulos", body="a", data={"in_app_message_id": "x"}))["a"]
    )
    deep = clients.kumulos_ios(made(APNS, "kumulos", body="a", data={"k.deepLink": {"type": 1, "data": {"id": 5}}}))
    assert deep["a"]["k.deepLink"]["data"]["id"] == 5


@pytest.mark.parametrize(("step", "before", "after"), [(2, None, 2), (2, 5, 7), (-2, None, 0), (-2, 5, 3), (-9, 5, 0)])
def test_kumulos_counts_badges(step, before, after):
    payload = made(APNS, "kumulos", body="a", badge_increment=step)
    assert clients.kumulos_ios(payload, before)["badge"] == after
    assert made(APNS, "kumulos", badge=0)["aps"]["badge"] == 0


def test_kumulos_in_browsers_is_what_its_worker_reads():
    shown = clients.kumulos_web(made(WEB, "kumulos", FULL))
    assert shown["data"]["order"] == "7"
    del shown["data"]
    assert shown == {
        "id": ID,
        "title": "Apples",
        "msg": "are ripe\nCome and pick",
        "url": FULL.url,
        "image": FULL.image,
        "icon": FULL.icon,
    }
    assert clients.kumulos_web(made(WEB, "kumulos", body="a"))["url"] is None


def test_what_the_app_sends_itself_does_not_hide_the_messages_id():
    for gateway, client in ((FCM, clients.kumulos_fcm), (APNS, clients.kumulos_ios), (WEB, clients.kumulos_web)):
        assert client(made(gateway, "kumulos", body="a", title="b", data={"k.message": "mine"}))["id"] == ID


# Backendless


def test_backendless_on_android_has_headers_of_the_vendors_names():
    shown = clients.backendless_android(made(FCM, "backendless", FULL))
    assert (shown["message"], shown["title"], shown["sub"]) == ("Come and pick", "Apples", "are ripe")
    assert shown["sound"] == "chime.caf"
    assert shown["data"]["messageId"] == str(ID)
    assert shown["data"]["n"] == "1"
    own = made(FCM, "backendless", title="a", body="b", data={"android-content-title": "Header", "custom": "x"})
    assert clients.backendless_android(own)["title"] == "Header"


@pytest.mark.parametrize("gateway", [FCM, APNS])
def test_backendless_templates_go_in_one_form_and_only_where_they_are_json(gateway):
    client = clients.backendless_android if gateway is FCM else clients.backendless_ios
    own = "android_immediate_push" if gateway is FCM else "ios_immediate_push"
    whole = {"android_immediate_push": {"name": "a"}, "ios_immediate_push": {"name": "a"}, "template_name": "t"}
    shown = client(made(gateway, "backendless", body="Hi", data=whole))
    assert (shown["template"], shown["message"]) == ({"name": "a"}, "Hi")
    as_text = client(made(gateway, "backendless", body="Hi", data={own: '{"name":"a"}'}))
    assert as_text["template"] == {"name": "a"}
    broken = client(made(gateway, "backendless", body="Hi", data={own: "{", "template_name": "t"}), templates=("t",))
    assert broken["template"] == "t"


def test_backendless_headers_are_each_systems_own():
    data = {
        "ios-alert": "alert",
        "ios-alert-title": "Ios",
        "ios-sound": "a.caf",
        "android-content-title": "Android",
        "wp-title": "Windows",
        "own": "x",
    }
    fields = {"title": "Ios", "body": "text", "sound": "a.caf", "data": data}
    ios = clients.backendless_ios(made(APNS, "backendless", **fields))
    assert ios["aps"] == {"alert": {"title": "Ios", "body": "alert"}, "sound": "a.caf"}
    assert ios["headers"].keys() == {"aps", "messageId", "message", "own", "ios-alert", "ios-alert-title", "ios-sound"}
    android = clients.backendless_android(made(FCM, "backendless", **fields))
    assert (android["title"], android["message"], android["sound"]) == ("Android", "text", None)
    assert (android["data"]["own"], "wp-title" in android["data"]) == ("x", False)


def test_backendless_on_ios_has_texts_beside_aps():
    shown = clients.backendless_ios(made(APNS, "backendless", FULL))
    assert (shown["message"], shown["aps"]["alert"]["title"]) == ("Come and pick", "Apples")
    assert shown["headers"]["attachment-url"] == FULL.image
    assert shown["headers"]["deep"] == '{"a":[true]}'
    silent = clients.backendless_ios(made(APNS, "backendless", push_type=PushType.BACKGROUND, data={"a": 1}))
    assert (silent["aps"], silent["headers"]["a"]) == ({"content-available": 1}, "1")


# All


@pytest.mark.parametrize(("gateway", "shape"), SHAPES)
def test_overrides_win_over_every_shape(gateway, shape):
    override = {"data": {"message": "theirs"}} if gateway is FCM else {"aps": {"alert": None}, "theirs": 1}
    if gateway is HMS:
        override = {"data": "theirs"}
    body = made(gateway, shape, title="a", body="b", overrides={gateway.value: override})
    if gateway is FCM:
        assert body["data"]["message"] == "theirs"
    elif gateway is HMS:
        assert body["data"] == "theirs"
    else:
        assert body["theirs"] == 1
        assert "alert" not in body.get("aps", {})


@pytest.mark.parametrize(("gateway", "shape"), SHAPES)
def test_a_message_that_is_too_large_in_a_shape_is_refused_with_the_field(gateway, shape):
    send = Send(audience=Broadcast(), message=Message(title="t", body="x" * 4_090))
    with pytest.raises(InvalidRequestError) as refused:
        validate(send, Settings(), (gateway,), shapes={gateway: (shape,)}) if gateway is not HMS else _large(shape)
    assert refused.value.faults[0].pointer in ("/message/body", "/message/data")
    assert "over the limit" in refused.value.faults[0].detail


def _large(shape):
    data = {str(number): "x" * 1_000 for number in range(5)}
    send = Send(audience=Broadcast(), message=Message(title="t", data=data))
    validate(send, Settings(), (HMS,), shapes={HMS: (shape,)})


def test_a_message_may_fit_in_one_shape_and_not_in_another():
    # Escaped within text Kumulos' needs more room than ConnectyCube's.
    send = Send(audience=Broadcast(), message=Message(title="t", body="b", data={"a": '"' * 2_050}))
    validate(send, Settings(), (FCM,), shapes={FCM: (Shape.CONNECTYCUBE,)})
    with pytest.raises(InvalidRequestError, match="too large"):
        validate(send, Settings(), (FCM,), shapes={FCM: (Shape.CONNECTYCUBE, Shape.KUMULOS)})


@pytest.mark.parametrize(("gateway", "shape"), SHAPES)
def test_headers_and_expiry_are_those_of_every_message(gateway, shape):
    for fields in ({"message": FULL}, {"message": FULL, "ttl_s": 60, "collapse_id": "apples"}):
        send = Send(audience=Broadcast(), **fields)
        shaped, usual = (
            render(gateway, send, Settings(), notification_id=ID, now=NOW, shape=each) for each in (shape, Shape.OWN)
        )
        assert (shaped.headers, shaped.expires_at) == (usual.headers, usual.expires_at)
        assert shaped.payload != usual.payload


@pytest.mark.parametrize(("gateway", "shape"), SHAPES)
def test_what_is_the_systems_own_is_alike_in_every_shape(gateway, shape):
    message = Message(push_type=PushType.MDM, data={"mdm": "a"})
    send = Send(audience=Broadcast(), message=message)
    if gateway is APNS:
        assert made(gateway, shape, message) == made(gateway, "", message)
    elif gateway is not HMS:
        assert render(gateway, send, Settings(), notification_id=ID, now=NOW, shape=shape) is NOT_SUPPORTED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(
    [
        *(
            "from",
            "message_type",
            "google.c",
            "gcm.n",
            "message",
            "title",
            "custom",
            "aps",
            "k.message",
            "data",
            "messageId",
        )
    ]
)
CLIENTS = {
    (FCM, Shape.CONNECTYCUBE): clients.cube_android,
    (APNS, Shape.CONNECTYCUBE): clients.cube_ios,
    (WEB, Shape.CONNECTYCUBE): clients.cube_web,
    (FCM, Shape.KUMULOS): clients.kumulos_fcm,
    (HMS, Shape.KUMULOS): clients.kumulos_hms,
    (APNS, Shape.KUMULOS): clients.kumulos_ios,
    (WEB, Shape.KUMULOS): clients.kumulos_web,
    (FCM, Shape.BACKENDLESS): clients.backendless_android,
    (APNS, Shape.BACKENDLESS): clients.backendless_ios,
}


def test_every_shape_has_a_client():
    assert CLIENTS.keys() == SHAPES.keys()


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=20),
    st.none() | st.dictionaries(NAMES, JSON, max_size=4),
    st.sampled_from([None, "none", "default", "chime.caf"]),
)
def test_no_client_crashes_whatever_is_sent(place, title, body, data, sound):
    CLIENTS[place](made(*place, title=title, body=body, data=data, sound=sound, badge=1))
