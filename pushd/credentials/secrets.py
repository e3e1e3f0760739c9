"""What credentials are made of: checked when uploaded, as bytes for the vault, and what may be shown of them."""

from __future__ import annotations

import msgspec

from protocols import jwt
from pushd.errors import Fault, InvalidRequestError
from pushd.model.credential import Secret

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Secret)


def examine(secret: Secret, pointer: str = "") -> dict[str, str]:
    """What may be shown of a secret, once it is known to be usable.

    InvalidRequestError points at the field under `pointer`, and never holds key material.
    """
    try:
        jwt.load_p8(secret.private_key)
    except ValueError as error:
        fault = Fault(f"{pointer}/private_key", str(error))
        raise InvalidRequestError("The credential is not usable", faults=[fault]) from None
    summary = {"type": "apns_token", "team_id": secret.team_id, "key_id": secret.key_id}
    if secret.topics:
        summary["topics"] = ", ".join(secret.topics)
    return summary


def dump(secret: Secret) -> bytes:
    """The bytes of a secret, to be sealed."""
    return _ENCODER.encode(secret)


def load(plaintext: bytes) -> Secret:
    """The secret that `dump` wrote; ValueError, without its content, for other bytes."""
    try:
        return _DECODER.decode(plaintext)
    except msgspec.MsgspecError:
        raise ValueError("not a secret that this version of pushd knows") from None
