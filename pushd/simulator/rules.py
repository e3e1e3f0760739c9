"""What Apple checks of a request, and in which words it refuses.

Apple publishes no order; this one goes from the outside in: request line, duplicate fields, provider token, then the
`apns-` fields, then the device token, and last the payload. Reasons and statuses are those of Apple's table "Handling
notification responses from APNs" (protocols.md section 1.5). Two answers rest on reports only: a topic with the
suffix of another push type is InvalidPushType, a push type whose suffix the topic lacks is DeviceTokenNotForTopic.
Compressed payloads and payloads that are no JSON object are forbidden by Apple without a reason of their own:
here they are BadRequestPayload, the word of Apple's channel interface.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers

from pushd.simulator.faults import Action
from pushd.simulator.reasons import Rejection, rejection

Field = tuple[bytes, bytes]

SUFFIXES: dict[bytes, bytes] = {
    b"alert": b"",
    b"background": b"",
    b"mdm": b"",
    b"voip": b".voip",
    b"complication": b".complication",
    b"fileprovider": b".pushkit.fileprovider",
    b"location": b".location-query",
    b"liveactivity": b".push-type.liveactivity",
    b"pushtotalk": b".voip-ptt",
    b"controls": b".push-type.controls",
    b"widgets": b".push-type.widgets",
}
"""What the topic carries after the bundle id, by push type (protocols.md section 1.4)."""

PAYLOAD_MAX = 4_096
VOIP_PAYLOAD_MAX = 5_120
COLLAPSE_ID_MAX = 64
NOBODY = b"dead" * 16
"""A well-formed token that no device has."""

TOKEN_HEX_MIN, TOKEN_HEX_MAX = 64, 512
"""A device token is 32 bytes or more; Apple asks to assume no size, so the maximum is only sane."""
VERDICTS_KEPT = 4_096

DEVICE_PATH = b"/3/device/"
CHANNEL_FIELDS = frozenset((b"apns-channel-id", b"apns-request-id"))
"""Of broadcasts, which have rules of their own for them."""
VARIABLE = CHANNEL_FIELDS | {b":path", b"authorization", b"apns-id"}
REQUEST_FLAGS = HeaderValidationFlags(
    is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False
)
HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TOPIC = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
DIGITS = re.compile(rb"[0-9]{1,15}")


class Terms(NamedTuple):
    """What all requests with the same fields share: why they are refused, if they are, and what else they say."""

    malformed: str
    """What HTTP/2 forbids about the fields (RFC 9113 section 8.2); empty where all is well."""
    refusal: Rejection | None
    """Of the fields that need no provider token to judge: method and duplicates."""
    problem: Rejection | None
    """Of the fields judged after the provider token."""
    topic: bytes
    bundle: bytes
    """The topic without its push type's suffix."""
    push_type: str
    """As the client wrote it; empty where it did not."""
    payload_max: int
    encoded: bool


class Request:
    """One request: what of it differs from push to push, and the terms of the rest."""

    __slots__ = (
        "action",
        "apns_id",
        "authorization",
        "body",
        "broadcast",
        "ended",
        "fields",
        "path",
        "refusal",
        "repeated",
        "settled",
        "size",
        "stream_id",
        "terms",
        "token",
    )

    def __init__(self, stream_id: int, fields: Sequence[Field]) -> None:
        self.stream_id = stream_id
        self.fields = fields
        self.path: bytes | None = None
        self.authorization: bytes | None = None
        self.apns_id: bytes | None = None
        self.token = b""
        """The device's, or the id of the channel."""
        self.broadcast = False
        """Whether it is about channels: its id is then an apns-request-id."""
        self.body = b""
        self.size = 0
        self.repeated = False
        self.refusal: Rejection | None = None
        """What its fields are refused for, if they are."""
        self.action: Action | None = None
        """The scripted fault that it struck."""
        self.ended = False
        """Whether its body is complete."""
        self.settled = False
        """Whether it is decided what it gets."""
        self.terms: Terms


class Rules:
    """Judges requests; verdicts on fields that repeat from push to push are kept."""

    def __init__(self) -> None:
        self._terms: dict[tuple[object, ...], Terms] = {}
        self._last_object = b"{}"

    def read(self, stream_id: int, fields: Sequence[Field]) -> Request:
        """The request that these header fields make, with its terms."""
        request = Request(stream_id, fields)
        # Path, token and id differ from push to push; what is kept by is the rest, and where those three stood.
        shape: list[object] = []
        for field in fields:
            name = field[0]
            if name == b":path":
                request.path = field[1]
            elif name == b"authorization":
                request.repeated |= request.authorization is not None
                request.authorization = field[1]
            elif name == b"apns-id":
                request.repeated |= request.apns_id is not None
                request.apns_id = field[1]
            elif name not in CHANNEL_FIELDS:
                shape.append(field)
                continue
            shape.append(name)
        key = tuple(shape)
        terms = self._terms.get(key)
        if terms is None:
            if len(self._terms) >= VERDICTS_KEPT:
                self._terms.clear()
            terms = self._terms[key] = _terms(fields)
        request.terms = terms
        return request

    def check_payload(self, request: Request) -> Rejection | None:
        """Why the body is refused."""
        if request.size == 0:
            return rejection("PayloadEmpty")
        if request.size > request.terms.payload_max:
            return rejection("PayloadTooLarge")
        if request.terms.encoded or not self._is_object(request.body):
            return rejection("BadRequestPayload")
        return None

    def _is_object(self, body: bytes) -> bool:
        # A campaign's bodies repeat a thousandfold: the last good one need not be parsed again.
        if body == self._last_object:
            return True
        try:
            msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        self._last_object = body
        return True


