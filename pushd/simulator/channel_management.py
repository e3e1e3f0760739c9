"""Channel management of the local APNs: channels created, read, listed and deleted over HTTP/2 (A-04, A-38)."""

from __future__ import annotations

import re
import uuid
from collections import deque

import orjson

from pushd.simulator import channels
from pushd.simulator.answers import framed
from pushd.simulator.apns import ApnsConnection
from pushd.simulator.faults import Answer, Reset
from pushd.simulator.reasons import Rejection, rejection
from pushd.simulator.rules import Field, Request
from pushd.simulator.wire import Headers, Part

PATH = re.compile(rb"/1/apps/([A-Za-z0-9][A-Za-z0-9._-]{0,254})/(channels|all-channels)")
METHODS = {b"channels": (b"POST", b"GET", b"DELETE"), b"all-channels": (b"GET",)}
CHANNEL = {"push-type": "LiveActivity"}


class ManagementConnection(ApnsConnection):
    """A provider's connection to one of the two hosts of channel management.

    Faults strike by the channel id as token and by the path as topic.
    """

    def begin(self, request: Request) -> None:
        """Judges the header fields and looks whether a fault strikes."""
        values = dict(request.fields)
        request.broadcast = True
        request.token = values.get(b"apns-channel-id", b"")
        request.apns_id = values.get(b"apns-request-id")
        request.refusal = _check_line(request) or self._authorize(request) or self._check(request)
        if request.refusal is None:
            request.action = self.world.faults.strike(request.token, request.path or b"", self.environment)
            if isinstance(request.action, (Answer, Reset)) and request.action.early:
                self._settle(request)

    def judge_body(self, request: Request) -> Rejection | None:  # noqa: ARG002  the base class has pushes to judge
        """Nothing: what a body asks for is judged when it is done."""
        return None

    def serve(self, request: Request) -> None:
        """Does what is asked, and says so."""
        channel_id, bundle, listing = request.token.decode(), _bundle(request), _lists(request)
        book, environment = self.world.channels, self.environment
        method = dict(request.fields)[b":method"]
        if method == b"POST":
            self._create(request, bundle)
        elif listing:
            self._done(request, 200, [], {"channels": book.ids(environment, bundle)})
        elif (stores := book.stores(environment, bundle, channel_id)) is None:
            self._reply(request, 400, "ChannelNotRegistered")
        elif method == b"GET":
            self._done(request, 200, [], CHANNEL | {"message-storage-policy": int(stores)})
        else:
            book.delete(environment, bundle, channel_id)
            self._done(request, 204, [], None)

    def _create(self, request: Request, bundle: str) -> None:
        try:
            wanted = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            wanted = None
        if not isinstance(wanted, dict) or wanted.get("push-type") != CHANNEL["push-type"]:
            self._reply(request, 400, "BadRequestPayload")
            return
        policy = wanted.get("message-storage-policy", 0)
        if policy not in (0, 1) or isinstance(policy, bool):
            self._reply(request, 400, "BadRequestPayload")
            return
        channel_id = self.world.channels.create(self.environment, bundle, stores=bool(policy))
        if channel_id is None:
            self._reply(request, 400, "CannotCreateChannelConfig")
        else:
            self._done(request, 201, [(b"apns-channel-id", channel_id.encode())], None)

    def _check(self, request: Request) -> Rejection | None:
        refusal = channels.check_request_id(request.apns_id) or channels.check_bundle(
            _bundle(request).encode(), self.session.topics, self.world.channels
        )
        if refusal is None and not _lists(request) and dict(request.fields)[b":method"] != b"POST":
            refusal = channels.check_channel(request.token)
        return refusal

    def _done(self, request: Request, status: int, fields: list[Field], body: object) -> None:
        self._note(request, status, "")
        head = [(b":status", b"%d" % status), (b"apns-request-id", request.apns_id or str(uuid.uuid4()).encode())]
        parts: deque[Part] = deque((Headers([*head, *fields], end=body is None),))
        if body is not None:
            parts.extend(framed(orjson.dumps(body)))
        self.say(request, parts, self.world.behaviour.latency_ms)

    def _note(self, request: Request, status: int, reason: str) -> None:
        """Counts a verdict; these are no pushes."""
        method = dict(request.fields).get(b":method", b"").decode("latin-1")
        self.world.channels.calls[f"{method} {reason or status}"] += 1


def _check_line(request: Request) -> Rejection | None:
    fields = dict(request.fields)
    match = PATH.fullmatch(request.path or b"")
    if match is None:
        return rejection("BadPath")
    if fields.get(b":method") not in METHODS[match[2]]:
        return rejection("MethodNotAllowed")
    return rejection("DuplicateHeaders") if channels.repeated(list(request.fields)) else None


def _bundle(request: Request) -> str:
    match = PATH.fullmatch(request.path or b"")
    assert match is not None
    return match[1].decode()


def _lists(request: Request) -> bool:
    return (request.path or b"").endswith(b"/all-channels")
