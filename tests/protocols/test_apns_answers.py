"""APNs answers: Apple's table, what is unknown, hostile bodies, and the timestamp of a 410."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import apns
from protocols.apns import Verdict

APPLE = {
    (200, ""): Verdict.ACCEPTED,
    (400, "BadCollapseId"): Verdict.MESSAGE_BAD,
    (400, "BadDeviceToken"): Verdict.TOKEN_BAD,
    (400, "BadExpirationDate"): Verdict.MESSAGE_BAD,
    (400, "BadMessageId"): Verdict.MESSAGE_BAD,
    (400, "BadPriority"): Verdict.MESSAGE_BAD,
    (400, "BadTopic"): Verdict.MESSAGE_BAD,
    (400, "DeviceTokenNotForTopic"): Verdict.TOKEN_BAD,
    (400, "DuplicateHeaders"): Verdict.MESSAGE_BAD,
    (400, "IdleTimeout"): Verdict.RETRY_NEW_CONNECTION,
    (400, "InvalidPushType"): Verdict.MESSAGE_BAD,
    (400, "MissingDeviceToken"): Verdict.MESSAGE_BAD,
    (400, "MissingTopic"): Verdict.MESSAGE_BAD,
    (400, "PayloadEmpty"): Verdict.MESSAGE_BAD,
    (400, "TopicDisallowed"): Verdict.TOPIC_BAD,
    (403, "BadCertificate"): Verdict.CREDENTIAL_BAD,
    (403, "BadCertificateEnvironment"): Verdict.CREDENTIAL_BAD,
    (403, "ExpiredProviderToken"): Verdict.JWT_EXPIRED,
    (403, "Forbidden"): Verdict.MESSAGE_BAD,
    (403, "InvalidProviderToken"): Verdict.CREDENTIAL_BAD,
    (403, "MissingProviderToken"): Verdict.CREDENTIAL_BAD,
    (403, "UnrelatedKeyIdInToken"): Verdict.KEY_UNRELATED,
    (403, "BadEnvironmentKeyIdInToken"): Verdict.CREDENTIAL_BAD,
    (403, "BadEnvironmentKeyInToken"): Verdict.CREDENTIAL_BAD,
    (404, "BadPath"): Verdict.MESSAGE_BAD,
    (405, "MethodNotAllowed"): Verdict.MESSAGE_BAD,
    (410, "Unregistered"): Verdict.TOKEN_DEAD,
    (410, "ExpiredToken"): Verdict.TOKEN_DEAD,
    (413, "PayloadTooLarge"): Verdict.MESSAGE_BAD,
    (429, "TooManyProviderTokenUpdates"): Verdict.JWT_UPDATES,
    (429, "TooManyRequests"): Verdict.DEVICE_THROTTLED,
    (500, "InternalServerError"): Verdict.RETRY,
    (503, "ServiceUnavailable"): Verdict.RETRY,
    (503, "Shutdown"): Verdict.RETRY_NEW_CONNECTION,
    (400, "FeatureNotEnabled"): Verdict.TOPIC_BAD,
    (400, "MissingChannelId"): Verdict.MESSAGE_BAD,
    (400, "BadChannelId"): Verdict.TOKEN_BAD,
    (400, "ChannelNotRegistered"): Verdict.TOKEN_DEAD,
    (400, "BadRequestParams"): Verdict.MESSAGE_BAD,
    (400, "BadRequestPayload"): Verdict.MESSAGE_BAD,
    (400, "MissingPushType"): Verdict.MESSAGE_BAD,
    (400, "CannotCreateChannelConfig"): Verdict.MESSAGE_BAD,
    (403, "TopicMismatch"): Verdict.TOPIC_BAD,
    (503, "Service Unavailable"): Verdict.RETRY,
}


@pytest.mark.parametrize(("status", "reason"), APPLE)
def test_every_documented_answer_has_its_verdict(status, reason):
    index = apns.lookup(status, reason)
    row = apns.REASONS[index]
    assert (row.status, row.reason, row.verdict) == (status, reason, APPLE[status, reason])
    assert apns.is_known(index)


def test_the_table_only_grows():
    # Positions are stored with outcomes: this list is the table as first released, and may only get longer.
    first = [*APPLE, (400, ""), (403, ""), (410, ""), (413, ""), (429, ""), (499, ""), (599, ""), (0, "")]
    assert [(row.status, row.reason) for row in apns.REASONS][: len(first)] == first
    assert len({(row.status, row.reason) for row in apns.REASONS}) == len(apns.REASONS) <= 192


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.MESSAGE_BAD),
        (401, Verdict.MESSAGE_BAD),
        (403, Verdict.CREDENTIAL_BAD),
        (404, Verdict.MESSAGE_BAD),
        (410, Verdict.MESSAGE_BAD),
        (413, Verdict.MESSAGE_BAD),
        (418, Verdict.MESSAGE_BAD),
        (429, Verdict.RETRY),
        (500, Verdict.RETRY),
        (502, Verdict.RETRY),
        (503, Verdict.RETRY),
        (520, Verdict.RETRY),
        (204, Verdict.RETRY),
        (307, Verdict.RETRY),
        (99, Verdict.RETRY),
        (0, Verdict.RETRY),
    ],
)
@pytest.mark.parametrize("reason", ["", "SomethingNew", "Unregistered2"])
def test_g08_unknown_reasons_fall_to_their_class(status, reason, verdict):
    index = apns.lookup(status, reason)
    assert apns.REASONS[index].verdict is verdict
    assert not apns.is_known(index)


@given(st.integers(0, 999), st.text(max_size=30) | st.sampled_from([row.reason for row in apns.REASONS]))
def test_g04_only_the_exact_pair_ends_a_token(status, reason):
    verdict = apns.REASONS[apns.lookup(status, reason)].verdict
    if verdict in (Verdict.TOKEN_DEAD, Verdict.TOKEN_BAD):
        assert APPLE[status, reason] is verdict
    assert (verdict is Verdict.ACCEPTED) == (status == 200)


def test_error_body():
    assert apns.parse_error(b'{"reason":"BadDeviceToken"}') == ("BadDeviceToken", None)
    assert apns.parse_error(b'{"reason":"Unregistered","timestamp":1700000000123}') == (
        "Unregistered",
        1_700_000_000_123,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html><body>502 Bad Gateway</body></html>",
        b"null",
        b"[]",
        b'"reason"',
        b"\xff\xfe\x00",
        b'{"reason":null}',
        b'{"reason":7}',
        b'{"reason":["BadTopic"]}',
        b'{"reason":{"reason":"BadTopic"}}',
        b'{"Reason":"BadTopic"}',
        orjson.dumps({"reason": "x" * 65}),
        orjson.dumps({"reason": "a\nb"}),
        b'{"reason":"BadTopic"}' + b" " * 4096,
        b"[" * 4096,
    ],
)
def test_g08_hostile_bodies_say_nothing(body):
    assert apns.parse_error(body) == ("", None)


@given(st.binary(max_size=300))
def test_g08_no_body_raises(body):
    reason, timestamp = apns.parse_error(body)
    assert isinstance(reason, str)
    assert timestamp is None or timestamp > 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(json_values, json_values)
def test_g08_no_json_raises(reason, timestamp):
    try:
        body = orjson.dumps({"reason": reason, "timestamp": timestamp})
    except orjson.JSONEncodeError:
        return
    parsed, at = apns.parse_error(body)
    assert parsed in ("", reason)
    assert at is None or at > 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.5, 1_700_000_000_500),
        (0, None),
        (1e-97, None),
        (-5, None),
        (True, None),
        (None, None),
        ("1700000000123", None),
        ([1], None),
        (1e300, int(1e300)),
    ],
)
def test_a50_x22_timestamps_become_milliseconds(value, expected):
    body = orjson.dumps({"reason": "Unregistered", "timestamp": value})
    assert apns.parse_error(body) == ("Unregistered", expected)


NOW_MS = 1_700_000_100_000


@pytest.mark.parametrize(
    ("registered_ms", "timestamp_ms", "stays"),
    [
        (NOW_MS - 90_000, NOW_MS - 50_000, False),  # registered before
        (NOW_MS - 50_000, NOW_MS - 50_000, True),  # equal
        (NOW_MS - 50_500, NOW_MS - 50_000, True),  # before, within the skew
        (NOW_MS - 51_001, NOW_MS - 50_000, False),  # before, beyond the skew
        (NOW_MS - 40_000, NOW_MS - 50_000, True),  # after
        (NOW_MS - 40_000, None, False),  # timestamp missing: dead as of the answer
        (NOW_MS - 40_000, NOW_MS + 10**9, False),  # in the future: no later than now
        (NOW_MS + 5_000, NOW_MS + 10**9, True),  # … so that a newer registration stays
        (NOW_MS - 40_000, 10**300, False),
    ],
)
def test_a50_x22_a_newer_registration_outlives_the_report(registered_ms, timestamp_ms, stays):
    assert apns.outlives(registered_ms, apns.invalid_since(timestamp_ms, NOW_MS)) is stays
