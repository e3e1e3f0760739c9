"""Columns of personal payloads: octet for octet what the renderer makes of each device's message."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pushd.badges import COUNTED
from pushd.batch import Bodies
from pushd.content.liquid import TemplateError
from pushd.content.platforms import SHAPES, render
from pushd.fanout import personal
from pushd.fanout.personal import Personal
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.device import GatewayName, Profile, Shape
from pushd.model.message import Message
from pushd.model.notification import Notification, Send
from pushd.outcome import PAYLOAD_TOO_LARGE, TEMPLATE_FAILED
from pushd.targeting.index import Index
from tests.pushd.fanout.conftest import people, rows

NOW = 1_800_000_000.0
APP = Settings(default_title="Orchard")
COUNT = 300
LOCALES = ("de", "pt-br", "pt", "en-us", "")
NAMES = ("Ada", 'B"o\\b', "", "Zoë\n", None, "日本", "x" * 200)
BODY = Message(
    title="For {{ user.name }}",
    body='{{ user.points | default: "no" }} points, {{ item }}, {{ device.locale }} {{ user.id }} {{ user.email }}',
    data={"plan": "{{ user.plan }}", "x": ["{{ user.labels }}"]},
    url="https://shop.example/{{ user.name }}",
)


def attributes(number: int) -> dict:
    values = {
        "name": NAMES[number % len(NAMES)],
        "points": (None, number, 0.5, True, False)[number % 5],
        "plan": "pro",
        "labels": ["a", 'b"'],
    }
    return {name: value for name, value in values.items() if value is not None}


@pytest.fixture
def index():
    made = Index()
    ids = range(1, COUNT + 1)
    users = people(ids)
    users.attributes = {row: attributes(number) for row, number in enumerate(ids)}
    users.emails = {row: f"u{number}@example.org" for row, number in enumerate(ids)}
    made.apply_users(users)
    devices = rows(ids, user_ids=ids)
    for number, locale in enumerate(LOCALES, 1):
        devices.profiles[number] = Profile(1, "ios", "17", "1", locale, "", "")
    devices.profile_ids = np.array([number % len(LOCALES) + 1 for number in ids], np.int32)
    made.apply_devices(devices)
    made.badges.put(devices.ids, devices.ids % 3)
    return made


def notification(message: Message, **fields) -> Notification:
    fields = {"liquid": True, "content_tags": {"item": 'The "book"'}, **fields}
    send = Send(audience=Broadcast(), message=message, **fields)
    return Notification(id=7, app_id=1, send=send, created_at=NOW, released_at=NOW, expires_at=None)


def expected(made: Personal, index: Index, device: int, gateway: GatewayName) -> bytes | int:
    """What the renderer makes for one device, from what is known of it read one by one."""
    script, send = made._script, made._script.send
    one = index.people(1, np.array([device], np.uint32))
    user = {
        **{name: one.attribute(name)[0] for name in script.needs.user | {"points"}},
        "id": one.external_ids()[0],
        "email": one.emails()[0],
    }
    locale = one.facet("locale")[0]
    values = script.values(user, {"locale": locale, "badge": device % 3}, one.external_ids()[0])
    try:
        message = script.message(script.variant(locale), values, NOW)
    except TemplateError:
        return TEMPLATE_FAILED.code
    whole = msgspec.structs.replace(send, message=message)
    rendered = render(gateway, whole, APP, notification_id=7, now=NOW, shape=made._shape)
    return getattr(rendered, "payload", None) or rendered.code


@pytest.mark.parametrize(
    ("gateway", "shape"),
    [(gateway, Shape.OWN) for gateway in GatewayName if gateway is not GatewayName.EMAIL] + list(SHAPES),
    ids=str,
)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "locales": {
                "de": {"body": "{{ user.name }}!"},
                "pt": {"title": "Olá {{ user.name }}"},
                "pt-BR": {"data": None},
            }
        },
        {"user_data": {f"user-{number}": {"item": f'own "{number}"', "n": number} for number in range(1, 100)}},
        {
            "message": Message(
                title="{{ user.name | upcase }}", body="{% if user.points %}{{ user.points }}{% endif %}!"
            )
        },
        {"message": Message(title="{{ user.name }}", body="{{ user_data.n }}")},
        {"badge_from": "user.points", "message": msgspec.structs.replace(BODY, badge_increment=-7)},
        {"badge_from": "user.points", "message": Message(title="plain", badge=3), "liquid": False},
        {"badge_from": COUNTED, "message": msgspec.structs.replace(BODY, badge_increment=-7)},
        {"badge_from": COUNTED, "message": Message(title="plain"), "liquid": False},
        {"badge_from": COUNTED, "message": Message(title="a"), "liquid": False, "locales": {"pt": {"title": "Olá"}}},
        {"badge_from": "n", "content_tags": {"n": 5}, "user_data": {"user-2": {"n": 9}}, "message": Message(title="a")},
        {
            "message": Message(title="{{ user.name }}", body="{{ a"),
            "liquid": False,
            "locales": {"pt": {"title": "Olá"}},
        },
    ],
    ids=[
        *("compiled", "locales", "user_data", "general", "hollow", "badge", "only_badge"),
        *("counted", "only_counted", "counted_locales", "badge_tag", "no_liquid"),
    ],
)
def test_columns_are_what_the_renderer_makes(index, gateway, shape, fields):
    fields = {"message": BODY, **fields}
    made = Personal(notification(**fields), APP, gateway, index, shape)
    ids = np.arange(1, COUNT + 1, dtype=np.uint32)
    column = made.column(ids)
    found = dict(zip(column.ids.tolist(), (rendered.payload for rendered in column.payloads), strict=True))
    found |= {device: code for code, some in column.failed.items() for device in some.tolist()}
    assert found == {device: expected(made, index, device, gateway) for device in ids.tolist()}
    assert len(found) == COUNT == len(column.ids) + sum(map(len, column.failed.values()))
    assert len({rendered.headers for rendered in column.payloads}) == 1 or gateway is GatewayName.SAFARI
    if gateway is GatewayName.APNS:
        assert isinstance(column.payloads, Bodies)


@pytest.mark.parametrize(("gateway", "shape"), SHAPES, ids=str)
def test_shapes_are_cut_and_joined_like_pushds_own(index, gateway, shape):
    made = Personal(notification(BODY), APP, gateway, index, shape)
    made.column(np.arange(1, COUNT + 1, dtype=np.uint32))
    assert made._cut[0] is not None


def test_few_rows_are_rendered_alike(index):
    made = Personal(notification(BODY), APP, GatewayName.APNS, index)
    (one,) = made.column(np.array([5], np.uint32)).payloads
    assert one.payload == expected(made, index, 5, GatewayName.APNS)
    assert not made._cut


def test_rows_that_fail_are_left_out_by_why(index):
    """Too large for a platform, past a limit of templates, or a link that is none: nobody else suffers."""
    own = {
        "user-2": {"text": "x" * 5000},
        "user-3": {"many": list(range(400))},
        "user-4": {"link": "javascript:alert(1)"},
        "user-5": {"link": "https://fine.example/a b"},
    }
    message = Message(
        title="{{ user_data.text }}!",
        body="{% for a in user_data.many %}{% for b in user_data.many %}{{ b }}{% endfor %}{% endfor %}",
        url="{{ user_data.link | default: 'https://x.example/' }}",
    )
    made = Personal(notification(message, user_data=own), APP, GatewayName.APNS, index)
    for count in (20, COUNT):
        column = made.column(np.arange(1, count + 1, dtype=np.uint32))
        assert {code: ids.tolist() for code, ids in column.failed.items()} == {
            PAYLOAD_TOO_LARGE.code: [2],
            TEMPLATE_FAILED.code: [3, 4],
        }
        assert column.ids.tolist() == [1, *range(5, count + 1)]
        assert b"https://fine.example/a%20b" in column.payloads[1].payload


def test_a_batch_is_as_large_as_its_rows_are_quick(index, monkeypatch):
    made = Personal(notification(BODY), APP, GatewayName.APNS, index)
    first = made.rows_max
    assert first == personal.FIRST_ROWS
    moments = iter([0.0, 300 * personal.SLICE_S])
    monkeypatch.setattr(personal.time, "thread_time", lambda: next(moments))
    made.column(np.arange(1, COUNT + 1, dtype=np.uint32))
    assert 1 <= made.rows_max < first


def test_devices_that_nobody_knows_have_empty_values(index):
    made = Personal(notification(BODY), APP, GatewayName.APNS, index)
    column = made.column(np.array([COUNT + 5, 4_000_000_000], np.uint32))
    assert len(column.payloads) == 2
    assert b'"title":"For "' in column.payloads[0].payload


def test_values_that_cannot_be_written_hurt_nobody_else(index):
    deep: list = []
    for _ in range(5_000):
        deep = [deep]
    own = {"user-3": {"item": deep}, "user-4": {"item": 10**5_000}, "user-5": {"item": {"a": 1}}}
    for message in (Message(title="{{ item }}"), Message(title="{{ item | upcase }}")):
        made = Personal(notification(message, user_data=own), APP, GatewayName.APNS, index)
        for count in (20, COUNT):
            column = made.column(np.arange(1, count + 1, dtype=np.uint32))
            assert {code: ids.tolist() for code, ids in column.failed.items()} == {TEMPLATE_FAILED.code: [3, 4]}
            assert len(column.payloads) == count - 2
