"""VAPID against the vector of RFC 8292 and py-vapid."""

import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02

from protocols import jwt, vapid
from protocols.errors import LocalProtocolError

ORIGIN = "https://push.example.net"
VECTOR = (
    b"vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE"
    b"0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpi"
    b"UfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SD"
    b"Yic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
)
KEY = ec.generate_private_key(ec.SECP256R1())


def signed(claims, header=None):
    token = jwt.es256(KEY, header or {"typ": "JWT"}, claims)
    return b"vapid t=" + token + b", k=" + jwt.encode(vapid.public_bytes(KEY.public_key()))


def test_w26_the_vector_of_rfc_8292():
    public = vapid.verify(VECTOR, ORIGIN, 1_453_500_000)
    assert public == vapid.parse(VECTOR)[1]
    with pytest.raises(ValueError, match="audience"):
        vapid.verify(VECTOR, "https://push.example.com", 1_453_500_000)
    with pytest.raises(ValueError, match="expired"):
        vapid.verify(VECTOR, ORIGIN, 1_453_523_769)


def test_w20_w21_py_vapid_takes_what_we_sign():
    value = vapid.authorization(KEY, ORIGIN, "mailto:push@example.com", int(time.time()) + vapid.LIFE_S)
    assert value.startswith(b"vapid t=")
    assert b'"' not in value
    assert b"=" not in value.partition(b"k=")[2]
    assert Vapid02.verify(value.replace(b", k=", b",k=").decode())  # it knows no optional white space
    token, public = vapid.parse(value)
    header, claims = jwt.unverified(token)
    assert header == {"typ": "JWT", "alg": "ES256"}
    assert claims["aud"] == ORIGIN
    assert claims["sub"] == "mailto:push@example.com"
    assert public == vapid.public_bytes(KEY.public_key())
    assert vapid.verify(value, ORIGIN, time.time()) == public


def test_w22_a_token_lives_half_of_what_is_allowed():
    assert vapid.LIFE_S * 2 == vapid.LIFE_MAX_S


def test_w24_each_origin_has_its_own_audience():
    values = [
        vapid.authorization(KEY, origin, "mailto:a@b.c", 2_000_000_000) for origin in (ORIGIN, "https://b.example")
    ]
    assert [jwt.unverified(vapid.parse(value)[0])[1]["aud"] for value in values] == [ORIGIN, "https://b.example"]
    for bad in ("https://B.example", "https://b.example/"):
        with pytest.raises(LocalProtocolError):
            vapid.authorization(KEY, bad, "mailto:a@b.c", 2_000_000_000)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ORIGIN, "exp": "123", "sub": "mailto:a@b.c"},
        {"aud": ORIGIN, "exp": 1_000 + 86_401, "sub": "mailto:a@b.c"},
        {"aud": ORIGIN, "exp": 999, "sub": "mailto:a@b.c"},
        {"aud": ORIGIN, "exp": 2_000, "sub": None},
        {"aud": ORIGIN, "exp": 2_000, "sub": "admin"},
        {"aud": ORIGIN + "/", "exp": 2_000, "sub": "mailto:a@b.c"},
        {"exp": 2_000, "sub": "mailto:a@b.c"},
        {"aud": ORIGIN, "exp": True},
    ],
)
def test_w21_claims_that_do_not_hold(claims):
    with pytest.raises(ValueError):
        vapid.verify(signed(claims), ORIGIN, 1_000)


@pytest.mark.parametrize("value", [b"", b"Bearer x", b"vapid t=a.b.c", b"WebPush a.b.c", b"vapid t=a.b.c, k=AAAA"])
def test_what_is_no_vapid_header(value):
    with pytest.raises(ValueError):
        vapid.verify(value, ORIGIN, 1_000)


def test_another_key_does_not_verify():
    other = jwt.encode(vapid.public_bytes(ec.generate_private_key(ec.SECP256R1()).public_key()))
    value = signed({"aud": ORIGIN, "exp": 2_000})
    with pytest.raises(ValueError, match="signature"):
        vapid.verify(value.partition(b"k=")[0] + b"k=" + other, ORIGIN, 1_000)
    vapid.verify(value, ORIGIN, 1_000)
    key, _, token = value.removeprefix(b"vapid ").partition(b", ")[::-1]
    vapid.verify(b"vapid " + key + b", " + token, ORIGIN, 1_000)


def test_private_keys_come_as_pem_and_as_base64url():
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    text = vapid.private_text(KEY)
    assert len(text) == 43
    for form in (pem, text, text + "=", f" {text}\n", text.replace("-", "+").replace("_", "/")):
        assert vapid.public_text(vapid.load_private(form).public_key()) == vapid.public_text(KEY.public_key())
    for bad in ("", "AAAA", "A" * 43, "ü" * 43, "-----BEGIN PUBLIC KEY-----", "_" * 43):
        with pytest.raises(ValueError) as error:
            vapid.load_private(bad)
        assert not bad or bad not in str(error.value)


@pytest.mark.parametrize("subject", ["mailto:push@example.com", "https://example.com/contact", "https://example.com"])
def test_w21_contacts(subject):
    assert vapid.check_subject(subject) == subject


@pytest.mark.parametrize(
    "subject",
    ["", "push@example.com", "mailto:", "http://example.com", "mailto:root@localhost", "https://", "mailto:ü@e.x"],
)
def test_w21_contacts_that_services_refuse(subject):
    with pytest.raises(ValueError):
        vapid.check_subject(subject)


def test_fingerprints_have_a_fixed_length():
    keys = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(20)]
    prints = {vapid.fingerprint(vapid.public_bytes(key)) for key in keys}
    assert len(prints) == 20
    assert {len(each) for each in prints} == {vapid.FINGERPRINT_CHARS}
