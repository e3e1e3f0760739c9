"""JSON Web Tokens: RFC vectors, an independent verifier, and keys that must be refused without being shown."""

import base64
import traceback
from datetime import UTC, datetime, timedelta

import jwt as pyjwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from protocols import jwt

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
RFC7515_A3_TOKEN = (
    b"eyJhbGciOiJFUzI1NiJ9"
    b".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    b".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)


def number(text: bytes) -> int:
    return int.from_bytes(jwt.decode(text), "big")


def rfc7515_a3_key() -> ec.EllipticCurvePrivateKey:
    public = ec.EllipticCurvePublicNumbers(
        number(b"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
        number(b"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        ec.SECP256R1(),
    )
    return ec.EllipticCurvePrivateNumbers(number(b"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"), public).private_key()


def pem(key, form=serialization.PrivateFormat.PKCS8, encryption=None) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, encryption or serialization.NoEncryption()).decode()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_rfc7515_a3_vector_verifies():
    header, claims = jwt.verify_es256(RFC7515_A3_TOKEN, rfc7515_a3_key().public_key())
    assert header == {"alg": "ES256"}
    assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


def test_rfc7515_a3_vector_fails_with_one_bit_changed():
    head, _, signature = RFC7515_A3_TOKEN.rpartition(b".")
    raw = bytearray(jwt.decode(signature))
    raw[40] ^= 1
    with pytest.raises(ValueError, match="not this key's"):
        jwt.verify_es256(head + b"." + jwt.encode(bytes(raw)), rfc7515_a3_key().public_key())


def test_a11_rfc6979_nonces_give_the_published_signature():
    # RFC 6979 appendix A.2.5, P-256 with SHA-256, message "sample".
    key = ec.derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, ec.SECP256R1())
    assert jwt.raw_signature(key.sign(b"sample", jwt._ES256)).hex() == (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    )


def test_a10_es256_token_verifies_with_pyjwt(key):
    token = jwt.es256(key, {"kid": "ABCDE12345"}, {"iss": "TEAM123456", "iat": 1_700_000_000})
    assert b"=" not in token
    assert pyjwt.get_unverified_header(token) == {"alg": "ES256", "kid": "ABCDE12345"}
    claims = pyjwt.decode(token, key.public_key(), algorithms=["ES256"])
    assert claims == {"iss": "TEAM123456", "iat": 1_700_000_000}
    assert isinstance(claims["iat"], int)
    assert jwt.verify_es256(token, key.public_key())[1] == claims


def test_alg_cannot_be_overridden_by_the_header(key):
    token = jwt.es256(key, {"alg": "none"}, {})
    assert jwt.unverified(token)[0] == {"alg": "ES256"}


def test_pyjwt_token_verifies_here(key):
    token = pyjwt.encode({"iss": "x"}, key, algorithm="ES256").encode()
    assert jwt.verify_es256(token, key.public_key())[1] == {"iss": "x"}


def test_rs256_token_verifies_with_pyjwt():
    key = rsa.generate_private_key(65537, 2048)
    token = jwt.rs256(key, {"kid": "k", "typ": "JWT"}, {"iss": "a@b", "iat": 1_700_000_000})
    claims = pyjwt.decode(token, key.public_key(), algorithms=["RS256"], options={"verify_iat": False})
    assert claims["iss"] == "a@b"


