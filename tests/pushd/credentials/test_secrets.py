"""Secrets: examined, dumped, loaded, and never shown."""

import io

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console

from pushd.credentials import secrets
from pushd.errors import InvalidRequestError
from pushd.model.credential import ApnsToken, FcmServiceAccount, Secret


def test_what_may_be_shown(secret):
    assert secrets.examine(secret) == {"type": "apns_token", "team_id": "TEAM123456", "key_id": "KEY1234567"}
    topical = ApnsToken(team_id="T", key_id="K", private_key=secret.private_key, topics=["a.b", "c.d"])
    assert secrets.examine(topical)["topics"] == "a.b, c.d"


def test_a_bad_key_points_at_its_field(secret):
    broken = ApnsToken(team_id="T", key_id="K", private_key=secret.private_key[:80])
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(broken, "/secret")
    (fault,) = caught.value.faults
    assert fault.pointer == "/secret/private_key"
    assert secret.private_key[30:60] not in fault.detail + str(caught.value)


def test_round_trip_and_other_bytes(secret):
    assert secrets.load(secrets.dump(secret)) == secret
    for plaintext in (b"", b"{}", b'{"type":"other"}', b"\xff", secrets.dump(secret)[:-1]):
        with pytest.raises(ValueError) as caught:
            secrets.load(plaintext)
        assert "BEGIN" not in str(caught.value)


def test_g09_neither_repr_nor_a_rich_traceback_shows_the_key(secret):
    out = io.StringIO()
    Console(file=out, width=400).print(secret, [secret], {"s": secret})
    shown = repr(secret) + str([secret]) + out.getvalue()
    assert "KEY1234567" in shown
    assert "PRIVATE" not in shown
    assert secret.private_key.splitlines()[1][:16] not in shown


@pytest.fixture(scope="module")
def key_file():
    """A service account's key file, with addresses that nobody may be sent to."""
    key, form = rsa.generate_private_key(65537, 2048), serialization.PrivateFormat.PKCS8
    return {
        "type": "service_account",
        "project_id": "demo-app",
        "private_key_id": "abc123",
        "private_key": key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode(),
        "client_email": "push@demo-app.iam.gserviceaccount.com",
        "client_id": "1",
        "auth_uri": "https://accounts.example/auth",
        "token_uri": "https://169.254.169.254/token",
        "auth_provider_x509_cert_url": "https://certs.example",
        "client_x509_cert_url": "https://certs.example/1",
        "universe_domain": "evil.example",
    }


def test_f02_a_key_file_is_taken_as_google_gives_it_and_its_addresses_are_not_shown(key_file):
    secret = msgspec.convert(key_file, Secret)
    assert isinstance(secret, FcmServiceAccount)
    assert secrets.examine(secret) == {
        "type": "service_account",
        "project_id": "demo-app",
        "client_email": "push@demo-app.iam.gserviceaccount.com",
        "private_key_id": "abc123",
    }
    assert secrets.load(secrets.dump(secret)) == secret
    assert "PRIVATE" not in repr(secret)
    own = msgspec.structs.replace(secret, packages=["com.example.app"])
    assert (own.serves("com.example.app"), own.serves("com.example.other")) == (True, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [("project_id", "../../v2"), ("project_id", "X"), ("private_key", "nonsense"), ("private_key", "-----BEGIN X")],
)
def test_f02_a_key_file_that_cannot_be_used_points_at_its_field(key_file, field, value):
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(msgspec.convert({**key_file, field: value}, FcmServiceAccount), "/secret")
    assert [fault.pointer for fault in caught.value.faults] == [f"/secret/{field}"]


def test_f02_small_keys_are_refused(key_file):
    key, form = rsa.generate_private_key(65537, 1024), serialization.PrivateFormat.PKCS8
    small = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(msgspec.convert({**key_file, "private_key": small}, FcmServiceAccount))
    assert "1024 bits" in caught.value.faults[0].detail
