"""Web Push requests and answers."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protocols import aes128gcm, jwt, webpush
from protocols import webpush_reasons as reasons
from protocols.http2 import Field, Variable
from protocols.webpush_reasons import Verdict

POINT = aes128gcm.new_pair().public
P256DH = jwt.encode(POINT).decode()
AUTH = jwt.encode(bytes(range(16))).decode()
ENDPOINT = "https://push.example.net/v2/abc?token=d%3d&x=1"


def test_an_address_is_a_line_of_fixed_columns():
    line = webpush.address(ENDPOINT, P256DH, AUTH, "abcdefghijk").encode()
    assert line.count(b".") >= 3
    assert webpush.is_address(line)
    parts = webpush.parse_address(line)
    assert parts == (P256DH.encode(), AUTH.encode(), b"abcdefghijk", ENDPOINT.encode())
    assert webpush.keys(parts.p256dh, parts.auth) == (POINT, bytes(range(16)))
    unknown = webpush.parse_address(webpush.address(ENDPOINT, P256DH, AUTH).encode())
    assert unknown.key == webpush.KEY_UNKNOWN
    assert unknown.endpoint == ENDPOINT.encode()


def test_w06_keys_come_in_any_base64():
    standard = P256DH.replace("-", "+").replace("_", "/")
    plain = webpush.address(ENDPOINT, P256DH, AUTH)
    assert webpush.address(ENDPOINT, standard + "=", AUTH + "==") == plain


@pytest.mark.parametrize(
    ("p256dh", "auth", "says"),
    [
        ("", AUTH, "public key"),
        ("!!", AUTH, "p256dh"),
        (P256DH[:-2], AUTH, "p256dh|public key"),
        (jwt.encode(b"\x04" + bytes(64)).decode(), AUTH, "point"),
        (jwt.encode(b"\x00").decode(), AUTH, "public key"),
        (P256DH, "", "auth"),
        (P256DH, jwt.encode(bytes(15)).decode(), "auth"),
        (P256DH, jwt.encode(bytes(17)).decode(), "auth"),
        (P256DH, "*", "auth"),
    ],
    ids=["none", "not_base64", "short", "not_a_point", "one_byte", "no_auth", "auth_15", "auth_17", "auth_not_base64"],
)
def test_w06_bad_keys_are_refused_and_not_quoted(p256dh, auth, says):
    with pytest.raises(ValueError, match=says) as error:
        webpush.address(ENDPOINT, p256dh, auth)
    assert not p256dh or p256dh not in str(error.value)


@pytest.mark.parametrize("endpoint", ["", "http://a.example/", "https://a.example/ b", "https://a\\b/", "https://ü/"])
def test_endpoints_that_are_no_address(endpoint):
    with pytest.raises(ValueError):
        webpush.address(endpoint, P256DH, AUTH)


@given(st.binary(max_size=300))
def test_no_octets_that_could_break_a_request_are_an_address(octets):
    if webpush.is_address(octets):
        assert octets.isascii()
        assert not set(octets) & set(b" \r\n\\\x00")


def test_w31_w32_ttl():
    assert webpush.ttl(60, b"push.example") == 60
    assert webpush.ttl(10**9, b"push.example") == 2_419_200
    assert webpush.ttl(-5, b"push.example") == 0
    assert webpush.ttl(0, b"web.push.apple.com") == 1
    assert webpush.extra_fields(b"am3p.notify.windows.com", 0) == ((b"x-wns-cache-policy", b"no-cache"),)
    assert webpush.extra_fields(b"am3p.notify.windows.com", 60) == ()
    assert webpush.extra_fields(b"notify.windows.com.example", 0) == ()


def test_w33_topics():
    assert webpush.topic("pushd-12") == "pushd-12"
    for long in ("x" * 33, "a b", "ü", "a/b"):
        topic = webpush.topic(long)
        assert len(topic) == 32
        assert set(topic) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        assert topic == webpush.topic(long)
    assert webpush.topic("a b") != webpush.topic("a c")


def test_w30_w07_what_a_request_has():
    plan = webpush.header_plan(
        b"push.example", b"vapid t=1, k=2", ((b"urgency", b"high"),), has_topic=True, has_body=True
    )
    names = [field.name for field in plan.fields]
    assert names[:4] == [b":method", b":scheme", b":path", b":authority"]
    assert [v.name for v in plan.variables] == [b":path", b"ttl", b"content-length", b"topic"]
    assert Field(b"content-encoding", b"aes128gcm") in plan.fields
    assert not {b"encryption", b"crypto-key"} & set(names)
    empty = webpush.header_plan(b"push.example", b"vapid t=1, k=2", (), has_topic=False, has_body=False)
    assert b"content-encoding" not in [field.name for field in empty.fields]
    assert [v.name for v in empty.variables] == [b":path", b"ttl", b"content-length"]
    assert all(isinstance(field, Field | Variable) for field in empty.fields)


@pytest.mark.parametrize(
    ("status", "body", "headers", "verdict"),
    [
        (201, b"", (), Verdict.ACCEPTED),
        (200, b"", (), Verdict.ACCEPTED),
        (202, b"", (), Verdict.ACCEPTED),
        (204, b"", (), Verdict.ACCEPTED),
        (201, b"", ((b"X-WNS-NotificationStatus", b"received"),), Verdict.ACCEPTED),
        (201, b"", ((b"x-wns-notificationstatus", b"dropped"),), Verdict.MESSAGE_BAD),
        (200, b"", ((b"x-wns-status", b"channelthrottled"),), Verdict.THROTTLED),
        (400, b'{"reason":"BadTtl"}', (), Verdict.MESSAGE_BAD),
        (400, b"<html>UnauthorizedRegistration</html>", (), Verdict.KEY_REFUSED),
        (400, b"<html>", (), Verdict.MESSAGE_BAD),
        (401, b"", (), Verdict.TOKEN_REFUSED),
        (401, b'{"code":401,"errno":109,"error":"Unauthorized"}', (), Verdict.KEY_REFUSED),
        (403, b"the key does not match", (), Verdict.KEY_REFUSED),
        (403, b'{"reason":"VapidPkHashMismatch"}', (), Verdict.KEY_REFUSED),
        (403, b'{"reason":"BadJwtToken"}', (), Verdict.TOKEN_REFUSED),
        (404, b'{"errno":102}', (), Verdict.SUBSCRIPTION_DEAD),
        (404, b"<html>nginx</html>", (), Verdict.SUBSCRIPTION_DEAD),
        (405, b"", (), Verdict.MESSAGE_BAD),
        (406, b"", (), Verdict.THROTTLED),
        (410, b'{"errno":106}', (), Verdict.SUBSCRIPTION_DEAD),
        (410, b"", (), Verdict.SUBSCRIPTION_DEAD),
        (413, b'{"errno":104}', (), Verdict.MESSAGE_BAD),
        (418, b"", (), Verdict.MESSAGE_BAD),
        (429, b"", (), Verdict.THROTTLED),
        (500, b"", (), Verdict.RETRY),
        (502, b'{"errno":900}', (), Verdict.RETRY),
        (503, b'{"errno":201}', (), Verdict.RETRY),
        (522, b"", (), Verdict.RETRY),
        (307, b"", ((b"location", b"http://169.254.169.254/"),), Verdict.MESSAGE_BAD),
        (206, b"", (), Verdict.RETRY),
        (100, b"", (), Verdict.RETRY),
    ],
)
def test_w30_answers(status, body, headers, verdict):
    index = reasons.lookup(status, reasons.parse_error(body, headers))
    assert reasons.REASONS[index].verdict is verdict


def test_only_404_and_410_end_a_subscription():
    dead = {row.status for row in reasons.REASONS if row.verdict is Verdict.SUBSCRIPTION_DEAD}
    assert dead == {404, 410}


def test_the_table_begins_as_it_is_stored():
    assert [(row.status, row.reason) for row in reasons.REASONS[:4]] == [
        (201, ""),
        (201, "wns_dropped"),
        (201, "wns_channelthrottled"),
        (400, ""),
    ]
    assert len({(row.status, row.reason) for row in reasons.REASONS}) == len(reasons.REASONS)


@given(st.binary(max_size=200))
def test_g08_hostile_bodies_are_read_without_fault(body):
    assert isinstance(reasons.parse_error(body, ((b"x-wns-status", body),)), str)


@pytest.mark.parametrize(
    "body", [b'{"reason":1}', b"[]", b'{"errno":true}', b'{"errno":-1}', b"{}" + b" " * 5000, b"null"]
)
def test_g08_bodies_without_sense(body):
    assert reasons.parse_error(body) == ""


def test_is_known_tells_classes_from_lines():
    assert reasons.is_known(reasons.lookup(410, "errno_106"))
    assert not reasons.is_known(reasons.lookup(418, ""))
    assert not reasons.is_known(reasons.lookup(599, ""))


def test_decoded_keys_encrypt():
    key = ec.generate_private_key(ec.SECP256R1())
    public = aes128gcm.pair_of(key).public
    line = webpush.address(ENDPOINT, jwt.encode(public).decode(), AUTH).encode()
    point, auth = webpush.keys(*webpush.parse_address(line)[:2])
    body = aes128gcm.encrypt(b"x", point, auth, aes128gcm.new_pair(), os.urandom(16))
    assert aes128gcm.decrypt(body, key, auth) == b"x"
