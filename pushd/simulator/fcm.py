"""A local FCM: HTTP v1 over HTTP/2 and Google's token endpoint beside it, strict, scripted like the other gateways."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from collections import Counter, deque
from pathlib import Path
from typing import Any, NamedTuple

from h2.errors import ErrorCodes

from pushd.clock import Clock, SystemClock
from pushd.errors import ConfigError
from pushd.model.device import Environment
from pushd.service import Service
from pushd.simulator import answers, fcm_rules, scripts
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.connection import Connection
from pushd.simulator.faults import (
    Action,
    Answer,
    Block,
    Close,
    ConnectionAction,
    FaultBook,
    Goaway,
    Mute,
    Reset,
    Silence,
    Slow,
)
from pushd.simulator.fcm_oauth import Account, TokenServer
from pushd.simulator.fcm_rules import Message, Refusal, refusal
from pushd.simulator.identity import Identity
from pushd.simulator.provider import ProviderTokens
from pushd.simulator.record import Record
from pushd.simulator.rules import Field, Request, Rules
from pushd.simulator.wire import Data, Headers, Part
from pushd.simulator.world import World

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
STREAMS_MAX = 100
"""What Google's front ends allow on a connection."""
KEPT = 10_000
BODY_READ_MAX = 65_536
PATH = re.compile(rb"/v1/projects/([a-z0-9.:-]+)/messages:send")
HTML_404 = b"<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title><p>The requested URL was not found."
PROJECT = "pushd-demo"


class Push(NamedTuple):
    """One message that was taken."""

    target: str
    kind: str
    """`token`, `topic` or `condition`."""
    dry: bool
    content: dict[str, Any]
    headers: dict[str, str]


