"""FCM requests: paths, tokens, topics and conditions, reserved keys, bodies around a token, TTLs and sizes."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import fcm
from protocols.errors import LocalProtocolError
from protocols.fcm import Target


@pytest.mark.parametrize("project", ["demo-app", "a12345", "my-project-1234", "example.com:my-project"])
def test_f10_the_path_of_a_project(project):
    assert fcm.path(project) == f"/v1/projects/{project}/messages:send".encode()
    plan = fcm.header_plan(b"fcm.googleapis.com", b"Bearer x", project)
    assert plan.variables == ()


@pytest.mark.parametrize(
    "project",
    ["", "short", "Upper-case", "-leading", "trailing-", "a/../../b", "a b c d e f", "x" * 31, "pro\nject", "a?b=cde"],
)
def test_f02_a_project_id_cannot_change_the_path(project):
    with pytest.raises(ValueError, match="project id"):
        fcm.path(project)


@pytest.mark.parametrize("token", ["d3Fg:APA91b-_x", "x", "a" * 4096, "!#%&/()=?*+~"])
def test_tokens_that_can_be_one(token):
    assert fcm.check_token(token) == token
    assert fcm.valid_tokens(np.array([token.encode()])).tolist() == [True]


@pytest.mark.parametrize("token", ["", "a b", 'a"b', "a\\b", "ä", "a\n", "\x7f", "a" * 4097])
def test_tokens_that_cannot(token):
    with pytest.raises(ValueError) as caught:
        fcm.check_token(token)
    assert not token or token not in str(caught.value)
    if token:
        assert fcm.valid_tokens(np.array([token.encode()])).tolist() == [False]


@given(
    st.lists(st.binary(min_size=1, max_size=12).filter(lambda each: not each.endswith(b"\0")), min_size=1, max_size=30)
)
def test_the_column_check_agrees_with_the_single_one(tokens):
    def good(token):
        try:
            fcm.check_token(token.decode("latin-1"))
        except ValueError:
            return False
        return token.isascii()

    assert fcm.valid_tokens(np.array(tokens)).tolist() == [good(token) for token in tokens]


@pytest.mark.parametrize(
    "condition",
    [
        "'a' in topics",
        "'a' in topics && ('b' in topics || 'c' in topics)",
        "!('a' in topics)",
        "'a' in topics||'b' in topics && !'c' in topics",
        " ( ( 'a-_.~%9' in topics ) ) ",
        "&& ".join(["'t' in topics "] * 5),
    ],
)
def test_f11_conditions(condition):
    assert fcm.check_condition(condition) == condition


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "a in topics",
        "'a' in topic",
        "'a' in topics &&",
        "'a' in topics 'b' in topics",
        "('a' in topics",
        "'a' in topics)",
        "'' in topics",
        "'/topics/a' in topics",
        "'a' in topics & 'b' in topics",
        "&& ".join(["'t' in topics "] * 6),
        "(" * 40 + "'a' in topics" + ")" * 40,
    ],
)
def test_f11_conditions_that_are_none(condition):
    with pytest.raises(ValueError):
        fcm.check_condition(condition)


@pytest.mark.parametrize("topic", ["news", "a-_.~%", "9"])
def test_f11_topics(topic):
    assert fcm.check_topic(topic) == topic


@pytest.mark.parametrize("topic", ["", "/topics/news", "a b", "ä"])
def test_f11_topics_that_are_none(topic):
    with pytest.raises(ValueError):
        fcm.check_topic(topic)


@pytest.mark.parametrize("key", ["", "from", "message_type", "google.x", "googleId", "gcm.notification.x", "gcmx"])
def test_f12_reserved_keys_of_data(key):
    with pytest.raises(ValueError):
        fcm.check_data_key(key)


def test_f12_other_keys_of_data_are_free():
    for key in ("From", "id", "x.google", "message"):
        fcm.check_data_key(key)


MESSAGE = {"android": {"ttl": "60s", "priority": "HIGH"}, "webpush": {"headers": {"TTL": "60"}}, "data": {"k": "v"}}


@pytest.mark.parametrize("message", [{}, MESSAGE])
@pytest.mark.parametrize("dry", [False, True])
def test_f10_the_body_around_a_token(message, dry):
    head, tail = fcm.around_token(orjson.dumps(message), validate_only=dry)
    body = orjson.loads(head + b"TOKEN" + tail)
    assert body == {**({"validate_only": True} if dry else {}), "message": {"token": "TOKEN", **message}}


def test_f11_the_body_of_topics_and_conditions():
    for target in (Target("topic", "news"), Target("condition", "'a' in topics")):
        body = orjson.loads(fcm.request_body(orjson.dumps(MESSAGE), target))
        assert body == {"message": {target.field: target.value, **MESSAGE}}
    empty = orjson.loads(fcm.request_body(b"{}", Target("topic", 'a"b'), validate_only=True))
    assert empty == {"validate_only": True, "message": {"topic": 'a"b'}}


def test_a_message_is_an_object():
    with pytest.raises(LocalProtocolError):
        fcm.around_token(b"[]")


@pytest.mark.parametrize(
    ("seconds", "text"), [(123, "123s"), (0, "0s"), (-4, "0s"), (10**9, "2419200s"), (2_419_200, "2419200s")]
)
def test_f13_durations(seconds, text):
    assert fcm.duration(seconds) == text


def test_f13_ttls_follow_the_clock():
    fresh = orjson.loads(fcm.with_ttl(orjson.dumps(MESSAGE), 7))
    assert fresh == {**MESSAGE, "android": {"ttl": "7s", "priority": "HIGH"}, "webpush": {"headers": {"TTL": "7"}}}
    only = orjson.loads(fcm.with_ttl(b'{"android":{"ttl":"60s"}}', -1))
    assert only == {"android": {"ttl": "0s"}}
    with pytest.raises(LocalProtocolError):
        fcm.with_ttl(b'{"data":{}}', 7)


@given(st.text(max_size=40))
def test_f13_text_that_looks_like_a_ttl_stays(text):
    told = '"webpush":{"headers":{"TTL":"1"}}' + text
    message = {"android": {"ttl": "60s", "tag": told}, "webpush": {"headers": {"TTL": "60"}}, "data": {"k": told}}
    fresh = orjson.loads(fcm.with_ttl(orjson.dumps(message), 7))
    assert fresh == {**message, "android": {"ttl": "7s", "tag": told}, "webpush": {"headers": {"TTL": "7"}}}


def test_f16_sizes_count_keys_and_values_per_platform():
    message = {
        "notification": {"title": "é" * 10},
        "data": {"key": "value"},
        "android": {"notification": {"title": "over", "tag": "t"}},
        "webpush": {"data": {"web": "x"}},
    }
    sizes = fcm.payload_bytes(message)
    assert sizes["android"] == len("title") + len("over") + len("tag") + 1 + len("keyvalue")
    assert sizes["webpush"] == len("title") + 20 + len("webx")
    assert sizes["apns"] == len("title") + 20 + len("keyvalue")
    assert fcm.payload_bytes({"apns": {"payload": {"aps": {}}}})["apns"] == len('{"aps":{}}')
