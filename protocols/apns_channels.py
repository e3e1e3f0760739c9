"""APNs broadcast channels: their ids, the paths of sends and of channel management, bodies out and in (A-04, A-38).

Sources: "Sending broadcast push notification requests to APNs" and "Sending channel management requests to APNs",
developer.apple.com/documentation/usernotifications. Reasons are in `protocols.apns_reasons`.
"""

from __future__ import annotations

import re

import numpy as np
import orjson
from numpy.typing import NDArray

PAYLOAD_BYTES_MAX = 5120
"""Of the body of a broadcast push; 413 above."""

CHANNEL_ID_CHARS_MAX = 240
"""Apple says to assume no size; its ids are a tenth of this."""

CHANNELS_MAX = 10_000
"""Channels of a bundle in one environment."""

CHANNEL_ID = "apns-channel-id"
REQUEST_ID = "apns-request-id"

_BROADCAST_PREFIX = b"/4/broadcasts/apps/"
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_PUSH_TYPE = "LiveActivity"


def check_channel_id(channel_id: str) -> str:
    """The id itself; ValueError when it cannot be one (A-38)."""
    if not channel_id:
        raise ValueError("the channel id is empty")
    if len(channel_id) > CHANNEL_ID_CHARS_MAX:
        raise ValueError(f"the channel id has {len(channel_id)} characters: at most {CHANNEL_ID_CHARS_MAX} are taken")
    if not _BASE64.fullmatch(channel_id):
        raise ValueError("the channel id is not base64")
    return channel_id


def is_channel_id(octets: bytes) -> bool:
    """Whether these octets may stand in apns-channel-id."""
    return 0 < len(octets) <= CHANNEL_ID_CHARS_MAX and bool(_BASE64.fullmatch(octets.decode("latin-1")))


def valid_ids(ids: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Which rows of a column of NUL-padded ids may stand in apns-channel-id; there are 10,000 at most."""
    return np.fromiter(map(is_channel_id, ids.tolist()), np.bool_, len(ids))


def broadcast_path(bundle: str) -> bytes:
    """The path of pushes to channels of a bundle id, which has no suffix here (A-04)."""
    return _BROADCAST_PREFIX + _safe(bundle)


def channels_path(bundle: str) -> bytes:
    """The path by which channels of a bundle id are created, read and deleted."""
    return b"/1/apps/" + _safe(bundle) + b"/channels"


def all_channels_path(bundle: str) -> bytes:
    """The path that lists the channels of a bundle id."""
    return b"/1/apps/" + _safe(bundle) + b"/all-channels"


def creation(*, stores: bool) -> bytes:
    """The body that asks for a channel, which keeps its most recent message for absent devices or none."""
    return orjson.dumps({"message-storage-policy": int(stores), "push-type": _PUSH_TYPE})


def parse_channel(body: bytes) -> bool:
    """Whether the channel that Apple describes here stores its most recent message; ValueError for no such answer."""
    policy = _object(body).get("message-storage-policy")
    if isinstance(policy, bool) or policy not in (0, 1):
        raise ValueError("the answer names no message-storage-policy")
    return policy == 1


def parse_channels(body: bytes) -> list[str]:
    """The ids in Apple's list of channels; ValueError for no such answer."""
    channels = _object(body).get("channels")
    if not isinstance(channels, list) or not all(isinstance(each, str) for each in channels):
        raise ValueError("the answer holds no list of channels")
    return [check_channel_id(each) for each in channels]


def _object(body: bytes) -> dict[str, object]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ValueError("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")  # noqa: TRY004 - what is wrong is its value
    return answer


def _safe(bundle: str) -> bytes:
    if not _BUNDLE.fullmatch(bundle):
        raise ValueError("the bundle id may not stand in a path")
    return bundle.encode()