class LocalFcm(Service):
    """An FCM. `faults` scripts it by token, `oauth` is its token endpoint, `pushes` says what arrived."""

    def __init__(
        self,
        identity: Identity | Path,
        *,
        port: int = 0,
        oauth_port: int = 0,
        host: str = "127.0.0.1",
        seed: int = 0,
        project_id: str = PROJECT,
        clock: Clock | None = None,
        behaviour: Behaviour | None = None,
    ) -> None:
        super().__init__()
        self.host, self.port, self.oauth_port = host, port, oauth_port
        self.identity = identity if isinstance(identity, Identity) else Identity(identity)
        self.clock = clock or SystemClock()
        self.behaviour = behaviour or Behaviour(streams_max=STREAMS_MAX, streams_before_token=STREAMS_MAX)
        self.faults = FaultBook(seed)
        self.record = Record(self.behaviour)
        """Connections and what clients must not do."""
        self.oauth = TokenServer(self.identity, self.clock)
        self.account = self.oauth.account(project_id)
        self.quota_per_minute = 0
        """Messages of a project in one minute before it answers 429; 0: no limit."""
        self.requests = 0
        self.pushes: deque[Push] = deque(maxlen=KEPT)
        self.accepted: Counter[str] = Counter()
        """Messages that were taken and not only validated, by target."""
        self.validated: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self._minute = (0, 0)
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._world = World(
            behaviour=self.behaviour,
            clock=self.clock,
            tokens=ProviderTokens(self.identity, self.behaviour, self.clock),
            faults=self.faults,
            record=self.record,
            dice=random.Random(seed),  # noqa: S311 - dice, not secrets
            rules=FcmRules(),
        )

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust."""
        return self.identity.ca_file

    @property
    def key_file(self) -> dict[str, str]:
        """The key file of its service account, as Google hands it out."""
        return self.account.key_file

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def start(self) -> None:
        """Listens for messages and for assertions."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _FcmConnection(self, self._world, self._open),
                self.host,
                self.port,
                ssl=self.identity.tls(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {self.host}:{self.port}: {error.strerror}") from error
        self.port = self._server.sockets[0].getsockname()[1]
        self.oauth_port = await self.oauth.start(self.host, self.oauth_port)

    async def stop(self) -> None:
        """Closes listeners and connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._open):
                connection.end("dropped", abort=True)
            await asyncio.wait_for(self._server.wait_closed(), CLOSE_TIMEOUT_S)
        await self.oauth.stop()
        await super().stop()

    def judge(self, request: Request, message: Message | Refusal) -> Refusal | None:
        """Why a request is refused, in the order in which Google's layers look at it; None: it is taken."""
        found = PATH.fullmatch(request.path or b"")
        if found is None or dict(request.fields).get(b":method") != b"POST":
            return Refusal(404, HTML_404, "path")
        account = self.oauth.holder(request.authorization)
        if account is None:
            text = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            return refusal("UNAUTHENTICATED", text, status=401)
        if refused := self._admit(account, found[1].decode()):
            return refused
        if isinstance(message, Refusal):
            return message
        return self._spend()

    def take(self, message: Message, fields: list[Field]) -> str:
        """The name under which a message was taken."""
        (self.validated if message.dry else self.accepted)[message.target] += 1
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
        self.pushes.append(Push(message.target, message.kind, message.dry, message.content, headers))
        made = "fake_message_id" if message.dry else f"0:{self.requests}%{secrets.token_hex(8)}"
        return f"projects/{self.account.project_id}/messages/{made}"

    def _admit(self, account: Account, project: str) -> Refusal | None:
        known = {each.project_id for each in self.oauth.accounts.values()}
        if project not in known:
            return refusal("NOT_FOUND", "Requested entity was not found.", status=404)
        if account.project_id != project:
            text = "Permission 'cloudmessaging.messages.create' denied on resource"
            return refusal("PERMISSION_DENIED", text, status=403)
        return None

    def _spend(self) -> Refusal | None:
        minute = int(self.clock.monotonic() // 60)
        spent = self._minute[1] + 1 if self._minute[0] == minute else 1
        self._minute = minute, spent
        if self.quota_per_minute and spent > self.quota_per_minute:
            return refusal("QUOTA_EXCEEDED", "Message rate exceeded", quota="project")
        return None


class FcmRules(Rules):
    """Reads requests: of FCM's, only the authorization is looked at before the body."""

    def read(self, stream_id: int, fields: Any) -> Request:
        """The request that these header fields make."""
        request = super().read(stream_id, fields)
        request.token = b""
        return request


class _FcmConnection(Connection):
    """A sender's connection."""

    def __init__(self, fcm: LocalFcm, world: World, open_connections: set[Connection]) -> None:
        super().__init__(world, Environment.PRODUCTION, open_connections)
        self.fcm = fcm

    def begin(self, request: Request) -> None:
        """Looks whether a fault strikes before the body has come; the token stands in the body."""
        if any(_is_early(scripted.fault.action) for scripted in self.world.faults.listed()):
            request.action = self.world.faults.strike(b"", b"", self.environment)
            if request.action is not None and _is_early(request.action):
                request.settled = True
                self._strike(request, None, request.action)

    def read(self, request: Request) -> None:
        """Settles a request whose body is complete, or hopeless."""
        if request.settled or not (request.ended or request.size > BODY_READ_MAX):
            return
        request.settled = True
        if request.stream_id > self.last_stream:
            self.world.record.unprocessed["above_goaway"] += 1
            return
        message = fcm_rules.read(request.body)
        target = message.target.encode() if isinstance(message, Message) else b""
        action = request.action or self.world.faults.strike(target, b"", self.environment)
        request.token = target
        if action is None:
            self._answer(request, message)
        else:
            self._strike(request, message, action)

    def _watch_header_table(self) -> None:
        """Nothing: Google does not ask what stays out of the table."""

    def _answer(self, request: Request, message: Message | Refusal, delay_ms: float = 0.0) -> None:
        fcm = self.fcm
        fcm.requests += 1
        refused = fcm.judge(request, message)
        fcm.statuses[200 if refused is None else refused.status] += 1
        if refused is None:
            assert isinstance(message, Message)
            body = b'{\n  "name": "%b"\n}\n' % fcm.take(message, list(request.fields)).encode()
            parts = _said(200, body)
        else:
            kind = b"text/html" if refused.reason == "path" else b"application/json"
            parts = _said(refused.status, refused.body, kind)
        self.say(request, parts, delay_ms + self.world.behaviour.latency_ms)

    def _strike(self, request: Request, message: Message | Refusal | None, action: Action) -> None:
        match action:
            case Answer():
                self.fcm.requests += 1
                self.fcm.statuses[status_of(action)] += 1
                parts = scripted(request, action)
                if status_of(action) == 200 and isinstance(message, Message):
                    self.fcm.take(message, list(request.fields))
                self.say(request, parts, self.world.behaviour.latency_ms + action.latency_ms)
            case Slow():
                assert message is not None
                self._answer(request, message, action.latency_ms + self.world.dice.uniform(0, action.jitter_ms))
            case Silence():
                pass
            case Reset():
                self._reset(request, action)
            case Block():
                self.wire.block(request.stream_id, bytes.fromhex(action.hex))
                del self.requests[request.stream_id]
            case _:
                assert message is not None
                self._strike_connection(request, message, action)

    def _strike_connection(self, request: Request, message: Message | Refusal, action: ConnectionAction) -> None:
        scripts.play(self, action, request.stream_id)
        silent = isinstance(action, Close | Mute) or (
            isinstance(action, Goaway) and request.stream_id > self.last_stream
        )
        if not silent:
            self._answer(request, message)

    def _reset(self, request: Request, action: Reset) -> None:
        stream_id = request.stream_id
        if action.code == ErrorCodes.REFUSED_STREAM:
            self.world.record.unprocessed["refused"] += 1
        self.wire.reset(stream_id, action.code)
        if action.twice:
            self.wire.reset_again(stream_id, ErrorCodes.STREAM_CLOSED)
        del self.requests[stream_id]


def status_of(action: Answer) -> int:
    """The status that a scripted answer has; a reason of FCM's has its own."""
    if action.status is None and action.reason in fcm_rules.STATUSES:
        return fcm_rules.STATUSES[action.reason][0]
    return answers.status_of(action)


def scripted(request: Request, action: Answer) -> deque[Part]:
    """The answer that a fault asks for: `reason` is an FcmError's code, or text that a google.rpc.Status says."""
    body = action.body
    if body is None and not action.html and action.reason is not None:
        known = action.reason in fcm_rules.STATUSES
        text = fcm_rules.BAD_TOKEN if action.reason == "INVALID_ARGUMENT" else ""
        said = refusal(action.reason, text) if known else refusal(action.reason, status=status_of(action))
        body = said.body.decode()
    shaped = Answer(
        status=status_of(action),
        body=body,
        html=action.html,
        retry_after=action.retry_after,
        framing=action.framing,
        trailers=action.trailers,
        informational=action.informational,
        apns_id="missing",
    )
    return answers.scripted(request, shaped, sandbox=False, now_ms=0)


def _is_early(action: Action) -> bool:
    return isinstance(action, Answer | Reset) and action.early


def _said(status: int, body: bytes, kind: bytes = b"application/json") -> deque[Part]:
    fields = [(b":status", b"%d" % status), (b"content-type", kind + b"; charset=UTF-8")]
    return deque((Headers(fields), Data(body, end=True)))
