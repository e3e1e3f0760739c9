"""FCM answers: Google's table, what is unknown, hostile bodies, and what may end a token."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import fcm
from protocols.fcm import ErrorBody, Limit, Verdict

TYPE = "type.googleapis.com/"


def error(status, message="", code=None, violations=None, apns=None, quota=None, delay=None):
    details = []
    if code is not None:
        details.append({"@type": TYPE + "google.firebase.fcm.v1.FcmError", "errorCode": code})
    if violations is not None:
        fields = [{"field": field, "description": "no"} for field in violations]
        details.append({"@type": TYPE + "google.rpc.BadRequest", "fieldViolations": fields})
    if apns is not None:
        details.append({"@type": TYPE + "google.firebase.fcm.v1.ApnsError", "statusCode": apns[0], "reason": apns[1]})
    if quota is not None:
        violation = {"subject": quota, "description": "rate exceeded"}
        details.append({"@type": TYPE + "google.rpc.QuotaFailure", "violations": [violation]})
    if delay is not None:
        details.append({"@type": TYPE + "google.rpc.RetryInfo", "retryDelay": delay})
    return orjson.dumps({"error": {"code": 400, "message": message, "status": status, "details": details}})


def look(status, body):
    return fcm.REASONS[fcm.lookup(status, fcm.parse_error(body))]


BAD_TOKEN = "The registration token is not a valid FCM registration token"


@pytest.mark.parametrize(
    ("status", "body", "reason", "verdict"),
    [
        (400, error("INVALID_ARGUMENT", BAD_TOKEN, "INVALID_ARGUMENT"), "INVALID_TOKEN", Verdict.TOKEN_DOUBTED),
        (
            400,
            error("INVALID_ARGUMENT", "x", "INVALID_ARGUMENT", ["message.token"]),
            "INVALID_TOKEN",
            Verdict.TOKEN_DOUBTED,
        ),
        (
            400,
            error("INVALID_ARGUMENT", "Message too big", "INVALID_ARGUMENT"),
            "INVALID_ARGUMENT",
            Verdict.MESSAGE_BAD,
        ),
        (400, error("INVALID_ARGUMENT", BAD_TOKEN, None), "INVALID_ARGUMENT", Verdict.MESSAGE_BAD),
        (400, error("INVALID_ARGUMENT", BAD_TOKEN, None, ["message.token"]), "INVALID_ARGUMENT", Verdict.MESSAGE_BAD),
        (
            400,
            error("INVALID_ARGUMENT", BAD_TOKEN, "INVALID_ARGUMENT", ["message.data[0].value"]),
            "INVALID_ARGUMENT",
            Verdict.MESSAGE_BAD,
        ),
        (
            400,
            error("INVALID_ARGUMENT", "x", "INVALID_ARGUMENT", apns=(400, "BadDeviceToken")),
            "APNS_REFUSED",
            Verdict.MESSAGE_BAD,
        ),
        (401, error("UNAUTHENTICATED", "x", "THIRD_PARTY_AUTH_ERROR"), "THIRD_PARTY_AUTH_ERROR", Verdict.HELD),
        (401, error("UNAUTHENTICATED", "x", "APNS_AUTH_ERROR"), "THIRD_PARTY_AUTH_ERROR", Verdict.HELD),
        (401, error("UNAUTHENTICATED", "x"), "UNAUTHENTICATED", Verdict.LOGIN_STALE),
        (403, error("PERMISSION_DENIED", "x", "SENDER_ID_MISMATCH"), "SENDER_ID_MISMATCH", Verdict.TOKEN_BAD),
        (403, error("PERMISSION_DENIED", "x"), "PERMISSION_DENIED", Verdict.CREDENTIAL_BAD),
        (404, error("NOT_FOUND", "x", "UNREGISTERED"), "UNREGISTERED", Verdict.TOKEN_DEAD),
        (400, error("NOT_FOUND", "x", "UNREGISTERED"), "UNREGISTERED", Verdict.TOKEN_DEAD),
        (404, error("NOT_FOUND", "x"), "NOT_FOUND", Verdict.CREDENTIAL_BAD),
        (429, error("RESOURCE_EXHAUSTED", "x", "QUOTA_EXCEEDED"), "QUOTA_EXCEEDED", Verdict.PROJECT_THROTTLED),
        (429, error("RESOURCE_EXHAUSTED", "x"), "QUOTA_EXCEEDED", Verdict.PROJECT_THROTTLED),
        (
            429,
            error("RESOURCE_EXHAUSTED", "x", "QUOTA_EXCEEDED", quota="device:abc"),
            "DEVICE_QUOTA_EXCEEDED",
            Verdict.DEVICE_THROTTLED,
        ),
        (
            429,
            error("RESOURCE_EXHAUSTED", "x", "QUOTA_EXCEEDED", quota="Topic news"),
            "TOPIC_QUOTA_EXCEEDED",
            Verdict.DEVICE_THROTTLED,
        ),
        (500, error("INTERNAL", "x", "INTERNAL"), "INTERNAL", Verdict.RETRY),
        (503, error("UNAVAILABLE", "x", "UNAVAILABLE"), "UNAVAILABLE", Verdict.RETRY_SLOWLY),
    ],
)
def test_f_table_by_error_code_then_status(status, body, reason, verdict):
    row = look(status, body)
    assert (row.reason, row.verdict) == (reason, verdict)


def test_the_table_only_grows():
    # Positions are stored with outcomes: this list is the table as first released, and may only get longer.
    first = [
        (200, ""), (400, "INVALID_ARGUMENT"), (400, "INVALID_TOKEN"), (400, "APNS_REFUSED"),
        (401, "THIRD_PARTY_AUTH_ERROR"), (401, "UNAUTHENTICATED"), (403, "SENDER_ID_MISMATCH"),
        (403, "PERMISSION_DENIED"), (404, "UNREGISTERED"), (404, "NOT_FOUND"), (429, "QUOTA_EXCEEDED"),
        (429, "DEVICE_QUOTA_EXCEEDED"), (429, "TOPIC_QUOTA_EXCEEDED"), (500, "INTERNAL"), (503, "UNAVAILABLE"),
        (400, ""), (401, ""), (403, ""), (404, ""), (429, ""), (499, ""), (503, ""), (599, ""), (0, ""),
        (400, "INVALID_TOKEN_CONFIRMED"), (401, "UNAUTHENTICATED_AGAIN"),
    ]  # fmt: skip
    assert [(row.status, row.reason) for row in fcm.REASONS][: len(first)] == first
    assert len({(row.status, row.reason) for row in fcm.REASONS}) == len(fcm.REASONS) <= 136


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.MESSAGE_BAD),
        (401, Verdict.LOGIN_STALE),
        (403, Verdict.CREDENTIAL_BAD),
        (404, Verdict.CREDENTIAL_BAD),
        (410, Verdict.MESSAGE_BAD),
        (413, Verdict.MESSAGE_BAD),
        (429, Verdict.PROJECT_THROTTLED),
        (500, Verdict.RETRY),
        (502, Verdict.RETRY),
        (503, Verdict.RETRY_SLOWLY),
        (204, Verdict.RETRY),
        (302, Verdict.RETRY),
        (0, Verdict.RETRY),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>404</html>", error("NEW_STATUS", "x", "NEW_CODE"), error("UNKNOWN", "x", "UNSPECIFIED_ERROR")]
)
def test_g08_unknown_answers_fall_to_their_class(status, verdict, body):
    assert look(status, body).verdict is verdict
    assert not fcm.is_known(fcm.lookup(status, fcm.parse_error(body)))


def test_x23_a_404_without_fcm_error_ends_no_token():
    for body in (b"", b"<html>", error("NOT_FOUND"), b'{"error":"UNREGISTERED"}', b'{"errorCode":"UNREGISTERED"}'):
        assert look(404, body).verdict is Verdict.CREDENTIAL_BAD


@pytest.mark.parametrize("status", [200, 500, 503, 302])
def test_g04_only_refusals_end_tokens(status):
    verdict = look(status, error("NOT_FOUND", "x", "UNREGISTERED")).verdict
    assert verdict not in (Verdict.TOKEN_DEAD, Verdict.TOKEN_BAD, Verdict.TOKEN_DOUBTED)


@given(
    st.integers(0, 999),
    st.sampled_from(["", "UNREGISTERED", "SENDER_ID_MISMATCH", "INVALID_ARGUMENT", "INTERNAL"]) | st.text(max_size=9),
    st.text(max_size=9) | st.sampled_from(["NOT_FOUND", "UNREGISTERED"]),
    st.booleans(),
)
def test_g04_only_exact_codes_end_a_token(status, code, name, blames):
    verdict = fcm.REASONS[fcm.lookup(status, ErrorBody(code, name, blames))].verdict
    if verdict is Verdict.TOKEN_DEAD:
        assert code == "UNREGISTERED"
    if verdict is Verdict.TOKEN_BAD:
        assert code == "SENDER_ID_MISMATCH"
    if verdict is Verdict.TOKEN_DOUBTED:
        assert code == "INVALID_ARGUMENT"
        assert blames
    assert (verdict is Verdict.ACCEPTED) == (status == 200)


def test_details_are_read():
    body = error("RESOURCE_EXHAUSTED", "x", "QUOTA_EXCEEDED", quota="project:1", delay="12.5s")
    found = fcm.parse_error(body)
    assert (found.limit, found.retry_delay_s) == (Limit.PROJECT, 12.5)
    assert fcm.parse_error(error("INVALID_ARGUMENT", "x", None, ["message.android.ttl"])).field == "message.android.ttl"
    listed = b"[" + error("NOT_FOUND", "x", "UNREGISTERED") + b"]"
    assert fcm.parse_error(listed).code == "UNREGISTERED"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"error"',
        b"\xff\xfe\x00",
        b'{"error":null}',
        b'{"error":[1]}',
        b'{"error":{"status":7,"details":{"errorCode":"UNREGISTERED"}}}',
        b'{"error":{"details":["UNREGISTERED",null,7]}}',
        b'{"error":{"details":[{"@type":7,"errorCode":"UNREGISTERED"}]}}',
        b'{"error":{"details":[{"errorCode":"UNREGISTERED"}]}}',
        b'{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","errorCode":"UNREGISTERED"}]}}',
        b'{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[7,{"field":7}]}]}}',
        orjson.dumps({"error": {"status": "X" * 100}}),
        error("NOT_FOUND", "x" * 20_000, "UNREGISTERED"),
        b"[" * 4096,
    ],
)
def test_g08_hostile_bodies_say_nothing(body):
    found = fcm.parse_error(body)
    assert (found.code, found.status, found.blames_token, found.field) == ("", "", False, "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "details", "@type", "errorCode", "violations", "fieldViolations", "message"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(json_values, st.integers(200, 599))
def test_g08_no_json_raises(value, status):
    try:
        body = orjson.dumps({"error": {"details": [value], "message": value, "status": value}})
    except orjson.JSONEncodeError:
        return
    assert 0 <= fcm.lookup(status, fcm.parse_error(body)) < len(fcm.REASONS)


@given(st.binary(max_size=300))
def test_g08_no_body_raises(body):
    assert isinstance(fcm.parse_error(body), ErrorBody)
