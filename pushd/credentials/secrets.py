"""What credentials are made of: checked when uploaded, as bytes for the vault, and what may be shown of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from protocols import fcm, jwt
from pushd.errors import Fault, InvalidRequestError
from pushd.model.credential import ApnsToken, FcmServiceAccount, Secret

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Secret)


def examine(secret: Secret, pointer: str = "") -> dict[str, str]:
    """What may be shown of a secret, once it is known to be usable.

    InvalidRequestError points at the field under `pointer`, and never holds key material.
    """
    try:
        return _EXAMINERS[type(secret)](secret)
    except UnusableError as error:
        fault = Fault(f"{pointer}/{error.field}", str(error))
        raise InvalidRequestError("The credential is not usable", faults=[fault]) from None


class UnusableError(ValueError):
    """A secret that cannot be used: which field is at fault, and why, without key material."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def _apns_token(secret: ApnsToken) -> dict[str, str]:
    try:
        jwt.load_p8(secret.private_key)
    except ValueError as error:
        raise UnusableError("private_key", str(error)) from None
    summary = {"type": "apns_token", "team_id": secret.team_id, "key_id": secret.key_id}
    if secret.topics:
        summary["topics"] = ", ".join(secret.topics)
    return summary


def _fcm_service_account(secret: FcmServiceAccount) -> dict[str, str]:
    try:
        fcm.check_project_id(secret.project_id)
    except ValueError as error:
        raise UnusableError("project_id", str(error)) from None
    try:
        jwt.load_rsa(secret.private_key)
    except ValueError as error:
        raise UnusableError("private_key", str(error)) from None
    summary = {"type": "service_account", "project_id": secret.project_id, "client_email": secret.client_email}
    summary["private_key_id"] = secret.private_key_id
    if secret.packages:
        summary["packages"] = ", ".join(secret.packages)
    return summary


_EXAMINERS: dict[type, Callable[[Any], dict[str, str]]] = {
    ApnsToken: _apns_token,
    FcmServiceAccount: _fcm_service_account,
}
"""How each sort of secret is proven without asking its gateway; UnusableError names the field."""


def dump(secret: Secret) -> bytes:
    """The bytes of a secret, to be sealed."""
    return _ENCODER.encode(secret)


def load(plaintext: bytes) -> Secret:
    """The secret that `dump` wrote; ValueError, without its content, for other bytes."""
    try:
        secret: Secret = _DECODER.decode(plaintext)
    except msgspec.MsgspecError:
        raise ValueError("not a secret that this version of pushd knows") from None
    return secret
