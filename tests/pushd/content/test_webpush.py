"""Messages as Web Push texts."""

import orjson
import pytest

from pushd.content.webpush import render
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.message import Button, Media, Message, PushType, Sound

from .samples import NOW, PLAINEST, send

APP = Settings(default_title="Orchard")


def rendered(message, app=APP, **fields):
    return render(message, send(message, **fields), app, notification_id=7, now=NOW)


def text(message, app=APP, **fields):
    return orjson.loads(rendered(message, app, **fields).payload)


def test_an_alert_is_a_declarative_push_message_when_it_leads_somewhere():
    body = text(Message(title="T", body="B", url="https://example.com/x", data={"k": 1}, badge=3))
    assert body == {
        "web_push": 8030,
        "notification": {
            "title": "T",
            "body": "B",
            "navigate": "https://example.com/x",
            "tag": "pushd-7",
            "data": {"k": 1},
            "app_badge": "3",
        },
        "pushd": {"id": 7},
        "app_badge": 3,
    }
    assert "web_push" not in text(Message(title="T"))
    assert "web_push" not in text(Message(body="B", url="https://example.com/"), Settings())


def test_the_apps_title_stands_in():
    assert text(Message(body="B"))["notification"]["title"] == "Orchard"
    assert text(Message(title="", body="B"))["notification"]["title"] == ""
    assert "title" not in text(Message(body="B"), Settings())["notification"]


def test_the_apps_icon_stands_in():
    app = Settings(icon="https://e.org/site.png")
    assert text(Message(body="B"), app)["notification"]["icon"] == "https://e.org/site.png"
    assert text(Message(body="B", icon="https://e.org/i.png"), app)["notification"]["icon"] == "https://e.org/i.png"
    assert "icon" not in text(Message(body="B"))["notification"]


def test_every_field_that_browsers_know():
    message = Message(
        title="T",
        subtitle="S",
        body="B",
        icon="https://e.org/i.png",
        image="https://e.org/p.png",
        media=[Media(url="https://e.org/m.mp4", type="video/mp4")],
        buttons=[
            Button(id="yes", text="Yes", url="https://e.org/yes", icon="https://e.org/y.png"),
            Button(id="no", text="No"),
        ],
        display_time_s=0,
        sound="none",
        category="c",
        thread="t",
        badge_increment=2,
    )
    body = text(message, collapse_id="same")
    assert body["notification"] == {
        "title": "T",
        "body": "S\nB",
        "icon": "https://e.org/i.png",
        "image": "https://e.org/p.png",
        "tag": "same",
        "silent": True,
        "requireInteraction": True,
        "actions": [
            {"action": "yes", "title": "Yes", "navigate": "https://e.org/yes", "icon": "https://e.org/y.png"},
            {"action": "no", "title": "No"},
        ],
    }
    assert body["pushd"] == {
        "id": 7,
        "display_time_s": 0,
        "category": "c",
        "thread": "t",
        "media": [{"url": "https://e.org/m.mp4", "type": "video/mp4"}],
        "badge_increment": 2,
    }


@pytest.mark.parametrize("sound", [None, "default", "bell", Sound(name="bell")])
def test_only_none_silences(sound):
    assert "silent" not in text(Message(body="B", sound=sound))["notification"]


def test_w33_urgency_and_topic():
    assert rendered(Message(body="B")).headers == (("urgency", "high"), ("topic", "pushd-7"))
    quiet = rendered(Message(body="B", priority="normal"), collapse_id="a collapse id of more than 32 characters")
    headers = dict(quiet.headers)
    assert dict(rendered(Message(body="B", interruption_level="passive")).headers)["urgency"] == "low"
    assert headers["urgency"] == "normal"
    assert len(headers["topic"]) == 32


def test_w31_life():
    assert rendered(Message(body="B"), ttl_s=60).expires_at == int(NOW) + 60
    assert rendered(Message(body="B"), ttl_s=0).expires_at == 0
    assert rendered(Message(body="B")).expires_at == int(NOW) + 2_419_200


def test_overrides_merge():
    message = Message(body="B", overrides={"webpush": {"notification": {"body": None, "lang": "de"}, "x": 1}})
    body = text(message)
    assert body["x"] == 1
    assert body["notification"]["lang"] == "de"
    assert "body" not in body["notification"]


@pytest.mark.parametrize("push_type", [each for each in PushType if each is not PushType.ALERT])
def test_browsers_have_no_silent_push(push_type):
    assert rendered(PLAINEST[push_type]) is None


def test_w04_texts_above_the_limit_are_refused_with_platform_and_excess():
    fits = rendered(Message(title="T", data={"x": "y" * 3900}))
    assert len(fits.payload) <= 3993
    with pytest.raises(InvalidRequestError) as error:
        rendered(Message(title="T", data={"x": "y" * 3993}))
    (fault,) = error.value.faults
    assert fault.pointer == "/message/data"
    assert "webpush" in fault.detail
    assert "3993" in fault.detail
