"""Broadcast channels of the local APNs: which there are, and what Apple checks of pushes to them (A-04, A-38).

Sources: "Sending broadcast push notification requests to APNs", "Sending channel management requests to APNs" and
"Handling error responses from Apple Push Notification service", developer.apple.com/documentation/usernotifications.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections import Counter

from pushd.model.device import Environment
from pushd.simulator.reasons import Rejection, rejection
from pushd.simulator.rules import DIGITS, SUFFIXES, TOPIC, UUID, Field, Request

BROADCASTS = b"/4/broadcasts/apps/"
PAYLOAD_MAX = 5_120
ID_BYTES = 16
ID_CHARS_MAX = 256
"""Of what is looked at as an id at all."""
CHANNELS_MAX = 10_000
"""Of a bundle id in one environment."""
BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
PRIORITIES = (b"5", b"10")


class Channels:
    """The channels of every bundle id, by environment; two bundles never share one."""

    def __init__(self) -> None:
        self.channels_max = CHANNELS_MAX
        self.not_enabled: set[str] = set()
        """Bundle ids without the broadcast capability."""
        self.calls: Counter[str] = Counter()
        """Answered requests of management, as `METHOD status`."""
        self._stores: dict[tuple[Environment, str], dict[str, bool]] = {}

    def create(self, environment: Environment, bundle: str, *, stores: bool) -> str | None:
        """The id of a new channel; None where there are too many."""
        known = self._stores.setdefault((environment, bundle), {})
        if len(known) >= self.channels_max:
            return None
        channel_id = base64.b64encode(secrets.token_bytes(ID_BYTES)).decode()
        self.add(environment, bundle, channel_id, stores=stores)
        return channel_id

    def add(self, environment: Environment, bundle: str, channel_id: str, *, stores: bool) -> None:
        """Makes a channel of this id, whatever the limit."""
        self._stores.setdefault((environment, bundle), {})[channel_id] = stores

    def stores(self, environment: Environment, bundle: str, channel_id: str) -> bool | None:
        """Whether a channel keeps its most recent message; None where there is no such channel."""
        return self._stores.get((environment, bundle), {}).get(channel_id)

    def ids(self, environment: Environment, bundle: str) -> list[str]:
        """The channels of a bundle id, oldest first."""
        return list(self._stores.get((environment, bundle), {}))

    def delete(self, environment: Environment, bundle: str, channel_id: str) -> bool:
        """Whether there was such a channel."""
        return self._stores.get((environment, bundle), {}).pop(channel_id, None) is not None


def is_broadcast(path: bytes | None) -> bool:
    """Whether a request is about channels rather than devices."""
    return path is not None and path.startswith(BROADCASTS)


def repeated(fields: list[Field]) -> bool:
    """Whether a field stands twice."""
    return len({name for name, _ in fields}) != len(fields)


def read(request: Request) -> Rejection | None:
    """Why the request line or the set of fields of a broadcast is refused; sets what its answer and record need."""
    values = dict(request.fields)
    bundle = (request.path or b"")[len(BROADCASTS) :]
    request.broadcast = True
    request.token = values.get(b"apns-channel-id", b"")
    request.apns_id = values.get(b"apns-request-id")
    request.terms = request.terms._replace(topic=bundle, bundle=bundle, payload_max=PAYLOAD_MAX)
    if values.get(b":method") != b"POST":
        return rejection("MethodNotAllowed")
    if not TOPIC.fullmatch(bundle):
        return rejection("BadPath")
    return rejection("DuplicateHeaders") if repeated(list(request.fields)) else None


def check_bundle(bundle: bytes, topics: frozenset[str] | None, channels: Channels) -> Rejection | None:
    """Why a bundle id is refused; `topics` are those that the credential is good for, any where None."""
    if any(suffix and bundle.endswith(suffix) for suffix in SUFFIXES.values()):
        return rejection("TopicDisallowed")
    if topics is not None and bundle.decode() not in topics:
        return rejection("TopicMismatch")
    return rejection("FeatureNotEnabled") if bundle.decode() in channels.not_enabled else None


def check_request_id(request_id: bytes | None) -> Rejection | None:
    """Why an apns-request-id is refused."""
    return None if request_id is None or UUID.fullmatch(request_id) else rejection("BadMessageId")


def check_channel(channel_id: bytes | None) -> Rejection | None:
    """Why an apns-channel-id is no id."""
    if not channel_id:
        return rejection("MissingChannelId")
    if len(channel_id) > ID_CHARS_MAX or not BASE64.fullmatch(channel_id):
        return rejection("BadChannelId")
    return None


def check(
    request: Request, environment: Environment, topics: frozenset[str] | None, channels: Channels
) -> Rejection | None:
    """Why the fields of a broadcast are refused, after its provider token was taken."""
    values = dict(request.fields)
    bundle = request.terms.bundle
    refusal = (
        check_request_id(request.apns_id)
        or check_bundle(bundle, topics, channels)
        or _check_push_type(values.get(b"apns-push-type"))
        or check_channel(values.get(b"apns-channel-id"))
    )
    if refusal is not None:
        return refusal
    stores = channels.stores(environment, bundle.decode(), request.token.decode())
    if stores is None:
        return rejection("ChannelNotRegistered")
    if values.get(b"apns-priority", b"10") not in PRIORITIES:
        return rejection("BadPriority")
    expiration = values.get(b"apns-expiration", b"")
    # A channel that stores nothing takes no expiry but 0.
    if not DIGITS.fullmatch(expiration) or (not stores and int(expiration)):
        return rejection("BadExpirationDate")
    return None


def _check_push_type(push_type: bytes | None) -> Rejection | None:
    if push_type is None:
        return rejection("MissingPushType")
    return None if push_type == b"liveactivity" else rejection("InvalidPushType")
