"""APNs on one connection: each request gets Apple's verdict, or the fault that was scripted for it."""

from __future__ import annotations

from collections import deque

from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from pushd.model.device import Environment
from pushd.simulator import answers, channels, scripts
from pushd.simulator.connection import Connection
from pushd.simulator.faults import (
    Action,
    Answer,
    Block,
    Close,
    ConnectionAction,
    Goaway,
    Mute,
    Reset,
    Silence,
    Slow,
)
from pushd.simulator.provider import Session, open_certificate
from pushd.simulator.reasons import Rejection
from pushd.simulator.record import UNANSWERED
from pushd.simulator.rules import NOBODY, Request, check_fields, check_line
from pushd.simulator.wire import Headers
from pushd.simulator.world import World

BODY_READ_MAX = 16_384
"""A body beyond this is refused without waiting for its end; the largest payload that is taken has 5,120 bytes."""


class ApnsConnection(Connection):
    """A provider's connection to one of Apple's two environments."""

    def __init__(self, world: World, environment: Environment, open_connections: set[Connection]) -> None:
        super().__init__(world, environment, open_connections)
        self.sandbox = environment is Environment.SANDBOX
        self.session = Session(world.tokens, environment)
        self._trusted = False
        self._throttled = False

    def certified(self, certificate: bytes) -> None:
        """Lets the client open every stream at once: no token has to be seen first (A-60)."""
        self.session.show(certificate)
        self._trusted = True
        self.link.key_id = open_certificate(certificate).fingerprint
        self._allow(self.world.behaviour.streams_max)

    def begin(self, request: Request) -> None:
        """Judges the header fields and looks whether a fault strikes."""
        if not request.terms.push_type:
            self.blame("no_push_type", "apns-push-type is missing (A-31)")
        if channels.is_broadcast(request.path):
            request.refusal = channels.read(request) or self._authorize(request) or self._check_broadcast(request)
        else:
            request.refusal = check_line(request) or self._authorize(request) or self._check_push(request)
        if request.refusal is None:
            request.action = self.world.faults.strike(request.token, request.terms.topic, self.environment)
            if isinstance(request.action, (Answer, Reset)) and request.action.early:
                self._settle(request)

    def _check_push(self, request: Request) -> Rejection | None:
        return check_fields(request, self.session.topics, whole=self.session.certificate is not None)

    def _check_broadcast(self, request: Request) -> Rejection | None:
        if any(name == b"apns-topic" for name, _ in request.fields):
            self.blame("topic_of_broadcast", "a broadcast has no apns-topic (A-38)")
        return channels.check(request, self.environment, self.session.topics, self.world.channels)

    def judge_body(self, request: Request) -> Rejection | None:
        """Why a body is refused."""
        return self.world.rules.check_payload(request)

    def serve(self, request: Request) -> None:
        """Answers a request that nothing speaks against."""
        if request.token == NOBODY:
            self._reply(request, 400, "BadDeviceToken")
        else:
            self._reply(request, 200, "")

    def read(self, request: Request) -> None:
        """Settles a request whose body is complete, or hopeless."""
        if not request.settled and (request.ended or request.size > BODY_READ_MAX):
            self._settle(request)

    def _authorize(self, request: Request) -> Rejection | None:
        session, link = self.session, self.link
        refusal = session.authorize(request.authorization)
        if refusal is None and session.key is not None:
            link.provider_tokens = session.changes
            if not self._trusted:
                self._trusted = True
                link.team_id, link.key_id = session.key.team_id, session.key.key_id
                self._allow(self.world.behaviour.streams_max)
        return refusal

    def _allow(self, streams: int) -> None:
        self.wire.announce({SettingCodes.MAX_CONCURRENT_STREAMS: streams})

    def _settle(self, request: Request) -> None:
        """Decides what a request gets."""
        request.settled = True
        action, refusal = request.action, request.refusal
        if request.stream_id > self.last_stream:
            self.world.record.unprocessed["above_goaway"] += 1
            return
        early = isinstance(action, (Answer, Reset)) and action.early
        if refusal is None and not early:
            refusal = self.judge_body(request)
        if refusal is not None:
            self._reply(request, refusal.status, refusal.reason)
        elif action is None:
            self.serve(request)
        else:
            self._strike(request, action)

    def _strike(self, request: Request, action: Action) -> None:
        match action:
            case Answer():
                status = answers.status_of(action)
                parts = answers.scripted(request, action, sandbox=self.sandbox, now_ms=self.world.now_ms())
                self._note(request, status, action.reason or ("" if status == 200 else "scripted"))
                self.say(request, parts, self.world.behaviour.latency_ms + action.latency_ms)
            case Slow():
                self._reply(request, 200, "", action.latency_ms + self.world.dice.uniform(0, action.jitter_ms))
            case Silence():
                self._note(request, UNANSWERED, "silence")
            case Reset():
                self._reset(request, action)
            case Block():
                self._note(request, 200, "block")
                self.wire.block(request.stream_id, bytes.fromhex(action.hex))
                del self.requests[request.stream_id]
            case _:
                self._strike_connection(request, action)

    def _strike_connection(self, request: Request, action: ConnectionAction) -> None:
        scripts.play(self, action, request.stream_id)
        if isinstance(action, Close) and not action.after_ms:
            self._note(request, UNANSWERED, "close")
        elif isinstance(action, Mute):
            self._note(request, UNANSWERED, "mute")
        elif isinstance(action, Goaway) and request.stream_id > self.last_stream:
            self.world.record.unprocessed["above_goaway"] += 1
        else:
            self._reply(request, 200, "")

    def _reset(self, request: Request, action: Reset) -> None:
        stream_id = request.stream_id
        if action.code == ErrorCodes.REFUSED_STREAM:
            self.world.record.unprocessed["refused"] += 1
        else:
            self._note(request, UNANSWERED, "reset")
        if action.status is not None:
            self.wire.say(stream_id, deque((Headers([(b":status", b"%d" % action.status)]),)))
        self.wire.reset(stream_id, action.code)
        if action.twice:
            self.wire.reset_again(stream_id, ErrorCodes.STREAM_CLOSED)
        del self.requests[stream_id]

    def _reply(self, request: Request, status: int, reason: str, delay_ms: float = 0.0) -> None:
        """Answers as Apple does."""
        self._note(request, status, reason)
        delay_ms += self.world.behaviour.latency_ms
        if (
            status == 200
            and not delay_ms
            and not self.sandbox
            and not request.broadcast
            and request.apns_id is not None
            and self.wire.accept(request.stream_id, request.apns_id)
        ):
            del self.requests[request.stream_id]
            return
        parts = answers.plain(request, status, reason, sandbox=self.sandbox)
        self.say(request, parts, delay_ms)

    def _note(self, request: Request, status: int, reason: str) -> None:
        """Records a verdict, and lets the stream limit and Apple's patience follow it (A-51)."""
        behaviour = self.world.behaviour
        self.world.record.push(self.link.id, request, status, reason, self.world.now_ms())
        if behaviour.throttle_on_rejection and self._trusted:
            rejected = 400 <= status < 500 and status != 410
            if rejected != self._throttled and (rejected or status == 200):
                self._throttled = rejected
                self._allow(behaviour.streams_before_token if rejected else behaviour.streams_max)
        if reason == "BadDeviceToken":
            self.link.bad_tokens += 1
            if self.link.bad_tokens == behaviour.bad_tokens_max:
                goaway = Goaway(reason=reason, debug="json")
                scripts.play(self, goaway, request.stream_id)
