"""OAuth 2.0 grants and answers: an independent verifier for our assertion, and hostile answers."""

from urllib.parse import parse_qs

import jwt as pyjwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from protocols import fcm, oauth2

NOW = 1_790_000_000.9


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


def assertion(key, **changed):
    claims = {"key_id": "abc", "issuer": "push@demo-app.iam.example", "audience": fcm.OAUTH_AUDIENCE}
    return oauth2.assertion(key, **{**claims, "scope": fcm.OAUTH_SCOPE, "now": NOW, **changed})


def test_f01_pyjwt_verifies_our_assertion(key):
    options = {"verify_exp": False, "verify_iat": False, "require": ["iss", "aud", "iat", "exp", "scope"]}
    token = assertion(key).decode()
    claims = pyjwt.decode(token, key.public_key(), ["RS256"], audience=fcm.OAUTH_AUDIENCE, options=options)
    assert claims == {
        "iss": "push@demo-app.iam.example",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1_790_000_000,
        "exp": 1_790_003_600,
    }
    assert pyjwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": "abc"}


def test_f01_another_key_does_not_verify_it(key):
    other = rsa.generate_private_key(65537, 2048).public_key()
    with pytest.raises(pyjwt.InvalidSignatureError):
        pyjwt.decode(assertion(key).decode(), other, ["RS256"], audience=fcm.OAUTH_AUDIENCE)


def test_f01_the_form(key):
    form = parse_qs(oauth2.assertion_form(assertion(key)).decode(), strict_parsing=True)
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert form["assertion"] == [assertion(key).decode()]


def test_the_form_of_client_credentials_escapes_its_secret():
    form = oauth2.client_credentials_form("10086", "a&b=c+d/e")
    assert parse_qs(form.decode(), strict_parsing=True) == {
        "grant_type": ["client_credentials"],
        "client_id": ["10086"],
        "client_secret": ["a&b=c+d/e"],
    }


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({"access_token": "ya29.c-b_d", "expires_in": 3599, "token_type": "Bearer"}, 3599),
        ({"access_token": "x", "expires_in": "120"}, 120),
        ({"access_token": "x", "expires_in": 10**9, "token_type": "bearer"}, 86_400),
    ],
)
def test_answers_with_a_token(answer, seconds):
    token = oauth2.parse_answer(200, orjson.dumps(answer))
    assert token == (answer["access_token"], seconds)
    assert answer["access_token"] not in repr(token).replace("AccessToken", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"access_token":"a b","expires_in":10}',
        b'{"access_token":"a\\r\\nx-evil: 1","expires_in":10}',
        b'{"access_token":"","expires_in":10}',
        b'{"access_token":7,"expires_in":10}',
        b'{"access_token":"x"}',
        b'{"access_token":"x","expires_in":0}',
        b'{"access_token":"x","expires_in":-5}',
        b'{"access_token":"x","expires_in":true}',
        b'{"access_token":"x","expires_in":"soon"}',
        b'{"access_token":"x","expires_in":10,"token_type":"mac"}',
        orjson.dumps({"access_token": "x" * 5000, "expires_in": 10}),
        b'{"access_token":"x","expires_in":10}' + b" " * 70_000,
    ],
)
def test_g08_answers_that_are_none_are_no_refusal(body):
    with pytest.raises(oauth2.TokenError) as caught:
        oauth2.parse_answer(200, body)
    assert not caught.value.refused


@pytest.mark.parametrize(
    ("status", "body", "refused", "word"),
    [
        (400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}', True, "invalid_grant"),
        (401, b'{"error":"invalid_client"}', True, "invalid_client"),
        (401, b'{"error":"deleted_client"}', True, "deleted_client"),
        (400, b'{"error":1101,"sub_error":20001}', False, "1101"),
        (400, b"<html>", False, "status 400"),
        (403, b"", False, "status 403"),
        (500, b'{"error":"invalid_grant"}', False, "invalid_grant"),
        (503, b"", False, "status 503"),
        (302, b"", False, "status 302"),
        (400, b'{"error":"drop\\ntable"}', False, "status 400"),
    ],
)
def test_f05_refusals_and_outages_are_told_apart(status, body, refused, word):
    with pytest.raises(oauth2.TokenError) as caught:
        oauth2.parse_answer(status, body)
    assert (caught.value.refused, caught.value.error) == (refused, word)
    assert "Signature" not in str(caught.value)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_g08_any_octets_give_a_token_or_a_token_error(status, body):
    try:
        token = oauth2.parse_answer(status, body)
    except oauth2.TokenError:
        return
    assert token.value
    assert 0 < token.lifetime_s <= 86_400