@pytest.mark.parametrize(("r", "s"), [(1, 2), (255, 1 << 248), (1 << 247, 1), (P256_ORDER - 1, P256_ORDER - 1)])
def test_a11_short_halves_are_padded_on_the_left(r, s):
    raw = jwt.raw_signature(encode_dss_signature(r, s))
    assert len(raw) == 64
    assert (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")) == (r, s)


@given(st.integers(1, P256_ORDER - 1), st.integers(1, P256_ORDER - 1))
def test_a11_raw_signature_keeps_both_halves(r, s):
    raw = jwt.raw_signature(encode_dss_signature(r, s))
    assert decode_dss_signature(encode_dss_signature(r, s)) == (
        int.from_bytes(raw[:32], "big"),
        int.from_bytes(raw[32:], "big"),
    )
    assert len(raw) == 64


def test_a11_real_tokens_with_a_zero_first_byte_verify(key):
    short = []
    for iat in range(5000):
        token = jwt.es256(key, {}, {"iat": iat})
        raw = jwt.decode(token.rpartition(b".")[2])
        if raw[0] == 0 or raw[32] == 0:
            short.append(token)
        if len(short) == 3:
            break
    assert short
    for token in short:
        pyjwt.decode(token, key.public_key(), algorithms=["ES256"], options={"verify_iat": False})


@given(st.binary(max_size=200))
def test_base64url_round_trip(data):
    text = jwt.encode(data)
    assert text == base64.urlsafe_b64encode(data).rstrip(b"=")
    assert jwt.decode(text) == data


@given(st.binary(max_size=120))
def test_no_bytes_make_verification_raise_anything_but_value_error(data):
    with pytest.raises(ValueError):
        jwt.verify_es256(data, rfc7515_a3_key().public_key())


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"a.b",
        b"....",
        b"W10.W10.",
        b"e30.e30.AAAA",
        b"e30=.e30.",
        jwt.encode(b'{"alg":"none"}') + b".e30.",
        jwt.encode(b'{"alg":"ES256"}') + b".e30." + jwt.encode(bytes(64)),
        jwt.encode(b'{"alg":"ES256"}') + b".e30." + jwt.encode(bytes(70)),
    ],
)
def test_malformed_tokens_are_refused(token, key):
    with pytest.raises(ValueError):
        jwt.verify_es256(token, key.public_key())


def test_p8_loads_with_any_line_ends_and_a_byte_order_mark(key):
    text = pem(key)
    for variant in (text, text.replace("\n", "\r\n"), "\ufeff" + text, "\n  " + text + "\n\n", text.rstrip()):
        assert jwt.load_p8(variant).private_numbers() == key.private_numbers()


def test_p8_in_the_older_sec1_form_loads_too(key):
    text = pem(key, serialization.PrivateFormat.TraditionalOpenSSL)
    assert jwt.load_p8(text).private_numbers() == key.private_numbers()


def certificate(key) -> str:
    name = x509.Name([])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=3650))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def bad_keys() -> list[tuple[str, str]]:
    key = ec.generate_private_key(ec.SECP256R1())
    text = pem(key)
    lines = text.splitlines()
    secret = serialization.BestAvailableEncryption(b"password")
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return [
        ("", "not PEM"),
        (lines[1], "not PEM"),
        (text.replace("\n", "\\n"), "backslash"),
        (public.decode(), "no private key"),
        (certificate(key), "no private key"),
        (pem(key, encryption=secret), "password"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "secp384r1"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
        (pem(rsa.generate_private_key(65537, 2048)), "not an elliptic curve key"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "not an elliptic curve key"),
        ("\n".join(lines[:-1]), "cut off"),
        ("\n".join([lines[0], lines[1][:20], lines[-1]]), "damaged"),
        ("\n".join([lines[0], "!" + lines[1], *lines[2:]]), "damaged"),
        (text.replace("-----END", "\ud800-----END"), "damaged"),
    ]


@pytest.mark.parametrize(("text", "message"), bad_keys(), ids=[str(case) for case in range(14)])
def test_g09_bad_keys_are_named_without_any_key_material(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        jwt.load_p8(text)
    assert caught.value.__context__ is None
    said = "".join(traceback.format_exception_only(caught.value))
    for line in text.splitlines():
        if line and not line.startswith("-----"):
            assert line[:16] not in said


def test_rsa_keys_are_checked():
    key = rsa.generate_private_key(65537, 2048)
    assert jwt.load_rsa(pem(key)).private_numbers() == key.private_numbers()
    with pytest.raises(ValueError, match="1024 bits"):
        jwt.load_rsa(pem(rsa.generate_private_key(65537, 1024)))
    with pytest.raises(ValueError, match="not an RSA key"):
        jwt.load_rsa(pem(ec.generate_private_key(ec.SECP256R1())))
