"""aes128gcm against the vectors of its RFCs and two implementations that nobody here wrote."""

import json
import os
import subprocess

import http_ece
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from pywebpush import WebPusher

from protocols import aes128gcm, jwt
from protocols.errors import LocalProtocolError
from tests.npm import modules

PLAINTEXT = b"When I grow up, I want to be a watermelon"
AS_PRIVATE = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
AS_PUBLIC = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
UA_PRIVATE = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
UA_PUBLIC = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_y"
    "l95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def octets(text):
    return jwt.decode(text.encode())


def private(text):
    return ec.derive_private_key(int.from_bytes(octets(text), "big"), ec.SECP256R1())


class Browser:
    """A subscription with its private half."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.public = aes128gcm.pair_of(self.key).public
        self.auth = os.urandom(16)

    def encrypt(self, text, padding=0):
        return aes128gcm.encrypt(text, self.public, self.auth, aes128gcm.new_pair(), os.urandom(16), padding)

    @property
    def subscription(self):
        keys = {"p256dh": jwt.encode(self.public).decode(), "auth": jwt.encode(self.auth).decode()}
        return {"endpoint": "https://push.example.net/x", "keys": keys}


def test_w01_the_vector_of_rfc_8291():
    pair = aes128gcm.pair_of(private(AS_PRIVATE))
    assert pair.public == octets(AS_PUBLIC)
    body = aes128gcm.encrypt(PLAINTEXT, octets(UA_PUBLIC), octets(AUTH), pair, octets(SALT))
    assert body == octets(BODY)
    assert len(body) == 144
    assert aes128gcm.decrypt(body, private(UA_PRIVATE), octets(AUTH)) == PLAINTEXT


@pytest.mark.parametrize(
    ("ikm", "key_id", "body"),
    [
        (
            "yqdlZ-tYemfogSmv7Ws5PQ",
            b"",
            "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg",
        ),
        (
            "BO3ZVPxUlnLORbVGMpbT1Q",
            b"a1",
            "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA",
        ),
    ],
)
def test_w02_the_vectors_of_rfc_8188(ikm, key_id, body):
    asked = []

    def keying(name):
        asked.append(name)
        return octets(ikm)

    assert aes128gcm.unseal(octets(body), keying) == b"I am the walrus"
    assert asked == [key_id]


def test_w03_layout_of_a_body():
    browser, pair, salt = Browser(), aes128gcm.new_pair(), os.urandom(16)
    body = aes128gcm.encrypt(b"text", browser.public, browser.auth, pair, salt, 7)
    assert body[:16] == salt
    assert int.from_bytes(body[16:20], "big") == 4096 > 4 + 1 + 7 + 16
    assert body[20] == 65
    assert body[21:86] == pair.public
    assert len(body) == 86 + 4 + 1 + 7 + 16
    with pytest.raises(ValueError, match="one record"):
        aes128gcm.decrypt(body[:16] + (20).to_bytes(4, "big") + body[20:], browser.key, browser.auth)


def test_w04_the_largest_text_makes_4096_octets_and_no_larger_one_is_made():
    browser = Browser()
    assert aes128gcm.PLAINTEXT_BYTES_MAX == 3993
    assert len(browser.encrypt(bytes(3993))) == 4096
    assert len(browser.encrypt(bytes(3000), 993)) == 4096
    for length, padding in ((3994, 0), (3000, 994)):
        with pytest.raises(LocalProtocolError):
            browser.encrypt(bytes(length), padding)


@pytest.mark.parametrize(
    ("length", "block", "padding"),
    [(10, 0, 0), (10, 128, 118), (128, 128, 0), (0, 128, 128), (3990, 128, 3), (3993, 128, 0), (200, 3993, 3793)],
)
def test_w05_padding(length, block, padding):
    assert aes128gcm.padding_for(length, block) == padding
    browser = Browser()
    body = browser.encrypt(b"x" * length, padding)
    assert len(body) == 103 + length + padding
    assert aes128gcm.decrypt(body, browser.key, browser.auth) == b"x" * length


@pytest.mark.parametrize(
    "point",
    [
        b"",
        bytes(65),
        b"\x04" + bytes(64),
        b"\x04" + b"\xff" * 64,
        b"\x05" + octets(UA_PUBLIC)[1:],
        octets(UA_PUBLIC)[:-1],
        octets(UA_PUBLIC) + b"\x00",
        octets(UA_PUBLIC)[:-1] + b"\x0f",
        b"\x00",
        b"\x02" + octets(UA_PUBLIC)[1:33],
    ],
)
def test_w06_points_off_the_curve_are_refused(point):
    with pytest.raises(ValueError, match="point"):
        aes128gcm.encrypt(b"x", point, bytes(16), aes128gcm.new_pair(), bytes(16))
    with pytest.raises(LocalProtocolError):
        aes128gcm.encrypt(b"x", octets(UA_PUBLIC), bytes(15), aes128gcm.new_pair(), bytes(16))


def test_a_forged_body_does_not_open():
    browser = Browser()
    body = browser.encrypt(b"text")
    for at in (0, 30, 90, len(body) - 1):
        forged = body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :]
        with pytest.raises(ValueError):
            aes128gcm.decrypt(forged, browser.key, browser.auth)
    for length in (0, 20, 85, 90, len(body) - 1):
        with pytest.raises(ValueError):
            aes128gcm.decrypt(body[:length], browser.key, browser.auth)
    with pytest.raises(ValueError):
        aes128gcm.decrypt(body, browser.key, bytes(16))


@given(text=st.binary(max_size=3993), block=st.sampled_from([0, 128, 1024, 3993]))
def test_http_ece_of_python_reads_what_we_write(text, block):
    browser = Browser()
    body = browser.encrypt(text, aes128gcm.padding_for(len(text), block))
    assert http_ece.decrypt(body, private_key=browser.key, auth_secret=browser.auth, version="aes128gcm") == text


@given(text=st.binary(min_size=1, max_size=3900))
def test_we_read_what_pywebpush_writes(text):
    browser = Browser()
    body = WebPusher(browser.subscription).encode(text, content_encoding="aes128gcm")["body"]
    assert aes128gcm.decrypt(body, browser.key, browser.auth) == text


def test_http_ece_of_npm_reads_what_we_write():
    browser = Browser()
    texts = ["watermelon", "", "ü" * 1000, "x" * 3993]
    raw = browser.key.private_numbers().private_value.to_bytes(32, "big")
    job = {
        "private": raw.hex(),
        "auth": jwt.encode(browser.auth).decode(),
        "bodies": [browser.encrypt(text.encode(), 17 if len(text) < 100 else 0).hex() for text in texts],
    }
    script = """
        const ece = require('http_ece'), crypto = require('crypto')
        const job = JSON.parse(require('fs').readFileSync(0))
        const key = crypto.createECDH('prime256v1')
        key.setPrivateKey(job.private, 'hex')
        console.log(JSON.stringify(job.bodies.map(body => ece.decrypt(
            Buffer.from(body, 'hex'), { version: 'aes128gcm', privateKey: key, authSecret: job.auth }).toString())))
    """
    home = modules("http_ece@1.2.1")
    done = subprocess.run(
        ["node", "-e", script], cwd=home, input=json.dumps(job), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == texts


def test_pairs_are_fresh():
    pairs = {aes128gcm.new_pair().public for _ in range(50)}
    assert len(pairs) == 50
    pem = aes128gcm.new_pair().private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert b"PRIVATE KEY" in pem
