"""HMS on paper: bodies joined around tokens, and answers of every shape."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import hms, hms_reasons
from protocols.hms_reasons import REASONS, Verdict, parse_answer


def said(code="80000000", msg="Success", **more):
    return orjson.dumps({"code": code, "msg": msg, "requestId": "157440955549500001002006", **more})


def test_h04_tokens_are_joined_into_a_body_that_is_json():
    framed = hms.frame(orjson.dumps({"data": '{"a":1}', "android": {"ttl": "1s"}}))
    tokens = [b"IQAAAA:%d_-" % number for number in range(1_000)]
    body = orjson.loads(hms.body(framed, tokens))
    assert body == {
        "validate_only": False,
        "message": {"data": '{"a":1}', "android": {"ttl": "1s"}, "token": [token.decode() for token in tokens]},
    }
    assert len(framed) - len(orjson.dumps({"data": '{"a":1}', "android": {"ttl": "1s"}})) == hms.FRAME_BYTES
    for count in (0, 1_001):
        with pytest.raises(AssertionError):
            hms.body(framed, tokens[:1] * count)
    assert orjson.loads(hms.body(hms.probe_frame(), tokens[:1]))["validate_only"] is True


@given(st.text(max_size=20))
def test_h04_what_would_need_escaping_is_no_token(text):
    try:
        hms.check_token(text)
    except ValueError:
        assert not hms.is_token(text.encode("utf-8", "surrogatepass"))
    else:
        assert orjson.loads(b'"' + text.encode() + b'"') == text
        assert hms.is_token(text.encode())


def test_h03_paths_hold_numbers_only():
    assert hms.send_path("100") == "/v1/100/messages:send"
    assert hms.send_path("100", "7") == "/v2/7/messages:send"
    for bad in ("", "1/2", "x", "1?", "1" * 21):
        with pytest.raises(ValueError):
            hms.send_path(bad)


@pytest.mark.parametrize("row", [row for row in REASONS if row.code and row.verdict is not Verdict.PARTIAL])
def test_h06_every_code_of_the_table(row):
    answer = parse_answer(200 if row.verdict is Verdict.ACCEPTED else 400, said(row.code))
    assert (REASONS[answer.line], answer.known, answer.illegal) == (row, True, None)
    assert answer.request_id == "157440955549500001002006"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.RETRY),
        (302, Verdict.RETRY),
        (400, Verdict.MESSAGE_BAD),
        (401, Verdict.LOGIN_STALE),
        (404, Verdict.CREDENTIAL_BAD),
        (418, Verdict.MESSAGE_BAD),
        (500, Verdict.RETRY),
        (502, Verdict.RETRY),
        (503, Verdict.THROTTLED),
        (504, Verdict.RETRY),
        (1, Verdict.RETRY),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code":null}', b'{"code":"99999999"}', b'{"code":true}'])
def test_h06_without_a_known_code_the_status_speaks(status, verdict, body):
    answer = parse_answer(status, body)
    assert (answer.verdict, answer.known, answer.illegal) == (verdict, False, None)


def test_h06_a_200_is_not_success():
    assert parse_answer(200, said("80300007")).verdict is Verdict.TOKENS_BAD
    assert parse_answer(200, b"").verdict is Verdict.RETRY
    assert parse_answer(503, said("80000000")).verdict is Verdict.THROTTLED


def test_h06_a_partial_success_is_parsed_twice():
    msg = orjson.dumps({"success": 3, "failure": 2, "illegal_tokens": ["a/b", "c"]}).decode().replace("/", "\\/")
    answer = parse_answer(200, said("80100000", msg))
    assert (answer.verdict, answer.illegal) == (Verdict.PARTIAL, {b"a/b", b"c"})


@pytest.mark.parametrize(
    "msg",
    [
        "",
        "{",
        "[]",
        '{"illegal_tokens":"a"}',
        '{"illegal_tokens":[1]}',
        '{"success":1,"failure":5,"illegal_tokens":["a"]}',
        {"illegal_tokens": ["a"]},
        None,
        7,
    ],
)
def test_x30_a_partial_success_that_cannot_be_read_ends_no_token(msg):
    answer = parse_answer(200, said("80100000", msg))
    assert (answer.line, answer.known, answer.illegal) == (hms_reasons.PARTIAL_UNREADABLE, False, None)
    assert answer.verdict is Verdict.ACCEPTED


def test_x30_a_code_as_a_number_ends_no_token():
    assert parse_answer(200, said(80000000)).verdict is Verdict.ACCEPTED
    for code in (80300007, 80100000):
        answer = parse_answer(200, said(code, '{"failure":1,"illegal_tokens":["a"]}'))
        assert (answer.verdict, answer.known) == (Verdict.RETRY, False)


@given(st.integers(0, 999), st.binary(max_size=60))
def test_g08_any_answer_is_classified(status, body):
    assert parse_answer(status, body).verdict not in {Verdict.PARTIAL, Verdict.TOKENS_BAD, Verdict.TOKEN_BAD}


def test_g08_a_body_without_end_is_not_read():
    huge = said("80100000", "x" * hms_reasons.BODY_BYTES_MAX)
    assert parse_answer(200, huge).verdict is Verdict.RETRY
