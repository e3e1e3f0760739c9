"""A clock that tests set, and a key for the whole session."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pushd.model.credential import ApnsToken


class SetClock:
    """Wall and monotonic time apart, as a jump or a suspended machine sets them apart."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.5
        self.ran = 1_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ran

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ran += seconds


def new_secret(key_id: str = "KEY1234567", topics: tuple[str, ...] = ()) -> ApnsToken:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ApnsToken(team_id="TEAM123456", key_id=key_id, private_key=pem.decode(), topics=list(topics))


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="session")
def secret() -> ApnsToken:
    return new_secret()
