"""What an answer looks like on the wire: Apple's way, or as a scripted fault has it."""

from __future__ import annotations

import uuid
from collections import deque

import orjson

from pushd.simulator.faults import Answer
from pushd.simulator.reasons import STATUSES
from pushd.simulator.rules import UUID, Field, Request
from pushd.simulator.wire import Data, Headers, Part

HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
DAY_MS = 86_400_000
FRAME_BYTES = 16_384
SAME_ID = b"00000000-0000-4000-8000-000000000000"


def plain(request: Request, status: int, reason: str, *, sandbox: bool) -> deque[Part]:
    """Apple's answer: empty for a 200, else JSON with the reason."""
    fields = [(b":status", b"%d" % status), (_id_field(request), _apns_id(request))]
    if sandbox:
        # only the development environment gives the id that Apple's console asks for.
        fields.append((b"apns-unique-id", str(uuid.uuid4()).encode()))
    if status == 200:
        return deque((Headers(fields, end=True),))
    return deque((Headers(fields), Data(orjson.dumps({"reason": reason}), end=True)))


def scripted(request: Request, action: Answer, *, sandbox: bool, now_ms: int) -> deque[Part]:
    """The answer that a fault asks for."""
    status = status_of(action)
    fields: list[Field] = [(b":status", b"%d" % status)]
    apns_id = {"echo": _apns_id(request), "wrong": str(uuid.uuid4()).encode(), "same": SAME_ID}.get(action.apns_id)
    if apns_id is not None:
        fields.append((_id_field(request), apns_id))
    if sandbox:
        fields.append((b"apns-unique-id", str(uuid.uuid4()).encode()))
    if action.retry_after is not None:
        fields.append((b"retry-after", action.retry_after.encode("latin-1", "replace")))
    if action.html:
        fields.append((b"content-type", b"text/html"))
    parts: deque[Part] = deque()
    if action.informational:
        parts.append(Headers([(b":status", b"103"), (b"link", b"</early>; rel=preload")]))
    body = b"" if action.framing == "headers_only" else _body(action, status, now_ms)
    parts.append(Headers(fields, end=not body and not action.trailers))
    parts.extend(_frames(body, action))
    if action.trailers:
        parts.append(Headers([(b"x-trailer", b"1")], end=True))
    return parts


def status_of(action: Answer) -> int:
    """The status that a scripted answer has."""
    if action.status is not None:
        return action.status
    return STATUSES[action.reason] if action.reason is not None else 200


def _id_field(request: Request) -> bytes:
    return b"apns-request-id" if request.broadcast else b"apns-id"


def _apns_id(request: Request) -> bytes:
    apns_id = request.apns_id
    if apns_id is not None and UUID.fullmatch(apns_id):
        return apns_id
    return str(uuid.uuid4()).upper().encode()


def _body(action: Answer, status: int, now_ms: int) -> bytes:
    if action.body is not None:
        return action.body.encode()
    if action.html:
        return HTML
    if status == 200 or action.reason is None:
        return b""
    said: dict[str, str | int] = {"reason": action.reason}
    if status == 410 and action.timestamp != "missing":
        named = {"now": now_ms, "seconds": now_ms // 1000, "future": now_ms + DAY_MS}
        said["timestamp"] = action.timestamp if isinstance(action.timestamp, int) else named[action.timestamp]
    return orjson.dumps(said)


def _frames(body: bytes, action: Answer) -> list[Part]:
    """The body as DATA frames; the last ends the stream unless trailers follow."""
    if not body:
        return []
    last = not action.trailers
    match action.framing:
        case "bytes":
            cut: list[Part] = [Data(body[at : at + 1]) for at in range(len(body))]
            cut[-1] = Data(body[-1:], end=last)
            return cut
        case "padded":
            half = len(body) // 2
            return [Data(body[:half], padding=37), Data(body[half:], end=last, padding=0)]
        case "empty_frames":
            return [Data(b""), Data(body), Data(b""), Data(b"", end=last)]
        case _:
            return framed(body, end=last)


def framed(body: bytes, *, end: bool = True) -> list[Part]:
    """A body as DATA frames that every client takes (RFC 9113 section 4.2)."""
    starts = range(0, len(body), FRAME_BYTES)
    return [Data(body[at : at + FRAME_BYTES], end=end and at == starts[-1]) for at in starts]
