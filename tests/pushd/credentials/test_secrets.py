"""Secrets: examined, dumped, loaded, and never shown."""

import io

import pytest
from rich.console import Console

from pushd.credentials import secrets
from pushd.errors import InvalidRequestError
from pushd.model.credential import ApnsToken


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