def check_line(request: Request) -> Rejection | None:
    """Why the request line or the set of fields is refused; sets the request's device token."""
    path, refusal = request.path, request.terms.refusal
    if refusal is not None and refusal.reason == "MethodNotAllowed":
        return refusal
    if path is None or not path.startswith(DEVICE_PATH):
        # "/3/device" without a token misses one; anything else is no path of Apple's.
        return rejection("MissingDeviceToken" if path == DEVICE_PATH[:-1] else "BadPath")
    request.token = path[len(DEVICE_PATH) :]
    if not request.token:
        return rejection("MissingDeviceToken")
    if refusal is not None or request.repeated:
        return refusal or rejection("DuplicateHeaders")
    return None


def check_fields(request: Request, topics: frozenset[str] | None, *, whole: bool = False) -> Rejection | None:
    """Why the `apns-` fields or the device token are refused; `topics` are the bundle ids that are allowed.

    `whole`: they are whole topics, suffixes included, as certificates list them.
    """
    if request.apns_id is not None and not UUID.fullmatch(request.apns_id):
        return rejection("BadMessageId")
    terms, token = request.terms, request.token
    asked = terms.topic if whole else terms.bundle
    if topics is not None and asked and asked.decode("ascii", "replace") not in topics:
        return rejection("TopicDisallowed")
    if terms.problem is not None:
        return terms.problem
    if not TOKEN_HEX_MIN <= len(token) <= TOKEN_HEX_MAX or not HEX.fullmatch(token):
        return rejection("BadDeviceToken")
    return None


def _terms(fields: Sequence[Field]) -> Terms:
    rest = [field for field in fields if field[0] not in VARIABLE]
    values = dict(rest)
    push_type = values.get(b"apns-push-type", b"alert")
    topic = values.get(b"apns-topic", b"")
    suffix = SUFFIXES.get(push_type, b"")
    refusal = None
    if values.get(b":method") != b"POST":
        refusal = rejection("MethodNotAllowed")
    elif len(values) != len(rest) or (b"host" in values and b":authority" in values):
        refusal = rejection("DuplicateHeaders")
    return Terms(
        malformed=_malformed(fields),
        refusal=refusal,
        problem=_problem(values, push_type, topic, suffix),
        topic=topic,
        bundle=topic.removesuffix(suffix),
        push_type=values.get(b"apns-push-type", b"").decode("latin-1"),
        payload_max=VOIP_PAYLOAD_MAX if push_type == b"voip" else PAYLOAD_MAX,
        encoded=values.get(b"content-encoding", b"identity") != b"identity",
    )


def _malformed(fields: Sequence[Field]) -> str:
    # What differs from push to push must not decide what is kept for all; it has checks of its own, which are narrower.
    neutral = [(name, b"/" if name in VARIABLE else value) for name, value in fields]
    try:
        list(validate_headers(neutral, REQUEST_FLAGS))
    except ProtocolError as error:
        return str(error) or type(error).__name__
    return ""


def _problem(values: dict[bytes, bytes], push_type: bytes, topic: bytes, suffix: bytes) -> Rejection | None:
    problem = _topic_problem(push_type, topic, suffix)
    if problem is not None:
        return problem
    if not _priority_fits(values.get(b"apns-priority", b"10"), push_type):
        return rejection("BadPriority")
    expiration = values.get(b"apns-expiration")
    if expiration is not None and not DIGITS.fullmatch(expiration):
        return rejection("BadExpirationDate")
    # bytes of UTF-8, not characters; the field's value is bytes already.
    collapse_id = values.get(b"apns-collapse-id")
    if collapse_id is not None and not 0 < len(collapse_id) <= COLLAPSE_ID_MAX:
        return rejection("BadCollapseId")
    return None


def _topic_problem(push_type: bytes, topic: bytes, suffix: bytes) -> Rejection | None:
    if not topic:
        return rejection("MissingTopic")
    if not TOPIC.fullmatch(topic):
        return rejection("BadTopic")
    worn = next((worn for worn in SUFFIXES.values() if worn and topic.endswith(worn)), b"")
    if push_type not in SUFFIXES or worn not in (b"", suffix):
        return rejection("InvalidPushType")
    if worn != suffix or topic == suffix:
        return rejection("DeviceTokenNotForTopic")
    return None


def _priority_fits(priority: bytes, push_type: bytes) -> bool:
    if push_type == b"background":
        # 10 is an error for background pushes, and 10 is what an absent field means.
        return priority in (b"5", b"1")
    if push_type == b"liveactivity":
        return priority in (b"5", b"10")
    return priority in (b"1", b"5", b"10")
