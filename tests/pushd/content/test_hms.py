"""Messages as HMS takes them; everything rendered passes the simulator's rules."""

import orjson
import pytest

from protocols import hms as wire
from pushd.content import hms
from pushd.content.check import validate
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.message import Android, Button, Media, Message, PushType, Sound
from pushd.model.notification import Send
from pushd.simulator.hms_rules import check_message

NOW = 1_800_000_000.0


def render(settings=None, send=None, **fields):
    message = Message(**fields)
    sent = Send(audience=Broadcast(), message=message, **(send or {}))
    rendered = hms.render(message, sent, settings or Settings(), notification_id=77, now=NOW)
    body = orjson.loads(wire.body(rendered.payload, [b"IQAAAA"]))
    assert check_message(body) is None, check_message(body)
    return body["message"], rendered


def shown(**fields):
    return render(**fields)[0]["android"]["notification"]


def test_h05_an_alert():
    message, rendered = render(
        title="Harvest", body="Apples", url="https://example.com/a", data={"orchard": 7}, send={"ttl_s": 600}
    )
    assert message["android"] == {
        "ttl": "600s",
        "notification": {
            "title": "Harvest",
            "body": "Apples",
            "click_action": {"type": 2, "url": "https://example.com/a"},
            "default_sound": True,
            "tag": "pushd-77",
        },
    }
    assert orjson.loads(message["data"]) == {
        "pushd": {"id": 77, "url": "https://example.com/a"},
        "data": {"orchard": 7},
    }
    assert rendered.expires_at == NOW + 600


def test_h05_title_and_body_are_always_there():
    assert shown(body="Apples")["title"] == "Apples"
    assert shown(body="Apples", settings=Settings(default_title="Orchard"))["title"] == "Orchard"
    assert shown(title="Harvest")["body"] == "Harvest"


def test_h05_what_shows_nothing_is_a_data_message():
    for fields in ({"badge": 3}, {"push_type": PushType.BACKGROUND, "data": {"a": 1}}):
        message, _ = render(**fields)
        assert "notification" not in message["android"]


def test_h05_links_that_huawei_opens_not_are_for_the_app():
    assert shown(title="a", url="http://example.com")["click_action"] == {"type": 3}
    assert shown(title="a", url="orchard:tree/7")["click_action"] == {"type": 3}
    assert shown(title="a", android=Android(click_action="OPEN"))["click_action"] == {"type": 1, "action": "OPEN"}


def test_h05_badges_sounds_buttons_and_colours():
    assert shown(title="a", badge=500)["badge"] == {"set_num": 99}
    assert shown(title="a", badge_increment=2)["badge"] == {"add_num": 2}
    assert "badge" not in shown(title="a", badge_increment=-2)
    assert shown(title="a", sound="none")["default_sound"] is False
    assert shown(title="a", sound=Sound(name="bell"))["sound"] == "bell"
    buttons = [Button(id=str(number), text=f"b{number}", url="https://example.com/b") for number in range(4)]
    assert shown(title="a", buttons=buttons)["buttons"] == [
        {"name": f"b{number}", "action_type": 2, "intent": "https://example.com/b"} for number in range(3)
    ]
    android = Android(color="#00ff00", channel="news", picture="https://example.com/p.png", small_icon="/raw/leaf")
    told = shown(title="a", android=android, thread="t", media=[Media(url="https://example.com/m.mp4")])
    assert (told["color"], told["channel_id"], told["icon"], told["group"]) == ("#00ff00", "news", "/raw/leaf", "t")
    assert told["image"] == "https://example.com/p.png"


@pytest.mark.parametrize(("ttl_s", "said"), [(None, "1296000s"), (0, "1s"), (60, "60s"), (2_000_000, "1296000s")])
def test_h05_a_life_within_huaweis_bounds(ttl_s, said):
    assert render(title="a", send={"ttl_s": ttl_s})[0]["android"]["ttl"] == said


def test_h05_the_callers_collapse_id_is_a_tag_and_never_a_collapse_key():
    android = render(title="a", send={"collapse_id": "apples"})[0]["android"]
    assert android["notification"]["tag"] == "apples"
    assert "collapse_key" not in android


def test_h05_overrides_win_but_never_say_whom_it_is_for():
    message, _ = render(title="a", overrides={"hms": {"android": {"urgency": "HIGH", "notification": {"tag": None}}}})
    assert message["android"]["urgency"] == "HIGH"
    assert "tag" not in message["android"]["notification"]
    for name in hms.TARGETS:
        message = Message(title="a", overrides={"hms": {name: ["x"]}})
        with pytest.raises(InvalidRequestError) as caught:
            validate(Send(audience=Broadcast(), message=message), Settings())
        assert [fault.pointer for fault in caught.value.faults] == [f"/message/overrides/hms/{name}"]


def test_h04_a_message_too_large_names_field_and_excess():
    fits = Message(title="a", body="b" * 3_000)
    hms.render(fits, Send(audience=Broadcast(), message=fits), Settings(), notification_id=1, now=NOW)
    message = Message(title="a", body="b", data={"x": "y" * 4_000})
    with pytest.raises(InvalidRequestError) as caught:
        hms.render(message, Send(audience=Broadcast(), message=message), Settings(), notification_id=1, now=NOW)
    (fault,) = caught.value.faults
    assert fault.pointer == "/message/data"
    assert "hms payload" in fault.detail
