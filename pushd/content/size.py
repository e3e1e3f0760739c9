"""Bodies as bytes, and the refusal of those above a gateway's limit, naming the field that weighs most."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from pushd.errors import Fault, InvalidRequestError
from pushd.model.message import Message


def encode(body: Any) -> bytes:
    """The JSON bytes of a rendered body; InvalidRequestError for what JSON parsers of devices could not hold."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        # Integers past 64 bits, lone surrogates, nesting past 254 levels: a body that was itself valid JSON.
        fault = Fault("/message", f"cannot be encoded for devices: {error}")
        raise InvalidRequestError("The message cannot be encoded", faults=[fault]) from None


def refuse_above(limit: int, payload: bytes, message: Message, *, platform: str) -> None:
    """InvalidRequestError when the payload has more bytes than the limit, with a pointer to the largest field."""
    excess = len(payload) - limit
    if excess <= 0:
        return
    detail = (
        f"the {platform} payload of a push of type {message.push_type.value} has {len(payload)} bytes, "
        f"{excess} over the limit of {limit}; this field is the largest"
    )
    raise InvalidRequestError("The message is too large", faults=[Fault(largest_field(message, platform), detail)])


def largest_field(message: Message, platform: str) -> str:
    """A JSON pointer to the field of the request that takes the most bytes on this platform."""
    # Overrides count per platform, and what only other platforms read never.
    fields: dict[str, Any] = msgspec.to_builtins(message)
    sizes = {f"/message/{name}": weight(field) for name, field in fields.items() if name not in _PER_PLATFORM}
    override = message.overrides.get(platform)  # type: ignore[call-overload]  # platforms come as plain strings here
    if override is not None:
        sizes[f"/message/overrides/{platform}"] = weight(override)
    return max(sizes, key=sizes.__getitem__, default="/message")


def weight(value: Any) -> int:
    """How many bytes of JSON a value takes."""
    return len(orjson.dumps(value))


_PER_PLATFORM = frozenset({"overrides", "android"})
